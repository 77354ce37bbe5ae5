//! What a client makes of the bytes that come back: a second, strict reading of HTTP's answers,
//! which must fit the requests that were sent, as a second reading reads those.

use serde_json::value::RawValue;

use encke::limits::BODY_BYTES_MAX;

use super::coding::{self, Outcome};
use super::reading::{Body, Reading, head_bytes};

/// What an answer must fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) is_head: bool,
    pub(crate) is_old: bool,
    pub(crate) is_last: bool,
    pub(crate) has_body: bool,
}

/// The whole requests at the start of what a client sends, up to the first that is none.
pub(crate) fn requests(mut input: &[u8]) -> Vec<Asked> {
    let mut requests = Vec::new();
    while let Some(head) = head_bytes(input) {
        let Some(reading) = Reading::of(&input[..head]) else {
            break;
        };
        let rest = &input[head..];
        let used = match reading.body() {
            None => break,
            Some(Body::None) => 0,
            Some(Body::Length(bytes)) if bytes <= rest.len() as u64 => bytes as usize,
            Some(Body::Length(_)) => break,
            Some(Body::Chunked) => match coding::decode(rest, BODY_BYTES_MAX) {
                Outcome::Whole(_, used) => used,
                _ => break,
            },
        };
        requests.push(Asked {
            is_head: reading.method == "HEAD",
            is_old: reading.minor == 0,
            is_last: reading.is_last(),
            has_body: used > 0,
        });
        input = &rest[used..];
    }
    requests
}

/// One answer, as far as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    is_whole: bool,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter().filter(|field| field.0 == name);
        let value = fields.next().map(|field| &*field.1);
        assert_eq!(fields.next(), None, "{name} stands twice");
        value
    }

    pub(crate) fn closes(&self) -> bool {
        self.field("connection")
            .is_some_and(|value| value == "close")
    }

    /// Whether no other answer can follow.
    pub(crate) fn is_last(&self) -> bool {
        self.closes() || self.status == 101
    }

    fn ends_with_the_connection(&self) -> bool {
        ["content-length", "transfer-encoding"].map(|name| self.field(name)) == [None; 2]
    }

    /// Whether the server may say it to any request, before it has read it.
    fn is_of_the_server(&self) -> bool {
        [408, 503].contains(&self.status)
    }
}

/// What else an answer may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Excuse {
    /// The last one may be cut off anywhere.
    pub(crate) is_cut: bool,
    /// Any may be the last.
    pub(crate) may_close: bool,
    /// The connection goes on, or was reset: only what says its own length is known to be whole.
    pub(crate) is_unended: bool,
}

/// Reads all that a client got on one connection for what it asked; without the interim answers.
pub(crate) fn read(mut output: &[u8], asked: &[Asked], excuse: Excuse) -> Vec<Answer> {
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut answers: Vec<Answer> = Vec::new();
    loop {
        let request = asked.get(answers.len());
        if let Some(rest) = output.strip_prefix(CONTINUE) {
            assert!(
                !request.is_some_and(|asked| asked.is_old),
                "100 to HTTP/1.0"
            );
            output = rest;
            continue;
        }
        let is_cut = excuse.is_cut && !output.windows(4).any(|four| four == b"\r\n\r\n");
        if output.is_empty() || is_cut {
            return answers;
        }
        let last = answers.last();
        assert!(
            !last.is_some_and(Answer::is_last),
            "an answer behind the last: {answers:?}"
        );
        let (mut answer, used) = answer(output, request.copied());
        answer.is_whole &= !(answer.ends_with_the_connection() && excuse.is_unended);
        fits(&answer, request.copied(), excuse);
        output = &output[used..];
        answers.push(answer);
    }
}

/// Whether an answer may be one to this request.
fn fits(answer: &Answer, request: Option<Asked>, excuse: Excuse) {
    let Some(asked) = request else {
        let is_refusal = answer.status >= 400 && answer.closes();
        return assert!(is_refusal, "to what is no request: {answer:?}");
    };
    let is_early = answer.is_of_the_server();
    assert!(
        answer.closes() || !asked.is_last || !answer.is_whole,
        "{answer:?}"
    );
    let is_coded = answer.field("transfer-encoding").is_some();
    assert!(!asked.is_old || !is_coded, "chunks to HTTP/1.0: {answer:?}");
    // A good request without a body is one whose end is known: no reason to close.
    let is_known = [200, 414, 417, 421, 429, 431, 501].contains(&answer.status) || is_early;
    let is_good = !asked.has_body && !asked.is_last && !excuse.may_close;
    assert!(
        !is_good || !answer.closes() || is_known,
        "refused and closed: {answer:?}"
    );
    content(answer);
}

fn answer(output: &[u8], request: Option<Asked>) -> (Answer, usize) {
    let end = output.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("half a head: {}", output.escape_ascii()));
    let head = std::str::from_utf8(&output[..end]).expect("a head is ASCII");
    assert!(
        head.bytes()
            .all(|byte| matches!(byte, b'\r' | b'\n' | b' '..=b'~')),
        "{head:?}"
    );
    let mut lines = head.split("\r\n");
    let first = lines.next().expect("there is a status line");
    let status = first.strip_prefix("HTTP/1.1 ").expect("the version");
    assert!(
        status.len() > 4 && status.as_bytes()[3] == b' ',
        "{first:?}"
    );
    let status: u16 = status[..3].parse().expect("a status is a number");
    let mut answer = Answer {
        status,
        fields: Vec::new(),
        body: Vec::new(),
        is_whole: true,
    };
    for line in lines {
        assert!(!line.contains(['\r', '\n']), "{line:?}");
        let (name, value) = line
            .split_once(": ")
            .expect("a field has a colon and a space");
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        assert!(!name.is_empty() && name.bytes().all(is_name), "{line:?}");
        assert_eq!(value.trim(), value, "{name}");
        answer
            .fields
            .push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let begin = end + 4;
    let rest = &output[begin..];
    let used = body(&mut answer, rest, request);
    (answer, begin + used)
}

/// Takes the body at the start of `rest`; how many bytes that is.
fn body(answer: &mut Answer, rest: &[u8], request: Option<Asked>) -> usize {
    let length = answer.field("content-length").map(|digits| {
        let length: usize = digits.parse().expect("a length is a number");
        assert_eq!(length.to_string(), digits);
        length
    });
    let coding = answer.field("transfer-encoding").map(str::to_owned);
    assert!(
        length.is_none() || coding.is_none(),
        "two framings: {answer:?}"
    );
    // Who is answered before its request was read gets a body, though it may have asked for none.
    let is_unread = request.is_none_or(|_| answer.is_of_the_server()) && answer.closes();
    let is_bare = request.is_some_and(|asked| asked.is_head) && (!is_unread || rest.is_empty());
    if is_bare || [204, 304].contains(&answer.status) {
        return 0;
    }
    if answer.status == 101 {
        answer.is_whole = false;
        answer.body.extend_from_slice(rest);
        return rest.len();
    }
    match (length, coding.as_deref()) {
        // A HEAD that is refused for its framing is none that we know of.
        (Some(_), _) if request.is_none() && rest.is_empty() => 0,
        (Some(length), _) => {
            let there = rest.len().min(length);
            answer.body.extend_from_slice(&rest[..there]);
            answer.is_whole = there == length;
            there
        }
        (None, Some(coding)) => {
            assert_eq!(coding, "chunked");
            chunks(answer, rest)
        }
        (None, None) => {
            assert!(answer.closes(), "the end of this is not known: {answer:?}");
            answer.body.extend_from_slice(rest);
            rest.len()
        }
    }
}

/// Chunks in the one spelling that we write: digits and nothing else.
fn chunks(answer: &mut Answer, rest: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let line = rest[at..].windows(2).position(|two| two == b"\r\n");
        let Some(digits) = line.filter(|digits| *digits > 0) else {
            assert!(rest.len() - at < 10, "a chunk has a size");
            answer.is_whole = false;
            return rest.len();
        };
        let size = std::str::from_utf8(&rest[at..at + digits]).expect("a size is ASCII");
        assert!(
            size.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{size:?}"
        );
        let size = usize::from_str_radix(size, 16).expect("a size is a number");
        at += digits + 2;
        let there = size.min(rest.len() - at);
        answer.body.extend_from_slice(&rest[at..at + there]);
        at += there;
        let end = &rest[at..rest.len().min(at + 2)];
        if end != b"\r\n" {
            assert!(b"\r\n".starts_with(end), "a chunk has an end");
            answer.is_whole = false;
            return rest.len();
        }
        at += 2;
        if size == 0 {
            return at;
        }
    }
}

/// A body is what its type says, as far as it came.
fn content(answer: &Answer) {
    let media = answer.field("content-type").unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default();
    let has_length = answer.field("content-length").is_some();
    match media {
        _ if answer.status == 101 => frames(&answer.body),
        // Pictures may stand in it.
        "multipart/x-mixed-replace" | "image/jpeg" | "image/png" | "" => {}
        "application/json" if answer.is_whole && !answer.body.is_empty() => {
            assert!(is_json(text(answer)), "{}", text(answer));
        }
        "application/javascript" if answer.is_whole && !answer.body.is_empty() => script(answer),
        "application/xml" if answer.is_whole => markup(text(answer)),
        "application/x-ndjson" => lines(answer, |line| line.trim().is_empty() || is_json(line)),
        "text/event-stream" => lines(answer, is_of_event_stream),
        "text/html" if !has_length => {
            let (_, body) = text(answer).split_once("<body>").unwrap_or_default();
            let (body, _) = body.rsplit_once('\n').unwrap_or_default();
            assert!(body.split('\n').all(is_of_frame), "{body}");
        }
        _ => {}
    }
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).expect("text is UTF-8")
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

fn lines(answer: &Answer, is_good: impl Fn(&str) -> bool) {
    let (lines, _) = text(answer).rsplit_once('\n').unwrap_or_default();
    for line in lines.split('\n') {
        assert!(is_good(line), "{line:?}");
    }
}

fn is_of_event_stream(line: &str) -> bool {
    match line.split_once(": ") {
        Some(("data", data)) => is_json(data),
        Some((name, _)) => ["", "id", "event", "retry"].contains(&name),
        None => line.is_empty() || line.starts_with(':'),
    }
}

/// Whether a line of a hidden frame is a comment or one script, whatever was published.
fn is_of_frame(line: &str) -> bool {
    let line = line.strip_suffix("</body></html>").unwrap_or(line);
    let comment = line
        .strip_prefix("<!--")
        .and_then(|l| l.strip_suffix("-->"));
    let script = line.strip_prefix("<script>");
    let script = script.and_then(|l| l.strip_suffix("</script>"));
    let inner = comment.or(script);
    line.is_empty() || inner.is_some_and(|inner| !inner.contains(['<', '>', '\u{2028}']))
}

/// One call with JSON.
fn script(answer: &Answer) {
    let call = text(answer).strip_prefix("/**/").expect("a script of ours");
    let call = call.strip_suffix(");").expect("a call");
    let (name, argument) = call.split_once('(').expect("a call");
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_$.[]".contains(&byte);
    assert!(name.bytes().all(is_name) && is_json(argument), "{call}");
}

/// XML in which nothing but ours is markup.
fn markup(text: &str) {
    let mut open = Vec::new();
    let mut pieces = text.split('<');
    assert_eq!(pieces.next(), Some(""), "{text}");
    for piece in pieces.filter(|piece| !piece.starts_with('?')) {
        let (tag, content) = piece.split_once('>').expect("a tag has an end");
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{text}"),
            None if !tag.ends_with('/') => open.push(tag.split(' ').next().unwrap_or_default()),
            None => {}
        }
        let is_entity = |rest: &str| ["amp;", "lt;", "gt;"].iter().any(|e| rest.starts_with(e));
        assert!(content.split('&').skip(1).all(is_entity), "{content}");
        assert!(!content.contains("]]>"), "{content}");
    }
    assert_eq!(open, [""; 0], "{text}");
}

/// Frames as a server sends them (RFC 6455 section 5.2): whole messages, not masked, of no
/// extension, and none behind a Close. The last may be cut off.
fn frames(mut rest: &[u8]) {
    while let [first, second, after @ ..] = rest {
        let (length, payload) = match (second, after) {
            (0..126, payload) => (usize::from(*second), payload),
            (126, [high, low, payload @ ..]) => {
                (usize::from(u16::from_be_bytes([*high, *low])), payload)
            }
            // Of more than 64 KiB, or cut off.
            (126..=127, _) => return,
            _ => panic!("a server masks nothing: {}", rest.escape_ascii()),
        };
        assert!([0x81, 0x82, 0x88, 0x89, 0x8a].contains(first), "{first:#x}");
        let Some((payload, behind)) = payload.split_at_checked(length) else {
            return;
        };
        match first {
            0x81 => assert!(
                std::str::from_utf8(payload).is_ok_and(is_json),
                "a message is JSON"
            ),
            0x88 => assert!(behind.is_empty() && length != 1, "Close is the last"),
            0x89 | 0x8a => assert!(length < 126, "a long control frame"),
            _ => {}
        }
        rest = behind;
    }
}

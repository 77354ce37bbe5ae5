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

    /// Whether it is a body without an announced end, and so the last thing on its connection.
    pub(crate) fn is_stream(&self) -> bool {
        let media = self.field("content-type").unwrap_or_default();
        ["text/event-stream", "application/x-ndjson"]
            .iter()
            .any(|name| media.starts_with(name))
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
            !last.is_some_and(Answer::closes),
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

/// A body is what its type says.
fn content(answer: &Answer) {
    let media = answer.field("content-type").unwrap_or_default();
    let is_json = |text: &str| serde_json::from_str::<&RawValue>(text).is_ok();
    if !answer.body.is_empty() && media.starts_with("application/json") && answer.is_whole {
        let text = std::str::from_utf8(&answer.body).expect("JSON is UTF-8");
        assert!(is_json(text), "{text}");
    }
    if !answer.is_stream() {
        return;
    }
    let text = std::str::from_utf8(&answer.body).expect("a stream is UTF-8");
    let (lines, _) = text.rsplit_once('\n').unwrap_or_default();
    for line in lines.split('\n') {
        let is_good = match line.split_once(": ") {
            _ if media.starts_with("application/x-ndjson") => {
                line.trim().is_empty() || is_json(line)
            }
            Some(("data", data)) => is_json(data),
            Some((name, _)) => ["", "id", "event", "retry"].contains(&name),
            None => line.is_empty() || line.starts_with(':'),
        };
        assert!(is_good, "{line:?}");
    }
}

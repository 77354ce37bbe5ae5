//! Clients that are stricter than any real one: HTTP answers by their framing, then what each
//! transport makes of messages, rebuilt from what was understood and compared byte for byte.

use serde::Deserialize;
use serde_json::value::RawValue;

/// What a transport told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    Hello(Hello),
    /// An event's text.
    Event(String),
    Heartbeat(String),
    /// The end of a long-poll's answer.
    Last(String),
    Busy {
        reason: String,
        retry_ms: u64,
    },
    /// The stream ends, and goes on from here.
    More(String),
    /// A script tag is told of a refusal.
    Refused(u16),
    /// A WebSocket is asked whether somebody is there.
    Ping,
    /// A WebSocket is closed, for this reason.
    Closed(u16),
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Hello {
    pub(crate) log: String,
    pub(crate) id: String,
    pub(crate) lost: u64,
    pub(crate) reset: bool,
    #[serde(default = "yes")]
    pub(crate) exact: bool,
}

fn yes() -> bool {
    true
}

impl Hello {
    fn text(&self) -> String {
        let Hello {
            log,
            id,
            lost,
            reset,
            exact,
        } = self;
        let exact = if *exact { "" } else { ",\"exact\":false" };
        format!(r#"{{"log":"{log}","id":"{id}","lost":{lost},"reset":{reset}{exact}}}"#)
    }

    fn parse(text: &str) -> Hello {
        let hello: Hello = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(hello.text(), text, "a hello in its only spelling");
        hello
    }
}

/// The number behind the `-` of an id.
pub(crate) fn seq(id: &str) -> u64 {
    let digits = id.split_once('-').expect("an id has a `-`").1;
    digits.parse().expect("an id ends in a number")
}

/// Part of an HTTP answer.
#[derive(Debug, PartialEq)]
pub(crate) enum Part {
    Head(u16, Vec<(String, String)>),
    Body(Vec<u8>),
    End,
}

#[derive(Debug, PartialEq)]
enum Place {
    Head,
    Length(usize),
    ChunkSize,
    Chunk(usize),
    Trailer,
    /// Until the connection ends.
    Open,
}

/// HTTP/1.1 answers, one after another.
#[derive(Debug)]
pub(crate) struct Http {
    bytes: Vec<u8>,
    place: Place,
}

impl Http {
    pub(crate) fn new() -> Http {
        Http {
            bytes: Vec::new(),
            place: Place::Head,
        }
    }

    /// Whether an answer has begun and has not ended.
    pub(crate) fn is_inside(&self) -> bool {
        self.place != Place::Head || !self.bytes.is_empty()
    }

    /// Takes what came; gives what that completes. Body bytes are given as soon as they are there.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Part> {
        self.bytes.extend_from_slice(bytes);
        let mut parts = Vec::new();
        while let Some(part) = self.step() {
            parts.extend(part);
        }
        parts
    }

    fn line(&mut self) -> Option<String> {
        let end = self.bytes.windows(2).position(|two| two == b"\r\n")?;
        let line = String::from_utf8(self.bytes[..end].to_vec()).expect("a line is text");
        self.bytes.drain(..end + 2);
        Some(line)
    }

    fn take(&mut self, most: usize) -> Option<Vec<u8>> {
        let bytes = self.bytes.len().min(most);
        (bytes > 0).then(|| self.bytes.drain(..bytes).collect())
    }

    /// One step, if there is enough for it; what it gives, if anything.
    fn step(&mut self) -> Option<Vec<Part>> {
        match self.place {
            Place::Head => self.head(),
            Place::Open => Some(vec![Part::Body(self.take(usize::MAX)?)]),
            Place::Length(left) => {
                let taken = self.take(left)?;
                let left = left - taken.len();
                let mut parts = vec![Part::Body(taken)];
                self.place = Place::Length(left);
                if left == 0 {
                    self.place = Place::Head;
                    parts.push(Part::End);
                }
                Some(parts)
            }
            Place::ChunkSize => {
                let line = self.line()?;
                let size = usize::from_str_radix(&line, 16).expect("a chunk size is hexadecimal");
                assert_eq!(
                    line,
                    format!("{size:x}"),
                    "a chunk size in its only spelling"
                );
                self.place = match size {
                    0 => Place::Trailer,
                    size => Place::Chunk(size + 2),
                };
                Some(Vec::new())
            }
            Place::Trailer => {
                assert_eq!(self.line()?, "", "there are no trailer fields");
                self.place = Place::Head;
                Some(vec![Part::End])
            }
            Place::Chunk(2) => {
                assert_eq!(self.line()?, "", "a chunk ends in CRLF");
                self.place = Place::ChunkSize;
                Some(Vec::new())
            }
            Place::Chunk(left) => {
                let taken = self.take(left - 2)?;
                self.place = Place::Chunk(left - taken.len());
                Some(vec![Part::Body(taken)])
            }
        }
    }

    fn head(&mut self) -> Option<Vec<Part>> {
        let end = self.bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let text = String::from_utf8(self.bytes[..end].to_vec()).expect("a head is text");
        self.bytes.drain(..end + 4);
        let mut lines = text.split("\r\n");
        let status_line = lines.next().expect("a head has a first line");
        let status = status_line.strip_prefix("HTTP/1.1 ").expect(status_line);
        let status: u16 = status[..3].parse().expect(status_line);
        let fields: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").expect("a field is `name: value`");
                (name.to_ascii_lowercase(), value.to_owned())
            })
            .collect();
        let field = |wanted: &str| {
            let mut values = fields.iter().filter(|(name, _)| name == wanted);
            let value = values.next().map(|(_, value)| value.clone());
            assert!(values.next().is_none(), "{wanted} stands once: {text}");
            value
        };
        let length = field("content-length").map(|n| n.parse().expect("a length is a number"));
        let ended = match (status, length, field("transfer-encoding").as_deref()) {
            (101, None, None) => {
                self.place = Place::Open;
                false
            }
            (100 | 204 | 304, None, None) => true,
            (_, Some(0), None) => true,
            (_, Some(bytes), None) => {
                self.place = Place::Length(bytes);
                false
            }
            (_, None, Some("chunked")) => {
                self.place = Place::ChunkSize;
                false
            }
            (_, None, None) => {
                assert_eq!(field("connection").as_deref(), Some("close"), "{text}");
                self.place = Place::Open;
                false
            }
            _ => panic!("two framings: {text}"),
        };
        let mut parts = vec![Part::Head(status, fields)];
        if ended && status != 100 {
            parts.push(Part::End);
        }
        Some(parts)
    }
}

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Technique {
    Sse,
    Stream,
    Multipart,
    Iframe,
    Socket,
    Poll,
    Xml,
    Jsonp,
}

impl Technique {
    pub(crate) const ALL: [Technique; 8] = [
        Technique::Sse,
        Technique::Stream,
        Technique::Multipart,
        Technique::Iframe,
        Technique::Socket,
        Technique::Poll,
        Technique::Xml,
        Technique::Jsonp,
    ];

    /// Whether an answer ends with what there is.
    pub(crate) fn is_poll(self) -> bool {
        self >= Technique::Poll
    }

    /// Its path, the start of its query, and the fields it is asked with.
    pub(crate) fn request(self) -> (&'static str, &'static str) {
        match self {
            Technique::Sse => ("/events/sse?", ""),
            Technique::Stream => ("/events/stream?", ""),
            Technique::Multipart => ("/events/multipart?", ""),
            Technique::Iframe => ("/events/iframe?callback=parent.f&", ""),
            Technique::Socket => (
                "/events/ws?",
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            ),
            Technique::Poll => ("/events/poll?", ""),
            Technique::Xml => ("/events/poll?", "Accept: application/xml\r\n"),
            Technique::Jsonp => ("/events/jsonp?callback=f&", ""),
        }
    }
}

/// The text of a body so far.
#[derive(Debug)]
pub(crate) struct Body {
    technique: Technique,
    text: Vec<u8>,
    pub(crate) retry_ms: Option<u64>,
    /// What a document or the first part begins with is over.
    is_open: bool,
}

impl Body {
    pub(crate) fn new(technique: Technique) -> Body {
        Body {
            technique,
            text: Vec::new(),
            retry_ms: None,
            is_open: false,
        }
    }

    /// Takes a part of the body; gives the messages that are whole.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Message> {
        self.text.extend_from_slice(bytes);
        let end: &[u8] = match self.technique {
            Technique::Sse => b"\n\n",
            Technique::Stream | Technique::Iframe => b"\n",
            Technique::Multipart => b"\r\n--encke",
            Technique::Socket => return frames(&mut self.text),
            _ => return Vec::new(),
        };
        let mut messages = Vec::new();
        while let Some(at) = self
            .text
            .windows(end.len())
            .position(|window| window == end)
        {
            let frame: Vec<u8> = self.text.drain(..at + end.len()).collect();
            let frame = core::str::from_utf8(&frame[..at]).expect("a frame is text");
            assert!(frame.is_ascii(), "frames are ASCII: {frame}");
            messages.extend(match self.technique {
                Technique::Sse => self.sse(frame),
                Technique::Iframe => self.line(frame),
                Technique::Multipart => self.part(frame),
                _ => ndjson(frame),
            });
        }
        messages
    }

    /// The body is whole.
    pub(crate) fn end(&mut self) -> Vec<Message> {
        let text = core::str::from_utf8(&self.text).expect("an answer is text");
        match self.technique {
            Technique::Poll => poll(text),
            Technique::Xml => xml(text),
            Technique::Jsonp => script(text),
            Technique::Multipart => {
                assert_eq!(text, "--\r\n", "parts end with the last delimiter");
                Vec::new()
            }
            _ => {
                assert!(text.is_empty(), "a stream ends behind a frame");
                Vec::new()
            }
        }
    }

    /// A line of a frame's document.
    fn line(&mut self, line: &str) -> Option<Message> {
        if !self.is_open {
            self.is_open = line == "</script></head><body>";
            return None;
        }
        if line.starts_with("<!--") || line == "</body></html>" {
            return None;
        }
        let script = line
            .strip_prefix("<script>")
            .and_then(|rest| rest.strip_suffix("</script>"))
            .expect(line);
        if let Some(call) = script.strip_prefix("parent.f(") {
            return ndjson(call.strip_suffix(");r()").expect(line));
        }
        assert!(script.starts_with("a(\""), "{line}");
        None
    }

    /// What stands between two delimiters, and the end of the one in front.
    fn part(&mut self, part: &str) -> Option<Message> {
        let first = match core::mem::replace(&mut self.is_open, true) {
            false => "--encke\r\n",
            true => "\r\n",
        };
        let head = "Content-Type: application/json\r\n\r\n";
        let rest = part.strip_prefix(first).expect(part);
        ndjson(rest.strip_prefix(head).expect(part))
    }

    fn sse(&mut self, frame: &str) -> Option<Message> {
        let (mut name, mut id, mut data) = ("message", None, None);
        for line in frame.split('\n').filter(|line| !line.starts_with(':')) {
            let (field, value) = line.split_once(": ").expect("a field is `name: value`");
            let twice = match field {
                "event" => core::mem::replace(&mut name, value) != "message",
                "id" => id.replace(value).is_some(),
                "data" => data.replace(value).is_some(),
                "retry" => self
                    .retry_ms
                    .replace(value.parse().expect("a retry is a number"))
                    .is_some(),
                _ => panic!("no such field: {line}"),
            };
            assert!(!twice || field == "retry", "a field stands once: {frame}");
        }
        let Some(data) = data else {
            assert!(id.is_none() && name == "message", "{frame}");
            return None;
        };
        let message = match name {
            "message" => Message::Event(data.to_owned()),
            "hello" => Message::Hello(Hello::parse(data)),
            "heartbeat" => heartbeat(data),
            "busy" => busy(data),
            "more" => more(data),
            _ => panic!("no such event: {frame}"),
        };
        let inner = match &message {
            Message::Event(text) => Some(event_id(text)),
            Message::Hello(hello) => Some(hello.id.clone()),
            Message::Heartbeat(id) | Message::More(id) => Some(id.clone()),
            _ => None,
        };
        assert_eq!(id, inner.as_deref(), "the id is that of the data");
        Some(message)
    }
}

/// The id in an event's text.
pub(crate) fn event_id(text: &str) -> String {
    let rest = text
        .strip_prefix(r#"{"id":""#)
        .expect("an event begins with its id");
    rest[..rest.find('"').expect("an id ends")].to_owned()
}

fn heartbeat(data: &str) -> Message {
    let id = data
        .strip_prefix(r#"{"id":""#)
        .and_then(|rest| rest.strip_suffix(r#""}"#));
    Message::Heartbeat(id.expect("a heartbeat is an id").to_owned())
}

fn more(data: &str) -> Message {
    match heartbeat(data) {
        Message::Heartbeat(id) => Message::More(id),
        other => other,
    }
}

/// Whole frames of a server, taken from the front (RFC 6455 section 5.2).
fn frames(bytes: &mut Vec<u8>) -> Vec<Message> {
    let mut messages = Vec::new();
    while let [first, second, ..] = bytes[..] {
        let (extended, length) = match second {
            126 if bytes.len() >= 4 => (2, u64::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            127 if bytes.len() >= 10 => {
                let length = bytes[2..10].try_into().expect("eight bytes");
                (8, u64::from_be_bytes(length))
            }
            126 | 127 => break,
            short => (0, u64::from(short)),
        };
        let least = [(0, 0), (2, 126), (8, 65_536)];
        assert!(
            least.contains(&(extended, 0))
                || least.iter().any(|(e, l)| *e == extended && length >= *l)
        );
        let (from, to) = (2 + extended, 2 + extended + length as usize);
        if bytes.len() < to {
            break;
        }
        let frame: Vec<u8> = bytes.drain(..to).collect();
        let payload = &frame[from..];
        match first {
            0x81 => {
                let text = core::str::from_utf8(payload).expect("a message is text");
                messages.extend(ndjson(text));
            }
            0x88 => messages.push(Message::Closed(u16::from_be_bytes([
                payload[0], payload[1],
            ]))),
            0x89 => messages.push(Message::Ping),
            _ => panic!("no such frame: {first:#x}"),
        }
    }
    messages
}

/// What a script tag's answer calls with.
fn script(text: &str) -> Vec<Message> {
    let call = text
        .trim_start_matches(' ')
        .strip_prefix("/**/f(")
        .expect(text);
    let object = call.strip_suffix(");").expect(text);
    if let Some(error) = object.strip_prefix(r#"{"error":{"status":"#) {
        return vec![Message::Refused(error[..3].parse().expect("a status"))];
    }
    poll(object)
}

/// What stands between two marks, and what stands behind.
fn between<'t>(text: &'t str, from: &str, to: &str) -> Option<(&'t str, &'t str)> {
    text.strip_prefix(from)?.split_once(to)
}

/// An answer as XML, read as the JSON that it stands for.
fn xml(text: &str) -> Vec<Message> {
    let declaration = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n";
    let rest = text.strip_prefix(declaration).expect(text);
    let mut rest = rest
        .trim_start_matches(' ')
        .strip_prefix("<answer>")
        .expect(text);
    let mut object = String::from("{");
    if let Some((hello, after)) = between(rest, "<hello>", "</hello>") {
        let hello = hello
            .replace("<log>", "{\"log\":\"")
            .replace("</log><id>", "\",\"id\":\"");
        let hello = hello.replace("</id><lost>", "\",\"lost\":");
        let hello = hello
            .replace("</lost><reset>", ",\"reset\":")
            .replace("</reset>", "");
        let hello = hello
            .replace("<exact>", ",\"exact\":")
            .replace("</exact>", "");
        object += &format!("\"hello\":{hello}}},");
        rest = after;
    }
    let mut events = Vec::new();
    if let Some(after) = rest.strip_prefix("<events/>") {
        rest = after;
    } else {
        let (mut list, after) = between(rest, "<events>", "</events>").expect(text);
        while let Some((event, more)) = between(list, "<event>", "</event>") {
            let event = event
                .replace("<id>", "{\"id\":\"")
                .replace("</id><topic>", "\",\"topic\":\"");
            let event = event.replace("</topic><time>", "\",\"time\":");
            let event = event
                .replace("</time><value>", ",\"value\":")
                .replace("</value>", "");
            let event = event
                .replace("<state>", ",\"state\":\"")
                .replace("</state>", "\"");
            events.push(event + "}");
            list = more;
        }
        assert!(list.is_empty(), "{text}");
        rest = after;
    }
    let (last, end) = between(rest, "<last>", "</last>").expect(text);
    assert_eq!(end, "</answer>");
    poll(&format!(
        "{object}\"events\":[{}],\"last\":\"{last}\"}}",
        events.join(",")
    ))
}

fn busy(data: &str) -> Message {
    #[derive(Deserialize)]
    struct Busy {
        reason: String,
        retry: u64,
    }
    let busy: Busy = serde_json::from_str(data).expect("busy is JSON");
    Message::Busy {
        reason: busy.reason,
        retry_ms: busy.retry,
    }
}

fn ndjson(line: &str) -> Option<Message> {
    if line.trim().is_empty() {
        assert!(!line.is_empty(), "an empty line only as padding");
        return None;
    }
    let inner = |name: &str| {
        let rest = line.strip_prefix(&format!(r#"{{"{name}":"#))?;
        rest.strip_suffix('}')
    };
    Some(if let Some(text) = inner("hello") {
        Message::Hello(Hello::parse(text))
    } else if let Some(text) = inner("heartbeat") {
        heartbeat(text)
    } else if let Some(text) = inner("busy") {
        busy(text)
    } else if let Some(text) = inner("more") {
        more(text)
    } else {
        Message::Event(line.to_owned())
    })
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    hello: Option<&'a RawValue>,
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
    last: String,
}

fn poll(text: &str) -> Vec<Message> {
    let answer: Answer<'_> = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let hello = answer
        .hello
        .map_or(String::new(), |raw| format!("\"hello\":{raw},"));
    let events: Vec<&str> = answer.events.iter().map(|raw| raw.get()).collect();
    let again = format!(
        r#"{{{hello}"events":[{}],"last":"{}"}}"#,
        events.join(","),
        answer.last
    );
    assert_eq!(
        text.trim_start_matches(' '),
        again,
        "an answer in its only spelling"
    );
    let mut messages = Vec::new();
    messages.extend(
        answer
            .hello
            .map(|raw| Message::Hello(Hello::parse(raw.get()))),
    );
    messages.extend(events.iter().map(|text| Message::Event((*text).to_owned())));
    messages.push(Message::Last(answer.last));
    messages
}

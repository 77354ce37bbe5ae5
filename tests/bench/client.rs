//! One connection as its client sees it: what is asked, and a strict decoder of what is answered.
//!
//! RFC 9112 sections 4, 6.3 and 7.1 as far as the server uses them, the HTML standard section
//! 9.2.6 for event streams, DESIGN.md section 3 for what stands in them. It knows no socket and no
//! clock, and never skips what it does not know: a byte out of place is a fault.

use crate::Outcome;

/// How a connection is framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    Sse,
    Stream,
    Poll,
    /// Not a viewer: the connection that publishes.
    Publish,
}

impl Transport {
    /// Those a viewer can have.
    pub(crate) const VIEWERS: [Transport; 3] = [Transport::Sse, Transport::Stream, Transport::Poll];

    /// As in `/events/NAME`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Sse => "sse",
            Transport::Stream => "stream",
            Transport::Poll => "poll",
            Transport::Publish => "publish",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Transport::Sse => "text/event-stream",
            Transport::Stream => "application/x-ndjson",
            Transport::Poll | Transport::Publish => "application/json",
        }
    }

    /// Whether one answer goes on for ever.
    pub(crate) fn is_held(self) -> bool {
        matches!(self, Transport::Sse | Transport::Stream)
    }

    /// What a viewer asks: `query` without `?`, `since` an id or empty.
    pub(crate) fn request(self, query: &str, since: &str, host: &str) -> String {
        let name = self.name();
        let since = match since {
            "" => String::new(),
            id => format!("Last-Event-ID: {id}\r\n"),
        };
        format!("GET /events/{name}?{query} HTTP/1.1\r\nHost: {host}\r\n{since}\r\n")
    }
}

/// What was heard, in the order of the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Heard<'a> {
    /// Position resumed from, and whether everything begins anew.
    Hello {
        id: &'a str,
        reset: bool,
    },
    /// Milliseconds to wait before coming back.
    Retry(u64),
    /// One event's JSON text, not checked.
    Event(&'a str),
    Heartbeat(&'a str),
    /// Turned away: come back after so many milliseconds.
    Busy(u64),
    /// The end of one long-poll: its `last`.
    Last(&'a str),
    /// The body of what a publish was answered.
    Answer(&'a str),
}

/// Where in the framing the next byte stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Head,
    /// In a chunk's size: its value, and whether it has a digit.
    Size(u64, bool),
    /// In a chunk: bytes left.
    Chunk(u64),
    /// In a body of known length: bytes left.
    Body(u64),
    /// These bytes, then that.
    Literal(&'static [u8], After),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum After {
    Size,
    Chunk(u64),
    Done,
}

/// The most that may be waiting for its end: far more than the largest frame or answer.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// Decodes one connection's bytes, however they were cut.
#[derive(Debug)]
pub(crate) struct Decoder {
    transport: Transport,
    stage: Stage,
    head: Vec<u8>,
    /// The body as far as it is not heard yet.
    text: Vec<u8>,
    /// The status was 503, so the body is for people.
    is_refused: bool,
}

impl Decoder {
    pub(crate) fn new(transport: Transport) -> Decoder {
        Decoder {
            transport,
            stage: Stage::Head,
            head: Vec::new(),
            text: Vec::new(),
            is_refused: false,
        }
    }

    /// Takes bytes, and tells all that is complete.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        hear: &mut impl FnMut(Heard) -> Outcome<()>,
    ) -> Outcome<()> {
        while !bytes.is_empty() {
            let taken = match self.stage {
                Stage::Head => self.take_head(bytes, hear)?,
                Stage::Size(value, any) => self.take_size(bytes[0], value, any)?,
                Stage::Literal(literal, after) => self.take_literal(bytes[0], literal, after)?,
                Stage::Chunk(left) | Stage::Body(left) => self.take_text(bytes, left)?,
            };
            bytes = &bytes[taken..];
            if self.stage == Stage::Body(0) {
                self.end_body(hear)?;
            }
        }
        match self.transport.is_held() && !self.is_refused {
            true => self.tell_frames(hear),
            false => Ok(()),
        }
    }

    fn take_head(
        &mut self,
        bytes: &[u8],
        hear: &mut impl FnMut(Heard) -> Outcome<()>,
    ) -> Outcome<usize> {
        const END: &[u8] = b"\r\n\r\n";
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let from = before.saturating_sub(END.len() - 1);
        let Some(at) = self.head[from..].windows(END.len()).position(|w| w == END) else {
            return Ok(bytes.len());
        };
        let end = from + at;
        let head = core::mem::take(&mut self.head);
        let head = text(&head[..end])?;
        self.stage = self.framing(head, hear)?;
        Ok(end + END.len() - before)
    }

    /// What the head says about the body, once it is the one that was asked for.
    fn framing(
        &mut self,
        head: &str,
        hear: &mut impl FnMut(Heard) -> Outcome<()>,
    ) -> Outcome<Stage> {
        let field = |name: &str| {
            let mut lines = head.split("\r\n").skip(1);
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let number = |name: &str| field(name).and_then(|value| value.parse::<u64>().ok());
        let status = head.strip_prefix("HTTP/1.1 ").unwrap_or_default();
        if status.starts_with("503 ") {
            self.is_refused = true;
            let after_s = number("Retry-After").ok_or("503 without Retry-After")?;
            hear(Heard::Busy(after_s * 1000))?;
            return Ok(Stage::Body(
                number("Content-Length").ok_or("503 without length")?,
            ));
        }
        let media_type = field("Content-Type").unwrap_or_default();
        if !status.starts_with("200 ") || !media_type.starts_with(self.transport.media_type()) {
            return Err(format!("this is not the answer expected: {head:?}"));
        }
        match (field("Transfer-Encoding"), number("Content-Length")) {
            (Some("chunked"), None) => Ok(Stage::Size(0, false)),
            (None, Some(length)) if !self.transport.is_held() => Ok(Stage::Body(length)),
            _ => Err(format!("the framing is not clear: {head:?}")),
        }
    }

    fn take_size(&mut self, byte: u8, value: u64, any: bool) -> Outcome<usize> {
        self.stage = match (byte as char).to_digit(16) {
            Some(digit) if value < 1 << 32 => Stage::Size(value * 16 + u64::from(digit), true),
            None if byte == b'\r' && any => match value {
                0 => Stage::Literal(b"\n\r\n", After::Done),
                _ => Stage::Literal(b"\n", After::Chunk(value)),
            },
            _ => return Err(format!("byte {byte} in the size of a chunk")),
        };
        Ok(1)
    }

    fn take_literal(&mut self, byte: u8, literal: &'static [u8], after: After) -> Outcome<usize> {
        if byte != literal[0] {
            return Err(format!("byte {byte} where {literal:?} has to stand"));
        }
        self.stage = match (&literal[1..], after) {
            ([], After::Size) => Stage::Size(0, false),
            ([], After::Chunk(size)) => Stage::Chunk(size),
            ([], After::Done) => Stage::Body(0),
            (rest, after) => Stage::Literal(rest, after),
        };
        Ok(1)
    }

    fn take_text(&mut self, bytes: &[u8], left: u64) -> Outcome<usize> {
        let taken = bytes.len().min(left as usize);
        self.text.extend_from_slice(&bytes[..taken]);
        if self.text.len() > TEXT_BYTES_MAX {
            return Err(format!("{} bytes without an end", self.text.len()));
        }
        let left = left - taken as u64;
        self.stage = match (self.stage, left) {
            (Stage::Body(_), left) => Stage::Body(left),
            (_, 0) => Stage::Literal(b"\r\n", After::Size),
            (_, left) => Stage::Chunk(left),
        };
        Ok(taken)
    }

    fn end_body(&mut self, hear: &mut impl FnMut(Heard) -> Outcome<()>) -> Outcome<()> {
        self.stage = Stage::Head;
        if self.transport.is_held() && !self.is_refused {
            return self.tell_frames(hear);
        }
        let body = core::mem::take(&mut self.text);
        let told = match (core::mem::take(&mut self.is_refused), self.transport) {
            (true, _) => Ok(()),
            (false, Transport::Publish) => hear(Heard::Answer(text(&body)?)),
            (false, _) => poll(text(&body)?, hear),
        };
        self.text = body;
        self.text.clear();
        told
    }

    /// Tells the frames that are complete and keeps the rest.
    fn tell_frames(&mut self, hear: &mut impl FnMut(Heard) -> Outcome<()>) -> Outcome<()> {
        let mut body = core::mem::take(&mut self.text);
        let mut told = 0;
        while told < body.len() {
            let used = match self.transport {
                Transport::Sse => block(&body[told..], hear)?,
                _ => line(&body[told..], hear)?,
            };
            if used == 0 {
                break;
            }
            told += used;
        }
        body.drain(..told);
        self.text = body;
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Outcome<&str> {
    str::from_utf8(bytes).map_err(|_| "bytes that are not UTF-8".to_string())
}

fn strange(what: &str, text: &str) -> String {
    let shown: String = text.chars().take(300).collect();
    format!("this is no {what}: {shown:?}")
}

/// The line at the front, without its end.
fn first_line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    Some(&bytes[..end])
}

/// One block of an event stream; bytes used, 0 while it is not whole.
fn block(bytes: &[u8], hear: &mut impl FnMut(Heard) -> Outcome<()>) -> Outcome<usize> {
    let mut used = 0;
    let (mut retry, mut event, mut id, mut data) = (None, None, None, None);
    while let Some(line) = first_line(&bytes[used..]) {
        used += line.len() + 1;
        let line = text(line)?;
        if line.is_empty() {
            let retry: Option<u64> = match retry.map(str::parse) {
                Some(Err(_)) => return Err("`retry:` without a number".to_string()),
                Some(Ok(ms)) => Some(ms),
                None => None,
            };
            if let Some(ms) = retry {
                hear(Heard::Retry(ms))?;
            }
            return told(event, id, data.unwrap_or_default(), hear).map(|()| used);
        }
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        let field = match name {
            "retry" => &mut retry,
            "event" => &mut event,
            "id" => &mut id,
            "data" => &mut data,
            _ => return Err(strange("line of an event stream", line)),
        };
        if field.replace(value).is_some() {
            return Err(strange("line to stand twice", line));
        }
    }
    Ok(0)
}

/// What a block means.
fn told(
    event: Option<&str>,
    id: Option<&str>,
    data: &str,
    hear: &mut impl FnMut(Heard) -> Outcome<()>,
) -> Outcome<()> {
    let heard = match event {
        None => Heard::Event(data),
        Some("hello") => hello(data).ok_or_else(|| strange("hello", data))?,
        Some("heartbeat") => heartbeat(data).ok_or_else(|| strange("heartbeat", data))?,
        Some("busy") => busy(data).ok_or_else(|| strange("busy", data))?,
        Some(other) => return Err(strange("event of ours", other)),
    };
    let inner = match heard {
        Heard::Event(text) => text
            .strip_prefix(r#"{"id":""#)
            .and_then(|rest| Some(rest.split_once('"')?.0)),
        Heard::Hello { id, .. } | Heard::Heartbeat(id) => Some(id),
        _ => None,
    };
    if id != inner {
        return Err(format!("`id: {id:?}` stands before {data:?}"));
    }
    hear(heard)
}

/// One line of a stream; bytes used, 0 while it is not whole.
fn line(bytes: &[u8], hear: &mut impl FnMut(Heard) -> Outcome<()>) -> Outcome<usize> {
    let Some(line) = first_line(bytes) else {
        return Ok(0);
    };
    let used = line.len() + 1;
    let line = text(line)?;
    let inner = |name: &str| line.strip_prefix(name)?.strip_suffix('}');
    let heard = if line.starts_with(r#"{"id":"#) {
        Some(Heard::Event(line))
    } else if let Some(inner) = inner(r#"{"hello":"#) {
        hello(inner)
    } else if let Some(inner) = inner(r#"{"heartbeat":"#) {
        heartbeat(inner)
    } else {
        inner(r#"{"busy":"#).and_then(busy)
    };
    hear(heard.ok_or_else(|| strange("line of a stream", line))?)?;
    Ok(used)
}

/// The body of a long-poll's answer.
fn poll(body: &str, hear: &mut impl FnMut(Heard) -> Outcome<()>) -> Outcome<()> {
    const NEXT: &str = r#"},{"id":"#;
    let wrong = || strange("answer of a long-poll", body);
    let mut rest = body.strip_prefix('{').ok_or_else(wrong)?;
    if let Some(inner) = rest.strip_prefix(r#""hello":"#) {
        let end = inner.find("},").ok_or_else(wrong)? + 1;
        hear(hello(&inner[..end]).ok_or_else(wrong)?)?;
        rest = &inner[end + 1..];
    }
    let rest = rest.strip_prefix(r#""events":["#).ok_or_else(wrong)?;
    let (mut events, last) = rest.rsplit_once(r#"],"last":""#).ok_or_else(wrong)?;
    while let Some(at) = events.find(NEXT) {
        hear(Heard::Event(&events[..=at]))?;
        events = &events[at + 2..];
    }
    if !events.is_empty() {
        hear(Heard::Event(events))?;
    }
    hear(Heard::Last(last.strip_suffix("\"}").ok_or_else(wrong)?))
}

/// A viewer that lost events is not heard: the shapes are such that nobody may lose any.
fn hello(inner: &str) -> Option<Heard<'_>> {
    let (log, rest) = inner.strip_prefix(r#"{"log":""#)?.split_once('"')?;
    let (id, rest) = rest.strip_prefix(r#","id":""#)?.split_once('"')?;
    let reset = rest
        .strip_prefix(r#","lost":0,"reset":"#)?
        .strip_suffix('}')?;
    id.strip_prefix(log)?.strip_prefix('-')?;
    let reset = reset.parse().ok()?;
    Some(Heard::Hello { id, reset })
}

fn heartbeat(inner: &str) -> Option<Heard<'_>> {
    let id = inner.strip_prefix(r#"{"id":""#)?.strip_suffix("\"}")?;
    Some(Heard::Heartbeat(id))
}

fn busy(inner: &str) -> Option<Heard<'_>> {
    let (reason, rest) = inner.strip_prefix(r#"{"reason":""#)?.split_once('"')?;
    let ms = rest.strip_prefix(r#","retry":"#)?.strip_suffix('}')?;
    ["full", "draining"].contains(&reason).then_some(())?;
    Some(Heard::Busy(ms.parse().ok()?))
}

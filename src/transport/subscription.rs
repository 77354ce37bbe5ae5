//! What a subscriber asks for, read from a request's query and fields (DESIGN.md 3, "Connecting and
//! resuming"). The same parameters on every transport. It never looks at the hub.

use super::websocket::{self, Upgrade};
use super::{
    Callback, Framing, LONGPOLL, Shape, Span, TRANSPORTS, Transport, WEBSOCKET, iframe, multipart,
    xml,
};
use crate::hub::audience::{Patterns, Wish};
use crate::hub::event::Seq;
use crate::hub::readers::Reader;
use crate::limits::{CALLBACK_BYTES_MAX, DOMAIN_BYTES_MAX, PATTERNS_BYTES_MAX};
use crate::name;
use crate::wire::Refusal;
use crate::wire::request::Head;
use crate::wire::text::{Query, accepts_exactly, decimal, percent_decode, trim};
use crate::wire::websocket::handshake;

/// Where a subscriber wants to go on.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Since {
    /// It has nothing yet.
    #[default]
    Nothing,
    /// After this id.
    Id {
        /// The life of the log.
        log: heapless::String<10>,
        /// The position in it.
        seq: Seq,
    },
    /// After something that is no id: a fresh start, and it is told so.
    Malformed,
}

impl Since {
    /// `LOG-SEQ`; an empty text is nothing.
    pub fn parse(text: &[u8]) -> Since {
        if text.is_empty() {
            return Since::Nothing;
        }
        let id = || {
            let at = text.iter().position(|b| *b == b'-')?;
            let log = core::str::from_utf8(&text[..at]).ok()?;
            Some(Since::Id {
                log: log.try_into().ok()?,
                seq: decimal(&text[at + 1..])?,
            })
        };
        id().unwrap_or(Since::Malformed)
    }
}

/// A subscriber's request, whole.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Framing, interval and patterns: its audience.
    pub wish: Wish,
    /// How it begins.
    pub opening: Opening,
}

/// What of a subscription is looked at once, when it begins.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Where it goes on.
    pub since: Since,
    /// Whether a fresh subscriber wants the last events first.
    pub snapshot: bool,
    /// How long a poll is held.
    pub timeout_ms: u64,
    /// Bytes of white space to begin with; without it, what its transport has.
    pub padding: Option<usize>,
    /// Bytes after which a stream ends; without it, as its transport has it.
    pub limit: Option<u64>,
    /// The domain that a page and its frame have in common.
    pub domain: Domain,
    /// Which client asks, as a number: an older poll of the same is released. 0 for any.
    pub client: u64,
    /// Whether a poll that nothing came for is a 304 (RFC 9110 section 13.1.2).
    pub is_conditional: bool,
    /// How it is opened, if it is a WebSocket.
    pub upgrade: Option<Upgrade>,
}

/// A domain's name.
pub type Domain = heapless::String<DOMAIN_BYTES_MAX>;

impl Opening {
    /// How long its stream may become.
    pub fn span_in(&self, row: &Transport) -> Span {
        let padding = self.padding.unwrap_or(row.padding) as u64;
        Span {
            bytes: { self.limit.unwrap_or(row.span.bytes) }.max(padding + NEWS_BYTES_MIN),
            ms: row.span.ms,
        }
    }
}

/// The longest a poll is held.
const TIMEOUT_MAX_S: f64 = 60.0;
const TIMEOUT_DEFAULT_MS: u64 = 25_000;
/// What a stream may have besides its padding at least: one that ended with its hello would be
/// asked for again at once, for ever, and frames do that by themselves.
const NEWS_BYTES_MIN: u64 = 2048;
/// More padding than any engine ever held back.
const PADDING_MAX: f64 = 8192.0;

/// The transport that is chosen at `/events`: a WebSocket by Upgrade, else by `Accept` the one
/// wanted most, else long-polling.
pub fn negotiate(head: &Head<'_>) -> u8 {
    if handshake::is_asked_for(head) {
        return WEBSOCKET;
    }
    let wants = |media| wanted(head, media);
    // Who opens it in a browser accepts XML, too, but would rather see text.
    let mut best = (LONGPOLL, wants("text/html"));
    for (index, row) in (0..).zip(TRANSPORTS) {
        let wanted = match row.accept {
            "" => 0,
            media => wants(media),
        };
        if wanted > best.1 {
            best = (index, wanted);
        }
    }
    best.0
}

/// The transport of a poll's own path: as XML for who wants that.
pub fn poll_of(head: &Head<'_>) -> u8 {
    let wants = |media| wanted(head, media);
    match wants(xml::ROW.accept) {
        0 => LONGPOLL,
        wanted if wanted > wants("text/html").max(wants("application/json")) => xml::NUMBER,
        _ => LONGPOLL,
    }
}

/// How much a request wants this, in thousandths. A list may stand in several lines (RFC 9110
/// section 5.3).
fn wanted(head: &Head<'_>, media: &str) -> u16 {
    let lines = head.fields("accept");
    let weights = lines.filter_map(|line| accepts_exactly(line, media));
    weights.max().unwrap_or(0)
}

const TOO_MANY_PATTERNS: Refusal = Refusal::new(
    414,
    "topics: the patterns take more than {} bytes; use + or # for several topics at once",
)
.with([PATTERNS_BYTES_MAX as u64, 0, 0]);

fn number(value: &[u8], name: Refusal, min: f64, max: f64) -> Result<f64, Refusal> {
    let text = core::str::from_utf8(value).ok();
    let number = text
        .and_then(|text| text.parse::<f64>().ok())
        .filter(|n| !n.is_nan());
    number.map(|n| n.clamp(min, max)).ok_or(name)
}

fn add_patterns(list: &str, index: &mut u64, patterns: &mut Patterns) -> Result<(), Refusal> {
    for text in list.split(',').filter(|text| !text.is_empty()) {
        *index += 1;
        let pattern = name::pattern(text).ok_or(
            Refusal::new(400, "topics: pattern {} is not valid: a pattern is 1 to 8 segments of A-Z a-z 0-9 _ - joined by /, where a segment may be + and the last may be #")
                .with([*index, 0, 0]),
        )?;
        patterns.add(pattern).map_err(|_| TOO_MANY_PATTERNS)?;
    }
    Ok(())
}

impl Subscription {
    /// Reads a request for the transport with this number.
    pub fn parse(transport: u8, head: &Head<'_>) -> Result<Subscription, Refusal> {
        let mut subscription = Subscription {
            wish: Wish {
                framing: 0,
                interval_ms: 0,
                reader: Reader::NOBODY,
                head: 0,
                callback: Callback::new(),
                patterns: Patterns::default(),
            },
            opening: Opening {
                since: Since::Nothing,
                snapshot: true,
                timeout_ms: TIMEOUT_DEFAULT_MS,
                padding: None,
                limit: None,
                domain: Domain::new(),
                client: 0,
                is_conditional: false,
                upgrade: None,
            },
        };
        let mut framing = Framing {
            transport,
            version: head.version,
            is_raw: false,
            is_binary: false,
            last: !head.wants_keep_alive(),
        };
        if framing.is_socket() {
            subscription.opening.upgrade = Some(Upgrade {
                accept: handshake::accept(head)?,
                has_protocol: handshake::offers(head, websocket::PROTOCOL),
            });
        }
        let mut patterns_seen = 0;
        for (key, value) in Query::new(head.query) {
            let mut decoded = [0; 2 * PATTERNS_BYTES_MAX];
            let Some(value) = percent_decode(value, false, &mut decoded) else {
                if is_since(key) {
                    subscription.opening.since = Since::Malformed;
                } else if key == b"topics" && value.len() > decoded.len() {
                    return Err(TOO_MANY_PATTERNS);
                } else if is_known(key) {
                    return Err(Refusal::new(400, "the query has a parameter that is not percent-encoded UTF-8 of at most {} bytes").with([2 * PATTERNS_BYTES_MAX as u64, 0, 0]));
                }
                continue;
            };
            subscription.apply(key, value, &mut framing, &mut patterns_seen)?;
        }
        subscription.complete(head, &mut framing)?;
        subscription.wish.framing = framing.code();
        Ok(subscription)
    }

    /// What the head says besides, and what nobody said.
    fn complete(&mut self, head: &Head<'_>, framing: &mut Framing) -> Result<(), Refusal> {
        if framing.row().shape == Shape::Answer
            && let Some(id) = head.field("if-none-match").and_then(entity_tag)
        {
            self.opening.since = Since::parse(id);
            self.opening.is_conditional = true;
        }
        if let Some(id) = head.field("last-event-id").filter(|id| !id.is_empty()) {
            self.opening.since = Since::parse(id);
        }
        // A stream's connection always ends with it: no reason to be another audience.
        framing.last |= framing.row().shape == Shape::Stream;
        if let Some(default) = framing.row().callback
            && self.wish.callback.is_empty()
        {
            self.wish.callback = callback(default)?;
        }
        if framing.shows_pictures() && wants_images(head) {
            framing.last = false;
            let padding = &mut self.opening.padding;
            *padding = padding.or(Some(multipart::IMAGES_PADDING));
        }
        Ok(())
    }

    fn apply(
        &mut self,
        key: &[u8],
        value: &str,
        framing: &mut Framing,
        patterns_seen: &mut u64,
    ) -> Result<(), Refusal> {
        match key {
            b"topics" => add_patterns(value, patterns_seen, &mut self.wish.patterns)?,
            key if is_since(key) && !value.is_empty() => {
                self.opening.since = Since::parse(value.as_bytes());
            }
            b"snapshot" => {
                self.opening.snapshot = match value {
                    "0" => false,
                    "1" => true,
                    _ => return Err(Refusal::new(400, "snapshot is 0 or 1")),
                }
            }
            b"interval" => {
                let bad = Refusal::new(400, "interval is a number of seconds from 0.1 to 3600");
                let seconds = number(value.as_bytes(), bad, 0.1, 3600.0)?;
                self.wish.interval_ms = (seconds * 1000.0) as u32;
            }
            b"timeout" => {
                let bad = Refusal::new(400, "timeout is a number of seconds from 0 to 60");
                let seconds = number(value.as_bytes(), bad, 0.0, TIMEOUT_MAX_S)?;
                self.opening.timeout_ms = (seconds * 1000.0) as u64;
            }
            b"padding" => {
                let bad = Refusal::new(400, "padding is a number of bytes from 0 to 8192");
                let bytes = number(value.as_bytes(), bad, 0.0, PADDING_MAX)?;
                self.opening.padding = Some(bytes as usize);
            }
            // A WebSocket goes on until somebody closes it: nobody keeps all of it.
            b"limit" if !framing.is_socket() => {
                let bad = Refusal::new(400, "limit is a number of bytes from 4096 to 1000000000");
                self.opening.limit = Some(number(value.as_bytes(), bad, 4096.0, 1e9)? as u64);
            }
            b"client" => self.opening.client = client(value)?,
            b"callback" if framing.row().callback.is_some() => {
                self.wish.callback = callback(value)?;
            }
            b"origin" if framing.row().name == iframe::ROW.name => {
                self.wish.callback = iframe::origin(value)?;
            }
            b"domain" if framing.row().name == iframe::ROW.name => {
                self.opening.domain = iframe::domain(value)?;
            }
            b"format" => match value {
                "raw" => (framing.is_raw, framing.is_binary) = (true, false),
                "postcard" if framing.is_socket() => {
                    (framing.is_raw, framing.is_binary) = (false, true);
                }
                _ => {
                    return Err(Refusal::new(
                        400,
                        "format is raw, postcard (WebSockets only), or absent for whole events",
                    ));
                }
            },
            _ => {}
        }
        Ok(())
    }
}

/// The name of a function, as far as it can stand in a script and nothing else with it.
///
/// # Errors
/// 400.
pub fn callback(name: &str) -> Result<Callback, Refusal> {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$');
    let mut bytes = name.bytes();
    let is_name = bytes
        .next()
        .is_some_and(|b| is_part(b) && !b.is_ascii_digit())
        && bytes.all(|b| is_part(b) || b == b'.');
    let name = name.try_into().ok().filter(|_| is_name);
    name.ok_or(Refusal::new(400, "callback is the name of a function: a letter, _ or $, then letters, digits, _ $ and dots, at most {} bytes").with([CALLBACK_BYTES_MAX as u64, 0, 0]))
}

/// A client's name as a number (FNV-1a), never 0.
fn client(name: &str) -> Result<u64, Refusal> {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if !(1..=64).contains(&name.len()) || !name.bytes().all(is_part) {
        return Err(Refusal::new(
            400,
            "client is 1 to 64 of A-Z a-z 0-9 _ - . and each client's own",
        ));
    }
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Ok(hash.max(1))
}

/// What stands in the first entity tag of a list.
fn entity_tag(list: &[u8]) -> Option<&[u8]> {
    let tag = list.strip_prefix(b"W/").unwrap_or(list);
    let tag = tag.strip_prefix(b"\"")?;
    let end = tag.iter().position(|byte| *byte == b'"')?;
    Some(&tag[..end])
}

/// Whether it is an image that shows what comes: such a request says so, or lists what kinds of
/// images it takes.
fn wants_images(head: &Head<'_>) -> bool {
    let is_image = |member: &[u8]| {
        { member.get(..6) }.is_some_and(|start| start.eq_ignore_ascii_case(b"image/"))
    };
    let accepts = |line: &[u8]| line.split(|byte| *byte == b',').map(trim).any(is_image);
    head.field("sec-fetch-dest") == Some(b"image") || head.fields("accept").any(accepts)
}

fn is_since(key: &[u8]) -> bool {
    matches!(
        key,
        b"since" | b"last_event_id" | b"lastEventId" | b"Last-Event-ID"
    )
}

fn is_known(key: &[u8]) -> bool {
    matches!(
        key,
        b"topics"
            | b"snapshot"
            | b"interval"
            | b"timeout"
            | b"padding"
            | b"limit"
            | b"client"
            | b"callback"
            | b"origin"
            | b"domain"
            | b"format"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(target: &str, field: &str) -> Result<Subscription, Refusal> {
        let text = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{field}\r\n");
        let head = Head::parse(text.as_bytes()).unwrap();
        Subscription::parse(negotiate(&head), &head)
    }

    #[test]
    fn negotiation() {
        for (accept, want) in [
            ("", "longpoll"),
            ("Accept: */*\r\n", "longpoll"),
            ("Accept: text/event-stream\r\n", "sse"),
            ("Accept: application/x-ndjson, */*\r\n", "stream"),
            (
                "Accept: text/event-stream;q=0.5, application/x-ndjson\r\n",
                "stream",
            ),
            ("Accept: text/event-stream;q=0\r\n", "longpoll"),
            ("Accept: application/json\r\n", "longpoll"),
        ] {
            let subscription = parse("/events", accept).unwrap();
            assert_eq!(
                Framing::of(subscription.wish.framing).row().name,
                want,
                "{accept}"
            );
        }
    }

    #[test]
    fn parameters_clamp_and_unknown_ones_are_ignored() {
        let s = parse(
            "/events?interval=0&timeout=999&padding=1e9&snapshot=0&nonsense=%zz&since=&topics=a,b/%23&topics=/c",
            "",
        )
        .unwrap();
        assert_eq!(
            (s.wish.interval_ms, s.opening.timeout_ms, s.opening.padding),
            (100, 60_000, Some(8192))
        );
        assert!(!s.opening.snapshot && s.opening.since == Since::Nothing);
        assert!(s.wish.patterns.wants("a") && s.wish.patterns.wants("b/x"));
        assert!(s.wish.patterns.wants("c") && !s.wish.patterns.wants("d"));
    }

    #[test]
    fn the_field_wins_over_the_query() {
        let s = parse("/events?since=a-1", "Last-Event-ID: b-2\r\n").unwrap();
        assert_eq!(
            s.opening.since,
            Since::Id {
                log: "b".try_into().unwrap(),
                seq: 2
            }
        );
        let s = parse("/events?lastEventId=a-1", "Last-Event-ID:\r\n").unwrap();
        assert_eq!(
            s.opening.since,
            Since::Id {
                log: "a".try_into().unwrap(),
                seq: 1
            }
        );
        for bad in [
            "x",
            "-",
            "a-",
            "a-1x",
            "a--1",
            "elevenchars-1",
            "%ff",
            "a-99999999999999999999999",
        ] {
            let s = parse(&format!("/events?since={bad}"), "").unwrap();
            assert_eq!(s.opening.since, Since::Malformed, "{bad}");
        }
    }

    #[test]
    fn bad_ones_are_named() {
        for bad in [
            "topics=a//b",
            "topics=ok,a%20b",
            "snapshot=2",
            "interval=x",
            "timeout=",
            "format=x",
            "topics=%ff",
        ] {
            assert_eq!(
                parse(&format!("/events?{bad}"), "").unwrap_err().status,
                400,
                "{bad}"
            );
        }
        let long = (0..40)
            .map(|i| format!("{i:02}{}", "x".repeat(28)))
            .collect::<Vec<_>>();
        assert_eq!(
            parse(&format!("/events?topics={}", long.join(",")), "")
                .unwrap_err()
                .status,
            414
        );
    }
}

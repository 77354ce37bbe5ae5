//! Transports: how events are dressed for each technique. One file and one row each.
//!
//! A transport is five small functions over a `Writer`; it knows no peer, no cursor and no socket.
//! The text of an event is printable ASCII that may stand verbatim in any of them (DESIGN.md 1).

pub mod iframe;
pub mod jsonp;
mod longpoll;
pub mod multipart;
mod sse;
mod stream;
pub mod subscription;
pub mod websocket;
mod xml;

use core::fmt;

use crate::buffer::{Full, Writer};
use crate::hub::event::{Event, Seq};
use crate::limits::CALLBACK_BYTES_MAX;
use crate::wire::request::Version;
use crate::wire::response::{LAST_CHUNK, write_chunk};
use crate::wire::websocket::{HEADER_ROOM, Kind, Opcode, close_frame};

/// `LOG-SEQ`.
#[derive(Clone, Copy, Debug)]
pub struct Id<'a> {
    /// The log's name.
    pub log: &'a str,
    /// The position in it.
    pub seq: Seq,
}

impl Id<'_> {
    /// Writes the id.
    pub fn put(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        out.put_all(&[self.log.as_bytes(), b"-"])?;
        out.put_u64(self.seq)
    }
}

/// What every connection begins with.
#[derive(Clone, Copy, Debug)]
pub struct Hello<'a> {
    /// The position resumed from.
    pub id: Id<'a>,
    /// How many wanted events can no longer be had.
    pub lost: u64,
    /// Whether `lost` is the very number.
    pub exact: bool,
    /// Whether the id that was asked for means nothing here: a fresh start.
    pub reset: bool,
}

impl Hello<'_> {
    /// Writes `{"log":..,"id":..,"lost":..,"reset":..}`, with `"exact":false` when it is a bound.
    pub fn put(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        out.put_all(&[br#"{"log":""#, self.id.log.as_bytes(), br#"","id":""#])?;
        self.id.put(out)?;
        out.put(br#"","lost":"#)?;
        out.put_u64(self.lost)?;
        out.put_all(&[br#","reset":"#, if self.reset { b"true" } else { b"false" }])?;
        if !self.exact {
            out.put(br#","exact":false"#)?;
        }
        out.put(b"}")
    }
}

/// Why there is no stream now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// All stream slots are taken.
    Full,
    /// The server is going down.
    Draining,
    /// The token it was opened with counts no longer.
    Token,
}

/// There is no stream now; try again.
#[derive(Clone, Copy, Debug)]
pub struct Busy {
    /// Why.
    pub reason: Reason,
    /// When to try again.
    pub retry_ms: u64,
}

impl Busy {
    /// Writes `{"reason":..,"retry":MS}`.
    pub fn put(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        let reason = match self.reason {
            Reason::Full => &b"full"[..],
            Reason::Draining => b"draining",
            Reason::Token => b"token",
        };
        out.put_all(&[br#"{"reason":""#, reason, br#"","retry":"#])?;
        out.put_u64(self.retry_ms)?;
        out.put(b"}")
    }
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// There is none now.
    Busy(Busy),
    /// It is long enough: whoever wants more connects again with this id.
    More(Id<'a>),
}

impl End<'_> {
    /// Writes `{"busy":{..}}` or `{"more":{"id":..}}`.
    pub fn put(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        match self {
            End::Busy(busy) => {
                out.put(br#"{"busy":"#)?;
                busy.put(out)?;
                out.put(b"}")
            }
            End::More(id) => {
                out.put(br#"{"more":{"id":""#)?;
                id.put(out)?;
                out.put(br#""}}"#)
            }
        }
    }
}

/// What a body begins with depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open<'a> {
    /// When the browser is to come back after this.
    pub retry_ms: u64,
    /// Bytes of white space: old engines hold back what is short.
    pub padding: usize,
    /// The domain that page and frame have in common, for old browsers.
    pub domain: &'a str,
}

/// How long a stream may become: browsers keep all of some until they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Bytes of its body.
    pub bytes: u64,
    /// Its time.
    pub ms: u64,
}

impl Span {
    /// As long as it can.
    pub const ENDLESS: Span = Span {
        bytes: u64::MAX,
        ms: u64::MAX,
    };
}

/// Whether a peer is held and fed, or answered once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An endless answer: a frame for each event.
    Stream,
    /// One answer with everything there is, held until there is something.
    Answer,
}

/// One technique.
pub struct Transport {
    /// Its word in metrics and transcripts, and the name of its file.
    pub name: &'static str,
    /// Its own path.
    pub path: &'static str,
    /// The media type that chooses it at `/events`.
    pub accept: &'static str,
    /// The media type it answers with.
    pub content_type: &'static str,
    /// Stream or answer.
    pub shape: Shape,
    /// More fields of its answers' heads, each with its CRLF.
    pub fields: &'static str,
    /// The function that takes messages when a request names none; `None` where there is none.
    pub callback: Option<&'static str>,
    /// How long a stream is at most when it says nothing of that.
    pub span: Span,
    /// Bytes of padding when a request says nothing of that.
    pub padding: usize,
    /// What a body begins with: padding, or the opening of an answer.
    pub open: fn(&Open<'_>, dress: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full>,
    /// The hello.
    pub hello: fn(&Hello<'_>, dress: Dress<'_>, &mut Writer<'_>) -> Result<(), Full>,
    /// One event. `first` is whether none stands before it in this answer.
    pub event: fn(&Event<'_>, dress: Dress<'_>, first: bool, &mut Writer<'_>) -> Result<(), Full>,
    /// A stream's sign of life; an answer's closing with its `last`.
    pub mark: fn(&Id<'_>, dress: Dress<'_>, events: bool, &mut Writer<'_>) -> Result<(), Full>,
    /// What a stream ends with. Answers have none: instead of a stream's they are a 503, or whole.
    pub end: fn(&End<'_>, dress: Dress<'_>, &mut Writer<'_>) -> Result<(), Full>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// How messages are dressed, beyond their transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Dress<'a> {
    /// Whether events carry their value's JSON text only: `format=raw`.
    pub is_raw: bool,
    /// Whether messages are binary: see `websocket`.
    pub is_binary: bool,
    /// The function that takes messages, or the origin they are posted to; see `iframe`, `jsonp`.
    pub callback: &'a str,
    /// Whether pictures are all there is: no message has a text.
    pub only_pictures: bool,
}

impl Dress<'_> {
    /// The text to carry.
    pub fn text<'a>(self, event: &Event<'a>) -> &'a [u8] {
        match self.is_raw {
            false => event.text,
            true => event.value(),
        }
    }
}

/// The name of a function that takes messages, or the origin they are posted to.
pub type Callback = heapless::String<CALLBACK_BYTES_MAX>;

/// Writes `{"hello":{..}}`.
fn put_hello(hello: &Hello<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(br#"{"hello":"#)?;
    hello.put(out)?;
    out.put(b"}")
}

/// Writes `{"heartbeat":{"id":..}}`.
fn put_heartbeat(id: &Id<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(br#"{"heartbeat":{"id":""#)?;
    id.put(out)?;
    out.put(br#""}}"#)
}

/// What answers have in place of a stream's end.
fn no_end(_: &End<'_>, _: Dress<'_>, _: &mut Writer<'_>) -> Result<(), Full> {
    Ok(())
}

/// Writes `bytes` spaces: old engines hold back what is short.
fn pad(bytes: usize, out: &mut Writer<'_>) -> Result<(), Full> {
    (0..bytes).try_for_each(|_| out.put(b" "))
}

/// All transports. A row's place is its number in `Framing`.
pub static TRANSPORTS: &[Transport] = &[
    sse::ROW,
    stream::ROW,
    longpoll::ROW,
    xml::ROW,
    jsonp::ROW,
    iframe::ROW,
    websocket::ROW,
    multipart::ROW,
];

/// The row that is meant when nothing else is.
pub const LONGPOLL: u8 = 2;
/// The row whose messages are frames.
pub const WEBSOCKET: u8 = 6;

/// The row that shows pictures.
pub const MULTIPART: u8 = 7;

/// All that decides how bytes look on the wire; equal framings get equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// The row in `TRANSPORTS`.
    pub transport: u8,
    /// Whether chunks frame the body.
    pub version: Version,
    /// Whether events carry their value only.
    pub is_raw: bool,
    /// Whether messages are binary; only a WebSocket's can be.
    pub is_binary: bool,
    /// Whether the connection closes behind an answer.
    pub last: bool,
}

impl Framing {
    /// As a number, for the hub that does not look inside.
    pub fn code(self) -> u16 {
        u16::from(self.transport) << 3
            | u16::from(self.last) << 2
            | u16::from(self.version == Version::Http11 && !self.is_binary) << 1
            | u16::from(self.is_raw)
    }

    /// The framing with this number.
    pub fn of(code: u16) -> Framing {
        // A WebSocket is never HTTP/1.0: the same bit says that it is binary.
        let is_socket = code >> 3 == u16::from(WEBSOCKET);
        let is_new = code & 2 != 0;
        Framing {
            transport: (code >> 3) as u8,
            last: code & 4 != 0,
            version: match is_new || is_socket {
                true => Version::Http11,
                false => Version::Http10,
            },
            is_binary: is_socket && !is_new,
            is_raw: code & 1 != 0,
        }
    }

    /// Its row.
    pub fn row(self) -> &'static Transport {
        &TRANSPORTS[usize::from(self.transport)]
    }

    /// How its messages are dressed.
    pub fn dress(self, callback: &str) -> Dress<'_> {
        Dress {
            is_raw: self.is_raw,
            is_binary: self.is_binary,
            callback,
            only_pictures: self.only_pictures(),
        }
    }

    /// Whether its messages are frames of a WebSocket.
    pub fn is_socket(self) -> bool {
        self.transport == WEBSOCKET
    }

    /// Whether pictures are parts of the stream.
    pub fn shows_pictures(self) -> bool {
        self.transport == MULTIPART
    }

    /// Whether nothing else is: no other message. Every other stream is the last of its connection.
    pub fn only_pictures(self) -> bool {
        self.shows_pictures() && !self.last
    }

    /// Writes what `write` writes as one chunk, bare to HTTP/1.0, or as a frame of a WebSocket. All
    /// or nothing; an empty one leaves no trace, for it would end the body.
    pub fn chunk<'a>(
        self,
        out: &mut Writer<'a>,
        write: impl FnOnce(&mut Writer<'a>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let start = out.len();
        if self.is_socket() {
            let kind = match self.is_binary {
                true => Kind::Binary,
                false => Kind::Text,
            };
            let written = out.put(HEADER_ROOM).and_then(|()| write(out));
            return close_frame(Opcode::Message(kind), written, start, out);
        }
        match self.version {
            Version::Http10 => out.whole(write),
            Version::Http11 => write_chunk(out, write),
        }
    }

    /// Writes the end of a stream, behind what says why it ends.
    pub fn end_stream(self, end: &End<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
        match self.is_socket() {
            true => websocket::close(end).put(out),
            false => self.end(out),
        }
    }

    /// Writes the end of a body.
    pub fn end(self, out: &mut Writer<'_>) -> Result<(), Full> {
        match self.version {
            Version::Http10 => Ok(()),
            Version::Http11 => out.put(LAST_CHUNK),
        }
    }
}

//! Transports: how events are dressed for each technique. One file and one row each.
//!
//! A transport is five small functions over a `Writer`; it knows no peer, no cursor and no socket.
//! The text of an event is printable ASCII that may stand verbatim in any of them (DESIGN.md 1).

mod longpoll;
mod sse;
mod stream;
pub mod subscription;

use core::fmt;

use crate::buffer::{Full, Writer};
use crate::hub::event::{Event, Seq};
use crate::wire::request::Version;
use crate::wire::response::{LAST_CHUNK, write_chunk};

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
    /// What a body begins with, given the browser's next retry: padding, or the opening of an
    /// answer.
    pub open: fn(retry_ms: u64, padding: usize, out: &mut Writer<'_>) -> Result<(), Full>,
    /// The hello.
    pub hello: fn(&Hello<'_>, &mut Writer<'_>) -> Result<(), Full>,
    /// One event. `first` is whether none stands before it in this answer.
    pub event: fn(&Event<'_>, dress: Dress, first: bool, &mut Writer<'_>) -> Result<(), Full>,
    /// A stream's sign of life; an answer's closing with its `last`.
    pub mark: fn(&Id<'_>, events: bool, &mut Writer<'_>) -> Result<(), Full>,
    /// No stream now; only streams use it.
    pub busy: fn(&Busy, &mut Writer<'_>) -> Result<(), Full>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What an event frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Dress {
    /// The whole event.
    #[default]
    Event,
    /// The value's JSON text only: `format=raw`.
    Raw,
}

impl Dress {
    /// The text to carry.
    pub fn text<'a>(self, event: &Event<'a>) -> &'a [u8] {
        match self {
            Dress::Event => event.text,
            Dress::Raw => event.value(),
        }
    }
}

/// Writes `bytes` spaces: old engines hold back what is short.
fn pad(bytes: usize, out: &mut Writer<'_>) -> Result<(), Full> {
    (0..bytes).try_for_each(|_| out.put(b" "))
}

/// All transports. A row's place is its number in `Framing`.
pub static TRANSPORTS: &[Transport] = &[sse::SSE, stream::STREAM, longpoll::LONGPOLL];

/// All that decides how bytes look on the wire; equal framings get equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// The row in `TRANSPORTS`.
    pub transport: u8,
    /// Whether chunks frame the body.
    pub version: Version,
    /// What an event frame carries.
    pub dress: Dress,
    /// Whether the connection closes behind an answer.
    pub last: bool,
}

impl Framing {
    /// As a number, for the hub that does not look inside.
    pub fn code(self) -> u16 {
        u16::from(self.transport) << 3
            | u16::from(self.last) << 2
            | u16::from(self.version == Version::Http11) << 1
            | u16::from(self.dress == Dress::Raw)
    }

    /// The framing with this number.
    pub fn of(code: u16) -> Framing {
        Framing {
            transport: (code >> 3) as u8,
            last: code & 4 != 0,
            version: if code & 2 != 0 {
                Version::Http11
            } else {
                Version::Http10
            },
            dress: if code & 1 != 0 {
                Dress::Raw
            } else {
                Dress::Event
            },
        }
    }

    /// Its row.
    pub fn row(self) -> &'static Transport {
        &TRANSPORTS[usize::from(self.transport)]
    }

    /// Writes what `write` writes as one chunk, or bare to HTTP/1.0. All or nothing; an empty one
    /// leaves no trace, for it would end the body.
    pub fn chunk<'a>(
        self,
        out: &mut Writer<'a>,
        write: impl FnOnce(&mut Writer<'a>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        match self.version {
            Version::Http10 => out.whole(write),
            Version::Http11 => write_chunk(out, write),
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

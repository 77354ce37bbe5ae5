//! WebSocket (RFC 6455): every message is a frame of its own. The row, and what its messages are;
//! frames are `wire::websocket`'s, what clients say is `resource::said`'s.
//!
//! Text messages are those of the NDJSON stream. The sub-protocol `encke.v1` is chosen when it is
//! offered. No compression: permessage-deflate would keep a window for each connection.
//!
//! # `format=postcard`
//! Binary messages for programs without JSON, in postcard's encoding: numbers are varints (seven
//! bits a byte, the lowest first, the top bit on all but the last), a text is its length in bytes
//! and its UTF-8, a bool is one byte, an enum is its number. One message is one of:
//!
//! ```text
//! enum Message {
//!     Event { seq: u64, topic: str, clock: Clock, ms: u64, value: str, state: State },    // 0
//!     Hello { log: str, seq: u64, lost: u64, exact: bool, reset: bool },                  // 1
//!     Heartbeat { seq: u64 },                                                             // 2
//!     Busy { reason: Reason, retry_ms: u64 },                                             // 3
//!     More { seq: u64 },                                                                  // 4
//! }
//! enum Clock { SinceUnixEpoch, SinceBoot }       enum State { Ok, Stale, Error, Gone }
//! enum Reason { Full, Draining, Token }
//! ```
//! `value` is the value's JSON text: a number as it was published. An id is the log's name, which
//! hello says, a `-` and `seq`. What answers the client's own messages is text here, too, as those
//! are.

use super::{Busy, Dress, End, Hello, Id, Open, Reason, Shape, Span, Transport};
use super::{put_heartbeat, put_hello};
use crate::buffer::{Full, Writer};
use crate::hub::event::{Event, State};
use crate::wire::text::decimal;
use crate::wire::websocket::Close;
use crate::wire::websocket::handshake::Accept;

/// The row.
pub(super) const ROW: Transport = Transport {
    name: "websocket",
    path: "/events/ws",
    accept: "",
    content_type: "",
    shape: Shape::Stream,
    fields: "",
    callback: None,
    span: Span::ENDLESS,
    padding: 0,
    open,
    hello,
    event,
    mark: heartbeat,
    end,
};

/// The sub-protocol.
pub const PROTOCOL: &str = "encke.v1";

/// How a WebSocket is opened.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade {
    /// What accepts it.
    pub accept: Accept,
    /// Whether the client offers our sub-protocol.
    pub has_protocol: bool,
}

/// Nothing: browsers hand on each frame as it comes.
fn open(_: &Open<'_>, _: Dress<'_>, _: &mut Writer<'_>) -> Result<(), Full> {
    Ok(())
}

fn hello(hello: &Hello<'_>, dress: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    if !dress.is_binary {
        return put_hello(hello, out);
    }
    out.put(&[1])?;
    put_text(hello.id.log.as_bytes(), out)?;
    put_varint(hello.id.seq, out)?;
    put_varint(hello.lost, out)?;
    out.put(&[u8::from(hello.exact), u8::from(hello.reset)])
}

fn event(event: &Event<'_>, dress: Dress<'_>, _: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    if !dress.is_binary {
        return out.put(dress.text(event));
    }
    let (clock, ms) = event.time();
    out.put(&[0])?;
    put_varint(event.seq, out)?;
    put_text(event.topic_name(), out)?;
    out.put(&[u8::from(clock != b"time")])?;
    put_varint(decimal(ms).unwrap_or_default(), out)?;
    put_text(event.value(), out)?;
    out.put(&[match event.state() {
        State::Ok => 0,
        State::Stale => 1,
        State::Error => 2,
        State::Gone => 3,
    }])
}

fn heartbeat(id: &Id<'_>, dress: Dress<'_>, _: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    if !dress.is_binary {
        return put_heartbeat(id, out);
    }
    out.put(&[2])?;
    put_varint(id.seq, out)
}

fn end(end: &End<'_>, dress: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    match end {
        _ if !dress.is_binary => end.put(out),
        End::Busy(Busy { reason, retry_ms }) => {
            let reason = match reason {
                Reason::Full => 0,
                Reason::Draining => 1,
                Reason::Token => 2,
            };
            out.put(&[3, reason])?;
            put_varint(*retry_ms, out)
        }
        End::More(id) => {
            out.put(&[4])?;
            put_varint(id.seq, out)
        }
    }
}

/// The close frame behind a stream's end.
pub(super) fn close(end: &End<'_>) -> Close {
    match end {
        End::Busy(busy) => match busy.reason {
            Reason::Full => Close::new(1013, "all places for viewers are taken"),
            Reason::Draining => Close::new(1001, "the server is going down"),
            Reason::Token => Close::new(1008, "the token counts no longer"),
        },
        End::More(_) => Close::new(1000, ""),
    }
}

fn put_varint(mut value: u64, out: &mut Writer<'_>) -> Result<(), Full> {
    while value > 0x7f {
        out.put(&[value as u8 | 0x80])?;
        value >>= 7;
    }
    out.put(&[value as u8])
}

fn put_text(text: &[u8], out: &mut Writer<'_>) -> Result<(), Full> {
    put_varint(text.len() as u64, out)?;
    out.put(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints() {
        for (value, wanted) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u64::MAX, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ] {
            let mut bytes = [0; 16];
            let mut out = Writer::new(&mut bytes);
            put_varint(value, &mut out).unwrap();
            assert_eq!(out.written(), wanted, "{value}");
        }
    }

    #[test]
    fn messages_in_binary() {
        let binary = Dress {
            is_binary: true,
            ..Dress::default()
        };
        let id = Id {
            log: "k3f9q2xa",
            seq: 300,
        };
        let mut bytes = [0; 64];
        let mut out = Writer::new(&mut bytes);
        let greeting = Hello {
            id,
            lost: 5,
            exact: true,
            reset: false,
        };
        hello(&greeting, binary, &mut out).unwrap();
        heartbeat(&id, binary, true, &mut out).unwrap();
        end(&End::More(id), binary, &mut out).unwrap();
        let busy = Busy {
            reason: Reason::Draining,
            retry_ms: 1000,
        };
        end(&End::Busy(busy), binary, &mut out).unwrap();
        let wanted =
            b"\x01\x08k3f9q2xa\xac\x02\x05\x01\x00\x02\xac\x02\x04\xac\x02\x03\x01\xe8\x07";
        assert_eq!(out.written(), wanted);
    }
}

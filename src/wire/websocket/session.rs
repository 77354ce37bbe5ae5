//! The server's end of an open WebSocket, without its socket: pings are answered and closes
//! returned here, messages are handed on (RFC 6455 sections 5.5, 7.1 and 7.2).
//!
//! Bytes in; a `Turn`, and answers in a lent writer, out. It owns no buffer and no clock: who holds
//! it sends the pings, counts those that stay unanswered, and closes the socket behind a close.

use core::ops::Range;

use super::decoder::{Decoder, Received};
use super::{CONTROL_FRAME_BYTES_MAX, Close, Kind, Opcode, put_frame};
use crate::buffer::{Full, Writer};

/// A ping without a payload, to be sent as it is.
pub const PING: &[u8] = &[0x89, 0];

/// What the input amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// More input is wanted; answers may have been written.
    More,
    /// A message, and where it stands in the input until the next call.
    Message(Kind, Range<usize>),
    /// A close frame was written: behind it the connection ends at once, and nothing is read.
    Closed,
}

/// An open WebSocket.
#[derive(Clone, Debug)]
pub struct Session {
    decoder: Decoder,
    is_closed: bool,
}

impl Session {
    /// Behind the opening; a message may have `message_max` bytes. Input needs
    /// `decoder::ROOM_BYTES` more.
    pub const fn new(message_max: usize) -> Session {
        Session {
            decoder: Decoder::new(message_max),
            is_closed: false,
        }
    }

    /// Where input goes: behind what there is. Never empty after `More`.
    pub fn spare<'b>(&self, input: &'b mut [u8]) -> &'b mut [u8] {
        self.decoder.spare(input)
    }

    /// So many bytes were put into `spare`.
    pub fn received(&mut self, bytes: usize) {
        self.decoder.received(bytes);
    }

    /// Bytes of input there are.
    pub fn input_bytes(&self) -> usize {
        self.decoder.input_bytes()
    }

    /// Whether nothing is begun and there is no input: nothing of it is to be kept.
    pub fn is_at_rest(&self) -> bool {
        self.decoder.is_at_rest()
    }

    /// Brings the input that is still needed to the front: it may go elsewhere.
    pub fn compact(&mut self, input: &mut [u8]) {
        self.decoder.compact(input);
    }

    /// Goes on with what was received, until it is used up or means something.
    ///
    /// # Errors
    /// There is no room in `out` for the longest answer: nothing was lost, call again with room.
    pub fn advance(&mut self, input: &mut [u8], out: &mut Writer<'_>) -> Result<Turn, Full> {
        while !self.is_closed {
            if out.room() < CONTROL_FRAME_BYTES_MAX {
                return Err(Full);
            }
            match self.decoder.next(input) {
                Ok(Received::Nothing) => return Ok(Turn::More),
                Ok(Received::Message(kind, at)) => return Ok(Turn::Message(kind, at)),
                Ok(Received::Ping(at)) => put_frame(Opcode::Pong, &input[at], out)?,
                Ok(Received::Pong) => {}
                Ok(Received::Close(code)) => {
                    self.close(Close::new(code.unwrap_or(1000), ""), out)?;
                }
                Err(close) => self.close(close, out)?,
            }
        }
        self.decoder.forget();
        Ok(Turn::Closed)
    }

    /// Ends it from here: writes the close frame. What comes after it is ignored.
    pub fn close(&mut self, close: Close, out: &mut Writer<'_>) -> Result<(), Full> {
        if !self.is_closed {
            close.put(out)?;
            self.is_closed = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::decoder::ROOM_BYTES;
    use super::super::decoder::tests::frame;
    use super::*;

    const MAX: usize = 200;
    const TEXT: Opcode = Opcode::Message(Kind::Text);

    /// What is answered to `raw` by one who echoes text, and whether it was closed.
    fn echo(raw: &[u8], piece: usize, room: usize) -> (Vec<u8>, bool) {
        let mut session = Session::new(MAX);
        let mut input = vec![0; MAX + ROOM_BYTES];
        let mut sent = Vec::new();
        for part in raw.chunks(piece) {
            let spare = session.spare(&mut input);
            spare[..part.len()].copy_from_slice(part);
            session.received(part.len());
            loop {
                let mut bytes = vec![0; room];
                let mut out = Writer::new(&mut bytes);
                let turn = session.advance(&mut input, &mut out);
                sent.extend_from_slice(out.written());
                match turn {
                    Ok(Turn::More) => break,
                    Ok(Turn::Message(kind, at)) => {
                        let mut bytes = [0; MAX + 4];
                        let mut out = Writer::new(&mut bytes);
                        put_frame(Opcode::Message(kind), &input[at], &mut out).unwrap();
                        sent.extend_from_slice(out.written());
                    }
                    Ok(Turn::Closed) => return (sent, true),
                    Err(Full) => assert!(!out.is_empty(), "one answer fits"),
                }
            }
        }
        (sent, false)
    }

    #[test]
    fn pings_are_answered_in_order_and_closes_returned() {
        let raw = [
            frame(Opcode::Ping, true, b"1"),
            frame(TEXT, false, b"a"),
            frame(Opcode::Ping, true, &[b'2'; 125]),
            frame(Opcode::Pong, true, b"3"),
            frame(Opcode::Continuation, true, b"b"),
            frame(Opcode::Close, true, b"\x0f\xa0why"),
            frame(TEXT, true, b"ignored"),
            b"\xff\xff\xff".to_vec(),
        ];
        let longest = [&[0x8a, 125][..], &[b'2'; 125]].concat();
        let wanted = [
            b"\x8a\x011",
            &longest[..],
            b"\x81\x02ab",
            b"\x88\x02\x0f\xa0",
        ]
        .concat();
        for piece in [1, 2, 7, 200] {
            for room in [CONTROL_FRAME_BYTES_MAX, 1000] {
                assert_eq!(echo(&raw.concat(), piece, room), (wanted.clone(), true));
            }
        }
        let (sent, _) = echo(&frame(Opcode::Close, true, b""), 200, 1000);
        assert_eq!(sent, b"\x88\x02\x03\xe8");
        let (sent, closed) = echo(b"\x81\x00", 1, 1000);
        assert!(
            closed && sent.starts_with(b"\x88\x22\x03\xeaA client"),
            "{sent:?}"
        );
        let (sent, closed) = echo(&[0x82, 0xfe, 0, 201, 0, 0, 0, 0], 1, 1000);
        assert!(closed && sent.ends_with(b"\x03\xf1A message may have 200 bytes."));
    }

    #[test]
    fn without_room_nothing_is_lost() {
        let mut session = Session::new(MAX);
        let mut input = [0; MAX + ROOM_BYTES];
        let ping = frame(Opcode::Ping, true, b"x");
        session.spare(&mut input)[..ping.len()].copy_from_slice(&ping);
        session.received(ping.len());
        let mut bytes = [0; CONTROL_FRAME_BYTES_MAX];
        let mut short = Writer::new(&mut bytes[1..]);
        assert_eq!(session.advance(&mut input, &mut short), Err(Full));
        let mut out = Writer::new(&mut bytes);
        assert_eq!(session.advance(&mut input, &mut out), Err(Full));
        assert_eq!(out.written(), b"\x8a\x01x");
        let mut out = Writer::new(&mut bytes);
        assert_eq!(session.advance(&mut input, &mut out), Ok(Turn::More));
        assert!(out.is_empty() && session.is_at_rest());
    }

    #[test]
    fn closed_from_here() {
        let mut session = Session::new(MAX);
        let mut input = [0; MAX + ROOM_BYTES];
        let mut bytes = [0; 300];
        let mut out = Writer::new(&mut bytes);
        session.close(Close::new(1001, ""), &mut out).unwrap();
        session.close(Close::new(1008, ""), &mut out).unwrap();
        let ping = frame(Opcode::Ping, true, b"x");
        session.spare(&mut input)[..ping.len()].copy_from_slice(&ping);
        session.received(ping.len());
        for _ in 0..2 {
            assert_eq!(session.advance(&mut input, &mut out), Ok(Turn::Closed));
        }
        assert_eq!(out.written(), b"\x88\x02\x03\xe9");
        assert!(session.is_at_rest());
    }
}

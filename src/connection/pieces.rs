//! A body that is taken piece by piece as it comes: a picture is larger than a peer's buffer.
//!
//! As any body it follows RFC 9112 section 6. Whoever answers the request is asked first
//! (`Turn::Admit`), is then handed each piece (`Turn::Piece`), and the last one with the request.
//! The head stays in the buffer till then, for it is read again: rights may have ended meanwhile.

use super::{Connection, State, Turn};
use crate::wire::Refusal;
use crate::wire::chunked::Decoder;
use crate::wire::request::Framing;

/// A body between two of its pieces.
#[derive(Debug)]
pub(super) struct Pieces {
    framing: Framing,
    decoder: Decoder,
    /// Bytes handed on.
    taken: u64,
    /// Bytes there may be.
    bytes_max: u64,
    /// Whether the client may wait for 100.
    waits: bool,
}

impl Pieces {
    /// Before the first one, and before it is known whether it is wanted.
    pub(super) fn new(framing: Framing, waits: bool) -> Pieces {
        Pieces {
            framing,
            decoder: Decoder::new(),
            taken: 0,
            bytes_max: 0,
            waits,
        }
    }
}

impl Connection {
    /// Bytes of the body that is to come, if its head says how many.
    pub fn announced_bytes(&self) -> Option<u64> {
        match &self.state {
            State::Pieces(pieces) => match pieces.framing {
                Framing::Length(bytes) => Some(bytes),
                _ => None,
            },
            _ => None,
        }
    }

    /// The body is wanted, up to so many bytes. Whether the client waits for 100.
    pub fn admit(&mut self, bytes_max: usize) -> bool {
        let has_body = self.filled > self.head_bytes;
        match &mut self.state {
            State::Pieces(pieces) => {
                pieces.bytes_max = bytes_max as u64;
                pieces.waits && !has_body
            }
            _ => false,
        }
    }

    /// The piece in hand was taken: there is room for the next.
    pub fn took_piece(&mut self, input: &mut [u8]) {
        let end = self.head_bytes + self.body_bytes;
        input.copy_within(end..self.filled, self.head_bytes);
        self.filled -= self.body_bytes;
        if let State::Pieces(pieces) = &mut self.state {
            pieces.taken += self.body_bytes as u64;
        }
        self.body_bytes = 0;
    }

    /// The next piece becomes the body in hand.
    pub(super) fn next_piece(&mut self, input: &mut [u8]) -> Result<Turn, Refusal> {
        let State::Pieces(pieces) = &mut self.state else {
            return Ok(Turn::More);
        };
        let raw = self.head_bytes..self.filled;
        let is_done = match pieces.framing {
            Framing::None => true,
            Framing::Length(bytes) => {
                let left = bytes - pieces.taken;
                self.body_bytes = left.min(raw.len() as u64) as usize;
                self.body_bytes as u64 == left
            }
            Framing::Chunked => {
                let room = pieces.bytes_max - pieces.taken;
                let progress = { &mut pieces.decoder }.decode(&mut input[raw], room as usize)?;
                let at = self.head_bytes;
                input.copy_within(at + progress.consumed..self.filled, at + progress.decoded);
                self.filled -= progress.consumed - progress.decoded;
                self.body_bytes = progress.decoded;
                progress.done
            }
        };
        Ok(match (is_done, self.body_bytes) {
            (true, _) => {
                self.state = State::Asked;
                Turn::Request
            }
            (false, 0) => Turn::More,
            (false, _) => Turn::Piece,
        })
    }
}

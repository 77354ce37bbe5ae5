//! WebSocket: what frames are, and those that are sent (RFC 6455 sections 5, 7 and 9).
//!
//! Received ones are decoded in `decoder`, a connection's opening is checked in `handshake`, and
//! `session` puts both directions together: bytes in, messages and answers out. A server's frames
//! are unmasked and whole, with the shortest form of their length. No extension is ever agreed on:
//! permessage-deflate (RFC 7692) would keep a window of state for each connection.

pub mod decoder;
pub mod handshake;
pub mod session;

use crate::buffer::{Full, Writer};

/// Bytes of a control frame's payload (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// Bytes of a control frame that is sent.
pub const CONTROL_FRAME_BYTES_MAX: usize = CONTROL_BYTES_MAX + 2;
/// Bytes of a received frame's header: two, the longest length, the mask.
pub const HEADER_BYTES_MAX: usize = 14;

/// What a message is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// What a frame is for (RFC 6455 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of a message that has begun.
    Continuation,
    /// A message, or its beginning.
    Message(Kind),
    /// The last frame of its sender.
    Close,
    /// To be answered by a pong.
    Ping,
    /// The answer to a ping, or a sign of life.
    Pong,
}

const OPCODES: [(u8, Opcode); 6] = [
    (0x0, Opcode::Continuation),
    (0x1, Opcode::Message(Kind::Text)),
    (0x2, Opcode::Message(Kind::Binary)),
    (0x8, Opcode::Close),
    (0x9, Opcode::Ping),
    (0xa, Opcode::Pong),
];

impl Opcode {
    /// The opcode of this number; none for a reserved one.
    pub fn of(number: u8) -> Option<Opcode> {
        let mut known = OPCODES.iter();
        known.find_map(|&(known, opcode)| (known == number).then_some(opcode))
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Message(Kind::Text) => 0x1,
            Opcode::Message(Kind::Binary) => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xa,
        }
    }

    /// Whether it stands between the frames of a message, small and whole.
    pub fn is_control(self) -> bool {
        self.number() & 8 != 0
    }
}

/// Why a connection ends, as a close frame says it (RFC 6455 section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// The status code.
    pub code: u16,
    /// One line for people; `{}` stands for the number.
    pub reason: &'static str,
    /// What the line names.
    pub number: u64,
}

impl Close {
    /// A close that names no number.
    pub const fn new(code: u16, reason: &'static str) -> Close {
        Close {
            code,
            reason,
            number: 0,
        }
    }

    /// Writes it as a frame.
    pub fn put(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        out.whole(|out| {
            write_frame(Opcode::Close, out, |out| {
                out.put(&self.code.to_be_bytes())?;
                for (i, part) in self.reason.split("{}").enumerate() {
                    if i > 0 {
                        out.put_u64(self.number)?;
                    }
                    out.put(part.as_bytes())?;
                }
                Ok(())
            })
        })
    }
}

/// Whether a peer may send this code: those of RFC 6455 section 7.4.1 that stand on a wire, those
/// registered since (1012 to 1014), and those for libraries and applications (section 7.4.2).
pub fn is_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The header of a frame that is sent, and its length.
fn header(opcode: Opcode, bytes: u64) -> ([u8; 10], usize) {
    let mut header = [0x80 | opcode.number(), 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let len = match (u8::try_from(bytes), u16::try_from(bytes)) {
        (Ok(short), _) if usize::from(short) <= CONTROL_BYTES_MAX => {
            header[1] = short;
            2
        }
        (_, Ok(medium)) => {
            header[1] = 126;
            header[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&bytes.to_be_bytes());
            10
        }
    };
    (header, len)
}

/// Writes `payload` as one frame, all or nothing.
pub fn put_frame(opcode: Opcode, payload: &[u8], out: &mut Writer<'_>) -> Result<(), Full> {
    let (header, len) = header(opcode, payload.len() as u64);
    out.put_all(&[&header[..len], payload])
}

/// What `write_frame` keeps free in front of a payload whose length is not known yet.
pub(crate) const HEADER_ROOM: &[u8; 4] = &[0; 4];

/// Writes what `write` writes as one frame, all or nothing: at most 65,535 bytes, more than is ever
/// rendered at once. An empty payload leaves no trace.
pub fn write_frame<'a>(
    opcode: Opcode,
    out: &mut Writer<'a>,
    write: impl FnOnce(&mut Writer<'a>) -> Result<(), Full>,
) -> Result<(), Full> {
    let start = out.len();
    let written = out.put(HEADER_ROOM).and_then(|()| write(out));
    close_frame(opcode, written, start, out)
}

/// Writes the header of the frame that began at `start`; or takes it back. Not inlined: once is
/// enough for all that is written in frames.
#[inline(never)]
pub(crate) fn close_frame(
    opcode: Opcode,
    written: Result<(), Full>,
    start: usize,
    out: &mut Writer<'_>,
) -> Result<(), Full> {
    let bytes = (out.len() - start).saturating_sub(HEADER_ROOM.len());
    if written.is_err() || bytes == 0 || bytes > usize::from(u16::MAX) {
        out.truncate(start);
        return if written.is_ok() && bytes == 0 {
            Ok(())
        } else {
            Err(Full)
        };
    }
    let (header, len) = header(opcode, bytes as u64);
    let unused = HEADER_ROOM.len() - len;
    out.set(start + unused, &header[..len]);
    if unused > 0 {
        out.remove(start, unused);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; payload.len() + 10];
        let mut out = Writer::new(&mut bytes);
        put_frame(opcode, payload, &mut out).unwrap();
        out.written().to_vec()
    }

    #[test]
    fn opcodes_and_numbers_agree() {
        for number in 0..=255 {
            match Opcode::of(number) {
                Some(opcode) => assert_eq!(opcode.number(), number),
                None => assert!(matches!(number, 3..=7 | 0xb..)),
            }
        }
        let control = |(_, opcode): &&(u8, Opcode)| opcode.is_control();
        assert_eq!(OPCODES.iter().filter(control).count(), 3);
    }

    #[test]
    fn lengths_at_and_above_each_form() {
        let binary = Opcode::Message(Kind::Binary);
        let cases: &[(usize, &[u8])] = &[
            (0, &[0x82, 0]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 255, 255]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ];
        for &(bytes, wanted) in cases {
            let payload = vec![b'x'; bytes];
            let frame = framed(binary, &payload);
            assert_eq!(frame, [wanted, &payload].concat(), "{bytes}");
            let mut room = vec![0; bytes + 4];
            let mut out = Writer::new(&mut room);
            let written = write_frame(binary, &mut out, |out| out.put(&payload[..]));
            match bytes {
                0 => assert_eq!((written, out.len()), (Ok(()), 0)),
                1..=65_535 => assert_eq!((written, out.written()), (Ok(()), &frame[..])),
                _ => assert_eq!((written, out.len()), (Err(Full), 0)),
            }
        }
    }

    #[test]
    fn all_or_nothing() {
        let mut room = [0; 8];
        let mut out = Writer::new(&mut room);
        out.put(b"ab").unwrap();
        let text = Opcode::Message(Kind::Text);
        assert_eq!(put_frame(text, b"12345", &mut out), Err(Full));
        assert_eq!(
            write_frame(text, &mut out, |out| out.put(b"123")),
            Err(Full)
        );
        assert_eq!(Close::new(1000, "abc").put(&mut out), Err(Full));
        assert_eq!(out.written(), b"ab");
        write_frame(text, &mut out, |out| out.put(b"12")).unwrap();
        assert_eq!(out.written(), b"ab\x81\x0212");
        assert_eq!(out.room(), 2);
    }

    #[test]
    fn closes() {
        let mut room = [0; 64];
        let mut out = Writer::new(&mut room);
        Close::new(1001, "").put(&mut out).unwrap();
        let close = Close {
            number: 9,
            ..Close::new(1009, "at most {} bytes")
        };
        close.put(&mut out).unwrap();
        assert_eq!(
            out.written(),
            b"\x88\x02\x03\xe9\x88\x11\x03\xf1at most 9 bytes"
        );
        let allowed: Vec<u16> = (0..=u16::MAX).filter(|&code| is_code(code)).collect();
        assert_eq!(allowed.len(), 4 + 8 + 2000);
        for code in [
            0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
        ] {
            assert!(!is_code(code), "{code}");
        }
        for code in [1000, 1003, 1007, 1011, 1012, 1014, 3000, 4999] {
            assert!(is_code(code), "{code}");
        }
    }
}

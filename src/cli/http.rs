//! An HTTP/1.1 answer, read from a stream in fixed memory, as the client commands need it.
//!
//! RFC 9112 sections 4 to 7. Memory is one buffer of `HEAD_BYTES_MAX`. It never keeps a body:
//! pieces are handed out as they come. It never writes, connects or retries.

use std::io::{self, ErrorKind, Read};
use std::ops::Range;

use crate::limits::HEAD_BYTES_MAX;

/// An answer whose head was read, and whose body is still to come.
pub(super) struct Answer<R> {
    input: R,
    buffer: Vec<u8>,
    /// What of `buffer` was read and not yet handed out.
    unread: Range<usize>,
    head: String,
    framing: Framing,
    /// The status code, 200 to 999.
    pub(super) status: u16,
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.into())
}

impl<R: Read> Answer<R> {
    /// Reads a head, and those of interim answers (1xx) before it.
    pub(super) fn read(input: R) -> io::Result<Answer<R>> {
        let mut answer = Answer {
            input,
            buffer: vec![0; HEAD_BYTES_MAX],
            unread: 0..0,
            head: String::new(),
            framing: Framing::Close,
            status: 0,
        };
        while answer.status < 200 {
            answer.read_head()?;
        }
        answer.framing = answer.choose_framing()?;
        Ok(answer)
    }

    fn read_head(&mut self) -> io::Result<()> {
        let length = loop {
            let unread = &self.buffer[self.unread.clone()];
            if let Some(at) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if !b"HTTP/1.".starts_with(&unread[..unread.len().min(7)]) {
                return Err(invalid("it does not speak HTTP/1.1"));
            }
            if self.unread.end == self.buffer.len() {
                return Err(invalid(format!(
                    "its answer's head is over {HEAD_BYTES_MAX} bytes"
                )));
            }
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        };
        let head = &self.buffer[self.unread.start..self.unread.start + length];
        self.head = String::from_utf8_lossy(head).into_owned();
        self.unread.start += length + 4;
        let code = self
            .head
            .get(9..12)
            .filter(|_| self.head.starts_with("HTTP/1."));
        self.status = code
            .and_then(|code| code.parse().ok())
            .filter(|code| (100..=999).contains(code))
            .ok_or_else(|| invalid("its answer has no status"))?;
        Ok(())
    }

    /// Reads more behind what is unread; 0 at the end of the stream.
    fn fill(&mut self) -> io::Result<usize> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        }
        let count = loop {
            match self.input.read(&mut self.buffer[self.unread.end..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        self.unread.end += count;
        Ok(count)
    }

    /// The value of the first field called `name`.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let fields = self
            .head
            .split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        let mut values = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.trim())
    }

    /// The status line without the version: `503 Service Unavailable`.
    pub(super) fn status_line(&self) -> &str {
        self.head
            .split("\r\n")
            .next()
            .and_then(|line| line.get(9..))
            .unwrap_or("")
            .trim()
    }

    /// RFC 9112 section 6.3.
    fn choose_framing(&self) -> io::Result<Framing> {
        match (
            self.field("transfer-encoding"),
            self.field("content-length"),
        ) {
            _ if matches!(self.status, 204 | 304) => Ok(Framing::Length(0)),
            (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => {
                Ok(Framing::Chunked(Chunks::Size {
                    value: 0,
                    digits: 0,
                }))
            }
            (Some(coding), _) => Err(invalid(format!(
                "its answer is in an unknown coding, {coding}"
            ))),
            (None, Some(length)) => {
                let length = length
                    .parse()
                    .map_err(|_| invalid("its answer has no clear length"))?;
                Ok(Framing::Length(length))
            }
            (None, None) => Ok(Framing::Close),
        }
    }

    /// The next piece of the body, as it came; `None` at its end. An end before that is
    /// `UnexpectedEof`.
    pub(super) fn piece(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            if matches!(
                self.framing,
                Framing::Length(0) | Framing::Chunked(Chunks::Done)
            ) {
                return Ok(None);
            }
            if self.unread.is_empty() && self.fill()? == 0 {
                return match self.framing {
                    Framing::Close => Ok(None),
                    _ => Err(ErrorKind::UnexpectedEof.into()),
                };
            }
            let start = self.unread.start;
            let (taken, is_data) = self.framing.take(&self.buffer[self.unread.clone()])?;
            self.unread.start += taken;
            if is_data {
                return Ok(Some(&self.buffer[start..start + taken]));
            }
        }
    }
}

/// Where the body ends.
enum Framing {
    Chunked(Chunks),
    /// Bytes still to come.
    Length(u64),
    Close,
}

impl Framing {
    /// Takes bytes from the front of `input`, which is not empty: how many, and whether they are
    /// the body's or only its frame.
    fn take(&mut self, input: &[u8]) -> io::Result<(usize, bool)> {
        match self {
            Framing::Close => Ok((input.len(), true)),
            Framing::Length(left) => Ok((take_up_to(left, input), true)),
            Framing::Chunked(chunks) => chunks.take(input),
        }
    }
}

fn take_up_to(left: &mut u64, input: &[u8]) -> usize {
    let taken = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(input.len());
    *left -= taken as u64;
    taken
}

/// The chunked coding (RFC 9112 section 7.1), as what is expected next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Chunks {
    Size {
        value: u64,
        digits: u8,
    },
    /// An extension, which is ignored.
    Extension {
        value: u64,
    },
    SizeEnd {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// A trailer, which is ignored.
    Trailer {
        is_empty: bool,
    },
    TrailerEnd,
    Done,
}

impl Chunks {
    fn take(&mut self, input: &[u8]) -> io::Result<(usize, bool)> {
        if let Chunks::Data { left } = self {
            let taken = take_up_to(left, input);
            if *left == 0 {
                *self = Chunks::DataCr;
            }
            return Ok((taken, true));
        }
        *self = self
            .step(input[0])
            .ok_or_else(|| invalid("its chunks are broken"))?;
        Ok((1, false))
    }

    fn step(self, byte: u8) -> Option<Chunks> {
        Some(match (self, byte) {
            (Chunks::Size { value, digits }, _) if byte.is_ascii_hexdigit() && digits < 15 => {
                let digit = u64::from(char::from(byte).to_digit(16)?);
                Chunks::Size {
                    value: value * 16 + digit,
                    digits: digits + 1,
                }
            }
            (Chunks::Size { value, digits: 1.. }, b'\r') => Chunks::SizeEnd { value },
            (Chunks::Size { value, digits: 1.. }, b';' | b' ' | b'\t') => {
                Chunks::Extension { value }
            }
            (Chunks::Extension { value }, b'\r') => Chunks::SizeEnd { value },
            (Chunks::Extension { .. }, 0x20.. | b'\t') => self,
            (Chunks::SizeEnd { value: 0 }, b'\n') => Chunks::Trailer { is_empty: true },
            (Chunks::SizeEnd { value }, b'\n') => Chunks::Data { left: value },
            (Chunks::DataCr, b'\r') => Chunks::DataLf,
            (Chunks::DataLf, b'\n') => Chunks::Size {
                value: 0,
                digits: 0,
            },
            (Chunks::Trailer { is_empty: true }, b'\r') => Chunks::TrailerEnd,
            (Chunks::Trailer { is_empty: false }, b'\n') => Chunks::Trailer { is_empty: true },
            (Chunks::Trailer { .. }, 0x20.. | b'\t' | b'\r') => Chunks::Trailer { is_empty: false },
            (Chunks::TrailerEnd, b'\n') => Chunks::Done,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out the bytes in pieces of `step`.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(out.len());
            let (now, later) = self.0.split_at(count);
            out[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn body(text: &str, step: usize) -> io::Result<String> {
        let mut answer = Answer::read(Slow(text.as_bytes(), step))?;
        let mut body = String::new();
        while let Some(piece) = answer.piece()? {
            body.push_str(str::from_utf8(piece).unwrap());
        }
        Ok(body)
    }

    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";

    #[test]
    fn bodies_in_every_framing_and_at_every_step() {
        for (head, rest, want) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                "hello more",
                "hello",
            ),
            ("HTTP/1.0 200 OK\r\n\r\n", "to the end", "to the end"),
            ("HTTP/1.1 204 No Content\r\n\r\n", "x", ""),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nContent-Length: 1\r\n\r\n",
                "a",
                "a",
            ),
            (CHUNKED, "5\r\nhello\r\n0\r\n\r\n", "hello"),
            (
                CHUNKED,
                "3;a=\"b\"\r\nhel\r\n02 \r\nlo\r\n000\r\nA: b\r\n\r\n",
                "hello",
            ),
            (
                CHUNKED,
                "10\r\n0123456789abcdef\r\n0\r\n\r\n",
                "0123456789abcdef",
            ),
        ] {
            for step in 1..40 {
                assert_eq!(
                    body(&format!("{head}{rest}"), step).unwrap(),
                    want,
                    "{rest} {step}"
                );
            }
        }
    }

    #[test]
    fn a_cut_is_never_an_end() {
        let whole = format!("{CHUNKED}5\r\nhello\r\n0\r\n\r\n");
        for cut in 0..whole.len() {
            let error = body(&whole[..cut], 7).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{cut}");
        }
    }

    #[test]
    fn what_is_not_an_answer_is_an_error() {
        for (head, rest) in [
            ("SSH-2.0-OpenSSH\r\n", "\r\n"),
            ("HTTP/1.1 2x0 OK\r\n", "\r\n"),
            ("HTTP/1.1\r\n", "\r\n"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n", "\r\n"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n", "\r\n"),
            (CHUNKED, "x\r\n"),
            (CHUNKED, "\r\n"),
            (CHUNKED, "5\nhello"),
            (CHUNKED, "5\r\nhello5\r\n"),
            (CHUNKED, "1111111111111111\r\n"),
        ] {
            let error = body(&format!("{head}{rest}"), 64).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{head}{rest}");
        }
    }

    #[test]
    fn a_head_at_and_above_its_limit() {
        let head = |bytes: usize| {
            let start = "HTTP/1.1 204 OK\r\nA: ";
            format!("{start}{}\r\n\r\n", "x".repeat(bytes - start.len() - 4))
        };
        assert_eq!(body(&head(HEAD_BYTES_MAX), 4096).unwrap(), "");
        let error = body(&head(HEAD_BYTES_MAX + 1), 4096).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn fields_and_status() {
        let text = "HTTP/1.1 503 Too Full\r\nretry-after:  7 \r\nRetry-After: 8\r\nContent-Length: 0\r\n\r\n";
        let answer = Answer::read(text.as_bytes()).ok().unwrap();
        assert_eq!((answer.status, answer.status_line()), (503, "503 Too Full"));
        assert_eq!(
            (answer.field("Retry-After"), answer.field("x")),
            (Some("7"), None)
        );
    }
}

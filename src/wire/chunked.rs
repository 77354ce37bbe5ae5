//! The chunked transfer coding of a request body, undone in place and byte by byte.
//!
//! Follows RFC 9112 section 7.1, as strictly as it allows: lines end in CRLF, sizes are hexadecimal
//! digits, extensions and trailer fields are formed as they must be. Both are read and forgotten,
//! within limits. It keeps no bytes, and it never reads past the end of the body: what follows is
//! the next request.

use crate::wire::Refusal;
use crate::wire::request::{is_text, is_token};
use crate::wire::text::hex_digit;

/// Digits of a chunk size; 15 fit a `u64` whatever they are.
const SIZE_DIGITS_MAX: u8 = 15;
/// Bytes of chunk extensions in one body.
const EXTENSION_BYTES_MAX: u16 = 256;
/// Bytes of trailer fields in one body, line ends included.
const TRAILER_BYTES_MAX: u16 = 1024;

const fn bad(reason: &'static str) -> Refusal {
    Refusal::new(400, reason)
}

const SIZE: Refusal = bad("A chunk size must be 1 to 15 hexadecimal digits and CRLF.");
const LINE_END: Refusal =
    bad("A line of a chunked body must end in CR and LF, and hold neither alone.");
const CONTROL: Refusal = bad("A chunk extension or trailer field holds a control character.");
const EXTENSION: Refusal = bad("The chunk extensions of a body may take {} bytes in all.").with([
    EXTENSION_BYTES_MAX as u64,
    0,
    0,
]);
const EXTENSION_FORM: Refusal =
    bad("A chunk extension must be `;name`, `;name=token` or `;name=\"text\"`.");
const DATA_END: Refusal =
    bad("A chunk's data must be followed by CRLF: its size does not fit its data.");
const TRAILER: Refusal = bad("A trailer field must be `name: value`.");
const TRAILER_LONG: Refusal = bad("The trailer fields of a body may take {} bytes in all.").with([
    TRAILER_BYTES_MAX as u64,
    0,
    0,
]);
const BODY_LONG: &str = "The body has {} bytes or more; at most {} are taken.";

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Size,
    /// White space that only another extension may follow.
    Space,
    /// Behind the `;` of an extension.
    Semicolon,
    ExtensionName,
    /// White space behind an extension's name.
    NameSpace,
    /// Behind the `=` of an extension.
    Equals,
    ExtensionValue,
    Quoted,
    /// Behind a `\\` in a quoted value.
    Escaped,
    /// Behind a quoted value.
    Unquoted,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The start of a trailer line, or of the empty line that ends the body.
    Line,
    Name,
    Value,
    ValueLf,
    EndLf,
    Done,
}

/// One body being decoded.
#[derive(Clone, Debug)]
pub struct Decoder {
    place: Place,
    digits: u8,
    /// The size being read, then the bytes of data that are still to come.
    size: u64,
    /// Bytes of body decoded so far.
    body_bytes: u64,
    extension_bytes: u16,
    trailer_bytes: u16,
}

/// What one call has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of body, now at the front of the slice.
    pub decoded: usize,
    /// Raw bytes used up; those behind them belong to the next request when `done`.
    pub consumed: usize,
    /// Whether the body is complete.
    pub done: bool,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    /// A decoder before the first byte of a body.
    pub const fn new() -> Decoder {
        Decoder {
            place: Place::Size,
            digits: 0,
            size: 0,
            body_bytes: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
        }
    }

    /// Decodes `bytes`, raw input, in place: the body bytes in it are moved to its front.
    ///
    /// All of it is consumed, or up to the end of the body. `decoded_max` is the room left for the
    /// body. The outcome does not depend on how the input is cut into calls.
    ///
    /// # Errors
    /// 413 when a chunk announces more than there is room for; 400 for anything malformed. The
    /// bytes are then of no use, and the connection must close.
    pub fn decode(&mut self, bytes: &mut [u8], decoded_max: usize) -> Result<Progress, Refusal> {
        let limit = self.body_bytes + decoded_max as u64;
        let (mut read, mut decoded) = (0, 0);
        while read < bytes.len() && self.place != Place::Done {
            if self.place == Place::Data {
                let len =
                    (bytes.len() - read).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                bytes.copy_within(read..read + len, decoded);
                read += len;
                decoded += len;
                self.body_bytes += len as u64;
                self.size -= len as u64;
                if self.size == 0 {
                    self.place = Place::DataCr;
                }
            } else {
                self.place = self.step(bytes[read], limit)?;
                read += 1;
            }
        }
        Ok(Progress {
            decoded,
            consumed: read,
            done: self.place == Place::Done,
        })
    }

    /// Where the byte after `byte` belongs.
    fn step(&mut self, byte: u8, limit: u64) -> Result<Place, Refusal> {
        match (self.place, byte) {
            (Place::Size, b'\r' | b';' | b' ' | b'\t') if self.digits == 0 => Err(SIZE),
            (Place::Size, b'\r') => Ok(Place::SizeLf),
            (Place::Size, b';') => self.extension(Place::Semicolon),
            (Place::Size, b' ' | b'\t') => self.extension(Place::Space),
            (Place::Size, digit) => self.digit(digit),
            (Place::SizeLf, b'\n') => self.sized(limit),
            (Place::DataCr, b'\r') => Ok(Place::DataLf),
            (Place::DataLf, b'\n') => {
                (self.digits, self.size) = (0, 0);
                Ok(Place::Size)
            }
            (Place::DataCr | Place::DataLf, _) => Err(DATA_END),
            (Place::Line, b'\r') => Ok(Place::EndLf),
            (Place::EndLf, b'\n') => Ok(Place::Done),
            (Place::Line | Place::Name, name) if is_token(name) => self.trailer(Place::Name),
            (Place::Name, b':') => self.trailer(Place::Value),
            (Place::Value, b'\r') => self.trailer(Place::ValueLf),
            (Place::Value, text) if is_text(text) => self.trailer(Place::Value),
            (Place::ValueLf, b'\n') => self.trailer(Place::Line),
            (Place::SizeLf | Place::ValueLf | Place::EndLf, _)
            | (Place::Line | Place::Name | Place::Value, b'\r' | b'\n') => Err(LINE_END),
            (Place::Line | Place::Name, _) => Err(TRAILER),
            (Place::Value, _) => Err(CONTROL),
            (_, byte) => self.extension_step(byte),
        }
    }

    /// As `step`, within the extensions of a chunk (RFC 9112 section 7.1.1).
    fn extension_step(&mut self, byte: u8) -> Result<Place, Refusal> {
        use Place::{
            Equals, Escaped, ExtensionName, ExtensionValue, NameSpace, Quoted, Semicolon, SizeLf,
            Space, Unquoted,
        };
        let next = match (self.place, byte) {
            (ExtensionName | ExtensionValue | Unquoted, b'\r') => return Ok(SizeLf),
            (Quoted, b'"') => Unquoted,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, text) if is_text(text) => Quoted,
            (Space | ExtensionName | NameSpace | ExtensionValue | Unquoted, b';') => Semicolon,
            (ExtensionName | NameSpace, b'=') => Equals,
            (Semicolon | ExtensionName, name) if is_token(name) => ExtensionName,
            (Equals | ExtensionValue, value) if is_token(value) => ExtensionValue,
            (Equals, b'"') => Quoted,
            (ExtensionName | NameSpace, b' ' | b'\t') => NameSpace,
            (Space | ExtensionValue | Unquoted, b' ' | b'\t') => Space,
            (same @ (Semicolon | Equals), b' ' | b'\t') => same,
            (_, b'\n') => return Err(LINE_END),
            (_, text) if is_text(text) || text == b'\r' => return Err(EXTENSION_FORM),
            _ => return Err(CONTROL),
        };
        self.extension(next)
    }

    fn digit(&mut self, byte: u8) -> Result<Place, Refusal> {
        let digit = hex_digit(byte).ok_or(SIZE)?;
        if self.digits == SIZE_DIGITS_MAX {
            return Err(SIZE);
        }
        self.digits += 1;
        self.size = self.size << 4 | u64::from(digit);
        Ok(Place::Size)
    }

    /// The line of a chunk size is complete.
    fn sized(&self, limit: u64) -> Result<Place, Refusal> {
        let total = self.body_bytes + self.size;
        if total > limit {
            return Err(Refusal::new(413, BODY_LONG).with([total, limit, 0]));
        }
        Ok(if self.size == 0 {
            Place::Line
        } else {
            Place::Data
        })
    }

    fn extension(&mut self, place: Place) -> Result<Place, Refusal> {
        if self.extension_bytes == EXTENSION_BYTES_MAX {
            return Err(EXTENSION);
        }
        self.extension_bytes += 1;
        Ok(place)
    }

    fn trailer(&mut self, place: Place) -> Result<Place, Refusal> {
        if self.trailer_bytes == TRAILER_BYTES_MAX {
            return Err(TRAILER_LONG);
        }
        self.trailer_bytes += 1;
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes as a connection does: each cut of the input goes behind the body so far.
    fn decode(raw: &[u8], cuts: &[usize], limit: usize) -> Result<(Vec<u8>, usize, bool), Refusal> {
        let mut decoder = Decoder::new();
        let (mut body, mut consumed, mut done) = (Vec::new(), 0, false);
        let ends = cuts.iter().copied().chain([raw.len()]);
        let mut start = 0;
        for end in ends {
            let end = end.max(start);
            let mut bytes = raw[start..end].to_vec();
            let progress = decoder.decode(&mut bytes, limit - body.len())?;
            assert!(progress.decoded <= progress.consumed);
            assert!(progress.done || progress.consumed == bytes.len());
            body.extend_from_slice(&bytes[..progress.decoded]);
            consumed += progress.consumed;
            done = progress.done;
            if done {
                break;
            }
            start = end;
        }
        Ok((body, consumed, done))
    }

    /// Decodes whole, cut at each byte, and byte by byte: all must agree.
    fn decode_all_ways(raw: &[u8], limit: usize) -> Result<(Vec<u8>, usize, bool), Refusal> {
        let whole = decode(raw, &[], limit);
        for cut in 0..=raw.len() {
            assert_eq!(decode(raw, &[cut], limit), whole, "cut at {cut}");
        }
        let bytes: Vec<usize> = (0..raw.len()).collect();
        assert_eq!(decode(raw, &bytes, limit), whole, "byte by byte");
        whole
    }

    #[test]
    fn bodies() {
        let cases: &[(&[u8], &[u8])] = &[
            (b"0\r\n\r\n", b""),
            (b"000\r\n\r\n", b""),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
            (
                b"5\r\nhello\r\n1\r\n,\r\n000000000000006\r\n world\r\n0\r\n\r\n",
                b"hello, world",
            ),
            (
                b"A\r\n0123456789\r\na\r\nabcdefghij\r\n0\r\n\r\n",
                b"0123456789abcdefghij",
            ),
            (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
            (
                b"2;name\r\nab\r\n0;x=\"y;z\" ; \t w=\"\xff\"\r\n\r\n",
                b"ab",
            ),
            (b"2 \t;a=b\r\nab\r\n0\r\n\r\n", b"ab"),
            (
                b"2;a ;b\t=\t\"\\\"\\\\;\";c = d ;e\r\nab\r\n0\r\n\r\n",
                b"ab",
            ),
            (b"2;a=\"\"\r\nab\r\n0;b=c;d\r\n\r\n", b"ab"),
            (b"1\r\n!\r\n0\r\nDigest: x\r\nA:\r\nB: \ty \r\n\r\n", b"!"),
        ];
        for &(raw, body) in cases {
            let wanted = Ok((body.to_vec(), raw.len(), true));
            assert_eq!(decode_all_ways(raw, 64), wanted, "{}", raw.escape_ascii());
            let more = [raw, b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(decode_all_ways(&more, 64), wanted, "{}", raw.escape_ascii());
            for end in 0..raw.len() {
                let (_, consumed, done) = decode(&raw[..end], &[], 64).unwrap();
                assert_eq!((consumed, done), (end, false));
            }
        }
    }

    #[test]
    fn refused_bodies() {
        let cases: &[(&[u8], Refusal)] = &[
            (b"\r\n", SIZE),
            (b"\n", SIZE),
            (b";a\r\n", SIZE),
            (b" 5\r\n", SIZE),
            (b" ;a\r\n", SIZE),
            (b"\t;a\r\n", SIZE),
            (b"g\r\n", SIZE),
            (b"+5\r\n", SIZE),
            (b"-5\r\n", SIZE),
            (b"0x5\r\n", SIZE),
            (b"5_\r\n", SIZE),
            (b"5,5\r\n", SIZE),
            (b"5 \r\n", EXTENSION_FORM),
            (b"5\t5\r\n", EXTENSION_FORM),
            (b"5;\r\n", EXTENSION_FORM),
            (b"5; \r\n", EXTENSION_FORM),
            (b"5;;a\r\n", EXTENSION_FORM),
            (b"5;=b\r\n", EXTENSION_FORM),
            (b"5;a=\r\n", EXTENSION_FORM),
            (b"5;a= \r\n", EXTENSION_FORM),
            (b"5;a=;b\r\n", EXTENSION_FORM),
            (b"5;a b\r\n", EXTENSION_FORM),
            (b"5;a \r\n", EXTENSION_FORM),
            (b"5;a=b c\r\n", EXTENSION_FORM),
            (b"5;a=b=c\r\n", EXTENSION_FORM),
            (b"5;a=b\"c\r\n", EXTENSION_FORM),
            (b"5;a=\"b\"c\r\n", EXTENSION_FORM),
            (b"5;a=\"b\"=\r\n", EXTENSION_FORM),
            (b"5;a=\"b\r\n", EXTENSION_FORM),
            (b"5;a=\"b\\\r\n", EXTENSION_FORM),
            (b"5;a=\"b\n", LINE_END),
            (b"5;\n", LINE_END),
            (b"5 \n", LINE_END),
            (b"5 \0", CONTROL),
            (b"5;\x7f\r\n", CONTROL),
            (b"5;a\xe9\r\n", EXTENSION_FORM),
            (b"5;a(\r\n", EXTENSION_FORM),
            (b"5\nhello", SIZE),
            (b"5\0\r\n", SIZE),
            (b"\xef\xbc\x95\r\n", SIZE),
            (b"0000000000000005\r\n", SIZE),
            (b"ffffffffffffffff\r\n", SIZE),
            (b"5\rhello", LINE_END),
            (b"5\r\r\nhello", LINE_END),
            (b"5;a\nhello", LINE_END),
            (b"5;a\rb\r\nhello", LINE_END),
            (b"5;a\0\r\nhello", CONTROL),
            (b"5;a=\"\x7f\"\r\nhello", CONTROL),
            (b"5\r\nhello!\r\n", DATA_END),
            (b"5\r\nhello0\r\n\r\n", DATA_END),
            (b"5\r\nhello\n0\r\n", DATA_END),
            (b"5\r\nhello\r0\r\n", DATA_END),
            (b"5\r\nhell\r\n0\r\n\r\n", DATA_END),
            (b"0\r\n\n", LINE_END),
            (b"0\r\n\r\r\n", LINE_END),
            (b"0\r\n\rx", LINE_END),
            (b"0\r\n: x\r\n\r\n", TRAILER),
            (b"0\r\n folded\r\n\r\n", TRAILER),
            (b"0\r\nname : x\r\n\r\n", TRAILER),
            (b"0\r\nname\r\n\r\n", LINE_END),
            (b"0\r\nname: x\n\r\n", LINE_END),
            (b"0\r\nname: x\ry\r\n\r\n", LINE_END),
            (b"0\r\nname: x\0\r\n\r\n", CONTROL),
        ];
        for &(raw, refusal) in cases {
            assert_eq!(
                decode_all_ways(raw, 64),
                Err(refusal),
                "{}",
                raw.escape_ascii()
            );
        }
    }

    #[test]
    fn a_malformed_body_is_400() {
        let all = [
            SIZE,
            LINE_END,
            CONTROL,
            EXTENSION,
            EXTENSION_FORM,
            DATA_END,
            TRAILER,
            TRAILER_LONG,
        ];
        assert!(all.iter().all(|refusal| refusal.status == 400));
        assert_eq!((EXTENSION.numbers[0], TRAILER_LONG.numbers[0]), (256, 1024));
    }

    #[test]
    fn the_body_below_at_and_above_its_limit() {
        let body =
            |size: usize| format!("3\r\nabc\r\n{size:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(size));
        for size in [6, 7] {
            assert!(decode_all_ways(body(size).as_bytes(), 10).unwrap().2);
        }
        let refusal = Refusal::new(413, BODY_LONG).with([11, 10, 0]);
        assert_eq!(decode_all_ways(body(8).as_bytes(), 10), Err(refusal));
        let huge = b"fffffffffffffff\r\n";
        let refusal = Refusal::new(413, BODY_LONG).with([(1 << 60) - 1, 10, 0]);
        assert_eq!(decode_all_ways(huge, 10), Err(refusal));
        assert_eq!(decode_all_ways(b"0\r\n\r\n", 0), Ok((vec![], 5, true)));
    }

    #[test]
    fn extensions_below_at_and_above_their_limit() {
        let max = usize::from(EXTENSION_BYTES_MAX);
        let raw = |len: usize| {
            format!(
                "1;{}\r\nx\r\n0 ;{}\r\n\r\n",
                "e".repeat(len / 2 - 1),
                "e".repeat(len.div_ceil(2) - 2)
            )
        };
        for len in [max - 1, max] {
            assert!(decode_all_ways(raw(len).as_bytes(), 64).unwrap().2, "{len}");
        }
        assert_eq!(decode_all_ways(raw(max + 1).as_bytes(), 64), Err(EXTENSION));
    }

    #[test]
    fn trailers_below_at_and_above_their_limit() {
        let max = usize::from(TRAILER_BYTES_MAX);
        let raw = |len: usize| format!("0\r\na:b\r\nc:{}\r\n\r\n", "x".repeat(len - 9));
        for len in [max - 1, max] {
            assert!(decode(raw(len).as_bytes(), &[], 64).unwrap().2, "{len}");
        }
        assert_eq!(decode(raw(max + 1).as_bytes(), &[], 64), Err(TRAILER_LONG));
    }

    #[test]
    fn nothing_is_read_behind_the_end() {
        let mut decoder = Decoder::new();
        assert!(decoder.decode(&mut b"0\r\n\r\n".to_vec(), 8).unwrap().done);
        let progress = decoder.decode(&mut b"5\r\n".to_vec(), 8);
        assert_eq!(
            progress,
            Ok(Progress {
                decoded: 0,
                consumed: 0,
                done: true
            })
        );
    }

    proptest! {
        #[test]
        fn what_was_chunked_comes_out(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            mut cuts in prop::collection::vec(0usize..400, 0..8),
        ) {
            let mut raw = Vec::new();
            for chunk in &chunks {
                raw.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                raw.extend_from_slice(chunk);
                raw.extend_from_slice(b"\r\n");
            }
            raw.extend_from_slice(b"0\r\n\r\n");
            let len = raw.len();
            raw.extend_from_slice(b"next");
            cuts.iter_mut().for_each(|cut| *cut = (*cut).min(raw.len()));
            cuts.sort_unstable();
            prop_assert_eq!(decode(&raw, &cuts, 400), Ok((chunks.concat(), len, true)));
        }

        #[test]
        fn damaged_input_has_one_outcome(
            mut raw in Just(b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n".to_vec()),
            at in 0usize..33,
            byte: u8,
            other in prop::sample::select(b"\r\n;: 0fg\t\0".to_vec()),
            nearby: bool,
        ) {
            let at = at.min(raw.len() - 1);
            raw[at] = if nearby { other } else { byte };
            let _ = decode_all_ways(&raw, 8);
        }
    }
}

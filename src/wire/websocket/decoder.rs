//! Received frames to whole messages, in the buffer they came in (RFC 6455 sections 5.2 to 5.6,
//! 7.1.5 and 8.1).
//!
//! Payloads are unmasked where they stand and moved together, so that a message is one run of
//! bytes however it was cut. What is wrong is said as soon as it is certain: a length is judged
//! when it is announced, text when it cannot become UTF-8 any more. It owns no buffer and answers
//! nothing.

use core::ops::Range;

use super::{CONTROL_BYTES_MAX, Close, HEADER_BYTES_MAX, Kind, Opcode, is_code};

const RESERVED: Close = Close::new(1002, "A reserved bit is set: no extension was agreed on.");
const OPCODE: Close = Close::new(1002, "The frame's opcode is reserved.");
const MASK: Close = Close::new(1002, "A client's frame must be masked.");
const LENGTH: Close = Close::new(1002, "A length must have its shortest form, below 2^63.");
const CONTROL_LONG: Close = Close::new(1002, "A control frame may hold 125 bytes.");
const CONTROL_CUT: Close = Close::new(1002, "A control frame must be whole.");
const NOT_BEGUN: Close = Close::new(1002, "There is no message that could be continued.");
const NOT_ENDED: Close = Close::new(1002, "A message begins before the last one ended.");
const CLOSE_SHORT: Close = Close::new(1002, "A close frame has no code, or one of two bytes.");
const CLOSE_CODE: Close = Close::new(1002, "This close code must not be sent.");
const CLOSE_TEXT: Close = Close::new(1007, "The reason of a close must be UTF-8.");
const TEXT: Close = Close::new(1007, "A text message must be UTF-8.");
const LONG: Close = Close::new(1009, "A message may have {} bytes.");

/// What a decoder needs of its buffer besides the longest message: a control frame between two
/// frames of it, and the start of the next header.
pub const ROOM_BYTES: usize = CONTROL_BYTES_MAX + HEADER_BYTES_MAX;

/// What came, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing whole: more input is wanted.
    Nothing,
    /// A message, and where it stands in the input until the next call.
    Message(Kind, Range<usize>),
    /// A ping, and where its payload stands until the next call.
    Ping(Range<usize>),
    /// A pong.
    Pong,
    /// The peer's last frame, and its code; nothing after it counts.
    Close(Option<u16>),
}

/// A data frame whose header was read: what is missing of its payload.
#[derive(Clone, Copy, Debug)]
struct Frame {
    missing: usize,
    /// The mask of the next byte comes first.
    mask: [u8; 4],
    /// Whether the message ends with it.
    is_last: bool,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug)]
struct Header {
    opcode: Opcode,
    is_last: bool,
    payload: u64,
    mask: [u8; 4],
    /// Its own bytes.
    bytes: usize,
}

/// One direction of a connection.
///
/// The input holds, from the front: what was done with, the message so far, raw bytes. `next`
/// brings the message to the front when it asks for more.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The longest message that is taken.
    message_max: usize,
    /// Of the message that has begun and not ended.
    kind: Option<Kind>,
    /// Where the message begins, and how long it is so far.
    start: usize,
    len: usize,
    /// How much of it, if it is text, is known to be UTF-8.
    checked: usize,
    frame: Option<Frame>,
    /// Where the raw bytes begin, and where they end.
    raw: usize,
    filled: usize,
}

impl Decoder {
    /// Before the first frame; a message may have `message_max` bytes. The input it works in must
    /// have `ROOM_BYTES` more.
    pub const fn new(message_max: usize) -> Decoder {
        Decoder {
            message_max,
            kind: None,
            start: 0,
            len: 0,
            checked: 0,
            frame: None,
            raw: 0,
            filled: 0,
        }
    }

    /// Where input goes: behind what there is.
    pub fn spare<'b>(&self, input: &'b mut [u8]) -> &'b mut [u8] {
        &mut input[self.filled..]
    }

    /// So many bytes were put into `spare`.
    pub fn received(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    /// Bytes of input there are.
    pub fn input_bytes(&self) -> usize {
        self.filled
    }

    /// Whether no message has begun, nor a frame, and there is no input.
    pub fn is_at_rest(&self) -> bool {
        self.filled == 0 && self.frame.is_none() && self.kind.is_none()
    }

    /// Whatever there is and may come is of no interest.
    pub fn forget(&mut self) {
        *self = Decoder::new(self.message_max);
    }

    /// Goes on with what was received.
    ///
    /// # Errors
    /// What is wrong with it, as the close that says so. Nothing more can be read then.
    pub fn next(&mut self, input: &mut [u8]) -> Result<Received, Close> {
        loop {
            if let Some(frame) = self.frame {
                if !self.take(frame, input)? {
                    break;
                }
                if let Some(message) = self.ended(frame)? {
                    return Ok(message);
                }
                continue;
            }
            let Some(header) = read_header(&input[self.raw..self.filled])? else {
                break;
            };
            if header.opcode.is_control() {
                let from = self.raw + header.bytes;
                let to = from + header.payload as usize;
                if to > self.filled {
                    break;
                }
                unmask(&mut input[from..to], header.mask);
                self.raw = to;
                return control(header.opcode, &input[from..to], from);
            }
            self.begin(&header)?;
            self.raw += header.bytes;
        }
        self.compact(input);
        Ok(Received::Nothing)
    }

    /// A data frame begins.
    fn begin(&mut self, header: &Header) -> Result<(), Close> {
        match (header.opcode, self.kind) {
            (Opcode::Message(kind), None) => {
                self.kind = Some(kind);
                (self.start, self.len, self.checked) = (self.raw, 0, 0);
            }
            (Opcode::Message(_), Some(_)) => return Err(NOT_ENDED),
            (_, None) => return Err(NOT_BEGUN),
            (_, Some(_)) => {}
        }
        let room = self.message_max - self.len;
        let missing = usize::try_from(header.payload).unwrap_or(usize::MAX);
        if missing > room {
            return Err(Close {
                number: self.message_max as u64,
                ..LONG
            });
        }
        self.frame = Some(Frame {
            missing,
            mask: header.mask,
            is_last: header.is_last,
        });
        Ok(())
    }

    /// Adds what there is of a frame's payload to the message; whether it is all of it.
    fn take(&mut self, frame: Frame, input: &mut [u8]) -> Result<bool, Close> {
        let bytes = frame.missing.min(self.filled - self.raw);
        let end = self.start + self.len;
        input.copy_within(self.raw..self.raw + bytes, end);
        unmask(&mut input[end..end + bytes], frame.mask);
        self.raw += bytes;
        self.len += bytes;
        if self.kind == Some(Kind::Text) {
            self.check(input)?;
        }
        let mut mask = frame.mask;
        mask.rotate_left(bytes % 4);
        let missing = frame.missing - bytes;
        self.frame = Some(Frame {
            missing,
            mask,
            ..frame
        });
        Ok(missing == 0)
    }

    /// Goes on checking text; a character that has only begun is looked at again.
    fn check(&mut self, input: &[u8]) -> Result<(), Close> {
        let unchecked = &input[self.start + self.checked..self.start + self.len];
        match core::str::from_utf8(unchecked) {
            Ok(_) => self.checked = self.len,
            Err(wrong) if wrong.error_len().is_some() => return Err(TEXT),
            Err(cut) => self.checked += cut.valid_up_to(),
        }
        Ok(())
    }

    /// A data frame is whole: the message, if that was its last.
    fn ended(&mut self, frame: Frame) -> Result<Option<Received>, Close> {
        self.frame = None;
        if !frame.is_last {
            return Ok(None);
        }
        let Some(kind) = self.kind.take() else {
            return Ok(None);
        };
        if kind == Kind::Text && self.checked < self.len {
            return Err(TEXT);
        }
        let at = self.start..self.start + self.len;
        (self.len, self.checked) = (0, 0);
        Ok(Some(Received::Message(kind, at)))
    }

    /// Brings to the front what is needed, and forgets the rest.
    pub fn compact(&mut self, input: &mut [u8]) {
        if self.start > 0 && self.len > 0 {
            input.copy_within(self.start..self.start + self.len, 0);
        }
        self.start = 0;
        if self.raw > self.len {
            input.copy_within(self.raw..self.filled, self.len);
            self.filled -= self.raw - self.len;
            self.raw = self.len;
        }
    }
}

/// The header that `raw` begins with, or None when it is not complete yet.
fn read_header(raw: &[u8]) -> Result<Option<Header>, Close> {
    let &[first, second, ..] = raw else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err(RESERVED);
    }
    let opcode = Opcode::of(first & 0x0f).ok_or(OPCODE)?;
    let is_last = first & 0x80 != 0;
    if second & 0x80 == 0 {
        return Err(MASK);
    }
    let form = second & 0x7f;
    if opcode.is_control() && usize::from(form) > CONTROL_BYTES_MAX {
        return Err(CONTROL_LONG);
    }
    if opcode.is_control() && !is_last {
        return Err(CONTROL_CUT);
    }
    let (extra, shortest, longest) = match form {
        126 => (2, 126, u64::from(u16::MAX)),
        127 => (8, 1 << 16, i64::MAX as u64),
        _ => (0, 0, u64::MAX),
    };
    let Some((length, rest)) = raw[2..].split_at_checked(extra) else {
        return Ok(None);
    };
    let announced = length
        .iter()
        .fold(0, |all, &byte| all << 8 | u64::from(byte));
    let payload = if extra == 0 {
        u64::from(form)
    } else {
        announced
    };
    if !(shortest..=longest).contains(&payload) {
        return Err(LENGTH);
    }
    let mask = rest.first_chunk::<4>();
    Ok(mask.map(|&mask| Header {
        opcode,
        is_last,
        payload,
        mask,
        bytes: 2 + extra + 4,
    }))
}

/// What a whole control frame says; `from` is where its payload stands.
fn control(opcode: Opcode, payload: &[u8], from: usize) -> Result<Received, Close> {
    match (opcode, payload) {
        (Opcode::Ping, _) => Ok(Received::Ping(from..from + payload.len())),
        (Opcode::Close, []) => Ok(Received::Close(None)),
        (Opcode::Close, [_]) => Err(CLOSE_SHORT),
        (Opcode::Close, [high, low, reason @ ..]) => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_code(code) {
                return Err(CLOSE_CODE);
            }
            core::str::from_utf8(reason).map_err(|_| CLOSE_TEXT)?;
            Ok(Received::Close(Some(code)))
        }
        _ => Ok(Received::Pong),
    }
}

/// Takes the mask off, or puts it on; four bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let key = u32::from_ne_bytes(mask);
    let (chunks, rest) = payload.as_chunks_mut::<4>();
    for chunk in chunks {
        *chunk = (u32::from_ne_bytes(*chunk) ^ key).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::buffer::Writer;
    use crate::wire::websocket::put_frame;
    use Opcode::{Continuation, Message, Ping, Pong};
    use proptest::prelude::*;

    const TEXT_FRAME: Opcode = Message(Kind::Text);
    const BINARY: Opcode = Message(Kind::Binary);
    const MAX: usize = 200;

    /// A frame as a client sends it.
    pub(crate) fn frame(opcode: Opcode, is_last: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; payload.len() + 10];
        let mut out = Writer::new(&mut bytes);
        put_frame(opcode, payload, &mut out).unwrap();
        let header = out.len() - payload.len();
        let mut frame = out.written()[..header].to_vec();
        frame[0] ^= u8::from(!is_last) << 7;
        frame[1] |= 0x80;
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
        frame
    }

    #[derive(Clone, Debug, PartialEq)]
    enum Heard {
        Message(Kind, Vec<u8>),
        Ping(Vec<u8>),
        Pong,
        Close(Option<u16>),
    }

    type Outcome = (Vec<Heard>, Option<Close>);

    /// Decodes as a connection does, input coming in the pieces that end at `cuts`.
    fn decode(raw: &[u8], cuts: &[usize], max: usize) -> Outcome {
        let mut decoder = Decoder::new(max);
        let mut input = vec![0; max + ROOM_BYTES];
        let (mut heard, mut at) = (Vec::new(), 0);
        let mut ends = cuts.iter().copied().filter(|&cut| cut < raw.len());
        let mut end = ends.next().unwrap_or(raw.len());
        loop {
            match decoder.next(&mut input) {
                Err(close) => return (heard, Some(close)),
                Ok(Received::Message(kind, at)) => {
                    heard.push(Heard::Message(kind, input[at].to_vec()));
                }
                Ok(Received::Ping(at)) => heard.push(Heard::Ping(input[at].to_vec())),
                Ok(Received::Pong) => heard.push(Heard::Pong),
                Ok(Received::Close(code)) => heard.push(Heard::Close(code)),
                Ok(Received::Nothing) => {
                    let spare = decoder.spare(&mut input);
                    assert!(!spare.is_empty(), "there is room for more");
                    if at == raw.len() {
                        return (heard, None);
                    }
                    let bytes = spare.len().min(end - at);
                    spare[..bytes].copy_from_slice(&raw[at..at + bytes]);
                    decoder.received(bytes);
                    at += bytes;
                    if at == end {
                        end = ends.next().unwrap_or(raw.len());
                    }
                }
            }
        }
    }

    /// Decodes whole, cut at each byte, and byte by byte: all must agree.
    fn decode_all_ways(raw: &[u8], max: usize) -> Outcome {
        let whole = decode(raw, &[], max);
        for cut in 1..raw.len() {
            assert_eq!(decode(raw, &[cut], max), whole, "cut at {cut}");
        }
        let bytes: Vec<usize> = (1..raw.len()).collect();
        assert_eq!(decode(raw, &bytes, max), whole, "byte by byte");
        whole
    }

    fn heard(frames: &[Vec<u8>]) -> Vec<Heard> {
        let (heard, close) = decode_all_ways(&frames.concat(), MAX);
        assert_eq!(close, None);
        heard
    }

    fn refused(frames: &[Vec<u8>]) -> Close {
        decode_all_ways(&frames.concat(), MAX)
            .1
            .expect("it is refused")
    }

    #[test]
    fn the_samples_of_the_rfc() {
        let hello = Heard::Message(Kind::Text, b"Hello".to_vec());
        let whole = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        assert_eq!(decode_all_ways(whole, 5).0, [hello]);
        let ping = frame(Ping, true, b"Hello");
        assert_eq!(heard(&[ping]), [Heard::Ping(b"Hello".to_vec())]);
        assert_eq!(decode_all_ways(b"", 5), (vec![], None));
    }

    #[test]
    fn messages_and_what_stands_between_their_frames() {
        let came = heard(&[
            frame(TEXT_FRAME, true, b"one"),
            frame(BINARY, false, b"\xff"),
            frame(Ping, true, b"?"),
            frame(Continuation, false, b""),
            frame(Pong, true, b"any"),
            frame(Continuation, false, b"\x00\x01"),
            frame(Ping, true, b""),
            frame(Continuation, true, b"\x02"),
            frame(TEXT_FRAME, false, b""),
            frame(Continuation, true, b""),
            frame(BINARY, true, &[7; MAX]),
            frame(TEXT_FRAME, true, b""),
            frame(Opcode::Close, true, b"\x03\xe8bye"),
        ]);
        let wanted = [
            Heard::Message(Kind::Text, b"one".to_vec()),
            Heard::Ping(b"?".to_vec()),
            Heard::Pong,
            Heard::Ping(vec![]),
            Heard::Message(Kind::Binary, b"\xff\x00\x01\x02".to_vec()),
            Heard::Message(Kind::Text, vec![]),
            Heard::Message(Kind::Binary, vec![7; MAX]),
            Heard::Message(Kind::Text, vec![]),
            Heard::Close(Some(1000)),
        ];
        assert_eq!(came, wanted);
    }

    #[test]
    fn frames_that_break_a_rule() {
        let changed = |at: usize, bits: u8| {
            let mut frame = frame(TEXT_FRAME, true, b"a");
            frame[at] ^= bits;
            frame
        };
        for bit in [0x40, 0x20, 0x10] {
            assert_eq!(refused(&[changed(0, bit)]), RESERVED);
        }
        for number in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            assert_eq!(refused(&[changed(0, 1 ^ number)]), OPCODE);
        }
        assert_eq!(refused(&[changed(1, 0x80)]), MASK);
        for opcode in [Ping, Pong, Opcode::Close] {
            let payload = b"\x03\xe8".repeat(64);
            assert_eq!(refused(&[frame(opcode, false, b"")]), CONTROL_CUT);
            assert_eq!(
                refused(&[frame(opcode, true, &payload[..126])]),
                CONTROL_LONG
            );
            let longest = frame(opcode, true, &[&b"\x03\xe8"[..], &[b'a'; 123]].concat());
            assert_eq!(heard(&[longest]).len(), 1);
        }
        assert_eq!(refused(&[frame(Continuation, true, b"a")]), NOT_BEGUN);
        let begun = frame(TEXT_FRAME, false, b"a");
        let ended = frame(Continuation, true, b"b");
        assert_eq!(
            refused(&[begun.clone(), frame(TEXT_FRAME, true, b"b")]),
            NOT_ENDED
        );
        assert_eq!(
            refused(&[begun.clone(), frame(BINARY, true, b"b")]),
            NOT_ENDED
        );
        assert_eq!(refused(&[begun, ended.clone(), ended]), NOT_BEGUN);
        let all = [
            RESERVED,
            OPCODE,
            MASK,
            LENGTH,
            CONTROL_LONG,
            CONTROL_CUT,
            NOT_BEGUN,
            NOT_ENDED,
            CLOSE_SHORT,
            CLOSE_CODE,
        ];
        assert!(all.iter().all(|close| close.code == 1002));
        let all = [
            RESERVED,
            LENGTH,
            NOT_ENDED,
            CLOSE_SHORT,
            CLOSE_TEXT,
            TEXT,
            LONG,
        ];
        assert!(
            all.iter()
                .all(|close| close.reason.len() < CONTROL_BYTES_MAX - 2 - 18)
        );
    }

    #[test]
    fn each_form_of_a_length_below_at_and_above() {
        let header = |form: u8, length: &[u8]| [&[0x82, 0x80 | form], length, &[0; 4]].concat();
        let close = |raw: &[u8], max| decode_all_ways(raw, max).1;
        let long = |max: usize| {
            Some(Close {
                number: max as u64,
                ..LONG
            })
        };
        assert_eq!(close(&header(126, &[0, 125]), MAX), Some(LENGTH));
        assert_eq!(close(&header(126, &[0, 126]), MAX), None);
        assert_eq!(close(&header(126, &[255, 255]), 65_535), None);
        assert_eq!(close(&header(126, &[255, 255]), 65_534), long(65_534));
        let long_form = |bytes: u64| header(127, &bytes.to_be_bytes());
        assert_eq!(close(&long_form(0), 1 << 17), Some(LENGTH));
        assert_eq!(close(&long_form(65_535), 1 << 17), Some(LENGTH));
        assert_eq!(close(&long_form(65_536), 1 << 17), None);
        assert_eq!(close(&long_form(65_536), 65_535), long(65_535));
        assert_eq!(close(&long_form(i64::MAX as u64), 1 << 17), long(1 << 17));
        assert_eq!(close(&long_form(1 << 63), 1 << 17), Some(LENGTH));
        assert_eq!(close(&long_form(u64::MAX), 1 << 17), Some(LENGTH));
    }

    #[test]
    fn messages_below_at_and_above_their_limit() {
        for bytes in [MAX - 1, MAX] {
            let whole = frame(BINARY, true, &vec![1; bytes]);
            assert_eq!(
                heard(&[whole]),
                [Heard::Message(Kind::Binary, vec![1; bytes])]
            );
        }
        let long = Close {
            number: MAX as u64,
            ..LONG
        };
        // The header alone is enough.
        let header = &frame(BINARY, true, &[1; MAX + 1])[..8];
        assert_eq!(refused(&[header.to_vec()]), long);
        let half = frame(TEXT_FRAME, false, &[b'a'; MAX / 2]);
        let at = frame(Continuation, false, &[b'a'; MAX / 2]);
        let above = frame(Continuation, true, &[b'a'; MAX / 2 + 1]);
        let one = frame(Continuation, true, b"a");
        let ping = frame(Ping, true, &[b'p'; 125]);
        assert_eq!(refused(&[half.clone(), above[..6].to_vec()]), long);
        assert_eq!(refused(&[half.clone(), at.clone(), one]), long);
        // A ping still comes through when the message has all the room it may have.
        let end = frame(Continuation, true, b"");
        assert_eq!(heard(&[half, at, ping, end]).len(), 2);
    }

    #[test]
    fn text_is_refused_as_soon_as_it_cannot_be_utf_8() {
        let good: &[&[u8]] = &[
            "κόσμε".as_bytes(),
            "\u{10ffff}\u{ffff}\u{d7ff}\u{e000}\0".as_bytes(),
            "😀".as_bytes(),
        ];
        for text in good {
            let wanted = [Heard::Message(Kind::Text, text.to_vec())];
            for cut in 0..text.len() {
                let first = frame(TEXT_FRAME, false, &text[..cut]);
                let last = frame(Continuation, true, &text[cut..]);
                assert_eq!(heard(&[first, last]), wanted);
                // The end of a message is no place for half a character.
                if core::str::from_utf8(&text[..cut]).is_err() {
                    assert_eq!(refused(&[frame(TEXT_FRAME, true, &text[..cut])]), TEXT);
                }
            }
        }
        let bad: &[&[u8]] = &[
            b"\x80",
            b"a\xff",
            b"\xc0",
            b"\xc1",
            b"\xe0\x80",
            b"\xed\xa0",
            b"\xf0\x80",
            b"\xf4\x90",
            b"\xf5",
            b"\xce\xce",
            b"\xf0\x9f\x98a",
        ];
        for text in bad {
            let whole = frame(TEXT_FRAME, true, &[text, &b"more"[..]].concat());
            let all = whole.clone();
            assert_eq!(refused(&[all]), TEXT, "{}", text.escape_ascii());
            // No byte behind the wrong one is waited for, in a frame or behind one.
            assert_eq!(refused(&[whole[..6 + text.len()].to_vec()]), TEXT);
            let before = &text[..text.len() - 1];
            assert_eq!(decode_all_ways(&whole[..6 + before.len()], MAX).1, None);
            let first = frame(TEXT_FRAME, false, before);
            let next = frame(Continuation, false, &[text[text.len() - 1], b'x']);
            let next = next[..7].to_vec();
            assert_eq!(refused(&[first, frame(Ping, true, b""), next]), TEXT);
            assert_eq!(heard(&[frame(BINARY, true, text)]).len(), 1);
        }
    }

    #[test]
    fn closes() {
        let close = |payload: &[u8]| decode_all_ways(&frame(Opcode::Close, true, payload), MAX);
        assert_eq!(close(b"").0, [Heard::Close(None)]);
        assert_eq!(close(b"\x03").1, Some(CLOSE_SHORT));
        for code in 0..=u16::MAX {
            let (heard, refused) =
                decode(&frame(Opcode::Close, true, &code.to_be_bytes()), &[], MAX);
            match is_code(code) {
                true => assert_eq!(heard, [Heard::Close(Some(code))]),
                false => assert_eq!(refused, Some(CLOSE_CODE)),
            }
        }
        let reason = |text: &str| [b"\x0f\xa0", text.as_bytes()].concat();
        assert_eq!(close(&reason("κόσμε")).0, [Heard::Close(Some(4000))]);
        assert_eq!(close(b"\x03\xe8\xce").1, Some(CLOSE_TEXT));
        assert_eq!(close(b"\x03\xe8\xed\xa0\x80").1, Some(CLOSE_TEXT));
        // Between the frames of a message, too.
        let begun = frame(TEXT_FRAME, false, b"a");
        let came = heard(&[begun, frame(Opcode::Close, true, b"")]);
        assert_eq!(came, [Heard::Close(None)]);
    }

    #[test]
    fn nothing_is_held_between_messages() {
        let mut decoder = Decoder::new(MAX);
        let mut input = vec![0; MAX + ROOM_BYTES];
        let mut feed = |raw: &[u8]| {
            decoder.spare(&mut input)[..raw.len()].copy_from_slice(raw);
            decoder.received(raw.len());
            while decoder.next(&mut input).unwrap() != Received::Nothing {}
            (decoder.input_bytes(), decoder.is_at_rest())
        };
        let text = frame(TEXT_FRAME, true, b"abc");
        assert_eq!(feed(&[&text[..], &text].concat()), (0, true));
        assert_eq!(feed(&text[..1]), (1, false));
        // A header that was read is no input any more.
        assert_eq!(feed(&text[1..6]), (0, false));
        assert_eq!(feed(&text[6..7]), (1, false));
        assert_eq!(feed(&text[7..]), (0, true));
        assert_eq!(feed(&frame(Ping, true, b"abc")), (0, true));
        assert_eq!(feed(&frame(TEXT_FRAME, false, b"")), (0, false));
        assert_eq!(feed(&frame(Continuation, true, b"a")), (0, true));
    }

    /// Messages as a client of another hand sends them, and the frames that it makes of ours.
    #[test]
    fn the_same_as_tungstenite() {
        use std::io::{self, Read, Write};
        use tungstenite::protocol::{Role, WebSocket};
        struct Wire(Vec<u8>, io::Cursor<Vec<u8>>);
        impl Write for Wire {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        impl Read for Wire {
            fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
                self.1.read(bytes)
            }
        }
        for bytes in [
            0, 1, 3, 4, 5, 125, 126, 127, 1000, 65_534, 65_535, 65_536, 70_001,
        ] {
            let payload: Vec<u8> = (0..bytes).map(|i| (i * 7 % 251) as u8).collect();
            let mut echo = vec![0; bytes + 10];
            let mut out = Writer::new(&mut echo);
            put_frame(BINARY, &payload, &mut out).unwrap();
            let len = out.len();
            echo.truncate(len);
            let wire = Wire(Vec::new(), io::Cursor::new(echo));
            let mut client = WebSocket::from_raw_socket(wire, Role::Client, None);
            client
                .send(tungstenite::Message::from(payload.clone()))
                .unwrap();
            client
                .send(tungstenite::Message::Ping(vec![1, 2].into()))
                .unwrap();
            assert_eq!(client.read().unwrap().into_data(), payload);
            let wanted = [
                Heard::Message(Kind::Binary, payload),
                Heard::Ping(vec![1, 2]),
            ];
            let (heard, close) = decode(&client.get_ref().0, &[], 80_000);
            assert_eq!((&heard[..], close), (&wanted[..], None));
        }
    }

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let opcode = prop::sample::select(OPCODES_SENT.to_vec());
        let payload = prop::collection::vec(any::<u8>(), 0..140);
        (opcode, any::<bool>(), payload).prop_map(|(opcode, last, payload)| {
            let text = payload.iter().map(|byte| byte & 0x7f).collect();
            frame(opcode, last, &if opcode == BINARY { payload } else { text })
        })
    }

    const OPCODES_SENT: [Opcode; 5] = [Continuation, TEXT_FRAME, BINARY, Ping, Pong];

    proptest! {
        #[test]
        fn any_frames_in_any_pieces_have_one_outcome(
            frames in prop::collection::vec(any_frame(), 1..6),
            mut cuts in prop::collection::vec(1usize..800, 0..8),
            damage in prop::option::of((0usize..700, any::<u8>())),
        ) {
            let mut raw = frames.concat();
            if let Some((at, byte)) = damage {
                let len = raw.len();
                raw[at % len] = byte;
            }
            cuts.sort_unstable();
            prop_assert_eq!(decode(&raw, &cuts, MAX), decode(&raw, &[], MAX));
        }
    }
}

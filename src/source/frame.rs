//! One binary frame as a reading: COBS around a postcard record with a check sum.
//!
//! Pure: bytes in, a reading out. For senders without JSON, as small devices behind a serial line
//! are. Follows the postcard wire format 1.0, CRC-32/ISO-HDLC (as in zip and Ethernet), and
//! Consistent Overhead Byte Stuffing. From the inside out:
//!
//! ```text
//! record  topic  its length as a varint, then its UTF-8; empty: the topic of the entry
//!         kind   one byte, then the value:
//!                  0  null     nothing
//!                  1  yes/no   one byte, 0 or 1
//!                  2  integer  64 bits, zigzag ((n << 1) ^ (n >> 63)), then a varint
//!                  3  float    8 bytes, IEEE 754 binary64, little-endian
//!                  4  text     its length as a varint, then its UTF-8
//!                  5  single   4 bytes, IEEE 754 binary32, little-endian
//! checked record, then the CRC-32 of the record: 4 bytes, little-endian
//! frame   COBS of that, then a zero byte
//! ```
//! A varint is seven bits a byte, the lowest first, with bit 7 set in all bytes but the last.
//! `a = 1` is `01 61 02 02`, its sum `c0 1a d5 0c`, and the frame `09 01 61 02 02 c0 1a d5 0c 00`.
//!
//! A frame that is damaged is left out as a whole; the next begins behind the next zero, so that a
//! sender begins with a zero when it does not know what came before. A float that is not finite is
//! a reading in error. It never answers a sender.

use super::batch::Batch;
use super::heading::{Heading, Unfit};
use super::line::put_string;
use crc::{CRC_32_ISO_HDLC, Crc, NoTable};
use serde::Deserialize;

/// Bytes of a frame, without its zero.
pub(super) const FRAME_BYTES_MAX: usize = 512;

/// By bit and without a table: frames are short and few.
const CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);
const CRC_BYTES: usize = 4;

/// What a record is, in the order of its bytes.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct Reading<'a> {
    topic: &'a str,
    value: Value<'a>,
}

/// Numbered by place: a new kind goes to the end.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    Single(f32),
}

/// Fills `batch` anew with the reading in `frame`, given without its zero; with none when it is not
/// right. An empty frame says nothing.
pub(super) fn read(frame: &[u8], heading: &Heading, batch: &mut Batch) -> Result<(), Unfit> {
    batch.clear();
    if frame.is_empty() {
        return Ok(());
    }
    let mut room = [0; FRAME_BYTES_MAX];
    let bytes = room
        .get_mut(..frame.len())
        .ok_or(Unfit::Long(FRAME_BYTES_MAX))?;
    bytes.copy_from_slice(frame);
    let len = cobs::decode_in_place(bytes).map_err(|_| Unfit::Cobs)?;
    let (record, sum) = bytes[..len]
        .split_last_chunk::<CRC_BYTES>()
        .ok_or(Unfit::Crc)?;
    if CRC.checksum(record) != u32::from_le_bytes(*sum) {
        return Err(Unfit::Crc);
    }
    match postcard::take_from_bytes::<Reading<'_>>(record) {
        Ok((reading, [])) => put(&reading, heading, batch),
        _ => Err(Unfit::Record),
    }
}

fn put(reading: &Reading<'_>, heading: &Heading, batch: &mut Batch) -> Result<(), Unfit> {
    let named;
    let channel = if reading.topic.is_empty() {
        heading.own("a frame")?
    } else {
        named = heading.named(reading.topic)?;
        &named
    };
    match reading.value {
        Value::Null => batch.json(channel, "null"),
        Value::Bool(value) => batch.flag(channel, value),
        Value::Int(value) => batch.json(channel, &value.to_string()),
        Value::Text(text) => put_string(channel, text, batch)?,
        // The fewest digits that read back as the same number; added to 0, -0 is 0.
        Value::Float(value) if value.is_finite() => batch.json(channel, &(value + 0.0).to_string()),
        Value::Single(value) if value.is_finite() => {
            batch.json(channel, &(value + 0.0).to_string());
        }
        Value::Float(_) | Value::Single(_) => batch.fault(channel),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::pieces::Pieces;
    use super::*;
    use crate::hub::event::State;
    use proptest::prelude::*;

    fn checked(record: &[u8]) -> Vec<u8> {
        let sum = Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(record);
        let bytes = [record, &sum.to_le_bytes()].concat();
        let mut frame = vec![0; cobs::max_encoding_length(bytes.len())];
        let len = cobs::encode(&bytes, &mut frame);
        frame.truncate(len);
        frame
    }

    fn frame(topic: &str, value: Value<'_>) -> Vec<u8> {
        let mut room = [0; 1024];
        checked(postcard::to_slice(&Reading { topic, value }, &mut room).unwrap())
    }

    fn told(frame: &[u8]) -> Result<String, Unfit> {
        let mut batch = Batch::default();
        let heading = Heading::new(Some("t"), None, None);
        read(frame, &heading, &mut batch).map(|()| match batch.entries() {
            [] => String::new(),
            [entry] => format!("{} {} {}", entry.topic, entry.value, entry.state.word()),
            _ => panic!("one frame, one reading"),
        })
    }

    #[test]
    fn every_kind_of_value() {
        for (topic, value, want) in [
            ("", Value::Null, "t null ok"),
            ("a/b", Value::Bool(true), "t/a/b true ok"),
            ("a", Value::Int(i64::MIN), "t/a -9223372036854775808 ok"),
            ("a", Value::Int(0), "t/a 0 ok"),
            ("a", Value::Float(21.5), "t/a 21.5 ok"),
            ("a", Value::Float(-0.0), "t/a 0 ok"),
            ("a", Value::Float(3.0), "t/a 3 ok"),
            ("a", Value::Float(-1.5e-7), "t/a -0.00000015 ok"),
            ("a", Value::Float(f64::NAN), "t/a null error"),
            ("a", Value::Single(21.3), "t/a 21.3 ok"),
            ("a", Value::Single(f32::INFINITY), "t/a null error"),
            (
                "a",
                Value::Text("caf\u{e9}\0"),
                "t/a \"caf\\u00e9\\u0000\" ok",
            ),
        ] {
            assert_eq!(told(&frame(topic, value)).as_deref(), Ok(want));
        }
        assert_eq!(told(&[]).as_deref(), Ok(""));
    }

    #[test]
    fn the_bytes_are_as_documented() {
        let bytes = b"\x09\x01a\x02\x02\xc0\x1a\xd5\x0c";
        assert_eq!(frame("a", Value::Int(1)), bytes);
        assert_eq!(told(bytes).as_deref(), Ok("t/a 1 ok"));
    }

    #[test]
    fn what_is_not_right_is_left_out() {
        let mut bare = Batch::default();
        let nameless = read(
            &frame("", Value::Null),
            &Heading::new(None, None, None),
            &mut bare,
        );
        assert_eq!(nameless, Err(Unfit::Bare("a frame".to_owned())));
        for (frame, want) in [
            (&b"\x09\x01a"[..], Unfit::Cobs),
            (b"\x04abc", Unfit::Crc),
            (b"\x09\x01a\x02\x02\xc0\x1a\xd5\x0d", Unfit::Crc),
            (&checked(b""), Unfit::Record),
            (&checked(b"\x01a\x06"), Unfit::Record),
            (&checked(b"\x01a\x01\x02"), Unfit::Record),
            (&checked(b"\x05a\x00"), Unfit::Record),
            (&checked(b"\x01a\x00more"), Unfit::Record),
            (&checked(b"\x01\xff\x00"), Unfit::Record),
            (&checked(b"\x03a b\x00"), Unfit::Name("a b".to_owned())),
        ] {
            assert_eq!(told(frame), Err(want), "{}", frame.escape_ascii());
        }
    }

    #[test]
    fn sizes_at_and_above() {
        // Two bytes of COBS from 255 bytes on, three with a second block; four of the sum; two of
        // topic, one of kind, two of length.
        let text = |bytes: usize| "x".repeat(bytes - 3 - 4 - 5);
        let fits = frame("a", Value::Text(&text(FRAME_BYTES_MAX)));
        assert_eq!(fits.len(), FRAME_BYTES_MAX);
        assert!(told(&fits).is_ok());
        let above = frame("a", Value::Text(&text(FRAME_BYTES_MAX + 1)));
        assert_eq!(told(&above), Err(Unfit::Long(FRAME_BYTES_MAX)));

        let mut stream = [&fits[..], &above, &fits, b""].join(&0);
        stream.extend(&fits[..9]);
        let mut pieces = Pieces::new(0, FRAME_BYTES_MAX);
        let mut outcomes = Vec::new();
        for mut chunk in stream.chunks(100) {
            while let Some(piece) = pieces.next(&mut chunk) {
                outcomes.push(piece.and_then(told).map(|told| told.len()));
            }
        }
        let size = text(FRAME_BYTES_MAX).len() + r#"t/a "" ok"#.len();
        assert_eq!(
            outcomes,
            [Ok(size), Err(Unfit::Long(FRAME_BYTES_MAX)), Ok(size)]
        );
    }

    fn value() -> impl Strategy<Value = (String, Vec<u8>)> {
        let name = "[a-z]{1,8}(/[a-z]{1,8}){0,3}";
        let number = (name, any::<i64>()).prop_map(|(name, value)| {
            (
                format!("t/{name} {value} ok"),
                frame(&name, Value::Int(value)),
            )
        });
        let float = (name, prop::num::f64::NORMAL).prop_map(|(name, value)| {
            (
                format!("t/{name} {value} float"),
                frame(&name, Value::Float(value)),
            )
        });
        let text = (name, "[a-z ]{0,300}").prop_map(|(name, text)| {
            (
                format!("t/{name} \"{text}\" ok"),
                frame(&name, Value::Text(&text)),
            )
        });
        prop_oneof![number, float, text]
    }

    proptest! {
        #[test]
        fn records_come_back((want, frame) in value()) {
            prop_assert!(!frame.contains(&0));
            let told = told(&frame).unwrap();
            if let Some(want) = want.strip_suffix(" float") {
                let number = |text: &str| text.split(' ').nth(1).unwrap().parse::<f64>().unwrap();
                prop_assert_eq!(number(&told), number(want));
            } else {
                prop_assert_eq!(told, want);
            }
        }

        #[test]
        fn a_flipped_bit_is_seen((_, mut frame) in value(), at: usize, bit in 0..8) {
            let at = at % frame.len();
            frame[at] ^= 1u8 << bit;
            // A zero ends a frame early, which pieces do before it comes here.
            prop_assume!(frame[at] != 0);
            prop_assert!(told(&frame).is_err());
        }

        #[test]
        fn any_bytes_do_no_harm(frame: Vec<u8>) {
            let _ = told(&frame);
            let _ = told(&checked(&frame));
        }

        #[test]
        fn a_stream_with_damage_goes_on(
            values in prop::collection::vec((value(), any::<bool>()), 1..8),
            chunk_bytes in 1usize..50,
        ) {
            let mut stream = Vec::new();
            let mut good = 0;
            for ((_, mut frame), is_damaged) in values {
                if is_damaged {
                    // Neither a zero nor a pair of changes that a sum could miss.
                    let middle = frame.len() / 2;
                    frame[middle] = if frame[middle] == 0x55 { 0xaa } else { 0x55 };
                }
                good += usize::from(!is_damaged);
                stream.extend(frame);
                stream.push(0);
            }
            let mut pieces = Pieces::new(0, FRAME_BYTES_MAX);
            let mut told_of = 0;
            for mut chunk in stream.chunks(chunk_bytes) {
                while let Some(piece) = pieces.next(&mut chunk) {
                    told_of += usize::from(piece.and_then(told).is_ok());
                }
            }
            prop_assert_eq!(told_of, good);
        }
    }

    #[test]
    fn not_finite_is_an_error_state() {
        let mut batch = Batch::default();
        let heading = Heading::new(Some("t"), None, None);
        read(&frame("", Value::Float(f64::NAN)), &heading, &mut batch).unwrap();
        assert_eq!(batch.entries()[0].state, State::Error);
    }
}

//! Sends one reading to encke as a binary frame: for programs and devices without JSON.
//!
//! ```text
//! cargo run --example send_reading -- /run/encke/readings room/temperature 21.5
//! cargo run --example send_reading -- - room/temperature 21.5 | encke      (kind = "stdin")
//! ```
//! The place is the path of a datagram socket, that of a `[[source]]` with `kind = "datagram"` and
//! `format = "postcard"`, or `-` for standard output. On a device without an operating system the
//! same three crates do, for none of them allocates: `frame` below is all there is to it. What the
//! bytes are is documented at the head of `src/source/frame.rs`; `send_reading.py` says it once
//! more without any crate.

use crc::{CRC_32_ISO_HDLC, Crc};
use serde::Serialize;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

/// What a record is.
#[derive(Serialize)]
pub struct Reading<'a> {
    /// The topic, or an empty text for that of the `[[source]]`.
    pub topic: &'a str,
    /// What it is now.
    pub value: Value<'a>,
}

/// Numbered by place: 0 to 5.
#[derive(Serialize)]
pub enum Value<'a> {
    /// There is no value.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A count.
    Int(i64),
    /// A measure.
    Float(f64),
    /// A word or a sentence.
    Text(&'a str),
    /// What a small device measures: 21.3 is shown as 21.3.
    Single(f32),
}

const FRAME_BYTES_MAX: usize = 512;
/// What COBS and the zero add to so many bytes.
const ADDED_BYTES_MAX: usize = 4;

/// Writes the reading as a frame over `out`: record, CRC-32, COBS, zero. How long it is, or `None`
/// when it is longer than a frame may be.
pub fn frame(reading: &Reading, out: &mut [u8; FRAME_BYTES_MAX + 1]) -> Option<usize> {
    let mut room = [0; FRAME_BYTES_MAX - ADDED_BYTES_MAX];
    let len = postcard::to_slice(reading, &mut room).ok()?.len();
    let sum = Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(&room[..len]);
    room.get_mut(len..len + 4)?
        .copy_from_slice(&sum.to_le_bytes());
    let len = cobs::encode(&room[..len + 4], out);
    out[len] = 0;
    Some(len + 1)
}

/// What a word on the command line means.
fn value(word: &str) -> Value<'_> {
    match word {
        "null" => Value::Null,
        "true" | "false" => Value::Bool(word == "true"),
        _ => {
            let int = word.parse().map(Value::Int);
            int.or_else(|_| word.parse().map(Value::Float))
                .unwrap_or(Value::Text(word))
        }
    }
}

/// Sends the reading `topic` = `word` to `place`.
pub fn send(place: &str, topic: &str, word: &str) -> io::Result<()> {
    let value = value(word);
    let mut room = [0; FRAME_BYTES_MAX + 1];
    let len = frame(&Reading { topic, value }, &mut room)
        .ok_or_else(|| io::Error::other("the reading is longer than a frame may be"))?;
    if place == "-" {
        return io::stdout().write_all(&room[..len]);
    }
    // Waits while the socket is full, so that nothing is lost.
    UnixDatagram::unbound()?
        .send_to(&room[..len], place)
        .map(|_| ())
}

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [place, topic, word] => send(place, topic, word),
        _ => Err(io::Error::other("usage: send_reading PLACE TOPIC VALUE")),
    }
}

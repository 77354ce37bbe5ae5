//! `multipart/x-mixed-replace`: a part for each message, and each picture a part of its own kind.
//!
//! RFC 2046 section 5.1: the delimiter that ends a part is sent with it, else a client would show
//! each part one late. Whoever asks for images gets nothing but pictures: `<img>` shows each in
//! place of the one before. Chromium shows one when the head of the next has come, so that is sent
//! with it, too: as long as the next is not known, with the type of this one, which no browser
//! believes, and without its length. Never the bytes of a picture here.

use super::{
    Dress, End, Framing, Hello, Id, Open, Shape, Span, Transport, put_heartbeat, put_hello,
};
use crate::buffer::{Full, Writer};
use crate::hub::event::Event;
use crate::hub::pictures::Kind;
use crate::wire::request::Version;

/// The row.
pub(super) const ROW: Transport = Transport {
    name: "multipart",
    path: "/events/multipart",
    accept: "multipart/x-mixed-replace",
    content_type: "multipart/x-mixed-replace; boundary=encke",
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

const DELIMITER: &[u8] = b"\r\n--encke\r\n";
/// The delimiter before the first part has no line to end.
pub const FIRST: &[u8] = DELIMITER.split_at(2).1;

/// Chromium looks at so much of an image of another origin before it shows any of it (ORB, Fetch
/// section 3.5): small pictures would be held back.
pub const IMAGES_PADDING: usize = 1024;

/// Bytes around a picture at most.
pub const AROUND_BYTES: usize = 160;

/// Writes what stands before a picture of so many bytes, or nothing but a size if its head was sent
/// `ahead`.
pub fn put_before(
    (kind, bytes): (Kind, usize),
    framing: Framing,
    ahead: bool,
    out: &mut Writer<'_>,
) -> Result<(), Full> {
    let mut text = [0; AROUND_BYTES];
    let mut head = Writer::new(&mut text);
    if !ahead {
        put_type(kind, &mut head)?;
        head.put(b"Content-Length: ")?;
        head.put_u64(bytes as u64)?;
        head.put(b"\r\n\r\n")?;
    }
    let start = head.len();
    put_behind(kind, framing, &mut head)?;
    if framing.version == Version::Http11 {
        let around = head.len() - CHUNK_END.len();
        out.put_hex((around + bytes) as u64)?;
        out.put(CHUNK_END)?;
    }
    out.put(&head.written()[..start])
}

/// Writes what stands behind a picture: the delimiter, and for who gets pictures alone the head of
/// the next one.
pub fn put_behind(kind: Kind, framing: Framing, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(DELIMITER)?;
    if framing.only_pictures() {
        put_type(kind, out)?;
        out.put(b"\r\n")?;
    }
    match framing.version {
        Version::Http11 => out.put(CHUNK_END),
        Version::Http10 => Ok(()),
    }
}

const CHUNK_END: &[u8] = b"\r\n";

fn put_type(kind: Kind, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put_all(&[b"Content-Type: ", kind.media_type().as_bytes(), b"\r\n"])
}

/// What stands before the first delimiter is ignored (RFC 2046 section 5.1.1).
fn open(open: &Open<'_>, _: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    if open.padding > 0 {
        super::pad(open.padding, out)?;
        out.put(b"\r\n")?;
    }
    out.put(FIRST)
}

/// Writes a part with what `write` writes, and the delimiter behind it.
fn part<'w>(
    dress: Dress<'_>,
    out: &mut Writer<'w>,
    write: impl FnOnce(&mut Writer<'w>) -> Result<(), Full>,
) -> Result<(), Full> {
    if dress.only_pictures {
        return Ok(());
    }
    out.put(b"Content-Type: application/json\r\n\r\n")?;
    write(out)?;
    out.put(DELIMITER)
}

fn hello(hello: &Hello<'_>, dress: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    part(dress, out, |out| put_hello(hello, out))
}

fn event(event: &Event<'_>, dress: Dress<'_>, _: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    part(dress, out, |out| out.put(dress.text(event)))
}

fn heartbeat(id: &Id<'_>, dress: Dress<'_>, _: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    part(dress, out, |out| put_heartbeat(id, out))
}

/// The delimiter behind the last part is the closing one, where there is a part.
fn end(end: &End<'_>, dress: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    let start = out.len();
    part(dress, out, |out| end.put(out))?;
    if out.len() > start {
        out.truncate(out.len() - FIRST.len());
    }
    out.put(b"--encke--\r\n")
}

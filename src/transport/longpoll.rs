//! JSON long-polling (RFC 6202 section 2): `{"hello":..,"events":[..],"last":ID}` in one answer.
//! Never an answer without `last`, never one that is cut short.

use super::{Busy, Dress, Hello, Id, Shape, Transport};
use crate::buffer::{Full, Writer};
use crate::hub::event::Event;

/// The row.
pub(super) const LONGPOLL: Transport = Transport {
    name: "longpoll",
    path: "/events/poll",
    accept: "application/json",
    content_type: "application/json; charset=utf-8",
    shape: Shape::Answer,
    open,
    hello,
    event,
    mark: last,
    busy,
};

fn open(_: u64, padding: usize, out: &mut Writer<'_>) -> Result<(), Full> {
    super::pad(padding, out)?;
    out.put(b"{")
}

fn hello(hello: &Hello<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(br#""hello":"#)?;
    hello.put(out)?;
    out.put(b",")
}

fn event(event: &Event<'_>, dress: Dress, first: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    let before: &[u8] = if first { br#""events":["# } else { b"," };
    out.put_all(&[before, dress.text(event)])
}

fn last(id: &Id<'_>, events: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    if !events {
        out.put(br#""events":["#)?;
    }
    out.put(br#"],"last":""#)?;
    id.put(out)?;
    out.put(b"\"}")
}

/// An answer is never busy: it is a 503 instead.
fn busy(_: &Busy, _: &mut Writer<'_>) -> Result<(), Full> {
    Ok(())
}

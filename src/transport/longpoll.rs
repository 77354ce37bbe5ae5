//! JSON long-polling (RFC 6202 section 2): `{"hello":..,"events":[..],"last":ID}` in one answer.
//! Never an answer without `last`, never one that is cut short.

use super::{Dress, Hello, Id, Open, Shape, Span, Transport, no_end};
use crate::buffer::{Full, Writer};
use crate::hub::event::Event;

/// The row.
pub(super) const ROW: Transport = Transport {
    name: "longpoll",
    path: "/events/poll",
    accept: "application/json",
    content_type: "application/json; charset=utf-8",
    shape: Shape::Answer,
    fields: "",
    callback: None,
    span: Span::ENDLESS,
    padding: 0,
    open,
    hello,
    event,
    mark: last,
    end: no_end,
};

fn open(open: &Open<'_>, _: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    super::pad(open.padding, out)?;
    out.put(b"{")
}

pub(super) fn hello(hello: &Hello<'_>, _: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(br#""hello":"#)?;
    hello.put(out)?;
    out.put(b",")
}

pub(super) fn event(
    event: &Event<'_>,
    dress: Dress<'_>,
    first: bool,
    out: &mut Writer<'_>,
) -> Result<(), Full> {
    let before: &[u8] = if first { br#""events":["# } else { b"," };
    out.put_all(&[before, dress.text(event)])
}

pub(super) fn last(
    id: &Id<'_>,
    _: Dress<'_>,
    events: bool,
    out: &mut Writer<'_>,
) -> Result<(), Full> {
    if !events {
        out.put(br#""events":["#)?;
    }
    out.put(br#"],"last":""#)?;
    id.put(out)?;
    out.put(b"\"}")
}

//! The NDJSON stream (XHR streaming, `curl -N`): one JSON object a line. Events stand bare; hello,
//! heartbeat, busy and more are wrapped by their name. An XMLHttpRequest reads it in readyState 3
//! and keeps all of it: it asks for a `limit`. Never an empty line.

use super::{Dress, End, Hello, Id, Open, Shape, Span, Transport, put_heartbeat, put_hello};
use crate::buffer::{Full, Writer};
use crate::hub::event::Event;

/// The row.
pub(super) const ROW: Transport = Transport {
    name: "stream",
    path: "/events/stream",
    accept: "application/x-ndjson",
    content_type: "application/x-ndjson; charset=utf-8",
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

/// White space before the first object: every NDJSON reader skips it.
fn open(open: &Open<'_>, _: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    if open.padding == 0 {
        return Ok(());
    }
    super::pad(open.padding, out)?;
    out.put(b"\n")
}

fn hello(hello: &Hello<'_>, _: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    put_hello(hello, out)?;
    out.put(b"\n")
}

fn event(event: &Event<'_>, dress: Dress<'_>, _: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put_all(&[dress.text(event), b"\n"])
}

fn heartbeat(id: &Id<'_>, _: Dress<'_>, _: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    put_heartbeat(id, out)?;
    out.put(b"\n")
}

fn end(end: &End<'_>, _: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    end.put(out)?;
    out.put(b"\n")
}

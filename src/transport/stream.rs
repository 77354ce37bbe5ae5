//! The NDJSON stream (XHR streaming, `curl -N`): one JSON object a line. Events stand bare; hello,
//! heartbeat and busy are wrapped by their name. Never an empty line.

use super::{Busy, Dress, Hello, Id, Shape, Transport};
use crate::buffer::{Full, Writer};
use crate::hub::event::Event;

/// The row.
pub(super) const STREAM: Transport = Transport {
    name: "stream",
    path: "/events/stream",
    accept: "application/x-ndjson",
    content_type: "application/x-ndjson; charset=utf-8",
    shape: Shape::Stream,
    open,
    hello,
    event,
    mark: heartbeat,
    busy,
};

/// White space before the first object: every NDJSON reader skips it.
fn open(_: u64, padding: usize, out: &mut Writer<'_>) -> Result<(), Full> {
    if padding == 0 {
        return Ok(());
    }
    super::pad(padding, out)?;
    out.put(b"\n")
}

fn hello(hello: &Hello<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(br#"{"hello":"#)?;
    hello.put(out)?;
    out.put(b"}\n")
}

fn event(event: &Event<'_>, dress: Dress, _: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put_all(&[dress.text(event), b"\n"])
}

fn heartbeat(id: &Id<'_>, _: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(br#"{"heartbeat":{"id":""#)?;
    id.put(out)?;
    out.put(b"\"}}\n")
}

fn busy(busy: &Busy, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(br#"{"busy":"#)?;
    busy.put(out)?;
    out.put(b"}\n")
}

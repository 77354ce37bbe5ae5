//! Server-Sent Events (WHATWG HTML section 9.2): unnamed events with `id:`, named `hello`,
//! `heartbeat` and `busy`. Never a multi-line `data`: an event's text has no line end.

use super::{Busy, Dress, Hello, Id, Shape, Transport};
use crate::buffer::{Full, Writer};
use crate::hub::event::Event;

/// The row.
pub(super) const SSE: Transport = Transport {
    name: "sse",
    path: "/events/sse",
    accept: "text/event-stream",
    content_type: "text/event-stream; charset=utf-8",
    shape: Shape::Stream,
    open,
    hello,
    event,
    mark: heartbeat,
    busy,
};

/// `retry:` stands in the block of the hello that follows: some clients take a block of its own for
/// an event.
fn open(retry_ms: u64, padding: usize, out: &mut Writer<'_>) -> Result<(), Full> {
    if padding > 0 {
        out.put(b":")?;
        super::pad(padding, out)?;
        out.put(b"\n")?;
    }
    out.put(b"retry: ")?;
    out.put_u64(retry_ms)?;
    out.put(b"\n")
}

fn hello(hello: &Hello<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(b"event: hello\nid: ")?;
    hello.id.put(out)?;
    out.put(b"\ndata: ")?;
    hello.put(out)?;
    out.put(b"\n\n")
}

fn event(event: &Event<'_>, dress: Dress, _: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(b"id: ")?;
    out.put(event.id())?;
    out.put(b"\ndata: ")?;
    out.put(dress.text(event))?;
    out.put(b"\n\n")
}

fn heartbeat(id: &Id<'_>, _: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(b"event: heartbeat\nid: ")?;
    id.put(out)?;
    out.put(b"\ndata: {\"id\":\"")?;
    id.put(out)?;
    out.put(b"\"}\n\n")
}

/// Without an `id:`, which would move the browser's cursor.
fn busy(busy: &Busy, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(b"retry: ")?;
    out.put_u64(busy.retry_ms)?;
    out.put(b"\nevent: busy\ndata: ")?;
    busy.put(out)?;
    out.put(b"\n\n")
}

//! Server-Sent Events (WHATWG HTML section 9.2): unnamed events with `id:`, named `hello`,
//! `heartbeat` and `busy`. Never a multi-line `data`: an event's text has no line end.

use super::{Dress, End, Hello, Id, Open, Shape, Span, Transport};
use crate::buffer::{Full, Writer};
use crate::hub::event::Event;

/// The row.
pub(super) const ROW: Transport = Transport {
    name: "sse",
    path: "/events/sse",
    accept: "text/event-stream",
    content_type: "text/event-stream; charset=utf-8",
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

/// `retry:` stands in the block of the hello that follows: some clients take a block of its own for
/// an event.
fn open(open: &Open<'_>, _: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    if open.padding > 0 {
        out.put(b":")?;
        super::pad(open.padding, out)?;
        out.put(b"\n")?;
    }
    out.put(b"retry: ")?;
    out.put_u64(open.retry_ms)?;
    out.put(b"\n")
}

fn hello(hello: &Hello<'_>, _: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(b"event: hello\nid: ")?;
    hello.id.put(out)?;
    out.put(b"\ndata: ")?;
    hello.put(out)?;
    out.put(b"\n\n")
}

fn event(event: &Event<'_>, dress: Dress<'_>, _: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(b"id: ")?;
    out.put(event.id())?;
    out.put(b"\ndata: ")?;
    out.put(dress.text(event))?;
    out.put(b"\n\n")
}

fn heartbeat(id: &Id<'_>, _: Dress<'_>, _: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(b"event: heartbeat\nid: ")?;
    id.put(out)?;
    out.put(b"\ndata: {\"id\":\"")?;
    id.put(out)?;
    out.put(b"\"}\n\n")
}

/// Busy is without an `id:`, which would move the browser's cursor.
fn end(end: &End<'_>, _: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    match end {
        End::Busy(busy) => {
            out.put(b"retry: ")?;
            out.put_u64(busy.retry_ms)?;
            out.put(b"\nevent: busy\ndata: ")?;
            busy.put(out)?;
        }
        End::More(id) => {
            out.put(b"event: more\nid: ")?;
            id.put(out)?;
            out.put(b"\ndata: {\"id\":\"")?;
            id.put(out)?;
            out.put(b"\"}")?;
        }
    }
    out.put(b"\n\n")
}

//! Long-polling as XML 1.0: the object of long-polling, each member an element of its name. A value
//! is its JSON text; no text of ours has a character that XML would have escaped.

use super::{Dress, Hello, Id, Open, Shape, Span, Transport, no_end};
use crate::buffer::{Full, Writer};
use crate::hub::event::{Event, State};

/// The row. It has no path of its own: it is how a poll is answered.
pub(super) const ROW: Transport = Transport {
    name: "xml",
    path: "",
    accept: "application/xml",
    content_type: "application/xml; charset=utf-8",
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

/// Its number.
pub(super) const NUMBER: u8 = 3;

/// Nothing may stand before the declaration, not even padding.
fn open(open: &Open<'_>, _: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(b"<?xml version=\"1.0\" encoding=\"utf-8\"?>\n")?;
    super::pad(open.padding, out)?;
    out.put(b"<answer>")
}

fn hello(hello: &Hello<'_>, _: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put_all(&[b"<hello><log>", hello.id.log.as_bytes(), b"</log><id>"])?;
    hello.id.put(out)?;
    out.put(b"</id><lost>")?;
    out.put_u64(hello.lost)?;
    let reset: &[u8] = if hello.reset { b"true" } else { b"false" };
    out.put_all(&[b"</lost><reset>", reset, b"</reset>"])?;
    if !hello.exact {
        out.put(b"<exact>false</exact>")?;
    }
    out.put(b"</hello>")
}

fn event(
    event: &Event<'_>,
    dress: Dress<'_>,
    first: bool,
    out: &mut Writer<'_>,
) -> Result<(), Full> {
    let before: &[u8] = if first { b"<events>" } else { b"" };
    out.put(before)?;
    out.put(b"<event>")?;
    if !dress.is_raw {
        let (clock, ms) = event.time();
        out.put_all(&[b"<id>", event.id(), b"</id><topic>", event.topic_name()])?;
        out.put_all(&[b"</topic><", clock, b">", ms, b"</", clock, b">"])?;
    }
    out.put_all(&[b"<value>", event.value(), b"</value>"])?;
    if !dress.is_raw && event.state() != State::Ok {
        out.put_all(&[b"<state>", event.state().word().as_bytes(), b"</state>"])?;
    }
    out.put(b"</event>")
}

fn last(id: &Id<'_>, _: Dress<'_>, events: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    let before: &[u8] = if events { b"</events>" } else { b"<events/>" };
    out.put_all(&[before, b"<last>"])?;
    id.put(out)?;
    out.put(b"</last></answer>")
}

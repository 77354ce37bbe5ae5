//! Script-tag long-polling (JSONP): `/**/callback(OBJECT);`, with the object of long-polling.
//!
//! Any page may ask so, from any origin; so it carries only topics of `[jsonp]`, and none that
//! whoever asks may not read. The comment in front keeps the name from being the first bytes of
//! something else (a Flash film). A script tag cannot read a refusal: it gets a call with `error`
//! and a 200, but for a name that is none, which is a 400.

use super::subscription::callback;
use super::{Callback, Dress, Hello, Id, Open, Shape, Span, Transport, longpoll, no_end};
use crate::buffer::{Full, Writer};
use crate::hub::event::Event;
use crate::limits::REASON_BYTES_MAX;
use crate::wire::request::{Head, Method};
use crate::wire::response::write_reason;
use crate::wire::text::{Query, percent_decode};
use crate::wire::{Refusal, json};

/// The row.
pub(super) const ROW: Transport = Transport {
    name: "jsonp",
    path: "/events/jsonp",
    accept: "",
    content_type: CONTENT_TYPE,
    shape: Shape::Answer,
    fields: "",
    callback: Some("callback"),
    span: Span::ENDLESS,
    padding: 0,
    open,
    hello,
    event,
    mark: last,
    end: no_end,
};

/// What it answers with.
pub const CONTENT_TYPE: &str = "application/javascript; charset=utf-8";

/// Its number.
pub const NUMBER: u8 = 4;

fn open(open: &Open<'_>, dress: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    super::pad(open.padding, out)?;
    out.put_all(&[b"/**/", dress.callback.as_bytes(), b"({"])
}

fn hello(hello: &Hello<'_>, dress: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    longpoll::hello(hello, dress, out)
}

fn event(
    event: &Event<'_>,
    dress: Dress<'_>,
    first: bool,
    out: &mut Writer<'_>,
) -> Result<(), Full> {
    longpoll::event(event, dress, first, out)
}

fn last(id: &Id<'_>, dress: Dress<'_>, events: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    longpoll::last(id, dress, events, out)?;
    out.put(b");")
}

/// Writes a call that says what a request is refused for.
pub fn error(
    callback: &str,
    refusal: &Refusal,
    quote: &[u8],
    out: &mut Writer<'_>,
) -> Result<(), Full> {
    let mut bytes = [0; REASON_BYTES_MAX];
    let mut reason = Writer::new(&mut bytes);
    write_reason(refusal, quote, &mut reason)?;
    let reason = core::str::from_utf8(reason.written()).expect("reasons are ASCII");
    out.put_all(&[b"/**/", callback.as_bytes(), b"({\"error\":{\"status\":"])?;
    out.put_u64(refusal.status.into())?;
    out.put(b",\"reason\":")?;
    json::string(reason.trim_end(), out)?;
    out.put(b"}});")
}

/// The function that is to be told what a script tag's request is refused for: that of a GET for
/// this transport, whose name is one.
pub fn told(bytes: &[u8]) -> Option<Callback> {
    let head = Head::parse(bytes).ok()?;
    if head.method != Method::Get || head.target_path != ROW.path.as_bytes() {
        return None;
    }
    let mut name = callback(ROW.callback?);
    for (key, value) in Query::new(head.query) {
        let mut decoded = [0; 1024];
        if key == b"callback" {
            name = callback(percent_decode(value, false, &mut decoded)?);
        }
    }
    name.ok()
}

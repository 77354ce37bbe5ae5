//! `GET /`: the dashboard, and `/?plain`: the same values as a table for browsers without
//! JavaScript. Caching by RFC 9110 section 13; it never sends one coding's tag with the other.

use super::{Context, Item, Listing, Reply, too_small};
use crate::buffer::{Full, Writer};
use crate::limits::EVENT_BYTES_MAX;
use crate::wire::{Refusal, json};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

mod dashboard {
    include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));
    pub(super) const PAGE_GZIP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/index.html.gz"));
}

const HTML: &str = "text/html; charset=utf-8";
/// The page may be kept, and is asked for again each time: 304 when it is the same.
const CACHE: &str = "Cache-Control: no-cache\r\nVary: Accept-Encoding\r\nETag: ";
const CACHE_GZIP: &str =
    "Content-Encoding: gzip\r\nCache-Control: no-cache\r\nVary: Accept-Encoding\r\nETag: ";

fn tag(gzip: bool) -> &'static str {
    if gzip {
        dashboard::ETAG_GZIP
    } else {
        dashboard::ETAG
    }
}

/// Whether `If-None-Match` names the page in this coding (weak comparison).
pub fn is_unchanged(if_none_match: &[u8], gzip: bool) -> bool {
    if_none_match
        .split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .any(|text| {
            text == b"*" || text.strip_prefix(b"W/").unwrap_or(text) == tag(gzip).as_bytes()
        })
}

/// Writes the dashboard.
pub fn page(gzip: bool, unchanged: bool, out: &mut Writer<'_>) -> Result<Reply, Refusal> {
    let fields = [if gzip { CACHE_GZIP } else { CACHE }, tag(gzip), "\r\n", ""];
    if unchanged {
        return Ok(Reply {
            status: 304,
            content_type: "",
            fields,
            rest: None,
        });
    }
    let written = match gzip {
        true => out.put(dashboard::PAGE_GZIP),
        false => out.put_with(inflate),
    };
    written.map_err(too_small)?;
    Ok(Reply {
        status: 200,
        content_type: HTML,
        fields,
        rest: None,
    })
}

/// The page as it is: few ask for that, so the binary holds it once, in gzip (RFC 1952).
fn inflate(out: &mut [u8]) -> Result<usize, Full> {
    /// What src/build.rs makes has no optional field in front, and checksum and length behind.
    const HEADER_BYTES: usize = 10;
    const TRAILER_BYTES: usize = 8;
    let deflated = &dashboard::PAGE_GZIP[HEADER_BYTES..dashboard::PAGE_GZIP.len() - TRAILER_BYTES];
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let mut state = DecompressorOxide::new();
    match decompress(&mut state, deflated, out, 0, flags) {
        (TINFLStatus::Done, _, bytes) => Ok(bytes),
        _ => Err(Full),
    }
}

/// Writes the table.
pub fn plain(context: &Context<'_>, out: &mut Writer<'_>) -> Reply {
    let rest = Listing::new(plain_item).write(context, out);
    Reply {
        rest,
        ..Reply::fresh(HTML)
    }
}

fn plain_item(
    context: &Context<'_>,
    item: u32,
    _: bool,
    out: &mut Writer<'_>,
) -> Result<Item, Full> {
    let hub = &*context.hub;
    let slots = hub.topics.capacity() as u32;
    if item == 0 {
        out.put_all(&[
            b"<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5>\
              <meta name=viewport content=\"width=device-width\"><link rel=icon href=\"data:,\"><title>",
        ])?;
        put_html(context.board, out)?;
        out.put_all(&[
            b"</title><style>",
            include_bytes!("../dashboard/plain.css"),
            b"</style><h1>",
        ])?;
        put_html(context.board, out)?;
        out.put(
            b"</h1><p>This table loads itself again every 5 seconds. With JavaScript, \
              <a href=\"/\">the live page</a> is better.</p><table><thead><tr><th>Topic<th>Value\
              <th>Unit<th>State<th>Age</tr></thead><tbody>\n",
        )?;
        return Ok(Item::Other);
    }
    if item == slots + 1 {
        return out.put(b"</tbody></table></html>\n").map(|()| Item::Other);
    }
    if item > slots {
        return Ok(Item::End);
    }
    let slot = (item - 1) as u16;
    let Some((topic, event)) = hub.listed(slot) else {
        return Ok(Item::Other);
    };
    out.put_all(&[b"<tr><td>", topic.name.as_bytes(), b"<td>"])?;
    // Everything but a string is harmless as it stands: its text has no `<`, `>` or `&`.
    match json::unescape(event.value(), &mut [0; EVENT_BYTES_MAX]) {
        Some(text) => put_html(text, out)?,
        None => out.put(event.value())?,
    }
    out.put(b"<td>")?;
    put_html(&topic.unit, out)?;
    out.put_all(&[b"<td>", event.state().word().as_bytes(), b"<td>"])?;
    out.put_u64(context.now.ms.saturating_sub(topic.updated_ms) / 1000)?;
    out.put(b" s</tr>\n").map(|()| Item::Other)
}

fn put_html(text: &str, out: &mut Writer<'_>) -> Result<(), Full> {
    text.chars().try_for_each(|c| match c {
        '<' => out.put(b"&lt;"),
        '>' => out.put(b"&gt;"),
        '&' => out.put(b"&amp;"),
        c => out.put(c.encode_utf8(&mut [0; 4]).as_bytes()),
    })
}

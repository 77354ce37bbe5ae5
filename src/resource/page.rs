//! `GET /`: the dashboard, and `/?plain`: the same values as a table for browsers without
//! JavaScript. And `/encke.js`, the library for pages of others, as a module `/encke.mjs`, what it
//! declares for TypeScript, `/encke.d.ts`, and faces for older code, `/encke-old.js`.
//!
//! - Caching by RFC 9110 sections 8.8.3 and 13, codings by section 12.5.3. There is one entity tag
//!   for each coding, and one is never sent with the other. gzip goes to whoever asks for it,
//!   unless the page as it is is wanted more. Where both are refused the field is disregarded
//!   (section 12.4.1) and the page goes as it is: a 406 would be a page that does not open. Nothing
//!   else has a coding: values are small and new each time, and streams would be held back.
//! - A 304 has what section 15.4.5 asks for, and the policy: `push_host` may have changed where the
//!   page has not, and a browser takes the fields of a 304 for those that it kept.
//! - The policy (src/build.rs) allows the page's own styles and script by hash, and to connect to
//!   this board and its `push_host`. Nobody may frame these pages. What is made for frames needs a
//!   policy of its own: `frame-ancestors` stands in no other answer.

use super::{Context, Item, Listing, Reply, too_small};
use crate::buffer::{Full, Writer};
use crate::limits::EVENT_BYTES_MAX;
use crate::wire::request::Head;
use crate::wire::response::NO_STORE;
use crate::wire::text::weight;
use crate::wire::{Refusal, json};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

mod dashboard {
    use super::Document;
    include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));
    pub(super) const PLAIN_CSS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/plain.css"));
}

/// What src/build.rs has compressed.
#[derive(Debug)]
struct Document {
    /// Entity tag of the document as it is.
    etag: &'static str,
    /// Entity tag of the document in gzip.
    etag_gzip: &'static str,
    gzip: &'static [u8],
}

/// A document with a path of its own.
#[derive(Debug)]
pub struct Asset {
    document: Document,
    content_type: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The dashboard.
pub(super) static PAGE: Asset = Asset {
    document: dashboard::PAGE,
    content_type: HTML,
};
/// The library.
pub(super) static LIBRARY: Asset = Asset {
    document: dashboard::LIBRARY,
    content_type: SCRIPT,
};
/// Faces of the library that older code knows.
pub(super) static OLD: Asset = Asset {
    document: dashboard::OLD,
    content_type: SCRIPT,
};
/// The library as a module.
pub(super) static MODULE: Asset = Asset {
    document: dashboard::MODULE,
    content_type: SCRIPT,
};
/// The library's declarations.
pub(super) static TYPES: Asset = Asset {
    document: dashboard::TYPES,
    content_type: "text/plain; charset=utf-8",
};
const CODING: &str = "Content-Encoding: gzip\r\n";
/// The page may be kept, and is asked for again each time: 304 when it is the same.
const CACHE_GZIP: &str =
    "Content-Encoding: gzip\r\nCache-Control: no-cache\r\nVary: Accept-Encoding\r\nETag: ";
const CACHE: &str = CACHE_GZIP.split_at(CODING.len()).1;

impl Asset {
    /// The entity tag in this coding.
    pub(super) fn tag(&self, gzip: bool) -> &'static str {
        match gzip {
            true => self.document.etag_gzip,
            false => self.document.etag,
        }
    }
}

/// Whether the page is sent in gzip: that is allowed, and not less wanted than the page as it is.
pub(super) fn wants_gzip(head: &Head<'_>) -> bool {
    let gzip = wants(head, "gzip");
    gzip > 0 && gzip >= wants(head, "identity")
}

/// How much a coding is wanted, in thousandths.
#[inline(never)]
fn wants(head: &Head<'_>, coding: &str) -> u16 {
    let lists = head.fields("accept-encoding");
    let best = lists.filter_map(|list| weight(list, coding)).max();
    best.map_or(0, |(_, thousandths)| thousandths)
}

/// Writes a document.
pub(super) fn write(
    asset: &Asset,
    gzip: bool,
    unchanged: bool,
    context: &Context<'_>,
    out: &mut Writer<'_>,
) -> Result<Reply, Refusal> {
    let cache = if gzip && !unchanged {
        CACHE_GZIP
    } else {
        CACHE
    };
    // Only a page has a policy.
    let (policy, push_host) = match asset.content_type == HTML {
        true => (dashboard::POLICY, context.push_host),
        false => ("", ""),
    };
    let reply = Reply {
        fields: [cache, asset.tag(gzip), policy, push_host, "\r\n"],
        ..Reply::fresh(asset.content_type)
    };
    if unchanged {
        return Ok(reply.unchanged());
    }
    let written = match gzip {
        true => out.put(asset.document.gzip),
        false => out.put_with(|out| inflate(asset.document.gzip, out)),
    };
    written.map_err(too_small).map(|()| reply)
}

/// A document as it is: few ask for that, so the binary holds it once, in gzip (RFC 1952).
fn inflate(gzip: &[u8], out: &mut [u8]) -> Result<usize, Full> {
    /// What src/build.rs makes has no optional field in front, and checksum and length behind.
    const HEADER_BYTES: usize = 10;
    const TRAILER_BYTES: usize = 8;
    let deflated = &gzip[HEADER_BYTES..gzip.len() - TRAILER_BYTES];
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let mut state = DecompressorOxide::new();
    match decompress(&mut state, deflated, out, 0, flags) {
        (TINFLStatus::Done, _, bytes) => Ok(bytes),
        _ => Err(Full),
    }
}

/// Writes the table.
pub(super) fn plain(context: &Context<'_>, out: &mut Writer<'_>) -> Reply {
    let rest = Listing::new(plain_item).write(context, out);
    let policy = dashboard::POLICY.split_at("\r\n".len()).1;
    Reply {
        rest,
        fields: [NO_STORE, policy, "\r\n", "", ""],
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
        out.put_all(&[b"</title><style>", dashboard::PLAIN_CSS, b"</style><h1>"])?;
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
    let Some((topic, event)) = context.listed(slot) else {
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

/// Puts text where markup would be read: what is not ASCII stays as it is.
#[inline(never)]
fn put_html(text: &str, out: &mut Writer<'_>) -> Result<(), Full> {
    text.as_bytes().iter().try_for_each(|byte| {
        let written: &[u8] = match byte {
            b'<' => b"&lt;",
            b'>' => b"&gt;",
            b'&' => b"&amp;",
            byte => core::slice::from_ref(byte),
        };
        out.put(written)
    })
}

//! The hidden iframe ("forever frame"): an endless HTML document whose scripts call the page.
//!
//! `callback=parent.NAME` calls a function of the page, which must be of our origin, or share a
//! `domain` with us in old browsers. `origin=ORIGIN` posts to a page of another origin that
//! `[server] cors` names. A frame that breaks tells nobody, in any browser: the page has to notice
//! that heartbeats stay away. One that is long enough says so and loads itself anew, from where it
//! is.
//!
//! A page of a stranger could name any function of ours as the callback. So the first script stops
//! everything unless the page may be looked into, which only our own may.

use super::{Callback, Dress, End, Hello, Id, Open, Shape, Span, Transport};
use super::{put_heartbeat, put_hello};
use crate::buffer::{Full, Writer};
use crate::hub::event::Event;
use crate::wire::Refusal;

use super::subscription::Domain;

/// The row.
pub(super) const ROW: Transport = Transport {
    name: "iframe",
    path: "/events/iframe",
    accept: "",
    content_type: "text/html; charset=utf-8",
    shape: Shape::Stream,
    // Pages of other ports and sub-domains are to see it, so nothing is said of who may frame it.
    fields: "Content-Security-Policy: default-src 'none'; script-src 'unsafe-inline'; \
             base-uri 'none'; form-action 'none'\r\nOrigin-Agent-Cluster: ?0\r\n",
    callback: Some(""),
    span: Span {
        bytes: 1 << 20,
        ms: 300_000,
    },
    padding: 2048,
    open,
    hello,
    event,
    mark: heartbeat,
    end,
};

/// What removes the script that calls it, where browsers know which that is: the document would
/// grow for ever.
const REMOVE: &[u8] =
    b"function r(){var s=document.currentScript;s&&s.parentNode.removeChild(s)}\n";
/// Unless the page is another window, and one we may look into, nothing more is done here.
const ONLY_OURS: &[u8] = b"try{if(parent==self||!parent.document)throw 0}catch(e){\
    window.stop?stop():document.execCommand('Stop')}\n";
/// Loads the frame anew from `ID`.
const AGAIN: &[u8] = b"function a(i){location.replace('?'+location.search.slice(1).replace(\
    /(^|&)(since|last_event_id|lastEventId)=[^&]*/g,'')+'&since='+i)}\n";

fn open(open: &Open<'_>, dress: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(b"<!DOCTYPE html><html><head><meta charset=\"utf-8\"><title>events</title><script>\n")?;
    if !open.domain.is_empty() {
        out.put_all(&[b"document.domain='", open.domain.as_bytes(), b"';\n"])?;
    }
    if !is_origin(dress.callback) {
        out.put(ONLY_OURS)?;
    }
    out.put_all(&[REMOVE, AGAIN, b"</script></head><body>\n"])?;
    if open.padding > 0 {
        out.put(b"<!--")?;
        super::pad(open.padding, out)?;
        out.put(b"-->\n")?;
    }
    Ok(())
}

fn is_origin(callback: &str) -> bool {
    callback.contains(':')
}

/// Writes a script that hands on what `write` writes.
fn script<'w>(
    dress: Dress<'_>,
    out: &mut Writer<'w>,
    write: impl FnOnce(&mut Writer<'w>) -> Result<(), Full>,
) -> Result<(), Full> {
    let is_posted = is_origin(dress.callback);
    match is_posted {
        true => out.put(b"<script>parent.postMessage(")?,
        false => out.put_all(&[b"<script>", dress.callback.as_bytes(), b"("])?,
    }
    write(out)?;
    if is_posted {
        out.put_all(&[b",\"", dress.callback.as_bytes(), b"\""])?;
    }
    out.put(b");r()</script>\n")
}

fn hello(hello: &Hello<'_>, dress: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    script(dress, out, |out| put_hello(hello, out))
}

fn event(event: &Event<'_>, dress: Dress<'_>, _: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    script(dress, out, |out| out.put(dress.text(event)))
}

fn heartbeat(id: &Id<'_>, dress: Dress<'_>, _: bool, out: &mut Writer<'_>) -> Result<(), Full> {
    script(dress, out, |out| put_heartbeat(id, out))
}

fn end(end: &End<'_>, dress: Dress<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    script(dress, out, |out| end.put(out))?;
    if let End::More(id) = end {
        out.put(b"<script>a(\"")?;
        id.put(out)?;
        out.put(b"\")</script>\n")?;
    }
    out.put(b"</body></html>\n")
}

/// The origin of a page that messages are posted to.
///
/// # Errors
/// 400.
pub(super) fn origin(text: &str) -> Result<Callback, Refusal> {
    let host = text
        .strip_prefix("http://")
        .or(text.strip_prefix("https://"));
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let is_origin = host.is_some_and(|host| !host.is_empty() && host.bytes().all(is_host));
    let origin = text.try_into().ok().filter(|_| is_origin);
    origin.ok_or(Refusal::new(
        400,
        "origin is that of the page: http://NAME or https://NAME, with its port if it has one",
    ))
}

/// The domain that page and frame have in common.
///
/// # Errors
/// 400.
pub(super) fn domain(text: &str) -> Result<Domain, Refusal> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    let domain = text.try_into().ok();
    let domain = domain.filter(|_| text.contains('.') && text.bytes().all(is_part));
    domain.ok_or(Refusal::new(
        400,
        "domain is the end of this board's name that the page has in common with it",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_and_domains() {
        for good in ["http://a", "https://a.b:8080", "http://[::1]:80"] {
            assert!(origin(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "http://",
            "ftp://a",
            "http://a/",
            "http://a\"",
            "http://a<b",
            "null",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
        assert!(domain("example.org").is_ok());
        for bad in ["", "org", "a.b'", "a.b/"] {
            assert!(domain(bad).is_err(), "{bad}");
        }
    }
}

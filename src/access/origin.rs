//! Which names this server answers to, and which pages may use it (RFC 6454, the Fetch standard's
//! CORS protocol, section 3.2).
//!
//! Host against DNS rebinding: a page of somebody else's whose name suddenly means this board is
//! still called by that name. Origin against cross-site writes. What may be read by pages of other
//! origins is said to their browsers in response fields; nothing is refused for that.

use core::net::IpAddr;

use super::Policy;
use crate::wire::request::{Head, Method, Version, host_and_port};
use crate::wire::text::has_token;
use crate::wire::{Kind, Quote, Refusal};

/// An origin besides our own, and what its pages may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Friend {
    /// `SCHEME://HOST[:PORT]`, `null`, or `*` for all that have no row of their own.
    origin: String,
    reads: bool,
    writes: bool,
    /// What its browser is told, as whole lines.
    fields: String,
}

impl Friend {
    /// The rows for `[server]` `origins` and `cors`.
    pub fn all(origins: &[String], cors: &[String]) -> Vec<Friend> {
        let mut friends: Vec<Friend> = Vec::new();
        for origin in cors.iter().chain(origins) {
            if friends.iter().all(|friend| friend.origin != *origin) {
                friends.push(Friend {
                    origin: origin.clone(),
                    reads: cors.contains(origin),
                    writes: origins.contains(origin),
                    fields: fields(origin),
                });
            }
        }
        // Its turn comes when no other is meant.
        if let Some(at) = friends.iter().position(|friend| friend.origin == "*") {
            let everybody = friends.remove(at);
            friends.push(everybody);
        }
        friends
    }
}

impl Friend {
    /// Whether its pages may read.
    pub(super) fn may_read(&self) -> bool {
        self.reads
    }

    /// Whether it is everybody who has no row.
    pub(super) fn is_everybody(&self) -> bool {
        self.origin == "*"
    }

    /// Its host.
    pub(super) fn host(&self) -> &[u8] {
        let authority = self.origin.split_once("://").map_or("", |(_, rest)| rest);
        host_and_port(authority.as_bytes()).map_or(&b""[..], |(host, _)| host)
    }
}

/// Never `*` together with credentials: a page could read with rights that it was not given.
fn fields(origin: &str) -> String {
    let credentials = match origin {
        "*" => "",
        _ => "Access-Control-Allow-Credentials: true\r\n",
    };
    format!(
        "Access-Control-Allow-Origin: {origin}\r\n{credentials}\
         Access-Control-Expose-Headers: ETag, Retry-After\r\nVary: Origin\r\n"
    )
}

/// What a preflight is told besides, for reading and for writing.
const PREFLIGHT: [&str; 2] = [
    "Access-Control-Allow-Methods: GET, HEAD\r\n\
     Access-Control-Allow-Headers: Authorization, Content-Type, Last-Event-ID, If-Match, If-None-Match\r\n\
     Access-Control-Max-Age: 600\r\n",
    "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, DELETE\r\n\
     Access-Control-Allow-Headers: Authorization, Content-Type, Last-Event-ID, If-Match, If-None-Match\r\n\
     Access-Control-Max-Age: 600\r\n",
];

/// What a friend's request is answered with; a number, because heads are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cors(u8);

impl Cors {
    /// No page of another origin asks, or none that may know.
    pub const NONE: Cors = Cors(0);

    /// The one with this number.
    pub fn of(number: u8) -> Cors {
        Cors(number)
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }
}

/// The address that a Host is.
pub(super) fn ip(host: &[u8]) -> Option<IpAddr> {
    core::str::from_utf8(host).ok()?.parse().ok()
}

pub(super) fn is_name(host: &[u8], name: &str) -> bool {
    host.strip_suffix(b".")
        .unwrap_or(host)
        .eq_ignore_ascii_case(name.as_bytes())
}

/// Whether an origin is that of the pages that we send, whatever carries them.
pub(super) fn is_own(origin: &[u8], head: &Head<'_>) -> bool {
    let rest = origin
        .strip_prefix(b"http://")
        .or(origin.strip_prefix(b"https://"));
    // In HTTP/1.0 there may be no Host: then nobody is known to be of it.
    rest.is_some_and(|authority| !head.host.is_empty() && authority.eq_ignore_ascii_case(head.host))
}

const NOT_MINE: Refusal = Refusal::new(
    421,
    "this Host is not mine: use the board's IP address, localhost or its own name, or write hosts = [\"{}\"] in [server]",
)
.quote(Quote::Host)
.kind(Kind::Host);

const FOREIGN: Refusal = Refusal::new(
    403,
    "a page of another origin may not write here: write origins = [\"{}\"] in [server] if it may",
)
.quote(Quote::Origin)
.kind(Kind::Origin);

const CROSS_SITE: Refusal = Refusal::new(
    403,
    "a page of another site may not write here: add its origin to origins in [server] if it may",
)
.kind(Kind::Origin);

impl Policy {
    /// # Errors
    /// 421 for a Host that is not ours.
    pub(super) fn check_host(&self, head: &Head<'_>) -> Result<(), Refusal> {
        // Only HTTP/1.0 may come without one; it then counts as the address it was sent to.
        if head.host.is_empty() && head.version == Version::Http10 {
            return Ok(());
        }
        let is_ours = host_and_port(head.host).is_some_and(|(host, _)| {
            let mut names = self.names.iter();
            ip(host).is_some()
                || is_name(host, "localhost")
                || names.any(|name| is_name(host, name) || is_name(head.host, name))
        });
        is_ours.then_some(()).ok_or(NOT_MINE)
    }

    /// # Errors
    /// 403 for what a page of somebody else's would change, or hold a conversation with.
    pub(super) fn check_origin(&self, head: &Head<'_>) -> Result<(), Refusal> {
        let upgrades = |list| has_token(list, "websocket");
        if !head.method.is_write() && !head.fields("upgrade").any(upgrades) {
            return Ok(());
        }
        let is_friend = |origin: &[u8]| self.friend(origin).is_some_and(|friend| friend.writes);
        let mut known = false;
        for origin in head.fields("origin") {
            known = is_friend(origin);
            if !known && !is_own(origin, head) {
                return Err(FOREIGN);
            }
        }
        let cross_site = head.field("sec-fetch-site") == Some(b"cross-site");
        match cross_site && !known {
            true => Err(CROSS_SITE),
            false => Ok(()),
        }
    }

    pub(super) fn friend(&self, origin: &[u8]) -> Option<&Friend> {
        self.friends.iter().find(|friend| {
            friend.origin == "*" || friend.origin.as_bytes().eq_ignore_ascii_case(origin)
        })
    }

    /// What the browser of whoever asks is to be told, and whether it asks ahead of a request, and
    /// may send it.
    pub fn cors(&self, head: &Head<'_>) -> Cors {
        let Some(origin) = head.field("origin") else {
            return Cors::NONE;
        };
        let wanted = head.field("access-control-request-method");
        let writes = match (head.method, wanted) {
            (Method::Options, Some(method)) => !matches!(method, b"GET" | b"HEAD"),
            (method, _) => method.is_write(),
        };
        let at = self.friends.iter().position(|friend| {
            let is_it =
                friend.origin == "*" || friend.origin.as_bytes().eq_ignore_ascii_case(origin);
            is_it && (friend.reads || writes && friend.writes)
        });
        at.map_or(Cors::NONE, |at| Cors(at as u8 + 1))
    }

    /// What a browser is told, as whole lines; empty for nothing.
    pub fn cors_fields(&self, Cors(number): Cors) -> &str {
        let friend = usize::from(number)
            .checked_sub(1)
            .and_then(|at| self.friends.get(at));
        friend.map_or("", |friend| &friend.fields)
    }

    /// What a preflight is told besides.
    pub fn preflight_fields(&self, Cors(number): Cors) -> &'static str {
        let friend = usize::from(number)
            .checked_sub(1)
            .and_then(|at| self.friends.get(at));
        friend.map_or("", |friend| PREFLIGHT[usize::from(friend.writes)])
    }
}

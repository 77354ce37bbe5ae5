//! What may be told to pages of other origins in ways that browsers do not ask us about: posted by
//! a frame of ours, or called by a script of ours. There nobody but us keeps strangers out.

use super::{Policy, Rights, origin};
use crate::transport::subscription::Domain;
use crate::wire::request::{Head, host_and_port};
use crate::wire::{Kind, Refusal};

const STRANGE: Refusal = Refusal::new(
    403,
    "frames post only to pages of this board, and to those of origins in cors: add the page's origin to cors in [server] if it may read here",
)
.kind(Kind::Origin);

const NOTHING_IN_COMMON: Refusal = Refusal::new(
    403,
    "domain is the end of this board's name and of the page's, whose origin is in cors of [server]: add it there if it may read here; it is known by Referer, which the page must not suppress",
)
.kind(Kind::Origin);

const NO_SCRIPTS: Refusal = Refusal::new(
    403,
    "no topic is open to script tags of other pages: write topics = [\"...\"] in [jsonp]",
)
.kind(Kind::Read);

impl Policy {
    /// Whether a frame of ours may post to this origin, if it is one, and share this domain.
    ///
    /// # Errors
    /// 403.
    pub fn check_frame(
        &self,
        head: &Head<'_>,
        rights: Rights,
        callback: &str,
        domain: &Domain,
    ) -> Result<(), Refusal> {
        let origin = callback.as_bytes();
        if callback.contains(':') && !origin::is_own(origin, head) {
            let friend = self.friend(origin).filter(|friend| friend.may_read());
            // Whoever shows a token shares it with nobody who is not named.
            let has_token = rights.reader.as_token().is_some();
            if friend.is_none_or(|friend| has_token && friend.is_everybody()) {
                return Err(STRANGE);
            }
        }
        let is_shared = domain.is_empty() || self.shares(head, domain);
        is_shared.then_some(()).ok_or(NOTHING_IN_COMMON)
    }

    /// Whether the page that frames us is of a name that has this domain in common with ours, and
    /// may read. All neighbours of that page can set the same domain: so it counts who asks.
    fn shares(&self, head: &Head<'_>, domain: &Domain) -> bool {
        let host = host_and_port(head.host).map_or(&b""[..], |(host, _)| host);
        let page = page_origin(head.field("referer").unwrap_or_default());
        let friend = self.friend(page).filter(|friend| friend.may_read());
        let is_near = |friend: &super::Friend| is_below(friend.host(), domain);
        is_below(host, domain) && (origin::is_own(page, head) || friend.is_some_and(is_near))
    }

    /// Whether script tags may ask for anything at all.
    ///
    /// # Errors
    /// 403.
    pub fn check_scripts(&self) -> Result<(), Refusal> {
        (!self.jsonp.is_empty()).then_some(()).ok_or(NO_SCRIPTS)
    }
}

/// The origin of a page with this address.
fn page_origin(address: &[u8]) -> &[u8] {
    let mut slashes = address.iter().enumerate().filter(|(_, b)| **b == b'/');
    slashes.nth(2).map_or(address, |(end, _)| &address[..end])
}

/// Whether a host is this domain, or below it.
fn is_below(host: &[u8], domain: &str) -> bool {
    let at = host.len().checked_sub(domain.len());
    at.is_some_and(|at| {
        let is_end = host[at..].eq_ignore_ascii_case(domain.as_bytes());
        is_end && (at == 0 || host[at - 1] == b'.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Friend, Reader};

    #[test]
    fn frames_post_to_friends_only() {
        let cors = ["https://pages.example.org:8443".to_owned(), "*".to_owned()];
        let named = Policy {
            friends: Friend::all(&[], &cors[..1]),
            ..Policy::default()
        };
        let everybody = Policy {
            friends: Friend::all(&[], &cors),
            ..Policy::default()
        };
        let text = b"GET / HTTP/1.1\r\nHost: push.example.org:8080\r\n\r\n";
        let head = Head::parse(text).unwrap();
        let rights = |reader| Rights {
            reader,
            is_local: false,
        };
        let (anybody, token) = (rights(Reader::ANYBODY), rights(Reader::token(0)));
        for (policy, rights, callback, may) in [
            (&named, anybody, "parent.f", true),
            (&named, anybody, "http://push.example.org:8080", true),
            (&named, anybody, "http://push.example.org", false),
            (&named, token, "https://pages.example.org:8443", true),
            (&named, anybody, "https://pages.example.org", false),
            (&everybody, anybody, "https://anywhere.example", true),
            (&everybody, token, "https://anywhere.example", false),
        ] {
            let checked = policy.check_frame(&head, rights, callback, &Domain::new());
            assert_eq!(checked.is_ok(), may, "{callback}");
        }
    }

    #[test]
    fn a_domain_is_shared_with_friends_only() {
        let cors = ["http://pages.example.org".to_owned(), "*".to_owned()];
        let policy = Policy {
            friends: Friend::all(&[], &cors),
            ..Policy::default()
        };
        let rights = Rights {
            reader: Reader::ANYBODY,
            is_local: false,
        };
        for (referer, domain, may) in [
            ("http://pages.example.org/", "example.org", true),
            ("http://pages.example.org/a/b?c", "example.org", true),
            ("http://pages.example.org/", "xample.org", false),
            ("http://pages.example.org/", "example.com", false),
            ("http://pages.example.org/", "pages.example.org", false),
            ("http://push.example.org:8080/events", "example.org", true),
            ("http://push.example.org/", "example.org", false),
            ("http://other.example.org/", "example.org", false),
            ("http://pages.example.org.evil/", "example.org", false),
            ("http://pages.example.org@evil/", "example.org", false),
            ("https://pages.example.org/", "example.org", false),
            ("http:", "example.org", false),
            ("", "example.org", false),
        ] {
            let text = format!(
                "GET / HTTP/1.1\r\nHost: push.example.org:8080\r\nReferer: {referer}\r\n\r\n"
            );
            let head = Head::parse(text.as_bytes()).unwrap();
            let domain = Domain::try_from(domain).unwrap();
            let checked = policy.check_frame(&head, rights, "parent.f", &domain);
            assert_eq!(checked.is_ok(), may, "{referer} {domain}");
        }
    }
}

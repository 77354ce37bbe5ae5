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
    "domain is the end of this board's name, and of that of an origin in cors of [server]: add the page's origin there if it may read here",
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
        let is_named = |friend: &&super::Friend| friend.may_read() && !friend.is_everybody();
        let origin = callback.as_bytes();
        if callback.contains(':') && !origin::is_own(origin, head) {
            let friend = self.friend(origin).filter(|friend| friend.may_read());
            // Whoever shows a token shares it with nobody who is not named.
            let has_token = rights.reader.as_token().is_some();
            if friend.is_none_or(|friend| has_token && friend.is_everybody()) {
                return Err(STRANGE);
            }
        }
        let host = host_and_port(head.host).map_or(&b""[..], |(host, _)| host);
        let mut friends = self.friends.iter().filter(is_named);
        let is_shared = domain.is_empty()
            || is_below(host, domain) && friends.any(|friend| is_below(friend.host(), domain));
        is_shared.then_some(()).ok_or(NOTHING_IN_COMMON)
    }

    /// Whether script tags may ask for anything at all.
    ///
    /// # Errors
    /// 403.
    pub fn check_scripts(&self) -> Result<(), Refusal> {
        (!self.jsonp.is_empty()).then_some(()).ok_or(NO_SCRIPTS)
    }
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
        for (policy, rights, callback, domain, may) in [
            (&named, anybody, "parent.f", "", true),
            (&named, anybody, "http://push.example.org:8080", "", true),
            (&named, anybody, "http://push.example.org", "", false),
            (&named, token, "https://pages.example.org:8443", "", true),
            (&named, anybody, "https://pages.example.org", "", false),
            (&everybody, anybody, "https://anywhere.example", "", true),
            (&everybody, token, "https://anywhere.example", "", false),
            (&named, anybody, "parent.f", "example.org", true),
            (&named, anybody, "parent.f", "xample.org", false),
            (&named, anybody, "parent.f", "example.com", false),
        ] {
            let domain = Domain::try_from(domain).unwrap();
            let checked = policy.check_frame(&head, rights, callback, &domain);
            assert_eq!(checked.is_ok(), may, "{callback} {domain}");
        }
    }
}

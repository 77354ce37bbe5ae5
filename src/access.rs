//! Who may do what: decisions from the peer's address and the request's head, before routing.
//!
//! Host against DNS rebinding, Origin against cross-site writes, and writing for local peers only
//! (DESIGN.md 3, "Resources"). Pure: it never asks the system for a name or an address.

use core::net::IpAddr;

use crate::wire::Refusal;
use crate::wire::request::{Head, Version, host_and_port};

/// The other end of a connection, as far as rights go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Whether it speaks through TLS.
    pub secure: bool,
}

impl Peer {
    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        self.address.to_canonical().is_loopback()
    }
}

/// What the configuration says of rights.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Lower-case names this machine is called by, besides localhost and any IP address; one with
    /// a port only fits a Host with that port.
    pub names: Vec<String>,
    /// Origins that may write, besides our own.
    pub origins: Vec<String>,
    /// Whether a proxy is trusted: then nobody is local.
    pub behind_proxy: bool,
}

/// Fields that a proxy adds: with one of them, loopback is not the client.
const FORWARDING: &[&str] = &["forwarded", "via", "x-real-ip"];
const FORWARDING_PREFIXES: &[&str] = &["x-forwarded-", "cf-"];

fn ip(host: &[u8]) -> Option<IpAddr> {
    core::str::from_utf8(host).ok()?.parse().ok()
}

fn is_name(host: &[u8], name: &str) -> bool {
    host.strip_suffix(b".")
        .unwrap_or(host)
        .eq_ignore_ascii_case(name.as_bytes())
}

impl Policy {
    /// Checks Host, then Origin, then the right to write.
    ///
    /// # Errors
    /// 421 for a Host that is not ours, 403 for a cross-site write or one that is not local.
    pub fn check(
        &self,
        head: &Head<'_>,
        is_loopback: impl FnOnce() -> bool,
    ) -> Result<(), Refusal> {
        let host = host_and_port(head.host).map(|(host, _)| host);
        self.check_host(head, host)?;
        if !head.method.is_write() {
            return Ok(());
        }
        self.check_origin(head)?;
        self.check_local(head, host.unwrap_or_default(), is_loopback())
    }

    fn check_host(&self, head: &Head<'_>, host: Option<&[u8]>) -> Result<(), Refusal> {
        // Only HTTP/1.0 may come without one; it then counts as the address it was sent to.
        if head.host.is_empty() && head.version == Version::Http10 {
            return Ok(());
        }
        let ours = host.is_some_and(|host| {
            ip(host).is_some()
                || is_name(host, "localhost")
                || self
                    .names
                    .iter()
                    .any(|name| is_name(host, name) || is_name(head.host, name))
        });
        ours.then_some(()).ok_or(Refusal::new(
            421,
            "this Host is not mine: use the board's IP address, localhost or its own name, or add the name to hosts in [server]",
        ))
    }

    fn check_origin(&self, head: &Head<'_>) -> Result<(), Refusal> {
        let foreign = Refusal::new(
            403,
            "a page of another origin may not write here: add its origin to origins in [server]",
        );
        let is_listed = |origin: &[u8]| {
            self.origins
                .iter()
                .any(|listed| listed.as_bytes().eq_ignore_ascii_case(origin))
        };
        let is_own = |origin: &[u8]| {
            let rest = origin
                .strip_prefix(b"http://")
                .or(origin.strip_prefix(b"https://"));
            rest.is_some_and(|authority| authority.eq_ignore_ascii_case(head.host))
        };
        for origin in head.fields("origin") {
            if !is_own(origin) && !is_listed(origin) {
                return Err(foreign);
            }
        }
        let cross_site = head.field("sec-fetch-site") == Some(b"cross-site");
        let listed = head.field("origin").is_some_and(is_listed);
        if cross_site && !listed {
            Err(foreign)
        } else {
            Ok(())
        }
    }

    fn check_local(&self, head: &Head<'_>, host: &[u8], is_loopback: bool) -> Result<(), Refusal> {
        let refuse = |reason| Err(Refusal::new(403, reason));
        if self.behind_proxy {
            return refuse("writing needs a token where trusted_proxies is set in [server]");
        }
        if !is_loopback {
            return refuse(
                "only this board itself may write: send the request from the board, to 127.0.0.1",
            );
        }
        let loopback = ip(host).is_some_and(|ip| ip.to_canonical().is_loopback());
        if !loopback && !is_name(host, "localhost") {
            return refuse(
                "only this board itself may write: send the request to 127.0.0.1, [::1] or localhost",
            );
        }
        if head.version == Version::Http10 {
            return refuse(
                "a write by HTTP/1.0 is never local, for so a proxy would look: use HTTP/1.1",
            );
        }
        let forwarded = FORWARDING.iter().any(|name| head.field(name).is_some())
            || head.names().any(|name| {
                FORWARDING_PREFIXES.iter().any(|prefix| {
                    name.get(..prefix.len())
                        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
                })
            });
        if forwarded {
            return refuse(
                "this request came through a proxy, so it is not local: only this board itself may write",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, version: &str, fields: &str, address: &str) -> u16 {
        let policy = Policy {
            names: vec!["board".into(), "board.local".into()],
            origins: vec!["http://friend".into()],
            behind_proxy: false,
        };
        let text = format!("{method} /topics/a HTTP/{version}\r\n{fields}\r\n");
        let head = Head::parse(text.as_bytes()).unwrap();
        let peer = Peer {
            address: address.parse().unwrap(),
            secure: false,
        };
        policy
            .check(&head, || peer.is_loopback())
            .err()
            .map_or(200, |refusal| refusal.status)
    }

    #[test]
    fn hosts() {
        for (host, want) in [
            ("127.0.0.1:8080", 200),
            ("[::1]:80", 200),
            ("192.168.1.7", 200),
            ("localhost", 200),
            ("LOCALHOST.:8080", 200),
            ("Board.Local", 200),
            ("evil.example", 421),
            ("127.0.0.1.evil.example", 421),
            ("board.evil", 421),
        ] {
            assert_eq!(
                check("GET", "1.1", &format!("Host: {host}\r\n"), "10.0.0.1"),
                want,
                "{host}"
            );
        }
        assert_eq!(check("GET", "1.0", "", "10.0.0.1"), 200);
    }

    #[test]
    fn writes() {
        let local = "Host: localhost:8080\r\n";
        for (version, fields, address, want) in [
            ("1.1", "", "127.0.0.1", 200),
            ("1.1", "", "::ffff:127.0.0.1", 200),
            ("1.1", "", "::1", 200),
            ("1.1", "", "192.168.1.2", 403),
            ("1.0", "", "127.0.0.1", 403),
            ("1.1", "X-Forwarded-For: 1.2.3.4\r\n", "127.0.0.1", 403),
            ("1.1", "x-forwarded-anything: 1\r\n", "127.0.0.1", 403),
            ("1.1", "Forwarded: for=1\r\n", "127.0.0.1", 403),
            ("1.1", "Via: 1.1 p\r\n", "127.0.0.1", 403),
            ("1.1", "X-Real-IP: 1.2.3.4\r\n", "127.0.0.1", 403),
            ("1.1", "CF-Ray: 1\r\n", "127.0.0.1", 403),
            ("1.1", "Origin: http://localhost:8080\r\n", "127.0.0.1", 200),
            (
                "1.1",
                "Origin: http://friend\r\nSec-Fetch-Site: cross-site\r\n",
                "127.0.0.1",
                200,
            ),
            ("1.1", "Origin: http://localhost\r\n", "127.0.0.1", 403),
            ("1.1", "Origin: null\r\n", "127.0.0.1", 403),
            ("1.1", "Origin: http://evil\r\n", "127.0.0.1", 403),
            ("1.1", "Sec-Fetch-Site: cross-site\r\n", "127.0.0.1", 403),
            ("1.1", "Sec-Fetch-Site: same-origin\r\n", "127.0.0.1", 200),
        ] {
            let fields = format!("{local}{fields}");
            assert_eq!(
                check("POST", version, &fields, address),
                want,
                "{version} {fields} {address}"
            );
        }
        assert_eq!(
            check("POST", "1.1", "Host: 192.168.1.7\r\n", "127.0.0.1"),
            403
        );
        assert_eq!(check("POST", "1.1", "Host: board\r\n", "127.0.0.1"), 403);
        assert_eq!(check("DELETE", "1.1", local, "10.0.0.1"), 403);
    }
}

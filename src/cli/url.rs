//! Where a server is: `http://HOST[:PORT][/]`, or the same without the scheme.
//!
//! RFC 3986 section 3.2 as far as a server's address goes. It never resolves a name.

use std::fmt;
use std::net::Ipv6Addr;

use super::Usage;

/// The address of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Url {
    /// A name or an address, without brackets.
    pub host: String,
    /// From 1; 80 when the text has none.
    pub port: u16,
}

const FORM: &str = "write http://HOST:PORT, as http://192.168.1.7:8080";

impl Url {
    /// The server in `text`, or what is wrong with it.
    pub fn parse(text: &str) -> Result<Url, Usage> {
        let wrong = |what: &str| Usage::new(format!("\"{text}\" {what}"), FORM);
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                let fix = "write http://HOST:PORT; for https use curl -N URL/events/stream";
                return Err(Usage::new(
                    format!("\"{text}\" is https, which this client cannot speak"),
                    fix,
                ));
            }
            Some(_) => return Err(wrong("is not http")),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(wrong("has a path; only the server is needed"));
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(literal) => literal
                .split_once(']')
                .ok_or_else(|| wrong("has no closing ]"))?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        if !(is_name(host) && !rest.starts_with('[') || is_literal(host) && rest.starts_with('[')) {
            return Err(wrong("has no host"));
        }
        let port = match (port, port.strip_prefix(':')) {
            ("", _) => Some(80),
            (_, port) => port
                .and_then(|port| port.parse().ok())
                .filter(|&port| port > 0),
        };
        let port = port.ok_or_else(|| wrong("has no port from 1 to 65535"))?;
        Ok(Url {
            host: host.to_string(),
            port,
        })
    }

    /// The value of the field `Host` (RFC 9110 section 7.2), without an address's zone.
    pub fn authority(&self) -> String {
        let host = match self.host.split_once('%') {
            Some((address, _)) => format!("[{address}]"),
            None if self.host.contains(':') => format!("[{}]", self.host),
            None => self.host.clone(),
        };
        match self.port {
            80 => host,
            port => format!("{host}:{port}"),
        }
    }
}

/// As it would be typed.
impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(out, "http://[{}]:{}", self.host, self.port),
            false => write!(out, "http://{}:{}", self.host, self.port),
        }
    }
}

fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

/// An IPv6 address, with a zone or without: `fe80::1%eth0`.
fn is_literal(host: &str) -> bool {
    let (address, zone) = host.split_once('%').unwrap_or((host, "0"));
    address.parse::<Ipv6Addr>().is_ok() && is_name(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_are_understood() {
        for (text, host, port, authority) in [
            (
                "http://board.local:8080",
                "board.local",
                8080,
                "board.local:8080",
            ),
            ("HTTP://board.local/", "board.local", 80, "board.local"),
            ("board:8080", "board", 8080, "board:8080"),
            ("192.168.1.7", "192.168.1.7", 80, "192.168.1.7"),
            ("http://[::1]:8080/", "::1", 8080, "[::1]:8080"),
            ("[fe80::1%eth0]:1", "fe80::1%eth0", 1, "[fe80::1]:1"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(
                (&url.host[..], url.port, &url.authority()[..]),
                (host, port, authority)
            );
            assert_eq!(Url::parse(&url.to_string()), Ok(url));
        }
    }

    #[test]
    fn servers_that_are_not() {
        for (text, what) in [
            (
                "https://a",
                "\"https://a\" is https, which this client cannot speak",
            ),
            ("ftp://a", "\"ftp://a\" is not http"),
            (
                "http://a/events",
                "\"http://a/events\" has a path; only the server is needed",
            ),
            (
                "http://a?b",
                "\"http://a?b\" has a path; only the server is needed",
            ),
            ("http://", "\"http://\" has no host"),
            ("", "\"\" has no host"),
            ("user@a", "\"user@a\" has no host"),
            ("a b", "\"a b\" has no host"),
            ("::1", "\"::1\" has no host"),
            ("[a]", "\"[a]\" has no host"),
            ("[::1", "\"[::1\" has no closing ]"),
            ("a:0", "\"a:0\" has no port from 1 to 65535"),
            ("a:65536", "\"a:65536\" has no port from 1 to 65535"),
            ("a:", "\"a:\" has no port from 1 to 65535"),
            ("[::1]8080", "\"[::1]8080\" has no port from 1 to 65535"),
        ] {
            assert_eq!(Url::parse(text).unwrap_err().problem, what);
        }
    }
}

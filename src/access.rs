//! Who may do what: decisions from where somebody stands and the request's head, before routing.
//!
//! First Host, against DNS rebinding; then Origin, against what pages of others would change
//! (`origin`); then the token that is shown, if any (`token`); then whether reading or writing is
//! open without one, by address (`address`). Pure: the same head from the same standing comes to
//! the same, until the policy changes. It never asks the system for a name, an address or the time.
//! Who is kept from what, and where that is tested, stands in README.md.

mod address;
mod frame;
mod origin;
mod token;

use core::net::IpAddr;

pub use crate::hub::readers::{Grant, Reader, Rights};
use crate::hub::readers::{Unwritable, may_read};
use crate::resource::Need;
use crate::wire::request::{Head, Version, host_and_port};
use crate::wire::websocket::handshake;
use crate::wire::{Kind, Refusal};
pub use address::{Network, Standing, UNKNOWN, owner};
pub use origin::{Cors, Friend};
pub use token::{COOKIE, Guessers, Token, Validity, find};

/// The other end of a connection, as far as rights go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Whether it speaks through TLS.
    pub secure: bool,
}

/// What the configuration says of rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Lower-case names this machine is called by, besides localhost and any IP address; one with
    /// a port only fits a Host with that port.
    pub names: Vec<String>,
    /// Origins besides our own, and what their pages may do.
    pub friends: Vec<Friend>,
    /// Proxies whose forwarding fields are believed.
    pub proxies: Vec<Network>,
    /// Networks that are on-link here.
    pub links: Vec<Network>,
    /// Patterns of the topics that whoever is near may read without a token.
    pub read: Vec<String>,
    /// Patterns of the topics that script tags of any page may read, if whoever asks may.
    pub jsonp: Vec<String>,
    /// Tokens. Their numbers are `Reader`s, so a row stays where it is.
    pub tokens: Vec<Token>,
    /// Connections from one owner of addresses; loopback and proxies are not counted.
    pub per_address: u32,
}

impl Default for Policy {
    /// Only addresses and localhost, nobody else's pages, no token; all may be read from near.
    fn default() -> Policy {
        Policy {
            names: Vec::new(),
            friends: Vec::new(),
            proxies: Vec::new(),
            links: Vec::new(),
            read: vec!["#".to_owned()],
            jsonp: Vec::new(),
            tokens: Vec::new(),
            per_address: u32::MAX,
        }
    }
}

const FAR: Refusal = Refusal::new(
    401,
    "reading from outside this network needs a token: sign in at /, or send Authorization: Bearer NAME.SECRET; `encke token NAME` on the board makes one",
)
.fields(CHALLENGE)
.kind(Kind::Read);

const UNNAMED: Refusal = Refusal::new(
    401,
    "a trusted proxy asks and does not say for whom: let it set X-Forwarded-For, alone, to the client's address (nginx: proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for), or send Authorization: Bearer NAME.SECRET; `encke token NAME` on the board makes one",
)
.fields(CHALLENGE)
.kind(Kind::Read);

const CLOSED: Refusal = Refusal::new(
    401,
    "reading this needs a token: sign in at /, or send Authorization: Bearer NAME.SECRET; `encke token NAME` on the board makes one",
)
.fields(CHALLENGE)
.kind(Kind::Read);

const UNREADABLE: Refusal = Refusal::new(
    403,
    "this token may not read this topic: its read in [[token]] has no pattern for it",
)
.kind(Kind::Read);

const UNWRITABLE: Refusal = Refusal::new(
    403,
    "this token may not write this topic: its write in [[token]] has no pattern for it",
)
.kind(Kind::Write);

const RESERVED: Refusal = Refusal::new(
    403,
    "topics below encke are reserved: writing them needs a token, even on the board itself",
)
.kind(Kind::Write);

const PRESENCE: Refusal = Refusal::new(
    403,
    "topics below encke/presence count subscribers: nobody writes them",
)
.kind(Kind::Write);

const CHALLENGE: &str = "WWW-Authenticate: Bearer realm=\"Encke\"\r\n";

const fn not_local(reason: &'static str) -> Refusal {
    Refusal::new(403, reason).kind(Kind::Write)
}

/// Why a request that shows no token may not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotLocal {
    Proxies,
    Elsewhere,
    Host,
    Version,
    Forwarded,
}

impl NotLocal {
    const fn refusal(self) -> Refusal {
        not_local(match self {
            NotLocal::Proxies => "writing needs a token where trusted_proxies is set in [server]",
            NotLocal::Elsewhere => {
                "without a token only this board itself may write: send the request from the board, to 127.0.0.1, or with a token; `encke token NAME` makes one"
            }
            NotLocal::Host => {
                "without a token only this board itself may write: send the request to 127.0.0.1, [::1] or localhost"
            }
            NotLocal::Version => {
                "without a token a write by HTTP/1.0 is never local, for so a proxy would look: use HTTP/1.1"
            }
            NotLocal::Forwarded => {
                "this request came through a proxy, so it is not local: writing needs a token"
            }
        })
    }
}

impl Policy {
    /// What a request may do.
    ///
    /// # Errors
    /// 421 for a Host that is not ours, 403 for what a page of others would change, 401 for a
    /// token that is none or for reading that needs one, 403 for writing that needs one.
    pub fn admit(&self, head: &Head<'_>, from: Standing, need: Need) -> Result<Rights, Refusal> {
        self.check_host(head)?;
        self.check_origin(head)?;
        if need != Need::Nothing
            && let Some(credential) = token::Credential::of(head)?
        {
            let reader = credential.check(&self.tokens)?;
            return Ok(Rights {
                reader,
                is_local: false,
            });
        }
        let reader = match self.asker(head, from) {
            Standing::Far | Standing::Proxy => Reader::NOBODY,
            Standing::Loopback | Standing::Near => Reader::ANYBODY,
        };
        let mut rights = Rights {
            reader,
            is_local: false,
        };
        match need {
            Need::Read if reader == Reader::NOBODY => {
                let client = self.forwarded_for(head).unwrap_or(UNKNOWN);
                let is_unnamed = from == Standing::Proxy && client == UNKNOWN;
                return Err(if is_unnamed { UNNAMED } else { FAR });
            }
            Need::Read if self.read.is_empty() => return Err(CLOSED),
            // What is said through a WebSocket may change something.
            Need::Read if handshake::is_asked_for(head) => {
                rights.is_local = self.check_local(head, from).is_ok();
            }
            Need::Read => {}
            Need::Write => {
                self.check_local(head, from).map_err(NotLocal::refusal)?;
                rights.is_local = true;
            }
            Need::Nothing | Need::Identity => {
                rights.is_local = self.check_local(head, from).is_ok();
            }
        }
        Ok(rights)
    }

    fn check_local(&self, head: &Head<'_>, from: Standing) -> Result<(), NotLocal> {
        let host = host_and_port(head.host).map_or(&b""[..], |(host, _)| host);
        let to_loopback = origin::ip(host).is_some_and(|ip| ip.to_canonical().is_loopback());
        if !self.proxies.is_empty() {
            Err(NotLocal::Proxies)
        } else if from != Standing::Loopback {
            Err(NotLocal::Elsewhere)
        } else if !to_loopback && !origin::is_name(host, "localhost") {
            Err(NotLocal::Host)
        } else if head.version == Version::Http10 {
            Err(NotLocal::Version)
        } else if address::is_forwarded(head) {
            Err(NotLocal::Forwarded)
        } else {
            Ok(())
        }
    }

    /// The owner of the address that a trusted proxy asks for; 0 for whoever connects itself.
    pub fn owner_behind(&self, head: &Head<'_>, from: Standing) -> u64 {
        match from {
            Standing::Proxy => self.forwarded_for(head).map_or(0, owner),
            _ => 0,
        }
    }

    /// Whether a topic of this name may be read, be it there or not.
    ///
    /// # Errors
    /// 401 without a token, 403 with one.
    pub fn check_read(&self, rights: Rights, topic: &str) -> Result<(), Refusal> {
        match rights.reader.as_token() {
            Some(at) if self.tokens[at].grant.reads(topic) => Ok(()),
            Some(_) => Err(UNREADABLE),
            None if rights.reader == Reader::NOBODY => Err(FAR),
            None if may_read(&self.read, topic) => Ok(()),
            None => Err(CLOSED),
        }
    }

    /// Whether a topic of this name may be written.
    ///
    /// # Errors
    /// 403.
    pub fn check_write(&self, rights: Rights, topic: &str) -> Result<(), Refusal> {
        let token = rights.reader.as_token().map(|at| &self.tokens[at].grant);
        rights.check_write(token, topic).map_err(|why| match why {
            Unwritable::NotGranted => UNWRITABLE,
            Unwritable::NotLocal => NotLocal::Elsewhere.refusal(),
            Unwritable::Reserved => RESERVED,
            Unwritable::Presence => PRESENCE,
        })
    }

    /// What all readers may do, in order of their numbers.
    pub fn grants(&self) -> impl Iterator<Item = Grant> {
        let tokens = self.tokens.iter().map(|token| match token.validity {
            Validity::Valid => token.grant.clone(),
            _ => Grant::default(),
        });
        let anybody = Grant {
            read: self.read.clone(),
            ..Grant::default()
        };
        core::iter::once(anybody).chain(tokens)
    }

    /// Whether a client speaks through TLS, as far as a trusted proxy says so.
    pub fn is_secure(&self, head: &Head<'_>, from: Standing) -> bool {
        let says = |name: &str, text: &[u8]| {
            head.field(name)
                .is_some_and(|v| v.eq_ignore_ascii_case(text))
        };
        from == Standing::Proxy && says("x-forwarded-proto", b"https")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Policy {
        Policy {
            names: vec!["board".into(), "board.local".into()],
            friends: Friend::all(&["http://friend".into()], &[]),
            ..Policy::default()
        }
    }

    fn check(policy: &Policy, line: &str, fields: &str, address: &str) -> u16 {
        let text = format!("{line}\r\n{fields}\r\n");
        let head = Head::parse(text.as_bytes()).unwrap();
        let from = policy.standing(address.parse().unwrap());
        let need = match head.method.is_write() {
            true => Need::Write,
            false => Need::Read,
        };
        let admitted = policy.admit(&head, from, need);
        admitted.err().map_or(200, |refusal| refusal.status)
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
            let host_field = format!("Host: {host}\r\n");
            let status = check(&board(), "GET /topics HTTP/1.1", &host_field, "10.0.0.1");
            assert_eq!(status, want, "{host}");
        }
        assert_eq!(check(&board(), "GET /topics HTTP/1.0", "", "10.0.0.1"), 200);
    }

    #[test]
    fn writes_without_a_token() {
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
            let line = format!("POST /topics/a HTTP/{version}");
            let status = check(&board(), &line, &fields, address);
            assert_eq!(status, want, "{version} {fields} {address}");
        }
        for (line, host, address) in [
            ("POST /topics/a HTTP/1.1", "192.168.1.7", "127.0.0.1"),
            ("POST /topics/a HTTP/1.1", "board", "127.0.0.1"),
            ("DELETE /topics/a HTTP/1.1", "localhost", "10.0.0.1"),
        ] {
            let host = format!("Host: {host}\r\n");
            assert_eq!(
                check(&board(), line, &host, address),
                403,
                "{line} {host} {address}"
            );
        }
        let proxied = Policy {
            proxies: vec![Network::parse("10.1.1.1").unwrap()],
            ..board()
        };
        assert_eq!(
            check(&proxied, "POST /topics/a HTTP/1.1", local, "127.0.0.1"),
            403
        );
    }

    #[test]
    fn a_websocket_is_not_held_with_pages_of_others() {
        let upgrade = "Host: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n";
        for (origin, want) in [
            ("", 200),
            ("Origin: http://localhost\r\n", 200),
            ("Origin: http://friend\r\n", 200),
            ("Origin: http://evil\r\n", 403),
        ] {
            let fields = format!("{upgrade}{origin}");
            let status = check(&board(), "GET /events/ws HTTP/1.1", &fields, "127.0.0.1");
            assert_eq!(status, want, "{origin}");
        }
    }

    #[test]
    fn reading_without_a_token() {
        let closed = Policy {
            read: Vec::new(),
            ..board()
        };
        let host = "Host: localhost\r\n";
        for (address, want) in [
            ("127.0.0.1", 200),
            ("192.168.1.2", 200),
            ("fe80::1", 200),
            ("8.8.8.8", 401),
        ] {
            let get = "GET /topics HTTP/1.1";
            assert_eq!(check(&board(), get, host, address), want, "{address}");
            assert_eq!(check(&closed, get, host, address), 401, "{address}");
        }
    }

    #[test]
    fn topics_by_name() {
        let token = |read: &[&str], write: &[&str]| Token {
            grant: Grant {
                read: read.iter().map(|&p| p.to_owned()).collect(),
                write: write.iter().map(|&p| p.to_owned()).collect(),
                ..Grant::default()
            },
            sha256: [0; 32],
            validity: Validity::Valid,
        };
        let policy = Policy {
            read: vec!["open/#".to_owned()],
            tokens: vec![token(&["a/#"], &["b/+", "encke/x"])],
            ..board()
        };
        let rights = |reader, is_local| Rights { reader, is_local };
        let shown = rights(Reader::token(0), false);
        let local = rights(Reader::ANYBODY, true);
        let near = rights(Reader::ANYBODY, false);
        let status = |result: Result<(), Refusal>| result.err().map_or(200, |r| r.status);
        for (rights, topic, read, write) in [
            (shown, "a/x", 200, 403),
            (shown, "b/x", 403, 200),
            (shown, "encke/x", 403, 200),
            (shown, "open/x", 403, 403),
            (local, "open/x", 200, 200),
            (local, "a/x", 401, 200),
            (local, "encke", 401, 403),
            (local, "encke/x", 401, 403),
            (near, "open/x", 200, 403),
            (Rights::NONE, "open/x", 401, 403),
        ] {
            let found = (
                status(policy.check_read(rights, topic)),
                status(policy.check_write(rights, topic)),
            );
            assert_eq!(found, (read, write), "{rights:?} {topic}");
        }
    }
}

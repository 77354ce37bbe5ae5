//! What an address says of whoever has it, and whose address counts behind a proxy.
//!
//! Private and local ranges by RFC 1918, RFC 3927, RFC 4193 and RFC 4291; forwarding fields by RFC
//! 7239 section 4 and the older custom of `X-Forwarded-For`. It never asks the system: networks
//! that are on-link, and proxies that are trusted, are told to it.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Policy;
use crate::wire::request::Head;
use crate::wire::text::trim;

/// What an address alone says of its rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This machine.
    Loopback,
    /// The home network: private, link-local, unique-local, or on-link here.
    Near,
    /// Anybody else.
    Far,
    /// A proxy that is trusted: who asks stands in its forwarding field.
    Proxy,
}

/// A network: an address, and how many of its leading bits all members share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: u128,
    bits: u32,
}

/// Every address as one of IPv6, an IPv4 one as mapped (RFC 4291 section 2.5.5.2).
fn wide(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Network {
    /// The network around `address` with a prefix of so many bits of its own family's.
    pub fn new(address: IpAddr, bits: u32) -> Network {
        let bits = match address {
            IpAddr::V4(_) => 96 + bits.min(32),
            IpAddr::V6(_) => bits.min(128),
        };
        let base = wide(address);
        Network { base, bits }
    }

    /// `ADDRESS` or `ADDRESS/BITS`.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        };
        let address: IpAddr = address.parse().ok()?;
        Some(Network::new(address, bits.unwrap_or(u32::MAX)))
    }

    fn has(&self, address: IpAddr) -> bool {
        let differing = self.base ^ wide(address);
        self.bits == 0 || differing >> (128 - self.bits) == 0
    }
}

fn has(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.has(address))
}

/// One number for whoever may have an address: an IPv4 address is one, and all of an IPv6 network
/// of 64 bits is one, for whoever has that has all its addresses.
pub fn owner(address: IpAddr) -> u64 {
    // In front of what is no network of anybody: multicast.
    const IPV4: u64 = 0xff00_0000 << 32;
    match address.to_canonical() {
        IpAddr::V4(v4) => IPV4 | u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

fn is_home(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Fields that a proxy adds: with one of them, whoever connected is not who asks.
const FORWARDING: [&str; 3] = ["forwarded", "via", "x-real-ip"];
const FORWARDING_PREFIXES: [&str; 2] = ["x-forwarded-", "cf-"];

/// Whether a proxy says that it passed this request on.
pub(super) fn is_forwarded(head: &Head<'_>) -> bool {
    let is_of_proxy = |name: &str| {
        let begins = |prefix: &&str| {
            let start = name.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let is = |field: &&str| name.eq_ignore_ascii_case(field);
        FORWARDING.iter().any(is) || FORWARDING_PREFIXES.iter().any(begins)
    };
    head.names().any(is_of_proxy)
}

/// The address in one hop of a forwarding field: bare, in brackets, with a port, in quotes. `None`
/// for what hides it: `unknown`, `_name`.
fn hop(text: &[u8]) -> Option<IpAddr> {
    let text = core::str::from_utf8(trim(text)).ok()?.trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let address: Option<IpAddr> = bare.unwrap_or(text).parse().ok();
    let with_port = || text.parse().ok().map(|at: SocketAddr| at.ip());
    address.or_else(with_port).map(|ip| ip.to_canonical())
}

/// The `for` of one element of `Forwarded`.
fn element(element: &[u8]) -> Option<IpAddr> {
    let pairs = element.split(|byte| *byte == b';').map(trim);
    let is_for = |pair: &&[u8]| pair.len() > 4 && pair[..4].eq_ignore_ascii_case(b"for=");
    { pairs }.find(is_for).and_then(|pair| hop(&pair[4..]))
}

/// A forwarding field, and how one of its members is read.
type Reader = (&'static str, fn(&[u8]) -> Option<IpAddr>);

const READERS: [Reader; 3] = [
    ("forwarded", element),
    ("x-forwarded-for", hop),
    ("x-real-ip", hop),
];

impl Policy {
    /// What an address says of who connects from there.
    pub fn standing(&self, address: IpAddr) -> Standing {
        if has(&self.proxies, address) {
            return Standing::Proxy;
        }
        self.distance(address)
    }

    fn distance(&self, address: IpAddr) -> Standing {
        let address = address.to_canonical();
        if address.is_loopback() {
            Standing::Loopback
        } else if is_home(address) || has(&self.links, address) {
            Standing::Near
        } else {
            Standing::Far
        }
    }

    /// Who asks through proxies, as far as those that are trusted say so: the rightmost hop that is
    /// none of them; `UNKNOWN` if that is hidden, `None` if there is no such hop.
    ///
    /// A proxy writes the field it knows and passes the others on as the client sent them, and
    /// which one it knows is not said here: where two fields disagree, nobody is known.
    pub(super) fn forwarded_for(&self, head: &Head<'_>) -> Option<IpAddr> {
        let mut clients = READERS.iter().filter_map(|reader| {
            let is_trusted = |address| has(&self.proxies, address);
            hops(head, reader)
                .filter(|hop| !hop.is_some_and(is_trusted))
                .last()
        });
        let client = clients.next()?;
        let is_known = clients.all(|other| other == client);
        Some(client.filter(|_| is_known).unwrap_or(UNKNOWN))
    }

    /// Where whoever asks stands: who connected, or who that says it asks for. Who is not trusted
    /// can only say that it is further away.
    pub(super) fn asker(&self, head: &Head<'_>, from: Standing) -> Standing {
        if from == Standing::Proxy {
            let client = self.forwarded_for(head);
            return client.map_or(Standing::Far, |address| self.distance(address));
        }
        let hops = READERS.iter().flat_map(|reader| hops(head, reader));
        let mut distances = hops.flatten().map(|address| self.distance(address));
        match distances.any(|distance| distance == Standing::Far) {
            true => Standing::Far,
            false => from,
        }
    }
}

/// All members of a forwarding field, first those that are furthest away: later fields stand behind
/// earlier ones.
fn hops<'h>(
    head: &'h Head<'_>,
    (name, read): &'static Reader,
) -> impl Iterator<Item = Option<IpAddr>> + use<'h> {
    let lists = head.fields(name);
    lists
        .flat_map(|list| list.split(|byte| *byte == b','))
        .map(read)
}

/// No address.
pub const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let networks = |list: &[&str]| list.iter().filter_map(|n| Network::parse(n)).collect();
        Policy {
            proxies: networks(&["127.0.0.1", "10.9.0.0/16", "2001:db8:9::/48"]),
            links: networks(&["203.0.113.0/24", "2001:db8:1::/64"]),
            ..Policy::default()
        }
    }

    #[test]
    fn standings() {
        for (address, want) in [
            ("127.0.0.1", Standing::Proxy),
            ("127.0.0.2", Standing::Loopback),
            ("::1", Standing::Loopback),
            ("::ffff:127.0.0.1", Standing::Proxy),
            ("::ffff:127.0.0.9", Standing::Loopback),
            ("10.9.255.255", Standing::Proxy),
            ("10.10.0.0", Standing::Near),
            ("172.16.0.1", Standing::Near),
            ("172.32.0.1", Standing::Far),
            ("192.168.255.1", Standing::Near),
            ("169.254.1.1", Standing::Near),
            ("fe80::1", Standing::Near),
            ("fd00::1", Standing::Near),
            ("fe00::1", Standing::Far),
            ("203.0.113.255", Standing::Near),
            ("203.0.114.0", Standing::Far),
            ("2001:db8:1::ffff", Standing::Near),
            ("2001:db8:1:1::", Standing::Far),
            ("2001:db8:9:ffff::1", Standing::Proxy),
            ("100.64.0.1", Standing::Far),
            ("8.8.8.8", Standing::Far),
            ("::ffff:8.8.8.8", Standing::Far),
            ("0.0.0.0", Standing::Far),
        ] {
            assert_eq!(
                policy().standing(address.parse().unwrap()),
                want,
                "{address}"
            );
        }
    }

    #[test]
    fn networks() {
        let all = Network::parse("0.0.0.0/0").unwrap();
        let everything = Network::parse("::/0").unwrap();
        let v6: IpAddr = core::net::Ipv6Addr::LOCALHOST.into();
        assert!(all.has("8.8.8.8".parse().unwrap()) && !all.has(v6) && everything.has(v6));
        assert!(Network::parse("1.2.3.4/x").is_none() && Network::parse("a/8").is_none());
        let mine = owner("2001:db8::1".parse().unwrap());
        assert_eq!(mine, owner("2001:db8::ffff:0:0:1".parse().unwrap()));
        assert_ne!(mine, owner("2001:db8:0:1::1".parse().unwrap()));
        let v4 = owner("192.0.2.1".parse().unwrap());
        assert_eq!(v4, owner("::ffff:192.0.2.1".parse().unwrap()));
        assert_ne!(v4, owner("192.0.2.2".parse().unwrap()));
    }

    #[test]
    fn the_rightmost_hop_that_is_not_trusted_asks() {
        for (fields, want) in [
            ("X-Forwarded-For: 8.8.8.8\r\n", Some("8.8.8.8")),
            (
                "X-Forwarded-For: 1.1.1.1, 8.8.8.8 , 10.9.0.1\r\n",
                Some("8.8.8.8"),
            ),
            (
                "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 10.9.0.1\r\n",
                Some("1.1.1.1"),
            ),
            (
                "X-Forwarded-For: 10.9.0.1\r\nX-Forwarded-For: 8.8.8.8\r\n",
                Some("8.8.8.8"),
            ),
            ("X-Forwarded-For: 8.8.8.8:1234\r\n", Some("8.8.8.8")),
            ("X-Forwarded-For: [2001:db8::1]:5\r\n", Some("2001:db8::1")),
            ("X-Forwarded-For: [2001:db8::1]\r\n", Some("2001:db8::1")),
            ("X-Forwarded-For: 2001:db8::1\r\n", Some("2001:db8::1")),
            ("X-Forwarded-For: 1.1.1.1, unknown\r\n", Some("0.0.0.0")),
            ("X-Forwarded-For: 1.1.1.1, \r\n", Some("0.0.0.0")),
            ("X-Forwarded-For: 127.0.0.1\r\n", None),
            ("X-Forwarded-For:\r\n", Some("0.0.0.0")),
            ("X-Real-IP: 8.8.8.8\r\n", Some("8.8.8.8")),
            ("Forwarded: for=8.8.8.8;proto=http\r\n", Some("8.8.8.8")),
            (
                "Forwarded: For=\"[2001:db8::1]:80\", by=x;for=10.9.1.1\r\n",
                Some("2001:db8::1"),
            ),
            ("Forwarded: for=_hidden\r\n", Some("0.0.0.0")),
            (
                "Forwarded: for=8.8.8.8\r\nX-Forwarded-For: 8.8.8.8, 10.9.0.1\r\n",
                Some("8.8.8.8"),
            ),
            // The nearer proxy knows the next one only.
            (
                "X-Forwarded-For: 8.8.8.8, 10.9.0.1\r\nX-Real-IP: 10.9.0.1\r\n",
                Some("8.8.8.8"),
            ),
            // One of them is the client's own.
            (
                "Forwarded: for=192.168.1.1\r\nX-Forwarded-For: 1.1.1.1\r\n",
                Some("0.0.0.0"),
            ),
            (
                "X-Forwarded-For: 1.1.1.1\r\nX-Real-IP: 192.168.1.1\r\n",
                Some("0.0.0.0"),
            ),
            (
                "Forwarded: for=_hidden\r\nX-Forwarded-For: 192.168.1.1\r\n",
                Some("0.0.0.0"),
            ),
            ("", None),
        ] {
            let text = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
            let head = Head::parse(text.as_bytes()).unwrap();
            let want = want.map(|address| address.parse().unwrap());
            assert_eq!(policy().forwarded_for(&head), want, "{fields}");
        }
    }

    #[test]
    fn who_is_not_trusted_can_only_be_further_away() {
        let asker = |fields: &str, from| {
            let text = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
            let head = Head::parse(text.as_bytes()).unwrap();
            policy().asker(&head, from)
        };
        use Standing::{Far, Loopback, Near, Proxy};
        for (fields, from, want) in [
            ("", Loopback, Loopback),
            ("", Far, Far),
            ("", Proxy, Far),
            ("X-Forwarded-For: 192.168.1.1\r\n", Proxy, Near),
            ("X-Forwarded-For: 8.8.8.8\r\n", Proxy, Far),
            ("X-Forwarded-For: 192.168.1.1\r\n", Far, Far),
            ("X-Forwarded-For: 8.8.8.8\r\n", Loopback, Far),
            ("X-Forwarded-For: 192.168.1.1\r\n", Loopback, Loopback),
            ("X-Forwarded-For: unknown\r\n", Near, Near),
            ("X-Forwarded-For: 8.8.8.8, 127.0.0.1\r\n", Loopback, Far),
            (
                "Forwarded: for=192.168.1.1\r\nX-Forwarded-For: 8.8.8.8\r\n",
                Loopback,
                Far,
            ),
            (
                "Forwarded: for=192.168.1.1\r\nX-Forwarded-For: 8.8.8.8\r\n",
                Proxy,
                Far,
            ),
        ] {
            assert_eq!(asker(fields, from), want, "{fields} {from:?}");
        }
    }
}

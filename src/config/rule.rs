//! What single keys take: a rule is a type, and `Is<R>` a value that has passed it.
//!
//! Checked while TOML is read, so that every fault has its place. Hosts and origins follow RFC
//! 3986 section 3 and RFC 6454 section 7. It never looks at two keys at once.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Unexpected, Visitor};
use toml::value::{Datetime, Offset};

use crate::limits::LABEL_BYTES_MAX;
use crate::name;

/// A scalar as it stands in the file, before a rule has looked at it.
pub(super) enum Given<'a> {
    Int(i64),
    Float(f64),
    Text(&'a str),
}

/// What a key takes. A rule is only a type: `Is<R>` is a value that has passed it.
pub(super) trait Rule {
    type Out;
    /// What would be right, as it stands behind "write" in an error.
    fn right() -> String;
    fn check(given: Given) -> Option<Self::Out>;
}

pub(super) struct Is<R: Rule>(pub(super) R::Out);

impl<'de, R: Rule> Deserialize<'de> for Is<R> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(Check(PhantomData::<R>)).map(Is)
    }
}

struct Check<R>(PhantomData<R>);

impl<R: Rule> Visitor<'_> for Check<R> {
    type Value = R::Out;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&R::right())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<R::Out, E> {
        R::check(Given::Int(value))
            .ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<R::Out, E> {
        R::check(Given::Float(value))
            .ok_or_else(|| E::invalid_value(Unexpected::Float(value), &self))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<R::Out, E> {
        R::check(Given::Text(value)).ok_or_else(|| E::invalid_value(Unexpected::Str(value), &self))
    }
}

/// A whole number from `MIN` to `MAX`.
pub(super) struct Count<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> Rule for Count<MIN, MAX> {
    type Out = u32;

    fn right() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn check(given: Given) -> Option<u32> {
        let Given::Int(value) = given else {
            return None;
        };
        u32::try_from(value)
            .ok()
            .filter(|value| (MIN..=MAX).contains(value))
    }
}

/// Defines rules of one form: name, output, what is right, the check.
macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident -> $out:ty, $right:expr, $check:expr;)*) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl Rule for $name {
            type Out = $out;

            fn right() -> String {
                $right.to_string()
            }

            fn check(given: Given) -> Option<$out> {
                let check: fn(Given) -> Option<$out> = $check;
                check(given)
            }
        }
    )*};
}

rules! {
    Number -> f64, "a number", number;
    Factor -> f64, "a number that is not 0", |given| number(given).filter(|&x| x != 0.0);
    Size -> f64, "a number that is not below 0", |given| number(given).filter(|&x| x >= 0.0);
    Window -> u32, "an odd whole number from 3 to 15",
        |given| Count::<3, 15>::check(given).filter(|n| n % 2 == 1);
    Listen -> SocketAddr, "an address and a port, as \"0.0.0.0:8080\" or \"[::]:8080\"",
        |given| text(given).and_then(listen);
    Host -> String, "a host name without scheme or path, as \"encke.example:8080\"",
        |given| text(given).filter(|text| is_host(text)).map(str::to_ascii_lowercase);
    Origin -> String, "an origin without a path, as \"https://encke.example\", or \"null\"",
        |given| text(given).filter(|text| is_origin(text)).map(str::to_ascii_lowercase);
    Cors -> String, "an origin without a path, as \"https://encke.example\", or \"null\", or \"*\"",
        |given| text(given).filter(|text| is_cors(text)).map(str::to_ascii_lowercase);
    Proxy -> String, "an address or a network, as \"192.168.1.2\" or \"10.0.0.0/8\"",
        |given| text(given).filter(|text| is_network(text)).map(str::to_string);
    Label -> String, format!("1 to {LABEL_BYTES_MAX} bytes of text without control characters"),
        |given| text(given).filter(|text| is_label(text)).map(str::to_string);
    Pattern -> String, name::PATTERN_RULE.replacen(" is", ":", 1),
        |given| text(given).and_then(name::pattern).map(str::to_string);
    Topic -> String, name::NAME_RULE.replacen(" is", ":", 1),
        |given| text(given).and_then(name::topic).map(str::to_string);
    Sha256 -> [u8; 32], "the 64 hexadecimal digits that `encke token NAME` prints",
        |given| text(given).and_then(sha256);
}

fn number(given: Given) -> Option<f64> {
    match given {
        Given::Int(value) => Some(value as f64),
        Given::Float(value) => Some(value).filter(|value| value.is_finite()),
        Given::Text(_) => None,
    }
}

fn text(given: Given<'_>) -> Option<&str> {
    match given {
        Given::Text(text) => Some(text),
        Given::Int(_) | Given::Float(_) => None,
    }
}

/// The address in `ADDRESS:PORT`, or `None`; `:PORT` is every address.
pub fn listen(text: &str) -> Option<SocketAddr> {
    let every = || {
        text.strip_prefix(':')?
            .parse()
            .ok()
            .map(|port| (Ipv6Addr::UNSPECIFIED, port))
    };
    text.parse().ok().or_else(|| every().map(SocketAddr::from))
}

/// `HOST`, `HOST:PORT` or `[IPV6]:PORT`.
fn is_host(text: &str) -> bool {
    let port_from = text.rfind(']').map_or(0, |i| i + 1);
    let (host, port) = match text[port_from..].split_once(':') {
        Some((_, port)) => (&text[..text.len() - port.len() - 1], Some(port)),
        None => (text, None),
    };
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    let is_literal = |literal: &str| {
        let inner = literal
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok())
    };
    (is_name(host) || is_literal(host)) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_origin(text: &str) -> bool {
    text == "null"
        || text
            .split_once("://")
            .is_some_and(|(scheme, host)| is_scheme(scheme) && is_host(host))
}

fn is_cors(text: &str) -> bool {
    text == "*" || is_origin(text)
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn is_network(text: &str) -> bool {
    let (address, bits) = text.split_once('/').unwrap_or((text, "0"));
    let bits_max = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= bits_max)
}

fn is_label(text: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&text.len()) && !text.contains(|c: char| c.is_control())
}

fn sha256(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// The end of a token, in seconds since 1970: a date (its last moment, UTC), a date with a time
/// (UTC when it says nothing else), or those seconds.
pub(super) struct Until(pub(super) u64);

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Until, D::Error> {
        let right =
            "invalid date, expected a date as 2030-12-31 or 2030-12-31T23:59:59Z, without quotes";
        let end = match toml::Value::deserialize(source)? {
            toml::Value::Integer(seconds) => u64::try_from(seconds).ok(),
            toml::Value::Datetime(date) => seconds(&date),
            _ => None,
        };
        end.map(Until).ok_or_else(|| D::Error::custom(right))
    }
}

/// Seconds since 1970 of a date, of its end when it has no time. `None` before 1970 or without one.
fn seconds(datetime: &Datetime) -> Option<u64> {
    let date = datetime.date?;
    // Days since 1970-01-01 in the proleptic Gregorian calendar, with years that begin in March.
    let (year, month) = (i64::from(date.year), i64::from(date.month));
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = 365 * year + leaps + (153 * month + 2) / 5 + i64::from(date.day) - 1 - 719_468;
    let second = match datetime.time {
        Some(time) => {
            let second = i64::from(time.second.unwrap_or(0));
            3600 * i64::from(time.hour) + 60 * i64::from(time.minute) + second
        }
        None => 86_399,
    };
    let east_minutes = match datetime.offset {
        Some(Offset::Custom { minutes }) => i64::from(minutes),
        Some(Offset::Z) | None => 0,
    };
    u64::try_from(86_400 * days + second - 60 * east_minutes).ok()
}

//! What single values may be: each rule says what would be right, and checks one value.
//!
//! Hosts and origins follow RFC 3986 section 3 and RFC 6454 section 7, dates RFC 3339. It never
//! looks at two keys at once, and never says where a fault is.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use crate::limits::LABEL_BYTES_MAX;
use crate::name;

/// What a text may be.
pub(super) struct Text {
    /// What would be right, as it stands behind "write" in an error.
    right: &'static str,
    /// The text as it is kept, or `None` when it is not right.
    pub(super) check: fn(&str) -> Option<String>,
}

/// What a number may be.
pub(super) struct Number {
    /// What would be right, as it stands behind "write" in an error.
    pub(super) right: &'static str,
    pub(super) is_right: fn(f64) -> bool,
}

impl Text {
    /// The grammar's own words are sentences: "a topic is ...".
    pub(super) fn right(&self) -> String {
        self.right.replacen(" is ", ": ", 1)
    }
}

/// Bytes of a host and its port: the page's fields name it twice, in a head of 2,048 bytes.
const HOST_BYTES_MAX: usize = 128;
/// Bytes of an origin: answers name it, in a head of 2,048 bytes.
const ORIGIN_BYTES_MAX: usize = 200;
/// What a token may be called, as a sentence of errors.
pub const TOKEN_NAME_RULE: &str =
    "a token's name is 1 to 32 of the characters A-Z a-z 0-9 _ -, as \"phone\"";
const TOKEN_NAME_BYTES_MAX: usize = 32;
/// Bytes of a unix socket's path (unix(7): `sun_path` without its last zero).
const SOCKET_PATH_BYTES_MAX: usize = 107;

const _: () = assert!(LABEL_BYTES_MAX == 64, "LABEL says so");

pub(super) const NUMBER: &Number = &Number {
    right: "a number",
    is_right: f64::is_finite,
};
pub(super) const FACTOR: &Number = &Number {
    right: "a number that is not 0",
    is_right: |value| value.is_finite() && value != 0.0,
};
pub(super) const SIZE: &Number = &Number {
    right: "a number that is not below 0",
    is_right: |value| value.is_finite() && value >= 0.0,
};

pub(super) const ANY: &Text = &Text {
    right: "a text in quotes",
    check: |text| Some(text.to_string()),
};
pub(super) const LABEL: &Text = &Text {
    right: "1 to 64 bytes of text without control characters",
    check: |text| kept(text, is_label),
};
pub(super) const TOKEN_NAME: &Text = &Text {
    right: TOKEN_NAME_RULE,
    check: |text| kept(text, is_token_name),
};
pub(super) const HOST: &Text = &Text {
    right: "a host name without scheme or path, as \"encke.example:8080\", of at most 128 bytes",
    check: |text| lowered(text, |text| text.len() <= HOST_BYTES_MAX && is_host(text)),
};
pub(super) const ORIGIN: &Text = &Text {
    right: "an origin without a path, as \"https://encke.example\", or \"null\"",
    check: |text| lowered(text, is_origin),
};
pub(super) const CORS: &Text = &Text {
    right: "an origin without a path, as \"https://encke.example\", or \"null\", or \"*\"",
    check: |text| lowered(text, |text| text == "*" || is_origin(text)),
};
pub(super) const PROXY: &Text = &Text {
    right: "an address or a network, as \"192.168.1.2\" or \"10.0.0.0/8\"",
    check: |text| kept(text, is_network),
};
pub(super) const PATTERN: &Text = &Text {
    right: name::PATTERN_RULE,
    check: |text| name::pattern(text).map(str::to_string),
};
pub(super) const TOPIC: &Text = &Text {
    right: name::NAME_RULE,
    check: |text| name::topic(text).map(str::to_string),
};
pub(super) const WORD: &Text = &Text {
    right: "a text without NUL, as the program gets it",
    check: |text| kept(text, |text| !text.contains('\0')),
};
pub(super) const SOCKET: &Text = &Text {
    right: "a full path of at most 107 bytes, as \"/run/encke/readings\"",
    check: |text| kept(text, is_socket),
};

fn kept(text: &str, is_right: fn(&str) -> bool) -> Option<String> {
    is_right(text).then(|| text.to_string())
}

fn lowered(text: &str, is_right: fn(&str) -> bool) -> Option<String> {
    is_right(text).then(|| text.to_ascii_lowercase())
}

fn is_socket(text: &str) -> bool {
    text.starts_with('/') && text.len() <= SOCKET_PATH_BYTES_MAX && !text.contains('\0')
}

/// The permissions in three or four octal digits.
pub(super) fn mode(text: &str) -> Option<u32> {
    let is_mode = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    u32::from_str_radix(text, 8).ok().filter(|_| is_mode)
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
    let has_parts = || {
        let parts = text.split_once("://");
        parts.is_some_and(|(scheme, host)| is_scheme(scheme) && is_host(host))
    };
    text.len() <= ORIGIN_BYTES_MAX && (text == "null" || has_parts())
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

/// Whether a token may be called so: it stands in front of the dot of `NAME.SECRET`.
pub fn is_token_name(text: &str) -> bool {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=TOKEN_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_right)
}

fn is_label(text: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&text.len()) && !text.contains(|c: char| c.is_control())
}

pub(super) fn sha256(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Seconds since 1970 of a TOML date, of its end when it has no time; UTC when it says nothing
/// else. `None` before 1970, and when it is no date.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let year = digits(&mut rest, 4, 0..=9999)?;
    let month = sign(&mut rest, "-").and_then(|_| digits(&mut rest, 2, 1..=12))?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let day_max = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let day = sign(&mut rest, "-").and_then(|_| digits(&mut rest, 2, 1..=day_max))?;
    // Days since 1970-01-01 in the proleptic Gregorian calendar, with years that begin in March.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = 365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468;
    let second = match sign(&mut rest, "Tt ") {
        Some(_) => time(&mut rest)?,
        None => 86_399,
    };
    u64::try_from(86_400 * days + second)
        .ok()
        .filter(|_| rest.is_empty())
}

/// Seconds of `HH:MM[:SS[.FRACTION]]`, less the offset behind it.
fn time(rest: &mut &str) -> Option<i64> {
    let hour = digits(rest, 2, 0..=23)?;
    let minute = sign(rest, ":").and_then(|_| digits(rest, 2, 0..=59))?;
    let mut second = 3600 * hour + 60 * minute;
    if sign(rest, ":").is_some() {
        second += digits(rest, 2, 0..=60)?;
        if sign(rest, ".").is_some() {
            *rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        }
    }
    let way = match sign(rest, "Zz+-") {
        Some('+') => -60,
        Some('-') => 60,
        _ => return Some(second),
    };
    let hours = digits(rest, 2, 0..=23)?;
    let minutes = sign(rest, ":").and_then(|_| digits(rest, 2, 0..=59))?;
    Some(second + way * (60 * hours + minutes))
}

/// Takes one of `signs` from the front of `rest`.
fn sign(rest: &mut &str, signs: &str) -> Option<char> {
    let first = rest.chars().next().filter(|&c| signs.contains(c))?;
    *rest = &rest[first.len_utf8()..];
    Some(first)
}

/// Takes a number of `count` digits from the front of `rest`.
fn digits(rest: &mut &str, count: usize, range: RangeInclusive<i64>) -> Option<i64> {
    let (number, behind) = rest.split_at_checked(count)?;
    *rest = behind;
    let is_number = number.bytes().all(|b| b.is_ascii_digit());
    let number = number.parse().ok().filter(|_| is_number)?;
    range.contains(&number).then_some(number)
}

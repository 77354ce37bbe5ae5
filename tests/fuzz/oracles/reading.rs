//! A second reading of a request's head, written from the grammar of RFC 9112 and not for speed:
//! it takes what the grammar allows and nothing else.

use std::net::Ipv6Addr;

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Length(u64),
    Chunked,
}

/// A head, line by line.
#[derive(Debug)]
pub(crate) struct Reading<'b> {
    pub(crate) method: &'b str,
    pub(crate) target: &'b [u8],
    /// Of the version 1.x.
    pub(crate) minor: u8,
    pub(crate) fields: Vec<(String, &'b [u8])>,
}

/// The length of the head at the start of `bytes`, if it is whole: all that stands before the first
/// empty line behind a request line, and that line.
pub(crate) fn head_bytes(bytes: &[u8]) -> Option<usize> {
    let mut begin = 0;
    while bytes[begin..].starts_with(b"\r\n") {
        begin += 2;
    }
    let end = bytes[begin..]
        .windows(4)
        .position(|four| four == b"\r\n\r\n")?;
    Some(begin + end + 4)
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut from = 0;
    for at in 1..bytes.len() {
        if bytes[at - 1..=at] == *b"\r\n" {
            lines.push(&bytes[from..at - 1]);
            from = at + 1;
        }
    }
    assert_eq!(from, bytes.len(), "a head ends with a line's end");
    lines
}

fn is_token(text: &[u8]) -> bool {
    let of_token = |byte: &u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => true,
        other => b"!#$%&'*+-.^_`|~".contains(other),
    };
    !text.is_empty() && text.iter().all(of_token)
}

fn is_value(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..=0xff))
}

fn trim(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let from = text
        .iter()
        .position(|byte| !is_space(byte))
        .unwrap_or(text.len());
    let to = text
        .iter()
        .rposition(|byte| !is_space(byte))
        .map_or(from, |at| at + 1);
    &text[from..to]
}

/// Whether a text is `uri-host [":" port]`, and not empty.
pub(crate) fn is_host(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    let (is_good, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok(), port),
            None => return false,
        },
        None => {
            let at = text.find(':').unwrap_or(text.len());
            (is_name(&text[..at]), &text[at..])
        }
    };
    let port = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some("") => true,
        Some(digits) => {
            let value = digits.bytes().all(|byte| byte.is_ascii_digit());
            value
                && digits.trim_start_matches('0').len() <= 5
                && digits.len() <= 20
                && digits.parse::<u128>().is_ok_and(|port| port < 65_536)
        }
    };
    is_good && port
}

fn is_name(name: &str) -> bool {
    let escapes = name.split('%').skip(1);
    let are_hex = |escape: &str| {
        escape.len() >= 2 && escape.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit)
    };
    let of_name = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=%".contains(c);
    !name.is_empty() && name.chars().all(of_name) && { escapes }.all(are_hex)
}

/// A target's path, query and authority.
pub(crate) type Target<'b> = (&'b [u8], &'b [u8], Option<&'b [u8]>);

impl<'b> Reading<'b> {
    /// Reads a whole head; None when it is not one of HTTP/1.0 or HTTP/1.1.
    pub(crate) fn of(bytes: &'b [u8]) -> Option<Reading<'b>> {
        let mut bytes = bytes;
        for _ in 0..2 {
            bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
        }
        let lines = lines(bytes);
        let [request, fields @ .., b""] = &lines[..] else {
            return None;
        };
        let parts: Vec<&[u8]> = request.split(|byte| *byte == b' ').collect();
        let [method, target, version] = parts[..] else {
            return None;
        };
        let of_target = |byte: &u8| matches!(byte, b'!'..=b'~') && *byte != b'#';
        if !is_token(method) || target.is_empty() || !target.iter().all(of_target) {
            return None;
        }
        let minor = match version {
            b"HTTP/1.0" => 0,
            b"HTTP/1.1" => 1,
            _ => return None,
        };
        let mut reading = Reading {
            method: std::str::from_utf8(method).ok()?,
            target,
            minor,
            fields: Vec::new(),
        };
        for line in fields {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            if !is_token(name) || !is_value(value) {
                return None;
            }
            let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
            reading.fields.push((name, trim(value)));
        }
        reading.parts()?;
        let hosts = reading.all("host");
        let is_good = match hosts[..] {
            [] => minor == 0,
            [host] => is_host(host),
            _ => false,
        };
        is_good.then_some(reading)
    }

    /// The values of all fields of a name in lower case.
    pub(crate) fn all(&self, name: &str) -> Vec<&'b [u8]> {
        let named = self.fields.iter().filter(|field| field.0 == name);
        named.map(|field| field.1).collect()
    }

    /// The target in its four forms, of which CONNECT's is not one we know.
    pub(crate) fn parts(&self) -> Option<Target<'b>> {
        let target = self.target;
        if self.method == "CONNECT" {
            return None;
        }
        if target == b"*" {
            return (self.method == "OPTIONS").then_some((target, b"", None));
        }
        let (rest, authority) = if target[0] == b'/' {
            (target, None)
        } else {
            let text = std::str::from_utf8(target).ok()?;
            let (scheme, _) = text.split_once("://")?;
            if !["http", "https"].contains(&&*scheme.to_ascii_lowercase()) {
                return None;
            }
            let rest = &target[scheme.len() + 3..];
            let end = rest.iter().position(|byte| *byte == b'/' || *byte == b'?');
            let (authority, rest) = rest.split_at(end.unwrap_or(rest.len()));
            if !is_host(authority) {
                return None;
            }
            (rest, Some(authority))
        };
        let mut halves = rest.splitn(2, |byte| *byte == b'?');
        let path = halves.next().unwrap_or_default();
        let path = if path.is_empty() { b"/" } else { path };
        Some((path, halves.next().unwrap_or_default(), authority))
    }

    /// How the body ends; None when that cannot be said for certain.
    pub(crate) fn body(&self) -> Option<Body> {
        let (codings, lengths) = (self.all("transfer-encoding"), self.all("content-length"));
        match (&codings[..], &lengths[..]) {
            ([], []) => Some(Body::None),
            ([], [digits]) if (1..20).contains(&digits.len()) => {
                let are_digits = digits.iter().all(u8::is_ascii_digit);
                let value = std::str::from_utf8(digits).ok()?.parse();
                are_digits.then_some(Body::Length(value.ok()?))
            }
            ([coding], []) if self.minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => {
                Some(Body::Chunked)
            }
            _ => None,
        }
    }

    /// Whether the client says that this is its last request.
    pub(crate) fn is_last(&self) -> bool {
        let says_close = self.all("connection").iter().any(|list| {
            list.split(|byte| *byte == b',')
                .any(|member| trim(member).eq_ignore_ascii_case(b"close"))
        });
        self.minor == 0 || says_close
    }
}

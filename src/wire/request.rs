//! The head of a request: where it ends, what it says, and how its body is framed.
//!
//! Follows RFC 9112 sections 2 to 6 and RFC 9110 sections 7.2 (`Host`), 7.6.1 (`Connection`) and
//! 10.1.1 (`Expect`). Where they let a server be lenient it is strict: one reading of a head, or
//! none. It never decides what a request may do, and it copies nothing: a `Head` borrows its bytes.

use core::net::Ipv6Addr;

use crate::limits::{FIELDS_MAX, HEAD_BYTES_MAX, REQUEST_LINE_BYTES_MAX};
use crate::wire::Refusal;
use crate::wire::text::{decimal, has_token, hex_digit, trim};

/// Empty lines tolerated before a request line (RFC 9112 section 2.2).
const LEADING_MAX: u8 = 2;

/// The first byte of a TLS record that carries a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

const fn bad(reason: &'static str) -> Refusal {
    Refusal::new(400, reason)
}

const LINE_END: Refusal = bad("A line of the head must end in CR and LF, and hold neither alone.");
const LEADING: Refusal = bad("More than two empty lines before the request line.");
const TLS: Refusal = bad("This port speaks plain HTTP: use http://, not https://.");
const CONTROL: Refusal = bad("The head holds a control character.");
const LINE_LONG: Refusal = Refusal::new(414, "The request line may take {} bytes.").with([
    REQUEST_LINE_BYTES_MAX as u64,
    0,
    0,
]);
const HEAD_LONG: Refusal = Refusal::new(431, "The head of a request may take {} bytes.").with([
    HEAD_BYTES_MAX as u64,
    0,
    0,
]);
const FIELDS_MANY: Refusal =
    Refusal::new(431, "The head of a request may hold {} fields.").with([FIELDS_MAX as u64, 0, 0]);

const INCOMPLETE: Refusal = bad("The head must end in one empty line.");
const REQUEST_LINE: Refusal =
    bad("The request line must be `METHOD TARGET HTTP/1.1`, with single spaces.");
const VERSION: Refusal = Refusal::new(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.");
const FIELD: Refusal =
    bad("A field must be `name: value` on one line, without a space before the colon.");
const TARGET_BYTE: Refusal =
    bad("The target must be printable ASCII without `#`: percent-encode everything else.");
const TARGET_FORM: Refusal =
    bad("The target must be a path that begins with `/`, or an http:// address.");
const ASTERISK: Refusal = bad("The target `*` is for OPTIONS only.");
const CONNECT: Refusal = Refusal::new(501, "CONNECT is not supported: this is no proxy.");
const SECURE: Refusal = Refusal::new(
    421,
    "An https:// address is asked for through TLS, which this port does not speak.",
);
const HOST_COUNT: Refusal = bad("A request must have exactly one Host field.");
const HOST: Refusal =
    bad("Host must be a name, an IPv4 address or an [IPv6] address, with a port or none.");
const EXPECT: Refusal = Refusal::new(417, "The only expectation met here is 100-continue.");

const CODING_OLD: Refusal = bad("Transfer-Encoding does not exist in HTTP/1.0.");
const CODING_LENGTH: Refusal = bad("Transfer-Encoding and Content-Length must not stand together.");
const CODING_LAST: Refusal = bad("Transfer-Encoding must name chunked once, as its last coding.");
const CODING_UNKNOWN: Refusal =
    Refusal::new(501, "The only transfer coding known here is chunked.");
const LENGTH: Refusal = bad("Content-Length must stand once, as 1 to 19 decimal digits.");

/// Whether a byte may stand in a field value: visible, SP, HTAB or obs-text.
pub(crate) fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether a byte may stand in a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What the next byte of a head belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the request line.
    Start,
    StartLf,
    Line,
    LineLf,
    /// The start of a field line, or of the empty line that ends the head.
    FieldStart,
    Field,
    FieldLf,
    EndLf,
}

/// The search for the end of a head. It goes on where it stopped and looks at each byte once.
#[derive(Clone, Debug)]
pub struct HeadScan {
    at: usize,
    line_start: usize,
    leading: u8,
    place: Place,
}

impl Default for HeadScan {
    fn default() -> HeadScan {
        HeadScan::new()
    }
}

impl HeadScan {
    /// A search before the first byte.
    pub const fn new() -> HeadScan {
        HeadScan {
            at: 0,
            line_start: 0,
            leading: 0,
            place: Place::Start,
        }
    }

    /// The length of the head that `bytes` begins with, or None when it is not complete yet.
    ///
    /// `bytes` holds all that has come of this request so far: what was given before, and more.
    /// The length includes the empty line at the end and up to two empty lines before the head.
    ///
    /// # Errors
    /// 400 for a line end other than CRLF and for control characters, 414 and 431 for the limits,
    /// each as soon as it is certain, and again if asked again; then the connection must close.
    pub fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        loop {
            if self.at >= HEAD_BYTES_MAX {
                return Err(HEAD_LONG);
            }
            let Some(&byte) = bytes.get(self.at) else {
                return Ok(None);
            };
            self.place = match (self.place, byte) {
                (Place::EndLf, b'\n') => return Ok(Some(self.at + 1)),
                (Place::Start, b'\r') if self.leading == LEADING_MAX => return Err(LEADING),
                (Place::Start, b'\r') => Place::StartLf,
                (Place::Line, b'\r') => Place::LineLf,
                (Place::FieldStart, b'\r') => Place::EndLf,
                (Place::Field, b'\r') => Place::FieldLf,
                (Place::StartLf, b'\n') => {
                    self.leading += 1;
                    Place::Start
                }
                (Place::LineLf | Place::FieldLf, b'\n') => Place::FieldStart,
                (Place::StartLf | Place::LineLf | Place::FieldLf | Place::EndLf, _)
                | (_, b'\n') => return Err(LINE_END),
                (Place::Start, TLS_HANDSHAKE) => return Err(TLS),
                (_, control) if !is_text(control) => return Err(CONTROL),
                (Place::Start, _) => {
                    self.line_start = self.at;
                    Place::Line
                }
                (Place::Line, _) if self.at - self.line_start >= REQUEST_LINE_BYTES_MAX => {
                    return Err(LINE_LONG);
                }
                (Place::Line, _) => Place::Line,
                (Place::FieldStart | Place::Field, _) => Place::Field,
            };
            self.at += 1;
            self.skip_text(bytes);
        }
    }

    /// Goes to the end of a run of text, for speed; never past a limit.
    fn skip_text(&mut self, bytes: &[u8]) {
        let limit = match self.place {
            Place::Line => self.line_start + REQUEST_LINE_BYTES_MAX,
            Place::Field => HEAD_BYTES_MAX,
            _ => return,
        };
        let end = limit.min(bytes.len());
        let rest = bytes.get(self.at..end).unwrap_or_default();
        self.at += rest
            .iter()
            .position(|&byte| !is_text(byte))
            .unwrap_or(rest.len());
    }
}

/// A request method (RFC 9110 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `DELETE`.
    Delete,
    /// `OPTIONS`.
    Options,
    /// Another token: 501, unless something else is wrong with the request.
    Other,
}

impl Method {
    /// Whether a request with it changes something; what is not known may.
    pub fn is_write(self) -> bool {
        use Method::{Delete, Other, Post, Put};
        matches!(self, Post | Put | Delete | Other)
    }
}

const METHODS: [(&str, Method); 6] = [
    ("GET", Method::Get),
    ("HEAD", Method::Head),
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("DELETE", Method::Delete),
    ("OPTIONS", Method::Options),
];

/// A protocol version that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no chunks, and the connection closes behind the answer.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How the end of a request's body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// So many bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
}

/// A parsed head, borrowed from the bytes it was read from.
#[derive(Clone, Debug)]
pub struct Head<'b> {
    /// The method.
    pub method: Method,
    /// The version.
    pub version: Version,
    /// The path of the target, raw, with its leading `/`; `*` for OPTIONS on the server.
    pub target_path: &'b [u8],
    /// The query of the target, raw, without its `?`; empty when there is none.
    pub query: &'b [u8],
    /// The authority of an absolute target, else the Host field; empty only in HTTP/1.0.
    pub host: &'b [u8],
    fields: [httparse::Header<'b>; FIELDS_MAX],
    count: usize,
}

impl<'b> Head<'b> {
    /// Reads the head that `bytes` is, from its first byte to its empty line, as `HeadScan` found.
    ///
    /// # Errors
    /// 431 for too many fields, 505 for another version, 501 for CONNECT, 421 for an https address,
    /// else 400. The connection must close: where the request ends is not known.
    #[inline]
    pub fn parse(bytes: &'b [u8]) -> Result<Head<'b>, Refusal> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(len)) if len == bytes.len() => {}
            Ok(_) => return Err(INCOMPLETE),
            Err(error) => return Err(refusal(error, bytes)),
        }
        let name = request.method.ok_or(INCOMPLETE)?;
        let target = request.path.ok_or(INCOMPLETE)?;
        let version = match request.version {
            Some(0) => Version::Http10,
            _ => Version::Http11,
        };
        let count = request.headers.len();
        let method = METHODS.iter().find(|(method, _)| *method == name);
        let method = method.map_or(Method::Other, |&(_, method)| method);
        if name == "CONNECT" {
            return Err(CONNECT);
        }
        let target = Target::parse(target.as_bytes(), method)?;
        let (target_path, query) = (target.path, target.query);
        let mut head = Head {
            method,
            version,
            target_path,
            query,
            host: b"",
            fields,
            count,
        };
        let host = head.checked_host()?;
        head.host = target.authority.unwrap_or(host);
        Ok(head)
    }

    /// The Host field (RFC 9112 section 3.2); empty when an HTTP/1.0 request has none.
    fn checked_host(&self) -> Result<&'b [u8], Refusal> {
        let mut hosts = self.fields("host");
        match (hosts.next(), hosts.next()) {
            (None, _) if self.version == Version::Http10 => Ok(b""),
            (Some(host), None) => host_and_port(host).map(|_| host).ok_or(HOST),
            _ => Err(HOST_COUNT),
        }
    }

    /// The value of the first field of this name, in any case; without white space around it.
    pub fn field(&self, name: &str) -> Option<&'b [u8]> {
        self.fields(name).next()
    }

    /// The values of all fields of this name, in their order.
    pub fn fields<'h>(&'h self, name: &'h str) -> Fields<'h, 'b> {
        Fields {
            rest: self.fields[..self.count].iter(),
            name,
        }
    }

    /// The names of all fields, as they were sent.
    pub fn names(&self) -> impl Iterator<Item = &'b str> {
        self.fields[..self.count].iter().map(|field| field.name)
    }

    /// Whether the connection may carry another request behind this one (RFC 9112 section 9.3).
    ///
    /// Never in HTTP/1.0, whatever it asks for.
    pub fn wants_keep_alive(&self) -> bool {
        self.version == Version::Http11
            && !self
                .fields("connection")
                .any(|list| has_token(list, "close"))
    }

    /// Whether the client waits for 100 before it sends the body; HTTP/1.0 cannot ask for it.
    ///
    /// # Errors
    /// 417 for any other expectation.
    pub fn expects_continue(&self) -> Result<bool, Refusal> {
        if self.version == Version::Http10 {
            return Ok(false);
        }
        let mut expects = false;
        for list in self.fields("expect") {
            for expectation in list.split(|&byte| byte == b',').map(trim) {
                if expectation.eq_ignore_ascii_case(b"100-continue") {
                    expects = true;
                } else if !expectation.is_empty() {
                    return Err(EXPECT);
                }
            }
        }
        Ok(expects)
    }

    /// How the body ends: the one place that decides it, in the order of RFC 9112 section 6.3.
    ///
    /// # Errors
    /// 400 or 501; then the end of the body is not known, and the connection must close.
    pub fn framing(&self) -> Result<Framing, Refusal> {
        if self.field("transfer-encoding").is_some() {
            if self.version == Version::Http10 {
                return Err(CODING_OLD);
            }
            if self.field("content-length").is_some() {
                return Err(CODING_LENGTH);
            }
            return self.coding();
        }
        let mut lengths = self.fields("content-length");
        let Some(length) = lengths.next() else {
            return Ok(Framing::None);
        };
        if length.len() > 19 || lengths.next().is_some() {
            return Err(LENGTH);
        }
        decimal(length).map(Framing::Length).ok_or(LENGTH)
    }

    /// Chunked, when Transfer-Encoding names that and nothing else.
    ///
    /// Without chunked at the end nothing says where the body ends, so that is 400 whatever else
    /// is named. An empty member is refused, too: who does not skip it sees another framing.
    fn coding(&self) -> Result<Framing, Refusal> {
        let (mut chunked, mut unknown) = (false, false);
        for list in self.fields("transfer-encoding") {
            for coding in list.split(|&byte| byte == b',').map(trim) {
                if chunked || coding.is_empty() {
                    return Err(CODING_LAST);
                }
                chunked = coding.eq_ignore_ascii_case(b"chunked");
                unknown |= !chunked;
            }
        }
        match (chunked, unknown) {
            (true, false) => Ok(Framing::Chunked),
            (true, true) => Err(CODING_UNKNOWN),
            (false, _) => Err(CODING_LAST),
        }
    }
}

/// The values of the fields of one name.
#[derive(Clone, Debug)]
pub struct Fields<'h, 'b> {
    rest: core::slice::Iter<'h, httparse::Header<'b>>,
    name: &'h str,
}

impl<'b> Iterator for Fields<'_, 'b> {
    type Item = &'b [u8];

    // One copy: a dozen fields are looked for, once for each head that is new.
    #[inline(never)]
    fn next(&mut self) -> Option<&'b [u8]> {
        let name = self.name;
        let field = self
            .rest
            .find(|field| field.name.eq_ignore_ascii_case(name))?;
        Some(field.value)
    }
}

/// What the parser's error means for the client.
fn refusal(error: httparse::Error, head: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => FIELDS_MANY,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => FIELD,
        _ => request_line_refusal(head),
    }
}

/// Whether a request of which this has come is HEAD: even a refusal of its head has no content then
/// (RFC 9110 section 9.3.2).
pub fn is_head(mut bytes: &[u8]) -> bool {
    for _ in 0..LEADING_MAX {
        bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    }
    bytes.starts_with(b"HEAD ")
}

/// What is wrong with a request line that did not parse.
fn request_line_refusal(head: &[u8]) -> Refusal {
    let mut lines = head.split(|&byte| byte == b'\r' || byte == b'\n');
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let mut parts = line.split(|&byte| byte == b' ');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(method), Some(target), Some(version), None)
            if !method.is_empty()
                && !target.is_empty()
                && method.iter().all(|&byte| is_token(byte)) =>
        {
            match version {
                _ if !target.iter().all(u8::is_ascii_graphic) => TARGET_BYTE,
                [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => VERSION,
                _ => REQUEST_LINE,
            }
        }
        _ => REQUEST_LINE,
    }
}

/// The parts of a request target (RFC 9112 section 3.2).
struct Target<'b> {
    path: &'b [u8],
    query: &'b [u8],
    authority: Option<&'b [u8]>,
}

impl<'b> Target<'b> {
    fn parse(target: &'b [u8], method: Method) -> Result<Target<'b>, Refusal> {
        if !target
            .iter()
            .all(|&byte| byte.is_ascii_graphic() && byte != b'#')
        {
            return Err(TARGET_BYTE);
        }
        if target == b"*" {
            let asterisk = Target {
                path: target,
                query: b"",
                authority: None,
            };
            return if method == Method::Options {
                Ok(asterisk)
            } else {
                Err(ASTERISK)
            };
        }
        if target.first() == Some(&b'/') {
            let (path, query) = split_query(target);
            return Ok(Target {
                path,
                query,
                authority: None,
            });
        }
        if without_scheme(target, "https://").is_some() {
            return Err(SECURE);
        }
        let rest = without_scheme(target, "http://").ok_or(TARGET_FORM)?;
        let end = rest
            .iter()
            .position(|byte| b"/?".contains(byte))
            .unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        host_and_port(authority).ok_or(HOST)?;
        let (path, query) = split_query(rest);
        let path = if path.is_empty() { b"/" } else { path };
        Ok(Target {
            path,
            query,
            authority: Some(authority),
        })
    }
}

/// What stands behind `scheme`, in any case.
fn without_scheme<'b>(target: &'b [u8], scheme: &str) -> Option<&'b [u8]> {
    let (start, rest) = target.split_at_checked(scheme.len())?;
    let is_scheme = start.eq_ignore_ascii_case(scheme.as_bytes());
    is_scheme.then_some(rest)
}

/// A path and its query, without the `?` between them.
fn split_query(target: &[u8]) -> (&[u8], &[u8]) {
    match target.iter().position(|&byte| byte == b'?') {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, b""),
    }
}

/// The host, an IPv6 address without its brackets, and the port if one is given.
///
/// None when it is not `uri-host [":" port]` (RFC 9110 section 7.2), is empty, or has a port above
/// 65535. Names and IPv4 addresses are checked by their characters alone; zone identifiers are not
/// accepted.
pub fn host_and_port(host: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let (name, port) = if let Some(rest) = host.strip_prefix(b"[") {
        let end = rest.iter().position(|&byte| byte == b']')?;
        let address = &rest[..end];
        core::str::from_utf8(address)
            .ok()?
            .parse::<Ipv6Addr>()
            .ok()?;
        (address, &rest[end + 1..])
    } else {
        let end = host
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or(host.len());
        let (name, port) = host.split_at(end);
        (is_reg_name(name).then_some(name)?, port)
    };
    match port {
        b"" | b":" => Some((name, None)),
        [b':', digits @ ..] => Some((name, Some(u16::try_from(decimal(digits)?).ok()?))),
        _ => None,
    }
}

/// Whether a text is a registered name of at least one character (RFC 3986 section 3.2.2).
fn is_reg_name(mut name: &[u8]) -> bool {
    let given = !name.is_empty();
    loop {
        name = match name {
            [] => return given,
            [b'%', high, low, rest @ ..] if hex_digit(*high).and(hex_digit(*low)).is_some() => rest,
            [byte, rest @ ..]
                if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) =>
            {
                rest
            }
            _ => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds the search with a buffer that grows to each of `ends` in turn.
    fn find(bytes: &[u8], ends: impl IntoIterator<Item = usize>) -> Result<Option<usize>, Refusal> {
        let mut scan = HeadScan::new();
        for end in ends {
            let found = scan.find(&bytes[..end])?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Searches whole, cut at each byte, and byte by byte: all must agree.
    fn find_all_ways(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        let whole = find(bytes, [bytes.len()]);
        for cut in 0..bytes.len() {
            assert_eq!(find(bytes, [cut, bytes.len()]), whole, "cut at {cut}");
        }
        assert_eq!(find(bytes, 0..=bytes.len()), whole, "byte by byte");
        whole
    }

    /// What a connection does with bytes that are one whole head.
    fn read(bytes: &[u8]) -> Result<Head<'_>, Refusal> {
        let len = find_all_ways(bytes)?.expect("the head of a test is complete");
        Head::parse(&bytes[..len])
    }

    /// A head of one request line and fields, given without line ends, and with a Host.
    fn with_host(lines: &[&str]) -> Vec<u8> {
        format!("{}\r\nHost: board.local\r\n\r\n", lines.join("\r\n")).into_bytes()
    }

    fn get(fields: &[&str]) -> Vec<u8> {
        with_host(&[&["GET / HTTP/1.1"], fields].concat())
    }

    #[test]
    fn the_end_of_a_head() {
        let head = b"GET /a?b HTTP/1.1\r\nHost: x\r\nX:\t\xff\r\n\r\n";
        assert_eq!(find_all_ways(head), Ok(Some(head.len())));
        let more = [&head[..], b"\0body\n"].concat();
        assert_eq!(find_all_ways(&more), Ok(Some(head.len())));
        for leading in [&b"\r\n"[..], b"\r\n\r\n"] {
            let bytes = [leading, head].concat();
            assert_eq!(find_all_ways(&bytes), Ok(Some(bytes.len())));
        }
        assert_eq!(find_all_ways(b"GET / HTTP/1.1\r\n\r\n"), Ok(Some(18)));
        for end in 0..head.len() {
            assert_eq!(find_all_ways(&head[..end]), Ok(None));
        }
        let mut scan = HeadScan::new();
        assert_eq!(scan.find(&more), Ok(Some(head.len())));
        scan = HeadScan::new();
        assert_eq!(scan.find(&more), Ok(Some(head.len())));
    }

    #[test]
    fn heads_refused_by_the_search() {
        let cases: &[(&[u8], Refusal)] = &[
            (b"\r\n\r\n\r\nGET", LEADING),
            (b"\nGET", LINE_END),
            (b"\rGET", LINE_END),
            (b"GET / HTTP/1.1\nHost: x", LINE_END),
            (b"GET / HTTP/1.1\rHost: x", LINE_END),
            (b"GET / HTTP/1.1\r\r\n", LINE_END),
            (b"GET / HTTP/1.1\r\n\n", LINE_END),
            (b"GET / HTTP/1.1\r\n\rx", LINE_END),
            (b"GET / HTTP/1.1\r\nHost: x\n", LINE_END),
            (b"GET / HTTP/1.1\r\nHost: x\ry", LINE_END),
            (b"\0", CONTROL),
            (b"\x80\x00", CONTROL),
            (b"GET /\0 HTTP/1.1", CONTROL),
            (b"GET /\x0b", CONTROL),
            (b"GET / HTTP/1.1\r\n\x01", CONTROL),
            (b"GET / HTTP/1.1\r\nX: \x7f", CONTROL),
            (b"\x16\x03\x01\x02\x00\x01\x00", TLS),
        ];
        for &(bytes, refusal) in cases {
            assert_eq!(
                find_all_ways(bytes),
                Err(refusal),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn a_request_line_below_at_and_above_its_limit() {
        let head = |len: usize| {
            let path = "x".repeat(len - "GET / HTTP/1.1".len());
            format!("\r\nGET /{path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
        };
        for len in [REQUEST_LINE_BYTES_MAX - 1, REQUEST_LINE_BYTES_MAX] {
            let bytes = head(len);
            assert_eq!(find(&bytes, [bytes.len()]), Ok(Some(bytes.len())));
            assert_eq!(find(&bytes, 0..=bytes.len()), Ok(Some(bytes.len())));
            assert!(Head::parse(&bytes).is_ok());
        }
        let bytes = head(REQUEST_LINE_BYTES_MAX + 1);
        assert_eq!(find(&bytes, [bytes.len()]), Err(LINE_LONG));
        assert_eq!(find(&bytes, 0..=bytes.len()), Err(LINE_LONG));
        assert_eq!(
            (LINE_LONG.status, LINE_LONG.numbers[0]),
            (414, REQUEST_LINE_BYTES_MAX as u64)
        );
    }

    #[test]
    fn a_head_below_at_and_above_its_limit() {
        let head = |len: usize| {
            let start = "GET / HTTP/1.1\r\nHost: x\r\nX: ";
            format!("{start}{}\r\n\r\n", "x".repeat(len - start.len() - 4)).into_bytes()
        };
        for len in [HEAD_BYTES_MAX - 1, HEAD_BYTES_MAX] {
            let bytes = head(len);
            assert_eq!(find(&bytes, [bytes.len()]), Ok(Some(len)));
            assert_eq!(find(&bytes, 0..=bytes.len()), Ok(Some(len)));
        }
        let bytes = head(HEAD_BYTES_MAX + 1);
        assert_eq!(find(&bytes, [bytes.len()]), Err(HEAD_LONG));
        let mut refused = HeadScan::new();
        assert_eq!(refused.find(&bytes), Err(HEAD_LONG));
        assert_eq!(refused.find(&bytes), Err(HEAD_LONG));
        assert_eq!(find(&bytes, 0..=HEAD_BYTES_MAX - 1), Ok(None));
        assert_eq!(find(&bytes, 0..=HEAD_BYTES_MAX), Err(HEAD_LONG));
        assert_eq!(
            (HEAD_LONG.status, HEAD_LONG.numbers[0]),
            (431, HEAD_BYTES_MAX as u64)
        );
    }

    #[test]
    fn fields_below_at_and_above_their_limit() {
        for (count, fits) in [
            (FIELDS_MAX - 1, true),
            (FIELDS_MAX, true),
            (FIELDS_MAX + 1, false),
        ] {
            let bytes = get(&vec!["X: y"; count - 1]);
            let head = read(&bytes);
            assert_eq!(
                head.as_ref().err(),
                (!fits).then_some(&FIELDS_MANY),
                "{count}"
            );
            if let Ok(head) = head {
                assert_eq!(head.fields("x").count(), count - 1);
            }
        }
    }

    #[test]
    fn a_head_is_taken_apart() {
        let bytes = b"\r\nPOST /topics/a%2Fb?x=1?2&y HTTP/1.1\r\nhost:  Board.local:8080\t\r\n\
            X-A: 1\r\nx-a:\r\nX-B: a b\xff\r\n\r\n";
        let head = read(bytes).unwrap();
        assert_eq!((head.method, head.version), (Method::Post, Version::Http11));
        assert_eq!(head.target_path, b"/topics/a%2Fb");
        assert_eq!(head.query, b"x=1?2&y");
        assert_eq!(head.host, b"Board.local:8080");
        assert_eq!(head.field("X-a"), Some(&b"1"[..]));
        assert_eq!(head.fields("x-A").collect::<Vec<_>>(), [&b"1"[..], b""]);
        assert_eq!(head.field("x-b"), Some(&b"a b\xff"[..]));
        assert_eq!(head.field("x"), None);
        let cut = &bytes[..bytes.len() - 2];
        assert_eq!(Head::parse(cut).err(), Some(INCOMPLETE));
        assert_eq!(
            Head::parse(&[&bytes[..], b"x"].concat()).err(),
            Some(INCOMPLETE)
        );
    }

    #[test]
    fn methods() {
        for (name, method) in METHODS {
            assert_eq!(
                read(&with_host(&[&format!("{name} / HTTP/1.1")]))
                    .unwrap()
                    .method,
                method
            );
        }
        for name in ["get", "PATCH", "GETT", "M-SEARCH", "!#$%&'*+-.^_`|~09"] {
            let bytes = with_host(&[&format!("{name} / HTTP/1.1")]);
            assert_eq!(read(&bytes).unwrap().method, Method::Other, "{name}");
        }
    }

    #[test]
    fn targets() {
        let cases: &[(&str, &str, &str, &str)] = &[
            ("GET /", "/", "", "board.local"),
            ("GET /?", "/", "", "board.local"),
            ("GET //a/../b", "//a/../b", "", "board.local"),
            ("GET /a|\"<>{}^`\\[]", "/a|\"<>{}^`\\[]", "", "board.local"),
            ("GET http://Other:81/a?b", "/a", "b", "Other:81"),
            ("GET HTTP://other", "/", "", "other"),
            ("GET http://[::1]?q/r", "/", "q/r", "[::1]"),
            ("OPTIONS *", "*", "", "board.local"),
            ("OPTIONS /a", "/a", "", "board.local"),
        ];
        for &(start, path, query, host) in cases {
            let bytes = with_host(&[&format!("{start} HTTP/1.1")]);
            let head = read(&bytes).unwrap();
            assert_eq!(head.target_path, path.as_bytes(), "{start}");
            assert_eq!(
                (head.query, head.host),
                (query.as_bytes(), host.as_bytes()),
                "{start}"
            );
        }
    }

    #[test]
    fn refused_request_lines() {
        let cases: &[(&str, Refusal)] = &[
            ("GET /#a HTTP/1.1", TARGET_BYTE),
            ("GET /\u{e9} HTTP/1.1", TARGET_BYTE),
            ("GET /a\tb HTTP/1.1", TARGET_BYTE),
            ("GET * HTTP/1.1", ASTERISK),
            ("OPTIONS ** HTTP/1.1", TARGET_FORM),
            ("GET a HTTP/1.1", TARGET_FORM),
            ("GET ?a HTTP/1.1", TARGET_FORM),
            ("GET board.local:80 HTTP/1.1", TARGET_FORM),
            ("GET ftp://x/ HTTP/1.1", TARGET_FORM),
            ("GET http:/x HTTP/1.1", TARGET_FORM),
            ("GET https://board.local/ HTTP/1.1", SECURE),
            ("GET HTTPS:// HTTP/1.1", SECURE),
            ("GET http:///x HTTP/1.1", HOST),
            ("GET http://u@x/ HTTP/1.1", HOST),
            ("GET http://x:99999/ HTTP/1.1", HOST),
            ("CONNECT board.local:80 HTTP/1.1", CONNECT),
            ("CONNECT / HTTP/1.1", CONNECT),
            ("GET / HTTP/2.0", VERSION),
            ("GET / HTTP/1.2", VERSION),
            ("GET / HTTP/0.9", VERSION),
            ("PRI * HTTP/2.0", VERSION),
            ("GET /", REQUEST_LINE),
            ("GET", REQUEST_LINE),
            ("GET  HTTP/1.1", REQUEST_LINE),
            (" GET / HTTP/1.1", REQUEST_LINE),
            ("GET  / HTTP/1.1", REQUEST_LINE),
            ("GET /  HTTP/1.1", REQUEST_LINE),
            ("GET / HTTP/1.1 ", REQUEST_LINE),
            ("GET /a b HTTP/1.1", REQUEST_LINE),
            ("GET\t/ HTTP/1.1", REQUEST_LINE),
            ("GET / http/1.1", REQUEST_LINE),
            ("GET / HTTP/1", REQUEST_LINE),
            ("GET / HTTP/11", REQUEST_LINE),
            ("GET / HTTP/1.10", REQUEST_LINE),
            ("GET / HTTPS/1.1", REQUEST_LINE),
            ("G(T / HTTP/1.1", REQUEST_LINE),
            ("G\u{e9}T / HTTP/1.1", REQUEST_LINE),
            ("Host: board.local", REQUEST_LINE),
        ];
        for (line, refusal) in cases {
            assert_eq!(read(&with_host(&[line])).err(), Some(*refusal), "{line}");
        }
        assert_eq!(
            Head::parse(b"GET /\xff HTTP/1.1\r\n\r\n").err(),
            Some(TARGET_BYTE)
        );
        assert_eq!(
            (VERSION.status, CONNECT.status, TARGET_BYTE.status),
            (505, 501, 400)
        );
    }

    #[test]
    fn refused_fields() {
        let lines = [
            "X : y",
            "X",
            ": y",
            " X: y",
            "\tX: y",
            "X: y\r\n folded",
            "X: y\r\n\tfolded",
            "X Y: z",
            "X\u{e9}: y",
            "X(: y",
            "\"X\": y",
        ];
        for line in lines {
            assert_eq!(read(&get(&[line])).err(), Some(FIELD), "{line}");
        }
    }

    #[test]
    fn hosts() {
        let read_with = |version: &str, hosts: &[&str]| {
            let fields: String = hosts
                .iter()
                .map(|host| format!("Host: {host}\r\n"))
                .collect();
            let bytes = format!("GET / HTTP/{version}\r\n{fields}\r\n").into_bytes();
            read(&bytes).map(|head| String::from_utf8(head.host.to_vec()).unwrap())
        };
        for version in ["1.0", "1.1"] {
            assert_eq!(read_with(version, &["a:80"]).as_deref(), Ok("a:80"));
            assert_eq!(read_with(version, &["a", "a"]), Err(HOST_COUNT));
            for host in [
                "", "a b", "a,b c", "http://a", "a/b", "u@a", "[::1", "a:b", "a\u{e9}",
            ] {
                assert_eq!(read_with(version, &[host]), Err(HOST), "{host}");
            }
        }
        assert_eq!(read_with("1.0", &[]).as_deref(), Ok(""));
        assert_eq!(read_with("1.1", &[]), Err(HOST_COUNT));
        let absolute = b"GET http://a/ HTTP/1.1\r\n\r\n";
        assert_eq!(read(absolute).err(), Some(HOST_COUNT));
        assert_eq!(read(b"GET http://a/ HTTP/1.0\r\n\r\n").unwrap().host, b"a");
    }

    #[test]
    fn hosts_and_ports() {
        let good: &[(&str, &str, Option<u16>)] = &[
            ("board.local", "board.local", None),
            ("board.local:8080", "board.local", Some(8080)),
            ("board:", "board", None),
            ("192.168.1.7:0080", "192.168.1.7", Some(80)),
            ("[::1]", "::1", None),
            ("[fe80::1:2]:65535", "fe80::1:2", Some(65535)),
            ("[::ffff:1.2.3.4]:0", "::ffff:1.2.3.4", Some(0)),
            ("a_b-c~!$&'()*+,;=%2e", "a_b-c~!$&'()*+,;=%2e", None),
        ];
        for &(host, name, port) in good {
            assert_eq!(
                host_and_port(host.as_bytes()),
                Some((name.as_bytes(), port)),
                "{host}"
            );
        }
        let bad = [
            "",
            ":80",
            "a:65536",
            "a:-1",
            "a:+1",
            "a:8 0",
            "a:80:80",
            "a b",
            "a%",
            "a%2",
            "a%zz",
            "[]",
            "[::1",
            "::1",
            "[::1]80",
            "[::1]]",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "[v1.a]",
            "a[::1]",
            "u@a",
            "a/",
            "a?",
            "a#",
            "a\"",
            "a\\",
            "a<",
            "\u{e9}",
            "a\0",
            "a\t",
        ];
        for host in bad {
            assert_eq!(host_and_port(host.as_bytes()), None, "{host}");
        }
    }

    #[test]
    fn heads_for_which_there_is_no_content() {
        for bytes in ["HEAD ", "HEAD /\n", "\r\nHEAD  ", "\r\n\r\nHEAD * x"] {
            assert!(is_head(bytes.as_bytes()), "{bytes:?}");
        }
        for bytes in [
            "",
            "\r\n",
            "HEAD",
            "HEADS /",
            "head /",
            " HEAD /",
            "\r\n\r\n\r\nHEAD /",
        ] {
            assert!(!is_head(bytes.as_bytes()), "{bytes:?}");
        }
    }

    #[test]
    fn connection_and_expectation() {
        let keeps = |fields: &[&str]| read(&get(fields)).unwrap().wants_keep_alive();
        assert!(
            keeps(&[]) && keeps(&["Connection: keep-alive"]) && keeps(&["Connection: Upgrade"])
        );
        assert!(!keeps(&["Connection: Close"]) && !keeps(&["Connection: a, close"]));
        assert!(!keeps(&["Connection: upgrade", "Connection: close"]));
        let old = with_host(&["GET / HTTP/1.0", "Connection: keep-alive", "Expect: x"]);
        assert!(!read(&old).unwrap().wants_keep_alive());
        assert_eq!(read(&old).unwrap().expects_continue(), Ok(false));
        let expects = |fields: &[&str]| read(&get(fields)).unwrap().expects_continue();
        assert_eq!(expects(&[]), Ok(false));
        assert_eq!(expects(&["Expect:"]), Ok(false));
        assert_eq!(expects(&["Expect: 100-Continue"]), Ok(true));
        assert_eq!(
            expects(&["Expect: , 100-continue,\t100-continue"]),
            Ok(true)
        );
        for fields in [
            &["Expect: 200-ok"][..],
            &["Expect: 100-continue x"],
            &["Expect: 100-continue, x"],
            &["Expect: 100-continue", "Expect: x"],
        ] {
            assert_eq!(expects(fields), Err(EXPECT), "{fields:?}");
        }
        assert_eq!(EXPECT.status, 417);
    }

    #[test]
    fn framings() {
        let framing = |fields: &[&str]| read(&get(fields)).unwrap().framing();
        type Case = (&'static [&'static str], Result<Framing, Refusal>);
        let cases: &[Case] = &[
            (&[], Ok(Framing::None)),
            (&["Content-Length: 0"], Ok(Framing::Length(0))),
            (&["Content-Length: \t007 "], Ok(Framing::Length(7))),
            (
                &["Content-Length: 9999999999999999999"],
                Ok(Framing::Length(9_999_999_999_999_999_999)),
            ),
            (&["Transfer-Encoding: chunked"], Ok(Framing::Chunked)),
            (&["transfer-encoding: \tCHUNKED "], Ok(Framing::Chunked)),
            (&["Content-Length:"], Err(LENGTH)),
            (&["Content-Length: +5"], Err(LENGTH)),
            (&["Content-Length: -5"], Err(LENGTH)),
            (&["Content-Length: 5 5"], Err(LENGTH)),
            (&["Content-Length: 5,5"], Err(LENGTH)),
            (&["Content-Length: 0x5"], Err(LENGTH)),
            (&["Content-Length: 5.0"], Err(LENGTH)),
            (&["Content-Length: \u{665}"], Err(LENGTH)),
            (&["Content-Length: 00000000000000000005"], Err(LENGTH)),
            (&["Content-Length: 5", "Content-Length: 5"], Err(LENGTH)),
            (&["Content-Length: 5", "content-length: 6"], Err(LENGTH)),
            (
                &["Content-Length: 5", "Transfer-Encoding: chunked"],
                Err(CODING_LENGTH),
            ),
            (
                &["Transfer-Encoding: gzip", "Content-Length: x"],
                Err(CODING_LENGTH),
            ),
            (&["Transfer-Encoding: gzip"], Err(CODING_LAST)),
            (&["Transfer-Encoding: identity"], Err(CODING_LAST)),
            (&["Transfer-Encoding: gzip, chunked"], Err(CODING_UNKNOWN)),
            (
                &["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
                Err(CODING_UNKNOWN),
            ),
            (&["Transfer-Encoding: chunked;a=b"], Err(CODING_LAST)),
            (&["Transfer-Encoding: \"chunked\""], Err(CODING_LAST)),
            (&["Transfer-Encoding: xchunked"], Err(CODING_LAST)),
            (&["Transfer-Encoding:"], Err(CODING_LAST)),
            (&["Transfer-Encoding: ,chunked"], Err(CODING_LAST)),
            (&["Transfer-Encoding: chunked,"], Err(CODING_LAST)),
            (&["Transfer-Encoding: chunked, gzip"], Err(CODING_LAST)),
            (&["Transfer-Encoding: chunked, chunked"], Err(CODING_LAST)),
            (
                &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
                Err(CODING_LAST),
            ),
        ];
        for (fields, wanted) in cases {
            assert_eq!(framing(fields), *wanted, "{fields:?}");
        }
        for fields in [
            &["Transfer-Encoding: chunked"][..],
            &["Transfer-Encoding: x", "Content-Length: 1"],
        ] {
            let bytes = with_host(&[&["POST / HTTP/1.0"], fields].concat());
            assert_eq!(read(&bytes).unwrap().framing(), Err(CODING_OLD));
        }
        for method in ["GET", "HEAD", "DELETE"] {
            let bytes = with_host(&[&format!("{method} / HTTP/1.1"), "Content-Length: 3"]);
            assert_eq!(read(&bytes).unwrap().framing(), Ok(Framing::Length(3)));
        }
        let statuses = [
            CODING_OLD,
            CODING_LENGTH,
            CODING_LAST,
            CODING_UNKNOWN,
            LENGTH,
        ];
        assert_eq!(
            statuses.map(|refusal| refusal.status),
            [400, 400, 400, 501, 400]
        );
    }

    /// Heads in parts, good and bad ones, in any order.
    fn near_heads() -> impl Strategy<Value = Vec<u8>> {
        let parts: Vec<&'static [u8]> = vec![
            b"GET ",
            b"/",
            b" HTTP/1.1\r\n",
            b"Host: x\r\n",
            b"Content-Length: 3\r\n",
            b"\r\n",
            b"\r",
            b"\n",
            b"Transfer-Encoding: chunked\r\n",
            b"X: ",
            b" ",
            b":",
            b"\0",
            b"\xff",
            b"a",
            b"?",
            b"http://",
            b"GET / HTTP/1.1\r\nHost: x\r\n",
            b"POST /a?b HTTP/1.0\r\n",
            b"\t",
            b"#",
        ];
        prop::collection::vec(prop::sample::select(parts), 0..14).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn near_heads_have_one_outcome(bytes in near_heads()) {
            if let Ok(Some(len)) = find_all_ways(&bytes) {
                prop_assert!(bytes[..len].ends_with(b"\r\n\r\n"));
                if let Ok(head) = Head::parse(&bytes[..len]) {
                    let path = head.target_path;
                    prop_assert!(path.starts_with(b"/") || path == b"*");
                    let _ = (head.framing(), head.expects_continue(), head.wants_keep_alive());
                }
            }
        }

        #[test]
        fn damaged_heads_do_not_panic(at in 0usize..90, byte: u8) {
            let mut bytes = get(&["Content-Length: 5", "Connection: close", "Accept: */*"]);
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            if let Ok(Some(len)) = find_all_ways(&bytes) {
                let _ = Head::parse(&bytes[..len]).map(|head| head.framing());
            }
        }
    }
}

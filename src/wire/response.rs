//! Response heads (RFC 9110 sections 6, 8 and 15; RFC 9112 sections 4 and 6).
//!
//! One function writes every head, so that framing, caching and the safe defaults are decided in
//! one place. It never writes a body.

use super::request::Version;
use super::text::{HttpDate, decimal};
use super::{Quote, Refusal};
use crate::buffer::{Full, Writer};

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// `Content-Length`.
    Bytes(usize),
    /// `Transfer-Encoding: chunked`; to HTTP/1.0 the body ends with the connection.
    Open,
    /// No body, and no field that speaks of one: 204, 304.
    None,
}

/// What a head says besides its status.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The status code.
    pub status: u16,
    /// The version the request was made in.
    pub version: Version,
    /// The text of `Date`; none while the clock is not known.
    pub date: Option<HttpDate>,
    /// The body's media type; empty for no field.
    pub content_type: &'a str,
    /// How the body ends.
    pub length: Length,
    /// Whether the connection goes on after this answer.
    pub keep_alive: bool,
    /// More fields, each with its CRLF.
    pub fields: &'a [&'a str],
    /// What the browser of a page of another origin is told; the same.
    pub cors: &'a str,
}

/// What stands in the status line of every status we send but 200.
const STATUSES: &str = "101 Switching Protocols
204 No Content
303 See Other
304 Not Modified
400 Bad Request
401 Unauthorized
403 Forbidden
404 Not Found
405 Method Not Allowed
408 Request Timeout
412 Precondition Failed
413 Content Too Large
414 URI Too Long
415 Unsupported Media Type
417 Expectation Failed
421 Misdirected Request
426 Upgrade Required
429 Too Many Requests
431 Request Header Fields Too Large
500 Internal Server Error
501 Not Implemented
503 Service Unavailable
505 HTTP Version Not Supported
507 Insufficient Storage";

/// Writes the status line of another status than 200: few are, so they are looked for.
#[cold]
#[inline(never)]
fn put_status(status: u16, out: &mut Writer<'_>) -> Result<(), Full> {
    let mut lines = STATUSES.as_bytes().split(|byte| *byte == b'\n');
    let line = lines.find(|line| decimal(&line[..3]) == Some(u64::from(status)));
    // Without a phrase it is still a status line (RFC 9112 section 4).
    out.put_all(&[b"HTTP/1.1 ", line.unwrap_or(b"500 "), b"\r\n"])
}

/// Fields of everything that must never be cached: streams, values, errors.
pub const NO_STORE: &str = STREAMING.split_at(52).0;
/// As `NO_STORE`, for streams: proxies must not hold them back.
pub const STREAMING: &str = "Cache-Control: no-cache, no-store, must-revalidate\r\nPragma: no-cache\r\nExpires: 0\r\nX-Accel-Buffering: no\r\n";

/// Writes a head with its empty line.
pub fn write_head(head: &Head<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    match head.status {
        200 => out.put(b"HTTP/1.1 200 OK\r\n")?,
        other => put_status(other, out)?,
    }
    if let Some(date) = &head.date {
        out.put(b"Date: ")?;
        out.put(date)?;
        out.put(b"\r\n")?;
    }
    if !head.content_type.is_empty() {
        out.put(b"Content-Type: ")?;
        out.put(head.content_type.as_bytes())?;
        out.put(b"\r\n")?;
    }
    let mut keep_alive = head.keep_alive;
    match (head.length, head.version) {
        (Length::Bytes(bytes), _) => {
            out.put(b"Content-Length: ")?;
            out.put_u64(bytes as u64)?;
            out.put(b"\r\n")?;
        }
        (Length::Open, Version::Http11) => out.put(b"Transfer-Encoding: chunked\r\n")?,
        (Length::Open, Version::Http10) => keep_alive = false,
        (Length::None, _) => {}
    }
    out.put(b"X-Content-Type-Options: nosniff\r\n")?;
    for field in head.fields.iter().filter(|field| !field.is_empty()) {
        out.put(field.as_bytes())?;
    }
    if !head.cors.is_empty() {
        out.put(head.cors.as_bytes())?;
    }
    if !keep_alive {
        out.put(b"Connection: close\r\n")?;
    }
    out.put(b"\r\n")
}

/// Writes what `write` writes as one chunk (RFC 9112 section 7.1), all or nothing. An empty one
/// leaves no trace, for it would end the body.
pub fn write_chunk<'a>(
    out: &mut Writer<'a>,
    write: impl FnOnce(&mut Writer<'a>) -> Result<(), Full>,
) -> Result<(), Full> {
    let start = out.len();
    let written = out.put(CHUNK_SIZE).and_then(|()| write(out));
    close_chunk(written, start, out)
}

/// What is kept free for a chunk's size.
pub(crate) const CHUNK_SIZE: &[u8; 6] = b"0000\r\n";

/// Writes the size of the chunk that began at `start`, and its end; or takes it back. Not inlined:
/// once is enough for all that is written in chunks.
#[inline(never)]
pub(crate) fn close_chunk(
    written: Result<(), Full>,
    start: usize,
    out: &mut Writer<'_>,
) -> Result<(), Full> {
    let bytes = (out.len() - start).saturating_sub(CHUNK_SIZE.len());
    if written.is_err() || bytes == 0 || out.room() < 2 {
        out.truncate(start);
        return if written.is_ok() && bytes == 0 {
            Ok(())
        } else {
            Err(Full)
        };
    }
    assert!(bytes <= 0xffff, "a chunk fits the output buffer");
    let mut digits = [0; 4];
    let mut size = Writer::new(&mut digits);
    size.put_hex(bytes as u64)?;
    let unused = 4 - size.len();
    out.set(start + unused, size.written());
    out.remove(start, unused);
    out.put(b"\r\n")
}

/// The chunk that ends a body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Writes a refusal's one line of reason. What it quotes stands in place of its first number.
pub fn write_reason(refusal: &Refusal, quote: &[u8], out: &mut Writer<'_>) -> Result<(), Full> {
    let mut numbers = refusal.numbers.iter();
    for (i, part) in refusal.reason.split("{}").enumerate() {
        if i == 1 && refusal.quote != Quote::Nothing {
            out.put(quotable(quote))?;
        } else if i > 0 {
            out.put_u64(*numbers.next().unwrap_or(&0))?;
        }
        out.put(part.as_bytes())?;
    }
    out.put(b"\n")
}

/// What may be said back to who sent it: a host or an origin, and nothing else.
fn quotable(quote: &[u8]) -> &[u8] {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:/[]".contains(byte);
    match quote.iter().all(is_plain) && (1..=255).contains(&quote.len()) {
        true => quote,
        false => b"...",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_line() {
        for line in STATUSES.lines().chain(["200 OK"]) {
            let head = Head {
                status: line[..3].parse().unwrap(),
                version: Version::Http11,
                date: None,
                content_type: "",
                length: Length::None,
                keep_alive: true,
                fields: &[],
                cors: "",
            };
            let mut bytes = [0; 128];
            let mut out = Writer::new(&mut bytes);
            write_head(&head, &mut out).unwrap();
            let wanted = format!("HTTP/1.1 {line}\r\nX-Content-Type-Options: nosniff\r\n\r\n");
            assert_eq!(out.written(), wanted.as_bytes());
        }
        assert!(STREAMING.starts_with(NO_STORE) && NO_STORE.ends_with("\r\n"));
    }

    #[test]
    fn heads_and_reasons() {
        let mut bytes = [0; 512];
        let mut out = Writer::new(&mut bytes);
        let head = Head {
            status: 200,
            version: Version::Http10,
            date: Some(super::super::text::http_date(0)),
            content_type: "text/plain",
            length: Length::Open,
            keep_alive: true,
            fields: &[NO_STORE],
            cors: "",
        };
        write_head(&head, &mut out).unwrap();
        assert_eq!(
            core::str::from_utf8(out.written()).unwrap(),
            "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
             X-Content-Type-Options: nosniff\r\nCache-Control: no-cache, no-store, must-revalidate\r\n\
             Connection: close\r\n\r\n"
        );
        let mut out = Writer::new(&mut bytes);
        write_chunk(&mut out, |_| Ok(())).unwrap();
        write_chunk(&mut out, |out| out.put(b"abc")).unwrap();
        write_chunk(&mut out, |out| out.put(&[b'x'; 16])).unwrap();
        assert_eq!(
            write_chunk(&mut out, |out| out.put(&[b'x'; 500])),
            Err(Full)
        );
        assert_eq!(out.written(), b"3\r\nabc\r\n10\r\nxxxxxxxxxxxxxxxx\r\n");
        let mut out = Writer::new(&mut bytes);
        let refusal = Refusal::new(413, "{} bytes, at most {} are taken").with([9, 8, 0]);
        write_reason(&refusal, b"", &mut out).unwrap();
        assert_eq!(out.written(), b"9 bytes, at most 8 are taken\n");
    }
}

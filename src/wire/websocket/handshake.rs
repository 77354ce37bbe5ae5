//! The opening of a WebSocket: what a request must say, and what it is answered (RFC 6455 section
//! 4.2). It decides nothing about origins and rights, and never writes the answer.

use data_encoding::BASE64;
use sha1::Sha1;

use crate::wire::Refusal;
use crate::wire::request::{Framing, Head, Method, Version};
use crate::wire::text::has_token;

/// What is put behind a key before it is hashed.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a 101 says besides `Sec-WebSocket-Accept`, whose name stands at the end.
pub const ACCEPT_FIELDS: &str =
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";

const UPGRADE_FIELDS: &str =
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
const UPGRADE: Refusal = Refusal::new(
    426,
    "Only a WebSocket is here: GET in HTTP/1.1, with Connection: Upgrade and Upgrade: websocket.",
)
.fields(UPGRADE_FIELDS);
const VERSION: Refusal =
    Refusal::new(426, "Sec-WebSocket-Version must be 13.").fields(UPGRADE_FIELDS);
const KEY: Refusal = Refusal::new(
    400,
    "Sec-WebSocket-Key must stand once, as 16 bytes in base64.",
);
const BODY: Refusal = Refusal::new(400, "A request for a WebSocket must have no body.");

/// The value of `Sec-WebSocket-Accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept([u8; 28]);

impl Accept {
    /// As text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).expect("base64 is ASCII")
    }
}

/// Whether a request asks for a WebSocket, whatever else it lacks.
pub fn is_asked_for(head: &Head<'_>) -> bool {
    let mut upgrades = head.fields("upgrade");
    head.method == Method::Get
        && head.version == Version::Http11
        && upgrades.any(|list| has_token(list, "websocket"))
}

/// What accepts the WebSocket that this request asks for.
///
/// # Errors
/// 426 when it asks for none, or for another version; 400 for a key that is none, and for a body:
/// what stands behind the head are frames.
pub fn accept(head: &Head<'_>) -> Result<Accept, Refusal> {
    let mut options = head.fields("connection");
    if !is_asked_for(head) || !options.any(|list| has_token(list, "upgrade")) {
        return Err(UPGRADE);
    }
    let mut versions = head.fields("sec-websocket-version");
    if versions.next() != Some(b"13") || versions.next().is_some() {
        return Err(VERSION);
    }
    let mut keys = head.fields("sec-websocket-key");
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key) => key,
        _ => return Err(KEY),
    };
    match head.framing()? {
        Framing::None | Framing::Length(0) => Ok(answer(key)),
        _ => Err(BODY),
    }
}

/// Whether the client offers this sub-protocol; their names are compared by their bytes.
pub fn offers(head: &Head<'_>, protocol: &str) -> bool {
    let mut lists = head.fields("sec-websocket-protocol");
    lists.any(|list| {
        let mut offered = list.split(|&byte| byte == b',');
        offered.any(|offer| offer.trim_ascii() == protocol.as_bytes())
    })
}

/// Whether it is 16 bytes in base64. The bits that are left over may be anything.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    matches!(key, [digits @ .., b'=', b'='] if digits.len() == 22 && digits.iter().all(is_digit))
}

fn answer(key: &[u8]) -> Accept {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(GUID);
    let mut text = [0; 28];
    BASE64.encode_mut(&hash.digest().bytes(), &mut text);
    Accept(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "GET /events/ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";

    fn accepted(request: &str) -> Result<String, Refusal> {
        let head = Head::parse(request.as_bytes()).unwrap();
        accept(&head).map(|accept| accept.as_str().to_owned())
    }

    fn with(from: &str, to: &str) -> Result<String, Refusal> {
        assert!(SAMPLE.contains(from));
        accepted(&SAMPLE.replace(from, to))
    }

    #[test]
    fn the_sample_of_the_rfc() {
        let wanted = Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned());
        assert_eq!(accepted(SAMPLE), wanted);
        let same = [
            ("Upgrade: websocket", "UPGRADE: h2c/1, WebSocket"),
            ("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket"),
            ("Connection: Upgrade", "connection: keep-alive, uPGRADE"),
            (
                "Connection: Upgrade",
                "Connection: keep-alive\r\nConnection: upgrade",
            ),
            (
                "Connection: Upgrade",
                "Connection: Upgrade\r\nContent-Length: 0",
            ),
            (
                "Host: a",
                "Host: a\r\nSec-WebSocket-Extensions: permessage-deflate",
            ),
        ];
        for (from, to) in same {
            assert_eq!(with(from, to), wanted, "{to}");
        }
        // Bits that are left over.
        assert!(with("ZQ==", "ZR==").is_ok());
    }

    #[test]
    fn what_asks_for_none() {
        let cases = [
            ("GET", "HEAD", UPGRADE),
            ("GET", "POST", UPGRADE),
            ("HTTP/1.1", "HTTP/1.0", UPGRADE),
            ("Upgrade: websocket\r\n", "", UPGRADE),
            ("Upgrade: websocket", "Upgrade: websockets", UPGRADE),
            ("Upgrade: websocket", "Upgrade: websocket/13", UPGRADE),
            ("Connection: Upgrade\r\n", "", UPGRADE),
            ("Connection: Upgrade", "Connection: close", UPGRADE),
            ("Sec-WebSocket-Version: 13\r\n", "", VERSION),
            ("Version: 13", "Version: 8", VERSION),
            ("Version: 13", "Version: 14", VERSION),
            ("Version: 13", "Version: 013", VERSION),
            ("Version: 13", "Version: 13, 8", VERSION),
            ("Host: a", "Host: a\r\nSec-WebSocket-Version: 8", VERSION),
            ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", KEY),
            (
                "Host: a",
                "Host: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                KEY,
            ),
            ("dGhl", "", KEY),
            ("dGhl", "dGhldGhl", KEY),
            ("ZQ==", "ZQ=", KEY),
            ("ZQ==", "ZQA=", KEY),
            ("ZQ==", "ZQAA", KEY),
            ("dGhl", "d-_l", KEY),
            ("Host: a", "Host: a\r\nContent-Length: 1", BODY),
            ("Host: a", "Host: a\r\nTransfer-Encoding: chunked", BODY),
        ];
        for (from, to, refusal) in cases {
            assert_eq!(with(from, to), Err(refusal), "{to}");
        }
        assert!([UPGRADE, VERSION].iter().all(|it| it.status == 426));
        assert!([KEY, BODY].iter().all(|it| it.status == 400));
    }

    #[test]
    fn sub_protocols() {
        let offered = |field: &str| {
            let text = SAMPLE.replace("Host: a", &format!("Host: a{field}"));
            offers(&Head::parse(text.as_bytes()).unwrap(), "encke.v1")
        };
        let name = "\r\nSec-WebSocket-Protocol:";
        assert!(!offered(""));
        assert!(offered(&format!("{name} encke.v1")));
        assert!(offered(&format!("{name} mqtt ,\tencke.v1")));
        assert!(offered(&format!("{name} mqtt{name} encke.v1")));
        assert!(!offered(&format!("{name} encke.v11, encke, Encke.v1")));
    }
}

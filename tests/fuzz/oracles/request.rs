//! A request's head: found in the same place however it arrives, and read as a second, naive
//! reading of it reads it.

use encke::wire::Refusal;
use encke::wire::request::{Framing, Head, HeadScan, Method, Version};

use super::pieces::cuts;
use super::reading::{Body, Reading, head_bytes};

pub(crate) fn check(input: &[u8]) {
    let (bytes, ways) = cuts(input);
    let found = ways.map(|pieces| find(&pieces));
    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
    match found[0] {
        Ok(Some(len)) => {
            assert_eq!(head_bytes(bytes), Some(len), "where a head ends");
            whole(&bytes[..len]);
        }
        Ok(None) => assert_eq!(head_bytes(bytes), None, "a head is whole"),
        // What stands before the fault may still be read, and must not do harm.
        Err(_) => {
            let _ = Head::parse(bytes);
        }
    }
}

fn find(pieces: &[&[u8]]) -> Result<Option<usize>, Refusal> {
    let mut scan = HeadScan::new();
    let mut bytes = Vec::new();
    for piece in pieces {
        bytes.extend_from_slice(piece);
        match scan.find(&bytes) {
            Ok(None) => {}
            found => {
                assert_eq!(scan.find(&bytes), found, "asked again");
                return found;
            }
        }
    }
    Ok(None)
}

fn whole(bytes: &[u8]) {
    let reading = Reading::of(bytes);
    let head = match Head::parse(bytes) {
        Ok(head) => head,
        Err(refusal) => {
            // What is good by the grammar is refused for a limit, or because we do not do it.
            let is_fine = reading.is_none() || [414, 421, 431, 501].contains(&refusal.status);
            assert!(is_fine, "refused with {refusal:?}");
            return;
        }
    };
    let reading = reading.expect("what is accepted is good by the grammar");
    let method = match head.method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Other => {
            let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT"];
            assert!(!known.contains(&reading.method), "{}", reading.method);
            reading.method
        }
    };
    assert_eq!(method, reading.method);
    assert_eq!(head.version == Version::Http11, reading.minor == 1);
    let (path, query, authority) = reading.parts().expect("a target has parts");
    assert_eq!((head.target_path, head.query), (path, query), "the target");
    let field = reading.all("host").first().copied().unwrap_or_default();
    assert_eq!(head.host, authority.unwrap_or(field), "Host");
    assert_eq!(head.names().count(), reading.fields.len(), "fields");
    for (name, value) in &reading.fields {
        assert!(head.fields(name).any(|other| other == *value), "{name}");
        let harmful = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0 | 0x7f);
        assert!(!value.iter().any(harmful), "{name}: {value:?}");
    }
    let body = head.framing().ok().map(|framing| match framing {
        Framing::None => Body::None,
        Framing::Length(bytes) => Body::Length(bytes),
        Framing::Chunked => Body::Chunked,
    });
    assert_eq!(body, reading.body(), "framing");
    assert_eq!(head.wants_keep_alive(), !reading.is_last(), "keep-alive");
    let expects = head.expects_continue();
    // A list, whose empty members count for nothing.
    let is_known = |list: &&[u8]| {
        let mut members = list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        members.all(|member| member.is_empty() || member.eq_ignore_ascii_case(b"100-continue"))
    };
    let wanted = reading.all("expect");
    if reading.minor == 0 || wanted.is_empty() {
        assert_eq!(expects, Ok(false));
    } else {
        assert_eq!(expects.is_ok(), wanted.iter().all(is_known), "{wanted:?}");
    }
}

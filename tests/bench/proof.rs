//! Shows, before anything is measured, that the decoder and the account notice what is wrong: a
//! generator that cannot fail proves nothing.

use std::time::Instant;

use crate::Outcome;
use crate::book::{Book, Seat};
use crate::client::{Decoder, Transport};

const HELLO: &str = r#"{"log":"k3f9q2xa","id":"k3f9q2xa-1","lost":0,"reset":false}"#;
const EVENT: &str = r#"{"id":"k3f9q2xa-2","topic":"a/b","time":1763791234567,"value":{"n":1}}"#;

/// A head, and the bytes behind it that may not change.
fn sample(transport: Transport) -> (String, String) {
    let head = |media_type: &str, framing: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\n{framing}\r\n\r\n")
    };
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let chunked = "Transfer-Encoding: chunked";
    match transport {
        Transport::Sse => {
            let hello = chunk(&format!("event: hello\nid: k3f9q2xa-1\ndata: {HELLO}\n\n"));
            let event = chunk(&format!("id: k3f9q2xa-2\ndata: {EVENT}\n\n"));
            (head("text/event-stream", chunked), hello + &event)
        }
        Transport::Stream => {
            let hello = chunk(&format!("{{\"hello\":{HELLO}}}\n"));
            let event = chunk(&format!("{EVENT}\n"));
            (head("application/x-ndjson", chunked), hello + &event)
        }
        _ => {
            let body = format!(r#"{{"hello":{HELLO},"events":[{EVENT}],"last":"k3f9q2xa-2"}}"#);
            let length = format!("Content-Length: {}", body.len());
            (head("application/json", &length), body)
        }
    }
}

/// Whether one viewer heard the one event, from these pieces.
fn hears<'a>(transport: Transport, pieces: impl Iterator<Item = &'a [u8]>) -> Outcome<bool> {
    let now = Instant::now();
    let mut book = Book::new(&["a/b".to_string()]);
    book.begin_at("k3f9q2xa-".to_string(), 1);
    book.publish(0, "0".to_string(), now);
    book.audience = 1;
    book.publish(0, r#"{"n":1}"#.to_string(), now);
    let (mut decoder, mut seat) = (Decoder::new(transport), Seat::new());
    for piece in pieces {
        decoder.feed(piece, &mut |heard| book.hear(&mut seat, heard, now))?;
    }
    Ok(seat.greeted && seat.deliveries == 1 && seat.cursor == 2 && book.complete == 2)
}

/// Decodes a sample of each transport, whole and byte by byte; then with each byte changed.
///
/// # Errors
/// A sample that is right is not heard, or one that is wrong is.
pub(crate) fn prove() -> Outcome<()> {
    for transport in Transport::VIEWERS {
        let (head, body) = sample(transport);
        let whole = (head.clone() + &body).into_bytes();
        let name = transport.name();
        if !hears(transport, [&whole[..]].into_iter())? || !hears(transport, whole.chunks(1))? {
            return Err(format!(
                "the generator does not hear what is right of {name}"
            ));
        }
        let time = body.find("1763791234567").unwrap_or(0);
        for at in (0..body.len()).filter(|at| !(time..time + 13).contains(at)) {
            let mut wrong = whole.clone();
            wrong[head.len() + at] ^= 1;
            if hears(transport, [&wrong[..]].into_iter()) == Ok(true) {
                return Err(format!(
                    "the generator does not notice byte {at} of {name} changed"
                ));
            }
        }
    }
    Ok(())
}

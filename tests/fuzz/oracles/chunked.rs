//! Chunked bodies: the same body however they arrive, and the one that a naive decoder finds.

use encke::wire::Refusal;
use encke::wire::chunked::Decoder;

use super::coding::{self, Outcome};
use super::pieces::cuts;

/// Room for a body: little, so that it is exceeded.
const MOST: usize = 512;

pub(crate) fn check(input: &[u8]) {
    let (bytes, ways) = cuts(input);
    let decoded = ways.map(|pieces| decode(&pieces));
    assert!(decoded.iter().all(|one| *one == decoded[0]), "{decoded:?}");
    let ours = match &decoded[0] {
        Ok(Some((body, consumed))) => Outcome::Whole(body.clone(), *consumed),
        Ok(None) => Outcome::Unfinished,
        Err(_) => Outcome::Bad,
    };
    assert_eq!(ours, coding::decode(bytes, MOST));
}

/// The body and how many bytes it took, as a connection decodes: behind the body so far.
fn decode(pieces: &[&[u8]]) -> Result<Option<(Vec<u8>, usize)>, Refusal> {
    let mut decoder = Decoder::new();
    let (mut body, mut consumed) = (Vec::new(), 0);
    for piece in pieces {
        let mut bytes = piece.to_vec();
        let progress = decoder.decode(&mut bytes, MOST - body.len())?;
        assert!(progress.decoded <= progress.consumed);
        body.extend_from_slice(&bytes[..progress.decoded]);
        consumed += progress.consumed;
        if progress.done {
            return Ok(Some((body, consumed)));
        }
        assert_eq!(progress.consumed, bytes.len(), "all of it is used up");
    }
    Ok(None)
}

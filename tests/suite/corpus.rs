//! What the fuzzer found worth keeping, replayed: each file of `tests/fuzz/corpus` through the same
//! checks as in the fuzzer. `scripts/fuzz` makes these files.
//!
//! `ENCKE_STATES=1` also counts the states and phases that peers were in; that takes longer.

#[path = "../fuzz/oracles/answers.rs"]
mod answers;
#[path = "../fuzz/oracles/chunked.rs"]
mod chunked;
#[path = "../fuzz/oracles/coding.rs"]
mod coding;
#[path = "../fuzz/oracles/connection.rs"]
mod connection;
#[path = "../fuzz/oracles/json.rs"]
mod json;
#[path = "../fuzz/oracles/pattern.rs"]
mod pattern;
#[path = "../fuzz/oracles/pieces.rs"]
mod pieces;
#[path = "../fuzz/oracles/program.rs"]
mod program;
#[path = "../fuzz/oracles/query.rs"]
mod query;
#[path = "../fuzz/oracles/reading.rs"]
mod reading;
#[path = "../fuzz/oracles/request.rs"]
mod request;

use std::collections::BTreeMap;
use std::fmt::{Error, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use crate::support::world::{self, World};

/// The inputs of a target, in the order of their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let entries = std::fs::read_dir(folder.join(target)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).unwrap());
    paths.into_iter().map(read).collect()
}

fn replay(target: &str, mut check: impl FnMut(&[u8])) {
    let inputs = corpus(target);
    assert!(inputs.len() > 4, "{} inputs for {target}", inputs.len());
    let mut is_fine = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| check(input))).is_ok();
    let bad = inputs.iter().filter(|(_, input)| !is_fine(input));
    let bad: Vec<_> = bad.map(|(path, _)| path).collect();
    assert!(bad.is_empty(), "{target}: {bad:?}");
}

#[test]
fn requests() {
    replay("request", request::check);
}

#[test]
fn chunked_bodies() {
    replay("chunked", chunked::check);
}

#[test]
fn queries() {
    replay("query", query::check);
}

#[test]
fn json_texts() {
    replay("json", json::check);
}

#[test]
fn patterns() {
    replay("pattern", pattern::check);
}

#[test]
fn connections() {
    if std::env::var_os("ENCKE_STATES").is_none() {
        return replay("connection", connection::check);
    }
    let mut seen = BTreeMap::new();
    replay("connection", |input| {
        connection::watch(input, &mut |world| States::count(world, &mut seen));
    });
    for (state, count) in &seen {
        println!("{count:>8} {state}");
    }
    let missing: Vec<_> = PHASES
        .iter()
        .filter(|name| !seen.contains_key(**name))
        .collect();
    assert!(missing.is_empty(), "never seen: {missing:?}");
}

/// What a peer can be doing, and what of its request it can be at.
const PHASES: [&str; 14] = [
    "phase: Free",
    "phase: Idle",
    "phase: Starved",
    "phase: Busy",
    "phase: Front",
    "phase: Waiting",
    "phase: Replay",
    "phase: CatchUp",
    "phase: Poll",
    "phase: Ending",
    "phase: Closing",
    "state: Head",
    "state: Body",
    "rest: Listing",
];

/// Reads states off what a world prints of itself: they are nobody's business but their owner's.
struct States<'s> {
    text: String,
    seen: &'s mut BTreeMap<String, u64>,
}

impl States<'_> {
    fn count(world: &World, seen: &mut BTreeMap<String, u64>) {
        let text = String::new();
        let mut states = States { text, seen };
        // It stops behind what is of interest, before many bytes of buffers.
        let _ = write!(states, "{:?}", world.peers);
    }
}

impl Write for States<'_> {
    fn write_str(&mut self, piece: &str) -> Result<(), Error> {
        if piece.starts_with("inputs") {
            return Err(Error);
        }
        let field = ["phase", "state", "place", "rest"]
            .iter()
            .find(|name| self.text == **name);
        let is_of_event = ["Ok", "Stale", "Error", "Gone"].contains(&piece);
        let is_name = piece.starts_with(|c: char| c.is_ascii_uppercase()) && !is_of_event;
        if let Some(field) = field.filter(|_| is_name) {
            *self.seen.entry(format!("{field}: {piece}")).or_default() += 1;
        }
        if piece != ": " {
            self.text.clear();
            self.text.push_str(piece);
        }
        Ok(())
    }
}

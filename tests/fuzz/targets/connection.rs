//! All peers, by libFuzzer: what is asked of them is
//! in `oracles/connection.rs`.
#![no_main]
#![allow(
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    reason = "some of it is for the suite"
)]

#[path = "../oracles/answers.rs"]
mod answers;
#[path = "../oracles/coding.rs"]
mod coding;
#[path = "../oracles/connection.rs"]
mod connection;
#[path = "../oracles/pieces.rs"]
mod pieces;
#[path = "../oracles/program.rs"]
mod program;
#[path = "../oracles/reading.rs"]
mod reading;
#[path = "../../suite/support/world.rs"]
mod world;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| connection::check(bytes));

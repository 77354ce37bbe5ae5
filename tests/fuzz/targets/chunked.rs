//! Chunked bodies, by libFuzzer: what is asked of them is
//! in `oracles/chunked.rs`.
#![no_main]

#[path = "../oracles/chunked.rs"]
mod chunked;
#[path = "../oracles/coding.rs"]
mod coding;
#[path = "../oracles/pieces.rs"]
mod pieces;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| chunked::check(bytes));

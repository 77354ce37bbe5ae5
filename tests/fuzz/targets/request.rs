//! Heads of requests, by libFuzzer: what is asked of them is
//! in `oracles/request.rs`.
#![no_main]

#[path = "../oracles/pieces.rs"]
mod pieces;
#[path = "../oracles/reading.rs"]
mod reading;
#[path = "../oracles/request.rs"]
mod request;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| request::check(bytes));

//! Topic names and patterns, by libFuzzer: what is asked of them is
//! in `oracles/pattern.rs`.
#![no_main]

#[path = "../oracles/pattern.rs"]
mod pattern;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pattern::check(bytes));

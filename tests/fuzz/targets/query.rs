//! Percent-encoding and query strings, by libFuzzer: what is asked of them is
//! in `oracles/query.rs`.
#![no_main]

#[path = "../oracles/query.rs"]
mod query;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| query::check(bytes));

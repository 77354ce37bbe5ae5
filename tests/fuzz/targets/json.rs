//! JSON made canonical, by libFuzzer: what is asked of them is
//! in `oracles/json.rs`.
#![no_main]

#[path = "../oracles/json.rs"]
mod json;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| json::check(bytes));

#![no_main]
//! See `properties/history.rs`.

#[path = "../properties/history.rs"]
mod history;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| history::check(bytes));

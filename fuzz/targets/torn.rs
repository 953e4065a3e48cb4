#![no_main]
//! See `properties/torn.rs`.

#[path = "../properties/torn.rs"]
mod torn;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| torn::check(bytes));

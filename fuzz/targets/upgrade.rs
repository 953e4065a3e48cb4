#![no_main]
//! See `properties/upgrade.rs`.

#[path = "../properties/upgrade.rs"]
mod upgrade;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| upgrade::check(bytes));

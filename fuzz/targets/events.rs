#![no_main]
//! See `properties/events.rs`.

#[path = "../properties/events.rs"]
mod events;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| events::check(bytes));

#![no_main]
//! See `properties/packets.rs`.

#[path = "../properties/packets.rs"]
mod packets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| packets::check(bytes));

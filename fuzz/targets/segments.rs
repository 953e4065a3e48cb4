#![no_main]
//! See `bus/src/embedded/fuzzing.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| petrel_bus::embedded::fuzzing::check(bytes));

#![no_main]
//! See `persist/src/store/fuzzing.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| petrel_persist::fuzzing::check(bytes));

#![no_main]
//! See `router/src/http/fuzzing.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| petrel_router::fuzzing::check(bytes));

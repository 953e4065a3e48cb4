#![no_main]
//! See `persist/src/store/embedded/torn.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| petrel_persist::fuzzing::check_torn(bytes));

#![no_main]
//! See `bus/src/grpc/fuzzing.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| petrel_bus::grpc::fuzzing::check(bytes));

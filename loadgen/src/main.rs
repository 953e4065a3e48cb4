//! Petrel load generator.
fn main() {}

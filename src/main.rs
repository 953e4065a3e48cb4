//! Petrel in one process.
fn main() {}

//! The inputs that the fuzz target `torn` begins with, and those that once failed, on the stable toolchain.

#[path = "../../fuzz/properties/replay.rs"]
mod replay;
#[path = "../../fuzz/properties/torn.rs"]
mod torn;

#[test]
fn seeds() {
    replay::replay("torn", torn::check);
}

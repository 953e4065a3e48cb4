//! The inputs that the fuzz target `history` begins with, and those that once failed, on the stable toolchain.

#[path = "../../fuzz/properties/history.rs"]
mod history;
#[path = "../../fuzz/properties/replay.rs"]
mod replay;

#[test]
fn seeds() {
    replay::replay("history", history::check);
}

//! The inputs that the fuzz target `config` begins with, and those that once failed, on the stable toolchain.

#[path = "../../fuzz/properties/config.rs"]
mod config;
#[path = "../../fuzz/properties/replay.rs"]
mod replay;

#[test]
fn seeds() {
    replay::replay("config", config::check);
}

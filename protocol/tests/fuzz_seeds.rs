//! The inputs that the fuzz targets begin with, and those that once failed, on the stable toolchain.

use std::path::Path;

#[path = "../../fuzz/properties/events.rs"]
mod events;
#[path = "../../fuzz/properties/packets.rs"]
mod packets;
#[path = "../../fuzz/properties/token.rs"]
mod token;
#[path = "../../fuzz/properties/upgrade.rs"]
mod upgrade;
#[path = "../../fuzz/properties/websocket.rs"]
mod websocket;

#[expect(clippy::disallowed_methods, reason = "the inputs are files")]
fn replay(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut count = 0;
    for entry in folder.read_dir().expect("the folder of the seeds") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        check(&std::fs::read(&path).expect("a seed"));
        count += 1;
    }
    assert!(count > 0, "{target} has seeds");
}

#[test]
fn websocket_seeds() {
    replay("websocket", websocket::check);
}

#[test]
fn upgrade_seeds() {
    replay("upgrade", upgrade::check);
}

#[test]
fn token_seeds() {
    replay("token", token::check);
}

#[test]
fn packet_seeds() {
    replay("packets", packets::check);
}

#[test]
fn event_seeds() {
    replay("events", events::check);
}

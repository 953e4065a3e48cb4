//! The inputs that the fuzz targets begin with, and those that once failed, on the stable toolchain.

#[path = "../../fuzz/properties/events.rs"]
mod events;
#[path = "../../fuzz/properties/packets.rs"]
mod packets;
#[expect(clippy::disallowed_methods, reason = "the inputs are files")]
#[path = "../../fuzz/properties/replay.rs"]
mod replay;
#[path = "../../fuzz/properties/token.rs"]
mod token;
#[path = "../../fuzz/properties/upgrade.rs"]
mod upgrade;
#[path = "../../fuzz/properties/websocket.rs"]
mod websocket;

use replay::replay;

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

//! One connection's state in a shard: a slot's generation, its handshake or its session.

use petrel_protocol::session::Session;
use petrel_protocol::websocket::Decoder;

/// A slot of the shard's table.
#[derive(Default)]
pub(crate) struct Connection {
    pub(crate) generation: u32,
    pub(crate) state: State,
    pub(crate) decoder: Decoder,
}

/// Where a connection stands.
#[derive(Default)]
pub(crate) enum State {
    /// Nobody is here.
    #[default]
    Free,
    /// The upgrade request is coming in.
    Handshake(Vec<u8>),
    /// Logged in.
    Open(Session),
    /// A refusal or a close frame was sent; what still comes in is ignored.
    Closing,
}

impl Connection {
    pub(crate) fn session(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            State::Open(session) => Some(session),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_takes_few_bytes() {
        // The engine's entry (24) and the route (about 34) come on top: 256 bytes in all is the bound.
        assert_eq!(size_of::<Session>(), 40);
        assert_eq!(size_of::<Connection>(), 64);
    }
}

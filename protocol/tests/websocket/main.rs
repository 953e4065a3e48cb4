//! The WebSocket codec and the upgrade: each rule, every way to split a stream, and the same streams read by another
//! implementation.

mod close;
mod differential;
mod frames;
mod random;
mod splits;
mod upgrade;

use std::ops::ControlFlow;

use petrel_protocol::websocket::{Config, Decoder, Event, Fault, Opcode, Role, encode_header, mask};

const SERVER: Config = Config { role: Role::Server, message_bytes_max: 64 << 10, take_text: true };
const CLIENT: Config = Config { role: Role::Client, message_bytes_max: 64 << 10, take_text: true };

/// An event that outlives its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Binary(Vec<u8>),
    Text(String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Event::Text(text) => Self::Text(text.to_owned()),
            Event::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Event::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Event::Close(code, reason) => Self::Close(code, reason.to_owned()),
        }
    }
}

/// A decoder and what it has given so far.
struct Reader {
    config: Config,
    decoder: Decoder,
    seen: Vec<Seen>,
}

impl Reader {
    fn new(config: Config) -> Self {
        Self { config, decoder: Decoder::new(), seen: Vec::new() }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<ControlFlow<()>, Fault> {
        let mut input = bytes.to_vec();
        let fed = self.decoder.feed(&self.config, &mut input, &mut |event| {
            self.seen.push(event.into());
            ControlFlow::Continue(())
        });
        // A message of the size that is allowed, and what else an incomplete one needs.
        assert!(self.decoder.buffered_bytes() <= self.config.message_bytes_max + 256);
        fed
    }
}

/// What the bytes are, fed at once: the events, and the fault that ended them.
fn read(config: Config, bytes: &[u8]) -> (Vec<Seen>, Option<Fault>) {
    let mut reader = Reader::new(config);
    let fault = reader.feed(bytes).err();
    (reader.seen, fault)
}

/// A frame as the peer of `role` sends it.
fn frame(role: Role, opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let key = (role == Role::Server).then_some([0x12, 0x34, 0xA5, 0xF7]);
    let mut header = [0; 14];
    let len = encode_header(&mut header, key, opcode, fin, payload.len());
    let mut bytes = header[..len].to_vec();
    bytes.extend_from_slice(payload);
    if let Some(key) = key {
        mask(&mut bytes[len..], key);
    }
    bytes
}

/// A frame from a client.
fn sent(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    frame(Role::Server, opcode, fin, payload)
}

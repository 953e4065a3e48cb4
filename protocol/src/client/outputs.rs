//! What a client wants done, and the bytes of the packets among it.

use std::ops::Range;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::Output;
use crate::packets::MsgType;

/// A packet's place in [`Outputs::bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet(Range<usize>);

/// The outputs of one or several inputs, in order. Reused: its memory is kept between turns.
#[derive(Debug, Default)]
pub struct Outputs {
    actions: Vec<Output>,
    bytes: Vec<u8>,
}

impl Outputs {
    /// The bytes of a packet among the outputs.
    pub fn bytes(&self, packet: &Packet) -> &[u8] {
        &self.bytes[packet.0.clone()]
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Takes the outputs; the bytes stay until [`Self::clear`].
    pub fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.actions)
    }

    /// Gives the vector of [`Self::take`] back, so that its memory is used again, and forgets the bytes.
    pub fn clear(&mut self, mut actions: Vec<Output>) {
        actions.clear();
        self.actions = actions;
        self.bytes.clear();
        // One burst must not hold its memory for good.
        self.bytes.shrink_to(64 << 10);
        self.actions.shrink_to(4 << 10);
    }

    pub(super) fn push(&mut self, output: Output) {
        self.actions.push(output);
    }

    /// Appends a request with this payload, encoded in place in its envelope.
    pub(super) fn packet(&mut self, kind: MsgType, payload: &impl Message) {
        let start = self.bytes.len();
        encode_key(1, WireType::Varint, &mut self.bytes);
        encode_varint(kind as u64, &mut self.bytes);
        encode_key(2, WireType::LengthDelimited, &mut self.bytes);
        payload.encode_length_delimited(&mut self.bytes).expect("a Vec grows");
        self.actions.push(Output::Transmit(Packet(start..self.bytes.len())));
    }

    pub(super) fn pong(&mut self, payload: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        self.actions.push(Output::Pong(Packet(start..self.bytes.len())));
    }
}

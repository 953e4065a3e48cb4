//! What a session wants done, and the bytes of the packets among it.

use std::ops::Range;

use bytes::BufMut;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::Output;
use crate::codes::Code;
use crate::packets::{MsgType, SUCCESS};

/// A packet's place in [`Outputs::bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent(Range<usize>);

/// The outputs of one or several inputs, in order. Reused: its memory is kept between turns.
#[derive(Debug, Default)]
pub struct Outputs {
    actions: Vec<Output>,
    bytes: Vec<u8>,
    refusals: Vec<(Code, u64)>,
}

impl Outputs {
    /// Appends one.
    pub fn push(&mut self, output: Output) {
        self.actions.push(output);
    }

    /// Appends a packet with this payload, encoded once, without a copy between payload and envelope.
    pub fn packet(&mut self, kind: MsgType, payload: &impl Message) {
        let start = self.bytes.len();
        encode_response(&mut self.bytes, kind, payload);
        self.actions.push(Output::Send(Sent(start..self.bytes.len())));
    }

    /// Appends an encoded message (an envelope) as it is.
    pub fn envelope(&mut self, envelope: &impl Message) {
        let start = self.bytes.len();
        envelope.encode(&mut self.bytes).expect("a Vec grows");
        self.actions.push(Output::Send(Sent(start..self.bytes.len())));
    }

    /// Counts a refusal.
    pub(super) fn count_refusal(&mut self, code: Code) {
        match self.refusals.iter_mut().find(|(c, _)| *c == code) {
            Some((_, count)) => *count += 1,
            None => self.refusals.push((code, 1)),
        }
    }

    /// The refusals since the last call, by code.
    pub fn take_refusals(&mut self) -> impl Iterator<Item = (Code, u64)> + '_ {
        self.refusals.drain(..)
    }

    /// The bytes of a packet among the outputs.
    pub fn bytes(&self, sent: &Sent) -> &[u8] {
        &self.bytes[sent.0.clone()]
    }

    /// Takes the outputs; the bytes stay until [`Self::clear`].
    pub fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.actions)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Gives the vector of [`Self::take`] back, emptied, so that its memory is used again, and forgets the bytes.
    pub fn clear(&mut self, mut actions: Vec<Output>) {
        actions.clear();
        self.actions = actions;
        self.bytes.clear();
        // One burst must not hold its memory for good.
        self.bytes.shrink_to(64 << 10);
        self.actions.shrink_to(4 << 10);
    }
}

/// Encodes a successful response with its payload in place.
fn encode_response(out: &mut Vec<u8>, kind: MsgType, payload: &impl Message) {
    let len = payload.encoded_len();
    out.reserve(len + 24 + encoded_len_varint(len as u64));
    encode_key(1, WireType::Varint, out);
    encode_varint(kind as u64, out);
    encode_key(2, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
    payload.encode_raw(out);
    encode_key(3, WireType::Varint, out);
    out.put_u8(SUCCESS as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::{C2cAckReq, response};

    #[test]
    fn a_packet_is_encoded_as_prost_encodes_it() {
        let ack = C2cAckReq { msg_id: 7, to: 9, status: 3, seq: 2, ..Default::default() };
        let mut out = Outputs::default();
        out.packet(MsgType::C2cAck, &ack);
        let actions = out.take();
        let [Output::Send(sent)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(out.bytes(sent), &response(MsgType::C2cAck, &ack)[..]);
    }
}

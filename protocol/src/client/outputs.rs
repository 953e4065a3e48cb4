//! What a client wants done or has learnt, and the bytes of the packets among it.

use std::ops::Range;
use std::sync::Arc;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::ClientMsgId;
use crate::ids::UserId;
use crate::packets::{C2cMsgPush, C2cWithdrawReq, MsgType, SyncRange};

/// What a client wants done, or has learnt.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Send this packet, which stands in [`Outputs::bytes`], as one binary message.
    Transmit(Packet),
    /// Send a pong with this payload, which stands in [`Outputs::bytes`].
    Pong(Packet),
    /// Send a ping.
    Ping,
    /// Close the connection; the reason is for people.
    Close(&'static str),
    /// A send went out for the `attempt`th time, counted from 0.
    Sent(ClientMsgId, u32),
    /// A send was accepted: durable. Once for each send.
    Accepted {
        /// The send.
        id: ClientMsgId,
        /// The server's id of it.
        msg_id: u64,
    },
    /// A send ended without having been accepted. Once for each send, and then nothing else about it, unless
    /// `may_exist`.
    Refused {
        /// The send.
        id: ClientMsgId,
        /// Why.
        refusal: Refusal,
        /// Whether an attempt had an unknown outcome, so that the message may exist all the same.
        may_exist: bool,
    },
    /// A send was refused for now and will be sent again after `retry_after_ms`.
    Postponed {
        /// The send.
        id: ClientMsgId,
        /// A [`crate::codes::Code`].
        code: i32,
        /// From the edge; 0 where it named none.
        retry_after_ms: u32,
    },
    /// A send was not answered for [`super::Config::answer_ms`] on an open connection.
    Unanswered(ClientMsgId),
    /// What the edge says about an own message, as it came. `seq` is 0 where the edge does not tell it.
    Status {
        /// The send.
        id: ClientMsgId,
        /// The server's id of it.
        msg_id: u64,
        /// Its place in its conversation, or 0.
        seq: u64,
        /// The status, see [`crate::packets::status`].
        status: i32,
        /// The highest status known before; `None` where the message is not remembered.
        before: Option<i32>,
    },
    /// A recall was refused: the `msg_id`, the code, and when to try again (0: never).
    RecallRefused(u64, i32, u32),
    /// A message came for the first time, in whatever order.
    Arrived(Arc<C2cMsgPush>),
    /// A message or recall came again: the other user and the seq.
    Repeated(UserId, u64),
    /// The next row of a conversation, in seq order, each once: the other user, and what to show.
    Shown(UserId, Row),
    /// Rows of the past, from a sync request, that were shown before or never will be: what a history view takes.
    Range(Box<SyncRange>),
    /// Message ids to use in drafts.
    Ids(Vec<u64>),
    /// Everything that was stored before is here.
    Ready,
    /// The edge is about to stop: reconnect after so many ms.
    Drain(u32),
    /// The session was ended by the edge: do not reconnect unasked.
    Kicked(i32, String),
    /// Something else than a send or recall was refused: what, the code and its text.
    OtherRefused(MsgType, i32, String),
    /// A packet of the edge that makes no sense.
    Fault(String),
}

/// One row of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// A message of the other user, or of this user from another device.
    Message(Arc<C2cMsgPush>),
    /// A message of this device: its seq.
    Own(u64),
    /// A recall: `target_seq` names the message that it recalls.
    Recall(C2cWithdrawReq),
    /// A seq that does not exist for this user.
    Absent(u64),
}

/// Why a send was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The edge said no: the code and its text.
    Code(i32, String),
    /// [`super::Config::outbox_max`] is reached.
    OutboxFull,
}

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

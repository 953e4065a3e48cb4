//! One device of a user, as a client decides about it: what it sends and sends again, what it shows, what it has learnt.
//!
//! The machine outlives its connections: sends that were not answered when a connection ended are sent again on the
//! next one, under the same id. It does not know sockets, frames or threads. The load generator, tests and the
//! simulation drive it.

mod inbox;
mod outbox;
mod outputs;
mod own;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

pub use outputs::{Output, Outputs, Packet, Refusal, Row};

use crate::ids::UserId;
use crate::packets::{
    BatchMsgIdsPush, C2cAckReq, C2cMsgPush, C2cWithdrawReq, Drain, GetBatchMsgIdsReq, ImProtoResponse,
    MsgType, SyncRange, SyncReq, status,
};
use crate::time::Now;
use inbox::Inbox;
use outbox::Outbox;
use own::Own;

/// The idempotency key of a send: a UUID, chosen by the caller.
pub type ClientMsgId = [u8; crate::limits::CLIENT_MSG_ID_BYTES];

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether every conversation begins, for this device, at seq 1. Otherwise at the first seq that it is shown, since
    /// a device's first login starts at the head.
    pub starts_at_one: bool,
    /// Sends that wait for their outcome, sent or not. Beyond: [`Output::Refused`] with [`Refusal::OutboxFull`].
    pub outbox_max: usize,
    /// Sends of one conversation that are under way at once. 1 keeps the caller's order whatever the edge refuses; above
    /// it a send may pass an earlier one that is refused, but never one whose outcome is unknown.
    pub pipeline: u16,
    /// Sends under way at once, over all conversations; below the edge's own bound.
    pub in_flight_max: u16,
    /// A send that was refused this often, with an invitation to retry, is given up. 0: never.
    pub refusals_max: u32,
    /// Whether a refusal for overload holds back everything, not only the refused send, until its time, and halves what may
    /// be under way. Without it the client keeps offering what it is given, which is how an overload is made.
    pub backs_off: bool,
    /// A send without any answer for this long, on an open connection, is reported and sent again.
    pub answer_ms: u64,
    /// A gap in a conversation that stays this long is asked for with a sync request.
    pub gap_ms: u64,
    /// Own messages whose ids and highest status are remembered; the oldest are forgotten first.
    pub own_max: usize,
    /// The edge is pinged when it was silent this long. 0: never.
    pub ping_after_ms: u64,
    /// The connection is given up when the edge was silent this long. 0: never.
    pub dead_after_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            starts_at_one: false,
            outbox_max: 1_024,
            pipeline: 1,
            in_flight_max: 128,
            refusals_max: 0,
            backs_off: true,
            answer_ms: 10_000,
            gap_ms: 1_000,
            own_max: 1_024,
            ping_after_ms: 20_000,
            dead_after_ms: 40_000,
        }
    }
}

/// A message to send.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// Its idempotency key; unique within the user's sends.
    pub id: ClientMsgId,
    /// From a batch of ids, or 0: the server assigns one.
    pub msg_id: u64,
    /// The receiver.
    pub to: UserId,
    /// 1 is text; the others stand in the protocol's list of formats.
    pub format: i32,
    /// What the receiver sees.
    pub content: &'a str,
}

/// What can happen to a client.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A connection is up: the WebSocket upgrade succeeded.
    Connected,
    /// A binary message of the edge.
    Packet(&'a [u8]),
    /// A ping of the edge, with its payload.
    Ping(&'a [u8]),
    /// A pong of the edge.
    Pong,
    /// The connection is gone.
    Disconnected,
    /// Send this message.
    Send(Draft<'a>),
    /// Recall an own message: its receiver and its `msg_id`.
    Recall(UserId, u64),
    /// Tell that a message was read: its sender, its `msg_id`.
    Read(UserId, u64),
    /// Ask for a range of the conversation with this user; `to_seq` 0: up to the head.
    Sync(UserId, u64, u64),
    /// Ask for a batch of message ids.
    GetIds,
    /// Time has passed: see [`Client::due_ms`].
    Tick,
}

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is none.
    Away,
    /// What was stored before is coming.
    Syncing,
    /// All of it has come.
    Ready,
    /// The edge is about to stop and takes no more sends.
    Draining,
}

/// One device of a user.
#[derive(Debug)]
pub struct Client {
    user: UserId,
    config: Arc<Config>,
    phase: Phase,
    is_pinged: bool,
    heard_ms: u64,
    outbox: Outbox,
    inbox: Inbox,
    own: Own,
}

impl Client {
    /// A client that was never connected.
    pub fn new(user: UserId, config: Arc<Config>) -> Self {
        Self {
            user,
            config,
            phase: Phase::Away,
            is_pinged: false,
            heard_ms: 0,
            outbox: Outbox::default(),
            inbox: Inbox::default(),
            own: Own::default(),
        }
    }

    /// Whose it is.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// Whether a connection is up.
    pub fn is_connected(&self) -> bool {
        self.phase != Phase::Away
    }

    /// Whether everything that was stored before the connection has come.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Sends whose outcome is not known yet, those included that wait to be sent.
    pub fn pending(&self) -> usize {
        self.outbox.len()
    }

    /// Conversations with rows that wait for an earlier seq.
    pub fn gaps(&self) -> usize {
        self.inbox.gaps()
    }

    /// The seqs of the conversation with `peer` that have been shown: the last one without a gap, 0 where none.
    pub fn shown_seq(&self, peer: UserId) -> u64 {
        self.inbox.shown_seq(peer)
    }

    /// When [`Input::Tick`] is due, in monotonic milliseconds; none while nothing waits for time.
    pub fn due_ms(&self) -> Option<u64> {
        let heartbeat = self.is_connected().then(|| self.heartbeat_due_ms()).flatten();
        [self.outbox.due_ms(self.is_connected()), self.inbox.due_ms(self.is_ready()), heartbeat]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes one input and appends what is to be done, and what was learnt, to `out`.
    pub fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outputs) {
        match input {
            Input::Connected => self.connected(now, out),
            Input::Packet(bytes) => self.packet(now, bytes, out),
            Input::Ping(payload) => {
                self.heard(now);
                out.pong(payload);
            }
            Input::Pong => self.heard(now),
            Input::Disconnected => self.disconnected(),
            Input::Send(draft) => {
                self.outbox.add(now, self.user, draft, self.may_send(), &self.config, out);
            }
            Input::Recall(to, msg_id) => {
                let recall =
                    C2cWithdrawReq { msg_id, from: self.user.0, to: to.0, ..C2cWithdrawReq::default() };
                self.transmit(MsgType::C2cWithdraw, &recall, out);
            }
            Input::Read(sender, msg_id) => self.ack(sender.0, msg_id, Bytes::new(), status::READ, out),
            Input::Sync(peer, from_seq, to_seq) => {
                self.transmit(MsgType::Sync, &SyncReq { peer: peer.0, from_seq, to_seq }, out);
            }
            Input::GetIds => {
                self.transmit(MsgType::GetBatchMsgIds, &GetBatchMsgIdsReq { user_id: self.user.0 }, out);
            }
            Input::Tick => self.tick(now, out),
        }
    }

    fn connected(&mut self, now: Now, out: &mut Outputs) {
        self.phase = Phase::Syncing;
        self.heard(now);
        self.outbox.pump(now, self.user, &self.config, out);
    }

    fn disconnected(&mut self) {
        self.phase = Phase::Away;
        self.is_pinged = false;
        self.outbox.connection_lost();
        self.inbox.connection_lost();
    }

    fn may_send(&self) -> bool {
        matches!(self.phase, Phase::Syncing | Phase::Ready)
    }

    fn heard(&mut self, now: Now) {
        self.heard_ms = now.mono_ms;
        self.is_pinged = false;
    }

    /// Packets without an outcome of their own are only sent while connected: whoever asked asks again.
    fn transmit(&self, kind: MsgType, payload: &impl Message, out: &mut Outputs) {
        if self.is_connected() {
            out.packet(kind, payload);
        }
    }

    fn ack(&self, to: u64, msg_id: u64, client_msg_id: Bytes, status: i32, out: &mut Outputs) {
        let ack = C2cAckReq { client_msg_id, msg_id, from: self.user.0, to, status, seq: 0 };
        self.transmit(MsgType::C2cAck, &ack, out);
    }

    fn packet(&mut self, now: Now, bytes: &[u8], out: &mut Outputs) {
        self.heard(now);
        // One copy, which the payload and the ids then share.
        let envelope = match ImProtoResponse::decode(Bytes::copy_from_slice(bytes)) {
            Ok(envelope) => envelope,
            Err(e) => return out.push(Output::Fault(format!("not an ImProtoResponse: {e}"))),
        };
        let kind = MsgType::try_from(envelope.r#type).unwrap_or(MsgType::Unknown);
        match kind {
            MsgType::C2cAck => decoded(envelope, out, |ack, code, out| self.status(now, &ack, code, out)),
            MsgType::C2cMsgPush => decoded(envelope, out, |push, _, out| self.push(now, push, out)),
            MsgType::C2cWithdraw => decoded(envelope, out, |recall, _, out| self.recalled(now, recall, out)),
            MsgType::Sync => decoded(envelope, out, |range, _, out| self.range(now, range, out)),
            MsgType::PushBatchMsgIds => {
                decoded(envelope, out, |batch: BatchMsgIdsPush, _, out| out.push(Output::Ids(batch.msg_ids)));
            }
            MsgType::Ready => {
                self.phase = Phase::Ready;
                out.push(Output::Ready);
            }
            MsgType::Nack => self.nack(now, envelope, out),
            MsgType::Drain => decoded(envelope, out, |drain: Drain, _, out| {
                self.phase = Phase::Draining;
                out.push(Output::Drain(drain.reconnect_after_ms));
            }),
            MsgType::Kick => out.push(Output::Kicked(envelope.code, envelope.msg)),
            _ => out.push(Output::Fault(format!("a packet of type {} came from the edge", envelope.r#type))),
        }
    }

    /// A status of an own message; the first one of 1 or above means that it was accepted.
    fn status(&mut self, now: Now, ack: &C2cAckReq, code: (i32, String), out: &mut Outputs) {
        let Ok(id) = ClientMsgId::try_from(&ack.client_msg_id[..]) else {
            return out
                .push(Output::Fault(format!("an ack of msg_id {} without its client_msg_id", ack.msg_id)));
        };
        let to = if ack.status >= status::ACCEPTED {
            let to = self.outbox.accepted(id, &self.config);
            if let Some(to) = to {
                self.own.add(id, to, &self.config);
                out.push(Output::Accepted { id, msg_id: ack.msg_id });
            }
            to
        } else if ack.status == status::FAILED {
            if self.outbox.remove(id).is_some() {
                out.push(Output::Refused { id, refusal: Refusal::Code(code.0, code.1), may_exist: false });
            }
            None
        } else {
            return out
                .push(Output::Fault(format!("an ack of msg_id {} with status {}", ack.msg_id, ack.status)));
        };
        let (before, peer) = self.own.rise(id, ack.status);
        out.push(Output::Status { id, msg_id: ack.msg_id, seq: ack.seq, status: ack.status, before });
        if let (Some(peer), true) = (to.or(peer), ack.seq != 0) {
            self.inbox.own(peer, ack.seq, now, &self.config, out);
        }
        if self.may_send() && self.outbox.is_waiting() {
            self.outbox.pump(now, self.user, &self.config, out);
        }
    }

    fn push(&mut self, now: Now, push: C2cMsgPush, out: &mut Outputs) {
        // Also what came before is acknowledged again: the edge that sends it twice has lost the first ack.
        self.ack(push.from, push.msg_id, push.client_msg_id.clone(), status::DELIVERED, out);
        let peer = if push.from == self.user.0 { push.to } else { push.from };
        self.inbox.message(UserId(peer), push, now, &self.config, out);
    }

    fn recalled(&mut self, now: Now, recall: C2cWithdrawReq, out: &mut Outputs) {
        let peer = if recall.from == self.user.0 { recall.to } else { recall.from };
        self.inbox.recall(UserId(peer), recall, now, &self.config, out);
    }

    fn range(&mut self, now: Now, range: SyncRange, out: &mut Outputs) {
        // An id is its sender's: another user may have chosen, or copied, the same one.
        let is_own = |push: &C2cMsgPush| {
            push.from == self.user.0
                && ClientMsgId::try_from(&push.client_msg_id[..])
                    .is_ok_and(|id| self.own.is_known(id) || self.outbox.is_known(id))
        };
        self.inbox.range(is_own, &range, now, &self.config, out);
        out.push(Output::Range(Box::new(range)));
    }

    fn nack(&mut self, now: Now, envelope: ImProtoResponse, out: &mut Outputs) {
        let kind = MsgType::try_from(envelope.refused_type).unwrap_or(MsgType::Unknown);
        if kind == MsgType::C2cWithdraw {
            let (id, retry) = (envelope.refused_msg_id, envelope.retry_after_ms);
            return out.push(Output::RecallRefused(id, envelope.code, retry));
        }
        if kind == MsgType::Sync {
            self.inbox.sync_refused();
        }
        let id = ClientMsgId::try_from(&envelope.payload[..]);
        let (MsgType::C2cSend, Ok(id)) = (kind, id) else {
            return out.push(Output::OtherRefused(kind, envelope.code, envelope.msg));
        };
        self.outbox.refused(now, id, envelope, &self.config, out);
        if self.may_send() {
            self.outbox.pump(now, self.user, &self.config, out);
        }
    }

    fn tick(&mut self, now: Now, out: &mut Outputs) {
        if !self.is_connected() {
            return;
        }
        let silent = now.mono_ms.saturating_sub(self.heard_ms);
        if self.config.dead_after_ms != 0 && silent >= self.config.dead_after_ms {
            return out.push(Output::Close("the edge shows no sign of life"));
        }
        if self.config.ping_after_ms != 0 && silent >= self.config.ping_after_ms && !self.is_pinged {
            self.is_pinged = true;
            out.push(Output::Ping);
        }
        self.outbox.overdue(now, &self.config, out);
        if self.may_send() {
            self.outbox.pump(now, self.user, &self.config, out);
        }
        self.outbox.set_due(now, &self.config);
        if self.is_ready() {
            self.inbox.ask_for_gaps(now, &self.config, out);
        }
    }

    fn heartbeat_due_ms(&self) -> Option<u64> {
        let after = if self.is_pinged { self.config.dead_after_ms } else { self.config.ping_after_ms };
        (after != 0).then_some(self.heard_ms + after)
    }
}

/// Decodes the payload and goes on with it, its code and its text.
fn decoded<P: Message + Default>(
    envelope: ImProtoResponse,
    out: &mut Outputs,
    then: impl FnOnce(P, (i32, String), &mut Outputs),
) {
    let kind = envelope.r#type;
    match P::decode(envelope.payload) {
        Ok(packet) => then(packet, (envelope.code, envelope.msg), out),
        Err(e) => {
            out.push(Output::Fault(format!("the payload of a packet of type {kind} is not valid: {e}")));
        }
    }
}

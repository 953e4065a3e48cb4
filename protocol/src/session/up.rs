//! What a client sends: messages, acks, recalls, requests.

use bytes::Bytes;
use prost::Message;

use super::sent::{Held, Ids, Publication, key_of};
use super::{Outcome, Output, Outputs, Phase, Session, Shared, window};
use crate::calls::{HistoryRequest, ResolveReply, ResolveRequest};
use crate::codes::Code;
use crate::events::{self, Receipt, Uplink, uplink::Body};
use crate::ids::{ConversationId, UserId};
use crate::limits;
use crate::packets::{
    C2cAckReq, C2cSendReq, C2cWithdrawReq, GetBatchMsgIdsReq, ImProtoRequest, ImProtoResponse, MsgType,
    SyncReq, status,
};
use crate::time::Now;

/// What a nack echoes of the packet that it refuses.
pub(super) struct RefusedPacket {
    pub(super) kind: MsgType,
    pub(super) client_msg_id: Bytes,
    pub(super) msg_id: u64,
}

impl RefusedPacket {
    pub(super) fn of(kind: MsgType) -> Self {
        Self { kind, client_msg_id: Bytes::new(), msg_id: 0 }
    }

    pub(super) fn nack(&self, code: Code, text: &str, retry_after_ms: u32, out: &mut Outputs) {
        out.count_refusal(code);
        out.envelope(&ImProtoResponse {
            r#type: MsgType::Nack.into(),
            payload: self.client_msg_id.clone(),
            code: code as i32,
            msg: text.to_owned(),
            retry_after_ms,
            refused_type: self.kind.into(),
            refused_msg_id: self.msg_id,
        });
    }
}

/// An ack whose message is being looked up.
#[derive(Debug)]
pub(super) struct Resolving {
    conversation: ConversationId,
    ack: C2cAckReq,
}

const RETRY_OVERLOADED_MS: u32 = 200;
const RETRY_UNAVAILABLE_MS: u32 = 1_000;

impl Session {
    pub(super) fn packet(&mut self, now: Now, bytes: &[u8], shared: &mut Shared, out: &mut Outputs) {
        let request = match ImProtoRequest::decode(bytes) {
            Ok(request) => request,
            Err(e) => {
                let text = format!("not an ImProtoRequest: {e}");
                return self.fault(Code::BadPacket, &text, &RefusedPacket::of(MsgType::Unknown), out);
            }
        };
        let kind = MsgType::try_from(request.r#type).unwrap_or(MsgType::Unknown);
        let payload = &request.payload[..];
        match kind {
            MsgType::C2cSend => self.decoded(kind, payload, out, |s, p, out| s.send(now, p, shared, out)),
            MsgType::C2cAck => self.decoded(kind, payload, out, |s, p, out| s.ack(now, p, out)),
            MsgType::C2cWithdraw => {
                self.decoded(kind, payload, out, |s, p, out| s.recall(now, &p, shared, out));
            }
            MsgType::GetBatchMsgIds => self.decoded(kind, payload, out, Self::id_batch),
            MsgType::Sync => self.decoded(kind, payload, out, Self::sync_request),
            MsgType::GroupSend | MsgType::GroupAck | MsgType::GroupWithdraw => {
                let text = "groups are not served by this version";
                self.fault(Code::UnknownType, text, &RefusedPacket::of(kind), out);
            }
            _ => {
                let text = format!("packet type {} is not one that a client sends", request.r#type);
                self.fault(Code::UnknownType, &text, &RefusedPacket::of(kind), out);
            }
        }
    }

    fn decoded<P: Message + Default>(
        &mut self,
        kind: MsgType,
        payload: &[u8],
        out: &mut Outputs,
        then: impl FnOnce(&mut Self, P, &mut Outputs),
    ) {
        match P::decode(payload) {
            Ok(packet) => then(self, packet, out),
            Err(e) => {
                let text = format!("the payload is not a valid {}: {e}", kind.as_str_name());
                self.fault(Code::BadPacket, &text, &RefusedPacket::of(kind), out);
            }
        }
    }

    fn send(&mut self, now: Now, send: C2cSendReq, shared: &mut Shared, out: &mut Outputs) {
        let refused = RefusedPacket {
            kind: MsgType::C2cSend,
            client_msg_id: send.client_msg_id.clone(),
            msg_id: send.msg_id,
        };
        if let Some((code, text)) = self.send_fault(&send) {
            return self.fault(code, text, &refused, out);
        }
        let to = UserId(send.to);
        let conversation = ConversationId::of_users(self.user, to);
        let mut ids = Ids { msg_id: send.msg_id, client_msg_id: send.client_msg_id };
        if let Some((code, text, retry)) = self.unpublishable(now, conversation, Some(&ids), shared) {
            return refused.nack(code, text, retry, out);
        }
        if ids.msg_id == 0 {
            let Some(id) = shared.spare_ids.pop() else {
                let text = "no message id can be given out just now";
                return refused.nack(Code::Overloaded, text, RETRY_OVERLOADED_MS, out);
            };
            ids.msg_id = id;
        }
        let body = events::Send {
            client_msg_id: ids.client_msg_id.clone(),
            msg_id: ids.msg_id,
            format: send.format,
            content: send.content,
            time: send.time,
            // A client of the original cannot say whether this is its first try.
            look_up: send.attempt != Some(0),
        };
        self.publish(now, conversation, ids, MsgType::C2cSend, Body::Send(body), shared, out);
    }

    fn send_fault(&self, send: &C2cSendReq) -> Option<(Code, &'static str)> {
        let id_bytes = send.client_msg_id.len();
        if send.from != self.user.0 {
            Some((Code::NotYourUser, "`from` must be the user that you are logged in as"))
        } else if send.to == 0 || send.to == self.user.0 {
            Some((Code::BadRecipient, "`to` must be another user's id"))
        } else if id_bytes != 0 && id_bytes != limits::CLIENT_MSG_ID_BYTES {
            Some((Code::BadPacket, "client_msg_id must be a UUID of 16 bytes"))
        } else if id_bytes == 0 && send.msg_id == 0 {
            Some((Code::MissingId, "give client_msg_id or msg_id, so that a resend can be recognised"))
        } else if send.content.len() > limits::CONTENT_BYTES_MAX {
            Some((Code::TooLarge, "the content is larger than 32 KiB: send a file's link instead"))
        } else {
            None
        }
    }

    /// Why nothing can be published for this conversation just now, if so. `send`: the message, where it is one.
    fn unpublishable(
        &mut self,
        now: Now,
        conversation: ConversationId,
        send: Option<&Ids>,
        shared: &Shared,
    ) -> Option<(Code, &'static str, u32)> {
        if shared.is_draining {
            return Some((Code::Draining, "this edge is about to stop: reconnect and send it again", 0));
        }
        let work = self.work();
        if work.publishing.len() >= limits::SESSION_IN_FLIGHT_MAX
            || shared.unstored >= shared.config.shard_unstored_max
        {
            return Some((
                Code::Overloaded,
                "too much is under way: send it again later",
                RETRY_OVERLOADED_MS,
            ));
        }
        let is_full = work.held.len() >= limits::SESSION_HELD_MAX;
        let is_held = send.is_some_and(|ids| work.held.iter().any(|held| held.is_same(ids)));
        if is_full && !is_held {
            return Some((Code::HeldBack, "resend the messages whose outcome is unknown first", 0));
        }
        let i = work.held.iter().position(|held| held.conversation == conversation)?;
        if !send.is_some_and(|ids| work.held[i].is_same(ids)) {
            if let (Some(ids), false) = (send, is_held) {
                // What comes behind it must not pass it either, should the earlier outcome become known meanwhile.
                work.held.push(Held { conversation, ids: ids.clone(), since_ms: now.mono_ms });
            }
            let text = "an earlier message here has an unknown outcome: send that one again first";
            return Some((Code::HeldBack, text, 0));
        }
        // Those behind it keep their order: they are sent again in it.
        work.held.remove(i);
        None
    }

    #[expect(clippy::too_many_arguments, reason = "one call for sends and recalls, each with all of these")]
    fn publish(
        &mut self,
        now: Now,
        conversation: ConversationId,
        ids: Ids,
        kind: MsgType,
        body: Body,
        shared: &mut Shared,
        out: &mut Outputs,
    ) {
        let event = Uplink {
            conversation: Some(conversation.into()),
            edge_time_ms: now.wall_ms,
            user: self.user.0,
            device: self.device as u32,
            // The shard knows the address and fills it in.
            origin: None,
            body: Some(body),
        };
        let work = self.work();
        work.used_at = super::quarters(now);
        work.unstored += 1;
        shared.unstored += 1;
        // A resend of what is known to be delivered is not told as accepted only.
        let is_overtaken = work.statuses.highest(key_of(ids.msg_id, &ids.client_msg_id)) > status::ACCEPTED;
        let publication = Publication { conversation, ids, kind, is_settled: false, is_overtaken };
        let ticket = work.publishing.add(publication);
        out.push(Output::Publish(conversation, Box::new(event), ticket));
    }

    pub(super) fn published(
        &mut self,
        now: Now,
        ticket: u32,
        outcome: Outcome,
        shared: &mut Shared,
        out: &mut Outputs,
    ) {
        let user = self.user.0;
        let Some(work) = &mut self.work else { return };
        let Some((conversation, ids, kind, is_overtaken)) = work.publishing.settle(ticket) else { return };
        let refused = RefusedPacket { kind, client_msg_id: ids.client_msg_id.clone(), msg_id: ids.msg_id };
        match outcome {
            Outcome::Accepted if kind == MsgType::C2cSend && !is_overtaken => out.packet(
                MsgType::C2cAck,
                &C2cAckReq {
                    client_msg_id: ids.client_msg_id,
                    msg_id: ids.msg_id,
                    from: 0,
                    to: user,
                    status: status::ACCEPTED,
                    seq: 0,
                },
            ),
            Outcome::Accepted => {}
            Outcome::Full | Outcome::Unavailable => {
                self.stored_again(shared);
                let (code, text, retry) = if outcome == Outcome::Full {
                    (Code::Overloaded, "too much is under way: send it again later", RETRY_OVERLOADED_MS)
                } else {
                    (Code::Unavailable, "the log is out of reach: send it again later", RETRY_UNAVAILABLE_MS)
                };
                refused.nack(code, text, retry, out);
            }
            Outcome::Unknown => {
                if kind == MsgType::C2cSend && work.held.len() < limits::SESSION_HELD_MAX {
                    work.held.push(Held { conversation, ids, since_ms: now.mono_ms });
                }
                self.stored_again(shared);
                let text = "it is unknown whether this was accepted: send it again with the same id";
                refused.nack(Code::OutcomeUnknown, text, RETRY_UNAVAILABLE_MS, out);
            }
        }
    }

    /// One event of this session came back from the pipeline: its credit is free again.
    pub(super) fn stored_again(&mut self, shared: &mut Shared) {
        if let Some(work) = &mut self.work
            && work.unstored > 0
        {
            work.unstored -= 1;
            shared.unstored -= 1;
        }
    }

    fn recall(&mut self, now: Now, recall: &C2cWithdrawReq, shared: &mut Shared, out: &mut Outputs) {
        let refused =
            RefusedPacket { kind: MsgType::C2cWithdraw, client_msg_id: Bytes::new(), msg_id: recall.msg_id };
        let to = UserId(recall.to);
        if recall.from != self.user.0 {
            let text = "`from` must be the user that you are logged in as";
            return self.fault(Code::NotYourUser, text, &refused, out);
        }
        if recall.to == 0 || to == self.user {
            return self.fault(Code::BadRecipient, "`to` must be another user's id", &refused, out);
        }
        if recall.msg_id == 0 {
            return self.fault(Code::MissingId, "name the message by its msg_id", &refused, out);
        }
        let conversation = ConversationId::of_users(self.user, to);
        let ids = Ids { msg_id: recall.msg_id, client_msg_id: Bytes::new() };
        if let Some((code, text, retry)) = self.unpublishable(now, conversation, None, shared) {
            return refused.nack(code, text, retry, out);
        }
        let body = Body::Recall(events::Recall { msg_id: recall.msg_id });
        self.publish(now, conversation, ids, MsgType::C2cWithdraw, body, shared, out);
    }

    fn ack(&mut self, now: Now, ack: C2cAckReq, out: &mut Outputs) {
        let refused = RefusedPacket {
            kind: MsgType::C2cAck,
            client_msg_id: ack.client_msg_id.clone(),
            msg_id: ack.msg_id,
        };
        if ack.from != self.user.0 {
            let text = "`from` must be the user that you are logged in as";
            return self.fault(Code::NotYourUser, text, &refused, out);
        }
        if ack.to == 0 {
            return self.fault(Code::BadRecipient, "`to` must be the message's sender", &refused, out);
        }
        if ack.status != status::DELIVERED && ack.status != status::READ {
            let text = "a receiver's ack has status 3 (delivered) or 4 (read)";
            return self.fault(Code::BadPacket, text, &refused, out);
        }
        let conversation = ConversationId::of_users(self.user, UserId(ack.to));
        let work = self.work.get_or_insert_default();
        work.used_at = super::quarters(now);
        match work.window.ack(ack.msg_id, ack.status) {
            window::Acked::Noted { is_first } => {
                if is_first {
                    out.push(Output::FlushReceiptsLater);
                }
                self.reopen(out);
            }
            window::Acked::Known => {}
            window::Acked::Unknown if ack.to == self.user.0 => {
                // Shown on another device of the sender, or the sender acknowledges itself: nobody to tell.
                refused.nack(Code::NotFound, "no such message waits for an ack of this device", 0, out);
            }
            window::Acked::Unknown if work.resolving.len() >= limits::SESSION_RESOLVING_MAX => {
                let text = "too many acks of older messages are under way: send it again later";
                refused.nack(Code::Overloaded, text, RETRY_OVERLOADED_MS, out);
            }
            window::Acked::Unknown => {
                let msg_id = ack.msg_id;
                work.resolving.push_back(Resolving { conversation, ack });
                out.push(Output::Resolve(ResolveRequest { conversation: Some(conversation.into()), msg_id }));
            }
        }
    }

    pub(super) fn resolved(&mut self, reply: Option<ResolveReply>, out: &mut Outputs) {
        let user = self.user.0;
        let Some(Resolving { conversation, ack }) = self.work.as_mut().and_then(|w| w.resolving.pop_front())
        else {
            return;
        };
        let refused =
            RefusedPacket { kind: MsgType::C2cAck, client_msg_id: ack.client_msg_id, msg_id: ack.msg_id };
        match reply {
            None => {
                let text = "the store is out of reach: send the ack again later";
                refused.nack(Code::Unavailable, text, RETRY_UNAVAILABLE_MS, out);
            }
            Some(found) if found.seq == 0 => {
                self.fault(Code::NotFound, "there is no such message in this conversation", &refused, out);
            }
            Some(found) if found.sender == user => {
                self.fault(
                    Code::NotYours,
                    "this message is your own: its receiver acknowledges it",
                    &refused,
                    out,
                );
            }
            Some(found) => {
                let told = events::Status {
                    msg_id: found.msg_id,
                    client_msg_id: found.client_msg_id,
                    seq: found.seq,
                    status: ack.status,
                };
                let receipt = Receipt {
                    conversation: Some(conversation.into()),
                    user,
                    device: self.device as u32,
                    // Only what was pushed in order on this session may move the delivered cursor.
                    delivered_seq: 0,
                    read_seq: if ack.status == status::READ { found.seq } else { 0 },
                    statuses: vec![told],
                };
                out.push(Output::Receipt(conversation, receipt));
            }
        }
    }

    fn id_batch(&mut self, request: GetBatchMsgIdsReq, out: &mut Outputs) {
        if request.user_id == self.user.0 {
            return out.push(Output::IdBatch);
        }
        let text = "`user_id` must be the user that you are logged in as";
        self.fault(Code::NotYourUser, text, &RefusedPacket::of(MsgType::GetBatchMsgIds), out);
    }

    fn sync_request(&mut self, request: SyncReq, out: &mut Outputs) {
        let refused = RefusedPacket::of(MsgType::Sync);
        let peer = UserId(request.peer);
        if request.peer == 0 || peer == self.user {
            return self.fault(Code::BadRecipient, "`peer` must be another user's id", &refused, out);
        }
        if self.phase == Phase::Claiming {
            return refused.nack(
                Code::Overloaded,
                "not ready yet: ask again later",
                RETRY_OVERLOADED_MS,
                out,
            );
        }
        let user = self.user;
        let work = self.work();
        if std::mem::replace(&mut work.is_history_pending, true) {
            let text = "one sync request at a time: wait for the reply";
            return refused.nack(Code::Overloaded, text, RETRY_OVERLOADED_MS, out);
        }
        out.push(Output::History(HistoryRequest {
            user: user.0,
            conversation: Some(ConversationId::of_users(user, peer).into()),
            from_seq: request.from_seq.max(1),
            to_seq: request.to_seq,
            rows_max: limits::SYNC_ROWS_MAX as u32,
        }));
    }
}

//! What router delivers while the client is connected, and the receipts that go back.

use prost::Message;

use super::sent::key_of;
use super::window::{Kind, Shown};
use super::{Output, Outputs, Phase, Session, Shared};
use crate::calls::{Own, Push, delivery::What};
use crate::codes::{Code, close};
use crate::events::{self, Duplicate, Refused};
use crate::ids::{ConversationId, UserId};
use crate::packets::{C2cAckReq, C2cWithdrawReq, ImProtoResponse, MsgType, SUCCESS, status};
use crate::time::Now;

impl Session {
    pub(super) fn delivery(&mut self, now: Now, what: What, shared: &mut Shared, out: &mut Outputs) {
        match what {
            What::Push(push) => self.push(now, push, shared, out),
            What::Own(own) => self.own(now, own, shared, out),
            What::Refused(refused) => self.refused(&refused, shared, out),
            What::Duplicate(duplicate) => self.duplicate(duplicate, shared, out),
            What::Status(update) => {
                if let Some(told) = update.status {
                    self.status(now, told, out);
                }
            }
            What::Kick(kick) => self.kick(kick.code, kick.text, out),
        }
    }

    fn push(&mut self, now: Now, push: Push, shared: &mut Shared, out: &mut Outputs) {
        let Some(conversation) = push.conversation.as_ref().and_then(|c| ConversationId::try_from(c).ok())
        else {
            return;
        };
        match self.phase {
            // The sync that follows covers it.
            Phase::Claiming | Phase::Closing => return,
            Phase::Syncing | Phase::Live => {}
        }
        let (user, is_live) = (self.user, self.is_live());
        let work = self.work();
        work.used_at = super::quarters(now);
        let highest = work.window.highest(conversation);
        if highest >= push.seq {
            return;
        }
        if !is_live {
            return work.sync.raise(conversation, push.seq);
        }
        let is_gap = highest != 0 && push.seq > highest + 1;
        if is_gap || !work.window.has_room(1) {
            work.sync.raise(conversation, push.seq);
            return self.dirty(shared, out);
        }
        let kind = match (push.is_recall, UserId(push.from) == user) {
            (true, _) => Kind::Recall,
            (false, true) => Kind::OtherDevice,
            (false, false) => Kind::Message,
        };
        work.window.show(Shown {
            conversation,
            seq: push.seq,
            msg_id: push.msg_id,
            client_msg_id: push.client_msg_id,
            kind,
        });
        out.push(Output::SendShared(push.packet));
    }

    fn own(&mut self, now: Now, own: Own, shared: &mut Shared, out: &mut Outputs) {
        self.stored_again(shared);
        let Some(conversation) = own.conversation.as_ref().and_then(|c| ConversationId::try_from(c).ok())
        else {
            return;
        };
        let Some(peer) = conversation.peer_of(self.user) else { return };
        let user = self.user.0;
        if self.phase == Phase::Live {
            let work = self.work();
            work.used_at = super::quarters(now);
            let highest = work.window.highest(conversation);
            let is_next = highest != 0 && own.seq == highest + 1;
            // A message of one's own needs no proof that it came. A recall does, like everybody else's: only its row says
            // that it was granted.
            let (kind, is_wanted) =
                if own.is_recall { (Kind::Recall, highest == 0 || is_next) } else { (Kind::Own, is_next) };
            if is_wanted && work.window.has_room(1) {
                work.window.show(Shown {
                    conversation,
                    seq: own.seq,
                    msg_id: own.msg_id,
                    client_msg_id: own.client_msg_id.clone(),
                    kind,
                });
            } else if own.is_recall && own.seq > highest {
                work.sync.raise(conversation, own.seq);
                self.dirty(shared, out);
            }
        }
        if !own.is_recall
            && let Some(work) = &mut self.work
        {
            // It is stored: whatever its receipt said, its outcome is known.
            let key = key_of(own.msg_id, &own.client_msg_id);
            work.held.retain(|held| held.key() != key);
        }
        if own.is_recall {
            let recall = C2cWithdrawReq {
                msg_id: own.msg_id,
                from: user,
                to: peer.0,
                seq: own.seq,
                target_seq: own.target_seq,
            };
            out.packet(MsgType::C2cWithdraw, &recall);
        } else if own.is_offline {
            let told = events::Status {
                msg_id: own.msg_id,
                client_msg_id: own.client_msg_id,
                seq: own.seq,
                status: status::OFFLINE,
            };
            self.status(now, told, out);
        }
    }

    /// A status of one of this user's own messages. It only rises.
    fn status(&mut self, now: Now, told: events::Status, out: &mut Outputs) {
        let to = self.user.0;
        let work = self.work();
        work.used_at = super::quarters(now);
        let key = key_of(told.msg_id, &told.client_msg_id);
        work.publishing.overtake(key);
        work.held.retain(|held| held.key() != key);
        if !work.statuses.rise(key, told.status) {
            return;
        }
        out.packet(
            MsgType::C2cAck,
            &C2cAckReq {
                client_msg_id: told.client_msg_id,
                msg_id: told.msg_id,
                from: 0,
                to,
                status: told.status,
                seq: told.seq,
            },
        );
    }

    /// Accepted, then refused by what the log says.
    fn refused(&mut self, refused: &Refused, shared: &mut Shared, out: &mut Outputs) {
        self.stored_again(shared);
        let text = match refused.code {
            c if c == Code::NotFound as i32 => "there is no such message in this conversation",
            c if c == Code::NotYours as i32 => "this message is somebody else's",
            c if c == Code::RecallTooLate as i32 => "a message can be recalled for two minutes only",
            c if c == Code::IdTaken as i32 => {
                "this msg_id was used by another sender: take one of your own batch"
            }
            _ => "refused by the conversation's state",
        };
        let kind = MsgType::try_from(refused.request_type as i32).unwrap_or(MsgType::Unknown);
        let to = self.user.0;
        if let Some(work) = &mut self.work {
            let key = key_of(refused.msg_id, &refused.client_msg_id);
            work.held.retain(|held| held.key() != key);
        }
        if kind != MsgType::C2cSend {
            let echo = super::up::RefusedPacket {
                kind,
                client_msg_id: refused.client_msg_id.clone(),
                msg_id: refused.msg_id,
            };
            out.envelope(&ImProtoResponse {
                r#type: MsgType::Nack.into(),
                payload: echo.client_msg_id,
                code: refused.code,
                msg: text.to_owned(),
                refused_type: kind.into(),
                refused_msg_id: echo.msg_id,
                ..Default::default()
            });
            return;
        }
        let ack = C2cAckReq {
            client_msg_id: refused.client_msg_id.clone(),
            msg_id: refused.msg_id,
            from: 0,
            to,
            status: status::FAILED,
            seq: 0,
        };
        out.envelope(&ImProtoResponse {
            r#type: MsgType::C2cAck.into(),
            payload: ack.encode_to_vec().into(),
            code: refused.code,
            msg: text.to_owned(),
            ..Default::default()
        });
    }

    /// A resend of what has its seq already: tell the ids under which it stands.
    fn duplicate(&mut self, duplicate: Duplicate, shared: &mut Shared, out: &mut Outputs) {
        self.stored_again(shared);
        if duplicate.is_recall {
            // The first recall's row says all of it, and its seq is no message's.
            return;
        }
        let to = self.user.0;
        let work = self.work();
        let key = key_of(duplicate.msg_id, &duplicate.client_msg_id);
        work.held.retain(|held| held.key() != key);
        // Under the same id, the receipt has said all of it.
        if duplicate.resent_msg_id != duplicate.msg_id {
            let ack = C2cAckReq {
                client_msg_id: duplicate.client_msg_id,
                msg_id: duplicate.msg_id,
                from: 0,
                to,
                // The ids are news; the status must not fall with them.
                status: work.statuses.tell(key, status::ACCEPTED),
                seq: duplicate.seq,
            };
            out.packet(MsgType::C2cAck, &ack);
        }
    }

    pub(super) fn kick(&mut self, code: i32, text: String, out: &mut Outputs) {
        debug_assert_ne!(code, SUCCESS);
        out.envelope(&ImProtoResponse {
            r#type: MsgType::Kick.into(),
            code,
            msg: text,
            ..Default::default()
        });
        if code == Code::LoggedInElsewhere as i32 {
            self.close(close::LOGGED_IN_ELSEWHERE, "logged in elsewhere on the same device type", out);
        } else {
            self.close(close::BAD_TOKEN, "the token is no longer valid: log in again", out);
        }
    }

    pub(super) fn pong(&mut self, payload: &[u8], out: &mut Outputs) {
        if let Some(work) = &mut self.work
            && work.window.pong(payload)
        {
            out.push(Output::FlushReceiptsLater);
        }
    }

    pub(super) fn flush_receipts(&mut self, out: &mut Outputs) {
        let (user, device) = (self.user, self.device);
        let Some(work) = &mut self.work else { return };
        if !work.window.has_news() {
            return;
        }
        for (conversation, receipt) in work.window.flush(user, device) {
            out.push(Output::Receipt(conversation, receipt));
        }
        self.reopen(out);
    }
}

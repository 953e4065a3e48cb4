//! Bringing a device up to what is stored: at connect, and whenever a push was lost.
//!
//! Pushes that come meanwhile are not buffered. They raise the target of their conversation, and syncing goes on until
//! every target is reached.

use bytes::Bytes;

use super::window::{Kind, Shown, Window};
use super::{Output, Outputs, Phase, Session, Work};
use crate::calls::{self, Range, SyncReply, SyncRequest};
use crate::codes::Code;
use crate::events::{Stored, stored};
use crate::ids::{ConversationId, Device, UserId};
use crate::limits;
use crate::packets::{
    C2cMsgPush, C2cWithdrawReq, FORMAT_RECALLED, ImProtoResponse, MsgType, Ready, SyncRange, SyncRow,
    sync_row::Row,
};
use crate::time::Now;

/// Targets that are remembered one by one; more only mean one more pass.
const TARGETS_MAX: usize = 64;

/// Where syncing stands.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each named")]
pub(super) struct Progress {
    /// The page to ask for next, while a pass is under way.
    page: Bytes,
    is_asked: bool,
    /// The next page waits for room in the window, or for persist to be back.
    is_waiting: bool,
    /// The answer on its way belongs to a pass that was given up for a new one.
    is_restarted: bool,
    /// Another pass follows: something was lost while this one ran.
    is_again: bool,
    targets: Vec<(ConversationId, u64)>,
}

impl Progress {
    pub(super) fn is_idle(&self) -> bool {
        !self.is_asked && !self.is_waiting && !self.is_again && self.targets.is_empty()
    }

    /// A push came that this pass must reach.
    pub(super) fn raise(&mut self, conversation: ConversationId, seq: u64) {
        if let Some((_, target)) = self.targets.iter_mut().find(|(c, _)| *c == conversation) {
            *target = seq.max(*target);
        } else if self.targets.len() < TARGETS_MAX {
            self.targets.push((conversation, seq));
        } else {
            self.is_again = true;
        }
    }

    fn reached(&mut self, conversation: ConversationId, seq: u64) {
        self.targets.retain(|(c, target)| *c != conversation || *target > seq);
    }
}

/// Asks for the next page where one is due and there is room for its rows.
pub(super) fn retry(work: &mut Work, phase: Phase, user: UserId, device: Device, out: &mut Outputs) {
    if phase == Phase::Syncing && !work.sync.is_asked {
        ask(work, user, device, out);
    }
    probe(work, out);
}

/// Asks whether the recalls that wait have come.
fn probe(work: &mut Work, out: &mut Outputs) {
    if let Some(ping) = work.window.probe() {
        out.push(Output::Ping(ping));
    }
}

fn ask(work: &mut Work, user: UserId, device: Device, out: &mut Outputs) {
    if !work.window.has_room(limits::SYNC_ROWS_MAX) {
        work.sync.is_waiting = true;
        // Recalls hold their room until a pong.
        probe(work, out);
        return;
    }
    work.sync.is_waiting = false;
    work.sync.is_asked = true;
    let pushed = work.window.progress().into_iter();
    let pushed = pushed.map(|(c, seq)| calls::Progress { conversation: Some(c.into()), seq }).collect();
    out.push(Output::Sync(SyncRequest {
        user: user.0,
        device: device as u32,
        page: work.sync.page.clone(),
        rows_max: limits::SYNC_ROWS_MAX as u32,
        pushed,
    }));
}

impl Session {
    pub(super) fn start_sync(&mut self, out: &mut Outputs) {
        self.phase = Phase::Syncing;
        let (user, device) = (self.user, self.device);
        let work = self.work();
        work.sync.page = Bytes::new();
        work.sync.is_again = false;
        // This pass reads every head after those pushes were stored, so it reaches their targets by itself.
        work.sync.targets.clear();
        if work.sync.is_asked {
            work.sync.is_restarted = true;
        } else {
            ask(work, user, device, out);
        }
    }

    /// Something for this device was lost.
    pub(super) fn dirty(&mut self, shared: &mut super::Shared, out: &mut Outputs) {
        self.forgo_credit(shared);
        match self.phase {
            Phase::Live => self.start_sync(out),
            Phase::Syncing => self.work().sync.is_again = true,
            // Both are followed by a sync, or by nothing.
            Phase::Claiming | Phase::Closing => {}
        }
    }

    /// What came back from the pipeline may be among what was lost; its credit must not be.
    pub(super) fn forgo_credit(&mut self, shared: &mut super::Shared) {
        if let Some(work) = &mut self.work {
            shared.unstored -= std::mem::take(&mut work.unstored);
        }
    }

    /// Room in the window may have appeared.
    pub(super) fn reopen(&mut self, out: &mut Outputs) {
        let (user, device) = (self.user, self.device);
        if let Some(work) = &mut self.work
            && self.phase == Phase::Syncing
            && work.sync.is_waiting
        {
            // Not with each ack: a page at a time.
            ask(work, user, device, out);
        }
    }

    pub(super) fn synced(&mut self, now: Now, reply: Option<SyncReply>, out: &mut Outputs) {
        let (user, device) = (self.user, self.device);
        let Some(work) = &mut self.work else { return };
        work.used_at = super::quarters(now);
        work.sync.is_asked = false;
        if self.phase != Phase::Syncing {
            return;
        }
        let Some(reply) = reply else {
            // The next sweep asks again.
            work.sync.is_waiting = true;
            return;
        };
        if reply.token_version > self.token_version {
            return self.kick(Code::BadToken as i32, "this token was revoked: log in again".to_owned(), out);
        }
        for range in &reply.ranges {
            push_range(work, user, device, range, out);
        }
        if work.sync.is_restarted {
            work.sync.is_restarted = false;
            return ask(work, user, device, out);
        }
        work.sync.page = reply.next_page;
        if !work.sync.page.is_empty() {
            return ask(work, user, device, out);
        }
        if work.sync.is_again || !work.sync.targets.is_empty() {
            return self.start_sync(out);
        }
        self.phase = Phase::Live;
        if !std::mem::replace(&mut self.is_ready, true) {
            out.packet(MsgType::Ready, &Ready { user_id: user.0, server_time: now.wall_ms });
        }
        // A device that lacked nothing has nothing to remember: where very many log in, this is most of their memory.
        self.work.take_if(|work| work.is_blank());
    }

    /// The answer to a client's own request for a range.
    pub(super) fn history(&mut self, range: Option<Range>, out: &mut Outputs) {
        let user = self.user;
        self.work().is_history_pending = false;
        let refused = super::up::RefusedPacket::of(MsgType::Sync);
        let Some(range) = range else {
            let text = "the store is out of reach: ask again later";
            return refused.nack(Code::Unavailable, text, 1_000, out);
        };
        let Some(conversation) = range.conversation.as_ref().and_then(|c| ConversationId::try_from(c).ok())
        else {
            return;
        };
        let Some(peer) = conversation.peer_of(user) else { return };
        let rows = range.rows.iter().filter_map(|row| {
            let row = match as_packet(conversation, row)? {
                Packet::Message(push) => Row::Message(push),
                Packet::Recall(recall) => Row::Recall(recall),
            };
            Some(SyncRow { row: Some(row) })
        });
        let reply = SyncRange {
            peer: peer.0,
            from_seq: range.from_seq,
            to_seq: range.to_seq,
            head_seq: range.head_seq,
            rows: rows.collect(),
        };
        out.packet(MsgType::Sync, &reply);
    }
}

fn push_range(work: &mut Work, user: UserId, device: Device, range: &Range, out: &mut Outputs) {
    let Some(conversation) = range.conversation.as_ref().and_then(|c| ConversationId::try_from(c).ok())
    else {
        return;
    };
    let shown_before = work.window.highest(conversation);
    for row in &range.rows {
        if row.seq <= shown_before {
            continue;
        }
        let kind = kind_of(row, user, device);
        let Some(packet) = as_packet(conversation, row) else { continue };
        let shown = match &packet {
            Packet::Message(m) => Shown {
                conversation,
                seq: row.seq,
                msg_id: m.msg_id,
                client_msg_id: m.client_msg_id.clone(),
                kind,
            },
            Packet::Recall(r) => {
                Shown { conversation, seq: row.seq, msg_id: r.msg_id, client_msg_id: Bytes::new(), kind }
            }
        };
        show(&mut work.window, shown, packet, out);
    }
    work.sync.reached(conversation, range.to_seq);
}

fn show(window: &mut Window, shown: Shown, packet: Packet, out: &mut Outputs) {
    match packet {
        Packet::Message(push) => out.packet(MsgType::C2cMsgPush, &push),
        Packet::Recall(recall) => out.packet(MsgType::C2cWithdraw, &recall),
    }
    window.show(shown);
}

fn kind_of(row: &Stored, user: UserId, device: Device) -> Kind {
    match (&row.body, row.user == user.0) {
        (Some(stored::Body::Recalled(_)), _) => Kind::Recall,
        (_, true) if row.device == device as u32 => Kind::Own,
        (_, true) => Kind::OtherDevice,
        (_, false) => Kind::Message,
    }
}

/// A stored row as the packet that shows it.
#[derive(Debug, Clone, PartialEq)]
pub enum Packet {
    /// A message, recalled ones without their content.
    Message(C2cMsgPush),
    /// A recall.
    Recall(C2cWithdrawReq),
}

/// The packet that shows this row of a conversation of two users; none for what is not shown.
pub fn as_packet(conversation: ConversationId, row: &Stored) -> Option<Packet> {
    let to = conversation.peer_of(UserId(row.user))?.0;
    match row.body.as_ref()? {
        stored::Body::Message(m) => Some(Packet::Message(C2cMsgPush {
            client_msg_id: m.client_msg_id.clone(),
            msg_id: m.msg_id,
            from: row.user,
            to,
            format: if m.is_recalled { FORMAT_RECALLED } else { m.format },
            content: m.content.clone(),
            time: m.time,
            seq: row.seq,
        })),
        stored::Body::Recalled(r) => Some(Packet::Recall(C2cWithdrawReq {
            msg_id: r.msg_id,
            from: row.user,
            to,
            seq: row.seq,
            target_seq: r.target_seq,
        })),
        _ => None,
    }
}

impl Packet {
    /// The packet in its envelope.
    pub fn into_response(self) -> ImProtoResponse {
        use prost::Message;
        let (kind, payload) = match self {
            Self::Message(m) => (MsgType::C2cMsgPush, m.encode_to_vec()),
            Self::Recall(r) => (MsgType::C2cWithdraw, r.encode_to_vec()),
        };
        ImProtoResponse {
            r#type: kind.into(),
            payload: payload.into(),
            code: crate::packets::SUCCESS,
            ..Default::default()
        }
    }
}

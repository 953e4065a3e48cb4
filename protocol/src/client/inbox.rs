//! What came, conversation by conversation: each row once, in seq order, whatever the order and number in which the edge
//! sends it. A gap that stays is asked for.

use std::sync::Arc;

use super::{Config, Output, Outputs, Row};
use crate::ids::UserId;
use crate::limits;
use crate::map::Map;
use crate::packets::{C2cMsgPush, C2cWithdrawReq, MsgType, SyncRange, SyncReq, sync_row};
use crate::time::Now;

/// A sync reply says of this many seqs at most that they do not exist; the rest is asked for again.
const ABSENT_MAX: u64 = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    conversations: Map<UserId, Conversation>,
    /// Conversations with held rows, each once.
    gaps: Vec<Gap>,
    /// The edge answers one sync request at a time.
    is_asked: bool,
}

/// One conversation. Small: a client may have thousands.
#[derive(Debug, Default)]
struct Conversation {
    /// The last seq that was shown, all before it included; 0: none yet.
    shown: u64,
    /// Rows whose predecessors have not come yet, by seq.
    held: Vec<Row>,
}

#[derive(Debug)]
struct Gap {
    peer: UserId,
    ask_at_ms: u64,
}

impl Row {
    /// Its place in its conversation.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Message(push) => push.seq,
            Self::Recall(recall) => recall.seq,
            Self::Own(seq) | Self::Absent(seq) => *seq,
        }
    }
}

impl Inbox {
    pub(super) fn gaps(&self) -> usize {
        self.gaps.len()
    }

    pub(super) fn shown_seq(&self, peer: UserId) -> u64 {
        self.conversations.get(&peer).map_or(0, |c| c.shown)
    }

    pub(super) fn message(
        &mut self,
        peer: UserId,
        push: C2cMsgPush,
        now: Now,
        config: &Config,
        out: &mut Outputs,
    ) {
        let push = Arc::new(push);
        self.row(peer, Row::Message(push), now, config, out);
    }

    pub(super) fn recall(
        &mut self,
        peer: UserId,
        recall: C2cWithdrawReq,
        now: Now,
        config: &Config,
        out: &mut Outputs,
    ) {
        self.row(peer, Row::Recall(recall), now, config, out);
    }

    /// An own message's place was learnt; that it is told several times is no fault.
    pub(super) fn own(&mut self, peer: UserId, seq: u64, now: Now, config: &Config, out: &mut Outputs) {
        self.row(peer, Row::Own(seq), now, config, out);
    }

    fn row(&mut self, peer: UserId, row: Row, now: Now, config: &Config, out: &mut Outputs) {
        let seq = row.seq();
        if seq == 0 {
            return out.push(Output::Fault(format!("a row of the conversation with {peer} has no seq")));
        }
        let conversation = self.conversations.entry(peer).or_default();
        let is_fresh = conversation.shown == 0 && conversation.held.is_empty();
        if is_fresh && !config.starts_at_one {
            conversation.shown = seq - 1;
        }
        let at = conversation.held.binary_search_by_key(&seq, Row::seq);
        let (Err(at), true) = (at, seq > conversation.shown) else {
            if !matches!(row, Row::Own(_) | Row::Absent(_)) {
                out.push(Output::Repeated(peer, seq));
            }
            return;
        };
        if let Row::Message(push) = &row {
            out.push(Output::Arrived(Arc::clone(push)));
        }
        let had_gap = !conversation.held.is_empty();
        if seq - 1 == conversation.shown {
            conversation.shown = seq;
            out.push(Output::Shown(peer, row));
            if had_gap {
                show_held(peer, conversation, out);
            }
        } else if conversation.held.len() < limits::CLIENT_HELD_MAX {
            conversation.held.insert(at, row);
        } else {
            return out
                .push(Output::Close("too much of a conversation came while an earlier part is missing"));
        }
        match (had_gap, conversation.held.is_empty()) {
            (false, false) => self.gaps.push(Gap { peer, ask_at_ms: now.mono_ms + config.gap_ms }),
            (true, true) => self.gaps.retain(|gap| gap.peer != peer),
            _ => {}
        }
    }

    /// The answer to a sync request: its rows, and that nothing else exists in its range for this user.
    pub(super) fn range(
        &mut self,
        is_own: impl Fn(&C2cMsgPush) -> bool,
        range: &SyncRange,
        now: Now,
        config: &Config,
        out: &mut Outputs,
    ) {
        self.is_asked = false;
        let peer = UserId(range.peer);
        if !self.gaps.iter().any(|gap| gap.peer == peer) {
            return;
        }
        for row in &range.rows {
            match &row.row {
                Some(sync_row::Row::Message(push)) if is_own(push) => {
                    self.own(peer, push.seq, now, config, out);
                }
                Some(sync_row::Row::Message(push)) => {
                    self.unless_known(peer, Row::Message(Arc::new(push.clone())), now, config, out);
                }
                Some(sync_row::Row::Recall(recall)) => {
                    self.unless_known(peer, Row::Recall(*recall), now, config, out);
                }
                None => {}
            }
        }
        let from = range.from_seq.max(self.shown_seq(peer).saturating_add(1));
        let highest_held = self.conversations.get(&peer).and_then(|c| c.held.last()).map_or(0, Row::seq);
        let to = range.to_seq.min(highest_held).min(from.saturating_add(ABSENT_MAX));
        for seq in from..=to {
            self.unless_known(peer, Row::Absent(seq), now, config, out);
        }
    }

    /// What a sync reply repeats is no repetition of the edge's.
    fn unless_known(&mut self, peer: UserId, row: Row, now: Now, config: &Config, out: &mut Outputs) {
        let is_known = self.conversations.get(&peer).is_some_and(|c| {
            row.seq() <= c.shown || c.held.binary_search_by_key(&row.seq(), Row::seq).is_ok()
        });
        if !is_known {
            self.row(peer, row, now, config, out);
        }
    }

    pub(super) fn ask_for_gaps(&mut self, now: Now, config: &Config, out: &mut Outputs) {
        if self.is_asked {
            return;
        }
        let Some(gap) = self.gaps.iter_mut().find(|gap| gap.ask_at_ms <= now.mono_ms) else { return };
        gap.ask_at_ms = now.mono_ms + config.gap_ms.max(1);
        let conversation = &self.conversations[&gap.peer];
        let first_held = conversation.held.first().expect("a gap has held rows").seq();
        let request = SyncReq { peer: gap.peer.0, from_seq: conversation.shown + 1, to_seq: first_held - 1 };
        self.is_asked = true;
        out.packet(MsgType::Sync, &request);
    }

    /// A sync request that is under way is lost with its connection.
    pub(super) fn connection_lost(&mut self) {
        self.is_asked = false;
    }

    /// A sync request was refused: it is asked again later.
    pub(super) fn sync_refused(&mut self) {
        self.is_asked = false;
    }

    pub(super) fn due_ms(&self, may_ask: bool) -> Option<u64> {
        if !may_ask || self.is_asked {
            return None;
        }
        self.gaps.iter().map(|gap| gap.ask_at_ms).min()
    }
}

fn show_held(peer: UserId, conversation: &mut Conversation, out: &mut Outputs) {
    let mut ready = 0;
    while conversation.held.get(ready).is_some_and(|row| row.seq() - 1 == conversation.shown) {
        conversation.shown += 1;
        ready += 1;
    }
    for row in conversation.held.drain(..ready) {
        out.push(Output::Shown(peer, row));
    }
    if conversation.held.is_empty() {
        // A gap is rare; its memory is not kept.
        conversation.held = Vec::new();
    }
}

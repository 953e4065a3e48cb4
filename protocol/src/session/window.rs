//! What was pushed to a client and where its acks stand: the source of the device's cursors.
//!
//! A cursor moves only through seqs that were pushed in order on this session and acknowledged (the session's own sends
//! count as acknowledged), and never past one that was not.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::events::{Receipt, Status};
use crate::ids::{ConversationId, Device, UserId};
use crate::limits;
use crate::map::{Map, Set};
use crate::packets::status;

/// One row that the client was shown, or that it wrote itself.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) conversation: ConversationId,
    pub(super) seq: u64,
    pub(super) msg_id: u64,
    pub(super) client_msg_id: Bytes,
    pub(super) kind: Kind,
}

/// What kind of row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message of somebody else: its sender is told of the acks.
    Message,
    /// A message of the same user from another device: acks move the cursor and nobody is told.
    OtherDevice,
    /// A recall. Clients do not acknowledge it; the pong of a later ping shows that it came, for the connection keeps order.
    Recall,
    /// This session's own: it needs no ack.
    Own,
}

#[derive(Debug)]
struct Entry {
    shown: Shown,
    /// 0: not acknowledged; else the highest status.
    status: i32,
    /// What of it was published.
    told: i32,
}

/// What an ack met.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Acked {
    /// It is news; `is_first` where no other news waits to be flushed.
    Noted { is_first: bool },
    /// It was known.
    Known,
    /// The message is not among those remembered.
    Unknown,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Window {
    entries: VecDeque<Entry>,
    /// Entries without an ack.
    unacked: usize,
    has_news: bool,
    /// Lately acknowledged and flushed, for read receipts.
    recent: VecDeque<(Shown, i32)>,
    /// Read receipts of flushed messages, to be flushed.
    read_later: Vec<(Shown, i32)>,
    ping: u32,
    is_ping_out: bool,
}

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.read_later.is_empty()
    }

    /// Whether nothing is remembered either.
    pub(super) fn is_blank(&self) -> bool {
        self.is_empty() && self.recent.is_empty()
    }

    pub(super) fn has_news(&self) -> bool {
        self.has_news
    }

    /// Whether this many more may be pushed.
    pub(super) fn has_room(&self, rows: usize) -> bool {
        self.unacked + rows <= limits::SESSION_UNACKED_MAX && self.entries.len() + rows <= ENTRIES_MAX
    }

    /// The highest seq of this conversation among the entries, or 0.
    pub(super) fn highest(&self, conversation: ConversationId) -> u64 {
        self.entries.iter().rev().find(|e| e.shown.conversation == conversation).map_or(0, |e| e.shown.seq)
    }

    /// The highest seqs by conversation.
    pub(super) fn progress(&self) -> Vec<(ConversationId, u64)> {
        let mut highest: Map<ConversationId, u64> = Map::default();
        for entry in &self.entries {
            let seq = highest.entry(entry.shown.conversation).or_default();
            *seq = entry.shown.seq.max(*seq);
        }
        let mut progress: Vec<_> = highest.into_iter().collect();
        progress.sort_unstable();
        progress
    }

    /// Notes a row that is pushed, after [`Self::has_room`], in seq order within its conversation.
    pub(super) fn show(&mut self, shown: Shown) {
        let status = if shown.kind == Kind::Own { status::DELIVERED } else { 0 };
        self.unacked += usize::from(status == 0);
        // A row of one's own is acknowledged by nature and moves no cursor by itself: persist skips own rows in a sync.
        // Without anything unacknowledged around it, it need not be remembered.
        if shown.kind == Kind::Own && !self.entries.iter().any(|e| e.shown.conversation == shown.conversation)
        {
            return;
        }
        self.entries.push_back(Entry { shown, status, told: 0 });
    }

    /// Takes a client's ack.
    pub(super) fn ack(&mut self, msg_id: u64, status: i32) -> Acked {
        let Some(i) = self.entries.iter().position(|e| is_ackable(&e.shown, msg_id)) else {
            return self.ack_recent(msg_id, status);
        };
        // It says nothing of the recalls before it, though the connection keeps order: the message may have come on an
        // earlier connection, and be read now, before this one has brought anything.
        let entry = &mut self.entries[i];
        if entry.status >= status {
            return Acked::Known;
        }
        self.unacked -= usize::from(entry.status == 0);
        entry.status = status;
        Acked::Noted { is_first: !std::mem::replace(&mut self.has_news, true) }
    }

    fn ack_recent(&mut self, msg_id: u64, status: i32) -> Acked {
        let Some(i) = self.recent.iter().position(|(s, _)| is_ackable(s, msg_id)) else {
            return Acked::Unknown;
        };
        if self.recent[i].1 >= status {
            return Acked::Known;
        }
        let (shown, _) = self.recent.remove(i).expect("just found");
        self.read_later.push((shown, status));
        Acked::Noted { is_first: !std::mem::replace(&mut self.has_news, true) }
    }

    /// A ping that shows, once its pong is back, that the recalls before it came; none where no recall waits.
    pub(super) fn probe(&mut self) -> Option<[u8; 4]> {
        let is_waiting = self.entries.iter().any(|e| e.shown.kind == Kind::Recall && e.status == 0);
        if !is_waiting || self.is_ping_out {
            return None;
        }
        self.is_ping_out = true;
        self.ping = self.ping.wrapping_add(1).max(1);
        // Rows pushed from here on are not covered: mark where the ping stands by counting.
        for entry in self.entries.iter_mut().filter(|e| e.shown.kind == Kind::Recall && e.status == 0) {
            entry.status = PROBED;
        }
        Some(self.ping.to_be_bytes())
    }

    /// The pong of [`Self::probe`]. Returns whether there is news to flush that was not there before.
    pub(super) fn pong(&mut self, payload: &[u8]) -> bool {
        if !self.is_ping_out || payload != self.ping.to_be_bytes() {
            return false;
        }
        self.is_ping_out = false;
        for entry in self.entries.iter_mut().filter(|e| e.status == PROBED) {
            entry.status = status::DELIVERED;
            self.unacked -= 1;
        }
        !std::mem::replace(&mut self.has_news, true)
    }

    /// Takes what the acks say since the last flush: one receipt for each conversation, in the order of the first row.
    pub(super) fn flush(&mut self, user: UserId, device: Device) -> Vec<(ConversationId, Receipt)> {
        self.has_news = false;
        let mut receipts = Receipts { user, device, list: Vec::new() };
        for (shown, status) in self.read_later.drain(..) {
            receipts.tell(&shown, status);
            remember(&mut self.recent, shown, status);
        }
        let mut blocked: Set<ConversationId> = Set::default();
        let mut kept = VecDeque::new();
        for mut entry in self.entries.drain(..) {
            let is_acked = entry.status >= status::DELIVERED;
            if is_acked && entry.status > entry.told {
                entry.told = entry.status;
                receipts.tell(&entry.shown, entry.status);
            }
            if !is_acked || blocked.contains(&entry.shown.conversation) {
                blocked.insert(entry.shown.conversation);
                kept.push_back(entry);
                continue;
            }
            let receipt = receipts.of(entry.shown.conversation);
            receipt.delivered_seq = receipt.delivered_seq.max(entry.shown.seq);
            if entry.shown.kind == Kind::Message {
                remember(&mut self.recent, entry.shown, entry.status);
            }
        }
        self.entries = kept;
        receipts.list
    }
}

/// More entries than this are never kept: own sends between two acks count too.
const ENTRIES_MAX: usize = 2 * limits::SESSION_UNACKED_MAX;
/// The status of a recall that a ping covers.
const PROBED: i32 = -2;

fn is_ackable(shown: &Shown, msg_id: u64) -> bool {
    shown.msg_id == msg_id && matches!(shown.kind, Kind::Message | Kind::OtherDevice)
}

fn remember(recent: &mut VecDeque<(Shown, i32)>, shown: Shown, status: i32) {
    if status >= status::READ {
        return;
    }
    if recent.len() >= limits::SESSION_RECENT_ACKS {
        recent.pop_front();
    }
    recent.push_back((shown, status));
}

struct Receipts {
    user: UserId,
    device: Device,
    list: Vec<(ConversationId, Receipt)>,
}

impl Receipts {
    fn of(&mut self, conversation: ConversationId) -> &mut Receipt {
        let at = self.list.iter().rposition(|(c, _)| *c == conversation).unwrap_or_else(|| {
            let receipt = Receipt {
                conversation: Some(conversation.into()),
                user: self.user.0,
                device: self.device as u32,
                ..Default::default()
            };
            self.list.push((conversation, receipt));
            self.list.len() - 1
        });
        &mut self.list[at].1
    }

    fn tell(&mut self, shown: &Shown, status: i32) {
        if shown.kind != Kind::Message {
            return;
        }
        let receipt = self.of(shown.conversation);
        if status == status::READ {
            receipt.read_seq = receipt.read_seq.max(shown.seq);
        }
        receipt.statuses.push(Status {
            msg_id: shown.msg_id,
            client_msg_id: shown.client_msg_id.clone(),
            seq: shown.seq,
            status,
        });
    }
}

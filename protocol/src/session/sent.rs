//! What a session remembers of what its client sent: what waits for its receipt, what holds back what follows, and what was
//! told of it.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ids::ConversationId;
use crate::limits;
use crate::packets::MsgType;
use crate::time::Now;

/// The ids of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) msg_id: u64,
    pub(super) client_msg_id: Bytes,
}

/// What stands for a message in a session's memory: a resend may have another msg_id, but never another client_msg_id.
pub(super) fn key_of(msg_id: u64, client_msg_id: &[u8]) -> u64 {
    if client_msg_id.is_empty() { msg_id } else { crate::map::fingerprint(0, &[client_msg_id]) }
}

/// A send or recall that the bus has not receipted.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) conversation: ConversationId,
    pub(super) ids: Ids,
    pub(super) kind: MsgType,
    pub(super) is_settled: bool,
    /// A status above 1 was sent already, so that the receipt is silent.
    pub(super) is_overtaken: bool,
}

/// The publications of one session that wait for their receipts, by ticket.
#[derive(Debug, Default)]
pub(super) struct Publishing {
    first_ticket: u32,
    waiting: VecDeque<Publication>,
}

impl Publishing {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn add(&mut self, publication: Publication) -> u32 {
        self.waiting.push_back(publication);
        self.first_ticket.wrapping_add(self.waiting.len() as u32 - 1)
    }

    /// Settles the publication of this ticket; each ticket is settled once.
    pub(super) fn settle(&mut self, ticket: u32) -> Option<(ConversationId, Ids, MsgType, bool)> {
        let publication = self.waiting.get_mut(ticket.wrapping_sub(self.first_ticket) as usize)?;
        if std::mem::replace(&mut publication.is_settled, true) {
            return None;
        }
        let settled =
            (publication.conversation, publication.ids.clone(), publication.kind, publication.is_overtaken);
        while self.waiting.front().is_some_and(|p| p.is_settled) {
            self.waiting.pop_front();
            self.first_ticket = self.first_ticket.wrapping_add(1);
        }
        Some(settled)
    }

    /// A status above 1 of the message of this key was sent: its receipt stays silent.
    pub(super) fn overtake(&mut self, key: u64) {
        let is_it = |p: &&mut Publication| key_of(p.ids.msg_id, &p.ids.client_msg_id) == key;
        for publication in self.waiting.iter_mut().filter(is_it) {
            publication.is_overtaken = true;
        }
    }
}

/// A send whose outcome is unknown, or that was refused since it came behind one: nothing of this session may pass it in
/// its conversation (per-sender order).
#[derive(Debug)]
pub(super) struct Held {
    pub(super) conversation: ConversationId,
    pub(super) ids: Ids,
    pub(super) since_ms: u64,
}

impl Held {
    pub(super) fn is_given_up(&self, now: Now) -> bool {
        now.mono_ms.saturating_sub(self.since_ms) > limits::REPUBLISH_MS_MAX
    }

    pub(super) fn is_same(&self, ids: &Ids) -> bool {
        self.key() == key_of(ids.msg_id, &ids.client_msg_id)
    }

    /// What stands for the message, see [`key_of`].
    pub(super) fn key(&self) -> u64 {
        key_of(self.ids.msg_id, &self.ids.client_msg_id)
    }
}

/// The highest statuses of a session's latest own messages, by [`key_of`].
#[derive(Debug, Default)]
pub(super) struct Statuses(VecDeque<(u64, i32)>);

impl Statuses {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `status` is news for this message, which it then is no more.
    pub(super) fn rise(&mut self, key: u64, status: i32) -> bool {
        // What is not told does not count: repetitions must not push out what was told lately.
        let is_news = status > self.highest(key);
        if is_news {
            self.tell(key, status);
        }
        is_news
    }

    /// What is told of this message: the highest status known, at least this one. What was told last is forgotten last.
    pub(super) fn tell(&mut self, key: u64, status: i32) -> i32 {
        let highest = self.highest(key).max(status);
        if let Some(i) = self.0.iter().rposition(|(k, _)| *k == key) {
            self.0.remove(i);
        } else if self.0.len() >= limits::SESSION_STATUSES {
            self.0.pop_front();
        }
        self.0.push_back((key, highest));
        highest
    }

    /// The highest status known of this message, or 0.
    pub(super) fn highest(&self, key: u64) -> i32 {
        self.0.iter().rev().find(|(k, _)| *k == key).map_or(0, |(_, status)| *status)
    }
}

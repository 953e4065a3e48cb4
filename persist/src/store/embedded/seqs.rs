//! The last seq of conversations, in memory: what a sync compares the cursors of a device with, and what says at once
//! that a conversation is new. After a start, everybody syncs all conversations at once; reading a row for each of them
//! would take seconds where this takes milliseconds.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use petrel_protocol::ids::ConversationId;
use petrel_protocol::limits::STORE_SEQS_MAX;
use petrel_protocol::map::Map;

/// The conversations written last, in two generations: when the younger one is full, the older one is dropped.
#[derive(Default)]
pub(super) struct Seqs(RwLock<Generations>);

#[derive(Default)]
struct Generations {
    young: Map<ConversationId, u64>,
    old: Map<ConversationId, u64>,
    /// Some conversations of the table are not here.
    is_partial: bool,
}

/// What is known of a conversation's last seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Seq(u64),
    /// It has no head.
    Absent,
    /// Its row has to be read.
    Unknown,
}

impl Seqs {
    /// Notes what was written, or what was read at the start.
    pub(super) fn note(&self, seqs: impl Iterator<Item = (ConversationId, u64)>) {
        let mut generations = self.write();
        for (conversation, seq) in seqs {
            generations.note(conversation, seq, STORE_SEQS_MAX);
        }
    }

    /// From here on, what is absent here may stand in the table.
    pub(super) fn is_partial(&self) {
        self.write().is_partial = true;
    }

    pub(super) fn get(&self, conversation: ConversationId) -> Known {
        self.read().get(conversation)
    }

    fn read(&self) -> RwLockReadGuard<'_, Generations> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Generations> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn note(&mut self, conversation: ConversationId, seq: u64, young_max: usize) {
        if self.young.len() >= young_max && !self.young.contains_key(&conversation) {
            let dropped = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.is_partial |= !dropped.is_empty();
        }
        self.young.insert(conversation, seq);
    }

    fn get(&self, conversation: ConversationId) -> Known {
        match self.young.get(&conversation).or_else(|| self.old.get(&conversation)) {
            Some(seq) => Known::Seq(*seq),
            None if self.is_partial => Known::Unknown,
            None => Known::Absent,
        }
    }
}

#[cfg(test)]
mod tests {
    use petrel_protocol::ids::UserId;

    use super::*;

    fn pair(n: u64) -> ConversationId {
        ConversationId::of_users(UserId(1), UserId(1 + n))
    }

    #[test]
    fn absence_is_known_until_something_was_dropped() {
        let mut generations = Generations::default();
        for n in 1..=8 {
            generations.note(pair(n), n, 4);
        }
        assert_eq!(generations.get(pair(9)), Known::Absent);
        assert!((1..=8).all(|n| generations.get(pair(n)) == Known::Seq(n)));
        generations.note(pair(5), 50, 4);
        assert_eq!(generations.get(pair(5)), Known::Seq(50), "the younger one counts");
        generations.note(pair(9), 9, 4);
        assert_eq!(generations.get(pair(1)), Known::Unknown, "dropped");
        assert_eq!(generations.get(pair(10)), Known::Unknown, "perhaps dropped");
        assert_eq!(generations.get(pair(5)), Known::Seq(50));
    }
}

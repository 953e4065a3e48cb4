//! Which seqs were pushed and answered, so that a replay of them is dropped. Forgetting costs a second push, no more.

use crate::ids::ConversationId;
use crate::limits;
use crate::map::Map;

/// Two generations: what was not used for a whole generation is forgotten with it.
#[derive(Debug, Default)]
pub(super) struct Answered {
    young: Map<ConversationId, Span>,
    old: Map<ConversationId, Span>,
}

/// Every seq from the first to the last was answered. A seq below the first may never have been.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: u64,
    last: u64,
}

impl Answered {
    pub(super) fn contains(&self, conversation: ConversationId, seq: u64) -> bool {
        self.young
            .get(&conversation)
            .or_else(|| self.old.get(&conversation))
            .is_some_and(|span| (span.first..=span.last).contains(&seq))
    }

    pub(super) fn note(&mut self, conversation: ConversationId, seq: u64) {
        if self.young.len() >= limits::FANOUT_ANSWERED_MAX && !self.young.contains_key(&conversation) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        let old = &self.old;
        let span = self
            .young
            .entry(conversation)
            .or_insert_with(|| old.get(&conversation).copied().unwrap_or(Span { first: seq, last: seq }));
        if (span.first..=span.last).contains(&seq) {
            return;
        }
        if seq == span.last + 1 {
            span.last = seq;
        } else {
            *span = Span { first: seq, last: seq };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;

    fn conversation(n: u64) -> ConversationId {
        ConversationId::of_users(UserId(1), UserId(n + 2))
    }

    #[test]
    fn a_gap_is_not_covered_by_what_follows_it() {
        let mut answered = Answered::default();
        answered.note(conversation(0), 4);
        answered.note(conversation(0), 6);
        assert!(answered.contains(conversation(0), 6));
        assert!(!answered.contains(conversation(0), 5), "5 was never answered");
        answered.note(conversation(0), 7);
        assert!(answered.contains(conversation(0), 6) && answered.contains(conversation(0), 7));
    }

    #[test]
    fn it_is_bounded_and_forgets_the_least_used() {
        let mut answered = Answered::default();
        let max = limits::FANOUT_ANSWERED_MAX as u64;
        for n in 0..4 * max {
            answered.note(conversation(n), 1);
            // The first stays in use.
            answered.note(conversation(0), n + 1);
        }
        assert!(answered.young.len() <= max as usize && answered.old.len() <= max as usize);
        assert!(answered.contains(conversation(0), 4 * max));
        assert!(!answered.contains(conversation(1), 1));
    }
}

//! How other threads reach a shard: bounded queues and one wake-up.
//!
//! Deliveries beyond the bound mark their sessions dirty instead, so that nothing is lost in silence: a dirty session is
//! synced from the store. Replies are bounded by what the shard itself has asked for.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::SegQueue;
use petrel_protocol::calls::{ClaimReply, Delivery, Range, ResolveReply, SyncReply};
use petrel_protocol::limits;
use petrel_protocol::session::Outcome;
use petrel_protocol::token::Keys;
use petrel_ring::{SocketId, Waker};

/// What a shard is told by other threads, apart from deliveries.
#[derive(Debug)]
pub(crate) enum Told {
    /// What became of the pack with this tag.
    Published(u64, Outcome),
    /// The answer to a claim or an assertion that was made under this epoch.
    Claimed(SocketId, u64, Option<ClaimReply>),
    /// The answers to a session's calls; none where the service could not answer.
    Synced(SocketId, Option<SyncReply>),
    History(SocketId, Option<Range>),
    Resolved(SocketId, Option<ResolveReply>),
    /// A kick is never dropped, however full the inbox is.
    Kick(Delivery),
    /// The edge has a new epoch: claim every route again and sync.
    ClaimAgain,
    /// The id generator's mark was moved: whoever waits for ids is served.
    IdsReady,
    /// Tokens are verified with these from now on.
    Keys(Arc<Keys>),
    /// Stop accepting, tell the clients, let what is under way settle, end.
    Drain,
}

/// One shard's inbox.
pub(crate) struct Inbox {
    replies: SegQueue<Told>,
    deliveries: SegQueue<Vec<Delivery>>,
    waiting: AtomicUsize,
    dirty: Box<[AtomicU64]>,
    is_any_dirty: AtomicBool,
    waker: OnceLock<Waker>,
    /// Somebody asked whether the shard turns, and it has not since.
    is_asked: AtomicBool,
    /// Sessions that this shard holds, for the lease.
    pub(crate) sessions: AtomicU32,
}

impl Inbox {
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            replies: SegQueue::new(),
            deliveries: SegQueue::new(),
            waiting: AtomicUsize::new(0),
            dirty: (0..slots.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            is_any_dirty: AtomicBool::new(false),
            waker: OnceLock::new(),
            is_asked: AtomicBool::new(false),
            sessions: AtomicU32::new(0),
        }
    }

    /// The shard is up: from here on it is woken.
    pub(crate) fn set_waker(&self, waker: Waker) {
        assert!(self.waker.set(waker).is_ok(), "a shard starts once");
    }

    pub(crate) fn tell(&self, told: Told) {
        self.replies.push(told);
        self.wake();
    }

    /// Queues deliveries; returns how many sessions were marked dirty instead.
    pub(crate) fn deliver(&self, deliveries: Vec<Delivery>) -> u32 {
        let count = deliveries.len();
        let waiting = self.waiting.fetch_add(count, Ordering::AcqRel);
        if waiting + count <= limits::SHARD_INBOX_MAX {
            self.deliveries.push(deliveries);
            self.wake();
            return 0;
        }
        self.waiting.fetch_sub(count, Ordering::AcqRel);
        for delivery in deliveries {
            self.mark_dirty(delivery.slot);
        }
        self.is_any_dirty.store(true, Ordering::Release);
        self.wake();
        count as u32
    }

    fn mark_dirty(&self, slot: u32) {
        // A slot that was recycled meanwhile only gets a sync that it did not need.
        if let Some(word) = self.dirty.get(slot as usize / 64) {
            word.fetch_or(1 << (slot % 64), Ordering::AcqRel);
        }
    }

    /// Whether the shard has gone round since this was called before.
    pub(crate) fn ask_whether_turning(&self) -> bool {
        let has_turned = !self.is_asked.swap(true, Ordering::AcqRel);
        self.wake();
        has_turned
    }

    /// The shard goes round.
    pub(crate) fn turns(&self) {
        self.is_asked.store(false, Ordering::Release);
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    pub(crate) fn next_told(&self) -> Option<Told> {
        self.replies.pop()
    }

    pub(crate) fn next_deliveries(&self) -> Option<Vec<Delivery>> {
        let deliveries = self.deliveries.pop()?;
        self.waiting.fetch_sub(deliveries.len(), Ordering::AcqRel);
        Some(deliveries)
    }

    /// Takes the slots that were marked dirty. They are taken before the deliveries that follow the lost ones.
    pub(crate) fn take_dirty(&self, slots: &mut Vec<u32>) {
        if !self.is_any_dirty.swap(false, Ordering::AcqRel) {
            return;
        }
        for (i, word) in self.dirty.iter().enumerate() {
            let mut bits = word.swap(0, Ordering::AcqRel);
            while bits != 0 {
                slots.push(i as u32 * 64 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(slots: impl IntoIterator<Item = u32>) -> Vec<Delivery> {
        slots.into_iter().map(|slot| Delivery { slot, ..Default::default() }).collect()
    }

    #[test]
    fn beyond_its_bound_an_inbox_marks_sessions_dirty_and_takes_no_memory() {
        let inbox = Inbox::new(1_000);
        let full = limits::SHARD_INBOX_MAX as u32;
        assert_eq!(inbox.deliver(batch((0..full).map(|i| i % 1_000))), 0);
        assert_eq!(inbox.deliver(batch([7, 64, 999])), 3);
        let mut dirty = Vec::new();
        inbox.take_dirty(&mut dirty);
        assert_eq!(dirty, [7, 64, 999]);
        dirty.clear();
        inbox.take_dirty(&mut dirty);
        assert!(dirty.is_empty(), "taken once");
        assert_eq!(inbox.next_deliveries().map(|d| d.len()), Some(full as usize));
        assert_eq!(inbox.deliver(batch([7])), 0, "room again");
    }

    #[test]
    fn a_slot_beyond_the_table_is_ignored() {
        let inbox = Inbox::new(64);
        inbox.mark_dirty(1 << 30);
    }
}

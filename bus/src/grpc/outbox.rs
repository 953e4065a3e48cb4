//! What waits to be sent on one stream.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use petrel_protocol::limits;

/// Largest single request or reply: it may be the last of a message that is nearly full.
pub(super) const ITEM_BYTES_MAX: usize = limits::LINK_MESSAGE_BYTES_MAX - limits::LINK_MESSAGE_BYTES;
/// An item's id, and the tag and length around it, at most.
const ITEM_OVERHEAD: usize = 24;

/// Items in their order, which leave in messages of all that waits.
#[derive(Debug)]
pub(super) struct Outbox<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
    sender: Option<Waker>,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), bytes: 0, sender: None }
    }
}

impl<T> Outbox<T> {
    /// Whether an item of this size may wait here.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes <= limits::LINK_QUEUE_BYTES_MAX
    }

    /// Adds an item. The waker, where there is one, is to be woken when no lock is held.
    #[must_use]
    pub(super) fn push(&mut self, bytes: usize, item: T) -> Option<Waker> {
        self.bytes += bytes + ITEM_OVERHEAD;
        self.items.push_back((bytes + ITEM_OVERHEAD, item));
        self.sender.take()
    }

    /// The items of the next message; waits for the first.
    pub(super) fn poll_message(&mut self, context: &Context<'_>) -> Poll<Vec<T>> {
        if self.items.is_empty() {
            self.sender = Some(context.waker().clone());
            return Poll::Pending;
        }
        let mut bytes = 0;
        let is_next = |(size, _): &(usize, T)| {
            let has_room = bytes < limits::LINK_MESSAGE_BYTES;
            bytes += size;
            has_room
        };
        let count = self.items.iter().map(is_next).take_while(|is_next| *is_next).count();
        let mut message = Vec::with_capacity(count);
        for (size, item) in self.items.drain(..count) {
            self.bytes -= size;
            message.push(item);
        }
        Poll::Ready(message)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Who waits for an item, to be told that none may come.
    #[must_use]
    pub(super) fn take_sender(&mut self) -> Option<Waker> {
        self.sender.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(outbox: &mut Outbox<u32>) -> Option<Vec<u32>> {
        match outbox.poll_message(&Context::from_waker(Waker::noop())) {
            Poll::Ready(message) => Some(message),
            Poll::Pending => None,
        }
    }

    #[test]
    fn all_that_waits_goes_in_one_message() {
        let mut outbox = Outbox::default();
        assert_eq!(message(&mut outbox), None);
        assert!(outbox.push(10, 1).is_some(), "the sender waits");
        assert!(outbox.push(10, 2).is_none(), "it is woken once");
        assert_eq!(message(&mut outbox), Some(vec![1, 2]));
        assert_eq!(message(&mut outbox), None);
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn a_message_is_closed_at_its_bound() {
        let mut outbox = Outbox::default();
        let half = limits::LINK_MESSAGE_BYTES / 2;
        for item in 0..5 {
            let _ = outbox.push(half, item);
        }
        assert_eq!(message(&mut outbox), Some(vec![0, 1]));
        let _ = outbox.push(ITEM_BYTES_MAX, 5);
        assert_eq!(message(&mut outbox), Some(vec![2, 3]));
        assert_eq!(message(&mut outbox), Some(vec![4, 5]), "the last one may exceed it");
    }

    #[test]
    fn beyond_its_bound_there_is_no_room() {
        let mut outbox = Outbox::default();
        assert!(outbox.has_room(ITEM_BYTES_MAX));
        let _ = outbox.push(limits::LINK_QUEUE_BYTES_MAX - 100, 0);
        assert!(!outbox.has_room(100));
        assert_eq!(message(&mut outbox), Some(vec![0]));
        assert!(outbox.has_room(100));
    }
}

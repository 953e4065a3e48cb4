//! What is to happen, by its time and then by when it was scheduled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Event;

/// The heap holds places in a table: an event is moved twice, however far its place sinks.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    events: Vec<Option<Event>>,
    free: Vec<u32>,
    next_number: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at_us: u64, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() as u32 - 1
        });
        self.events[place as usize] = Some(event);
        self.heap.push(Reverse((at_us, self.next_number, place)));
        self.next_number += 1;
    }

    /// The next event and its time.
    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        let Reverse((at_us, _, place)) = self.heap.pop()?;
        self.free.push(place);
        let event = self.events[place as usize].take().expect("each place in the heap holds an event");
        Some((at_us, event))
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

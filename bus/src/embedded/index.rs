//! Where the records of a partition that are still needed are on disk.

use std::collections::VecDeque;

use super::frame::HEADER_BYTES;

/// The place of a record: 12 bytes in memory for each that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which open segment: its key in the store's list.
    pub(super) segment: u32,
    /// Where its frame begins.
    pub(super) at: u32,
    /// The bytes of its pack.
    pub(super) length: u32,
}

impl Place {
    /// Bytes of the record in its file.
    pub(super) fn bytes(self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.length)
    }
}

/// The places of one partition, from the first offset that not everybody has acknowledged on.
#[derive(Debug, Default)]
pub(super) struct Index {
    first: u64,
    places: VecDeque<Place>,
}

impl Index {
    /// The first offset that is here, or the next one where none is.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The next offset.
    pub(super) fn next(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    /// Adds the record with the next offset.
    pub(super) fn push(&mut self, place: Place) {
        self.places.push_back(place);
    }

    /// The next offset is `next`, which is beyond all that is here: the records between, and so those before, are gone.
    pub(super) fn skip_to(&mut self, next: u64) {
        if next > self.next() {
            self.places.clear();
            self.first = next;
        }
    }

    /// Drops what is before `acked`, each place by `gone`.
    pub(super) fn acknowledge(&mut self, acked: u64, mut gone: impl FnMut(Place)) {
        while self.first < acked {
            let Some(place) = self.places.pop_front() else { break };
            self.first += 1;
            gone(place);
        }
        // What was needed for a long backlog is given back.
        if self.places.capacity() > 1_024 && self.places.len() < self.places.capacity() / 4 {
            self.places.shrink_to(self.places.len() * 2);
        }
    }

    /// The place of a record, where it is still here.
    pub(super) fn place(&self, offset: u64) -> Option<Place> {
        let index = offset.checked_sub(self.first)?;
        self.places.get(index as usize).copied()
    }

    /// The records from `from` on, with their offsets.
    pub(super) fn from(&self, from: u64) -> impl Iterator<Item = (u64, Place)> {
        let skipped = from.saturating_sub(self.first) as usize;
        (from.max(self.first)..).zip(self.places.iter().skip(skipped).copied())
    }

    /// Moves a record that is at `from` to `to`. False: it is not there any more.
    pub(super) fn relocate(&mut self, offset: u64, from: Place, to: Place) -> bool {
        let index = offset.checked_sub(self.first);
        let place = index.and_then(|index| self.places.get_mut(index as usize));
        place.filter(|place| **place == from).map(|place| *place = to).is_some()
    }
}

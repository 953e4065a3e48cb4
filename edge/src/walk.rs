//! The walk over a shard's table for timers. No connection has a timer of its own: each is looked at every
//! [`WHOLE`], a few at a time, so that what falls due together (the pings, some time after a storm of connects) neither
//! delays live sockets nor takes the memory of all of it at once.

use std::ops::Range;
use std::time::{Duration, Instant};

/// The whole table is passed in this time.
pub(crate) const WHOLE: Duration = Duration::from_secs(5);
/// Slots of one step: their pings are sent within a millisecond.
const STEP_SLOTS: usize = 256;
/// Steps of one walk, at least (handshakes are looked at with each) and at most (each wakes the shard).
const STEPS_MIN: usize = 5;
const STEPS_MAX: usize = 1_000;

/// Where the walk is.
#[derive(Debug)]
pub(crate) struct Walk {
    slot: usize,
    /// Where this walk ends: the table's length when it began. One that ended where the table does would never end while
    /// clients keep coming, and never look at those who are there.
    end: usize,
    due: Instant,
}

impl Walk {
    pub(crate) fn new(started: Instant) -> Self {
        Self { slot: 0, end: 0, due: started + WHOLE / STEPS_MIN as u32 }
    }

    /// When the next step is due.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// The next step through a table of `len` slots, where it is due.
    pub(crate) fn step(&mut self, now: Instant, len: usize) -> Option<Range<usize>> {
        if now < self.due {
            return None;
        }
        let steps = len.div_ceil(STEP_SLOTS).clamp(STEPS_MIN, STEPS_MAX);
        // A walk that is late goes on from now: hurrying would only make it later.
        self.due = now + WHOLE / steps as u32;
        self.end = self.end.min(len);
        if self.slot >= self.end {
            (self.slot, self.end) = (0, len);
        }
        let first = self.slot;
        self.slot = (first + len.div_ceil(steps)).min(self.end);
        Some(first..self.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_passed_once_in_the_time_of_a_walk_and_few_at_a_time() {
        for len in [0, 1, 4, 255, 1_000, 12_000, 14_000, 1 << 20] {
            let started = Instant::now();
            let mut walk = Walk::new(started);
            let mut passed = vec![0_u8; len];
            let mut now = walk.due();
            let end = now + WHOLE;
            assert!(walk.step(started, len).is_none(), "not before it is due");
            while now < end {
                let slots = walk.step(now, len).expect("it is due");
                assert!(slots.len() <= STEP_SLOTS.max(len.div_ceil(STEPS_MAX)));
                passed[slots].iter_mut().for_each(|times| *times += 1);
                now = walk.due();
            }
            let (least, most) = (passed.iter().min().unwrap_or(&1), passed.iter().max().unwrap_or(&1));
            let is_tiny = len < STEPS_MIN;
            assert!(*least >= 1 && (*most <= 2 || is_tiny), "{len}: {least} to {most} times");
        }
    }

    #[test]
    fn every_slot_is_passed_while_the_table_grows() {
        let started = Instant::now();
        let mut walk = Walk::new(started);
        let mut len = 5_000;
        let mut passed = vec![0_u8; len];
        // Clients keep coming, some between any two steps.
        while walk.due() < started + 3 * WHOLE {
            let now = walk.due();
            let slots = walk.step(now, len).expect("it is due");
            slots.for_each(|slot| passed[slot] += 1);
            len += 20;
            passed.resize(len, 0);
        }
        let least = passed[..5_000].iter().min().expect("slots");
        assert!(*least >= 2, "{least} times in three times the time of a walk");
    }

    #[test]
    fn a_table_that_shrinks_starts_over() {
        let started = Instant::now();
        let mut walk = Walk::new(started);
        walk.step(walk.due(), 10_000);
        walk.step(walk.due(), 10_000);
        assert_eq!(walk.step(walk.due(), 100), Some(0..20));
    }
}

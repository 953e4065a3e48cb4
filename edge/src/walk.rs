//! The walk over a shard's table for timers. No connection has a timer of its own: each is looked at every
//! [`WHOLE`], a few at a time, so that what falls due together (the pings, some time after a storm of connects) neither
//! delays live sockets nor takes the memory of all of it at once.
//!
//! Clients that came together are neighbours in the table, and fall due together. So a step does not take neighbours but
//! small blocks from all over the table, and shards do not step at the same moment.

use std::ops::Range;
use std::time::{Duration, Instant};

/// The whole table is passed in this time.
pub(crate) const WHOLE: Duration = Duration::from_secs(5);
/// Slots of one step, about.
const STEP_SLOTS: usize = 256;
/// Slots that are looked at one after the other: few, so that of those who came together a step has few, and enough for
/// the memory to be read ahead.
const BLOCK_SLOTS: usize = 8;
/// Steps of one walk, at least (handshakes are looked at with each) and at most (each wakes the shard).
const STEPS_MIN: usize = 5;
const STEPS_MAX: usize = 1_000;

/// Where the walk is.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The next step of this walk, and how many it has.
    step: usize,
    steps: usize,
    /// Where this walk ends: the table's length when it began. One that ended where the table does would never end while
    /// clients keep coming, and never look at those who are there.
    end: usize,
    due: Instant,
}

impl Walk {
    /// The walk of the shard with this number, of some that start together.
    pub(crate) fn new(started: Instant, shard: usize) -> Self {
        // Multiples of the golden ratio lie far apart, however many there are.
        let phase = (shard as f64 * 0.618_034).fract();
        let first = WHOLE / STEPS_MIN as u32;
        Self { step: 0, steps: 0, end: 0, due: started + first.mul_f64(phase) }
    }

    /// When the next step is due.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// The slots of the next step through a table of `len` slots, where it is due.
    pub(crate) fn step(
        &mut self,
        now: Instant,
        len: usize,
    ) -> Option<impl Iterator<Item = Range<usize>> + use<>> {
        if now < self.due {
            return None;
        }
        if self.step >= self.steps {
            let steps = len.div_ceil(STEP_SLOTS).clamp(STEPS_MIN, STEPS_MAX);
            (self.step, self.steps, self.end) = (0, steps, len);
        }
        // A walk that is late goes on from now: hurrying would only make it later.
        self.due = now + WHOLE / self.steps as u32;
        let end = self.end.min(len);
        let blocks = (self.step..end.div_ceil(BLOCK_SLOTS)).step_by(self.steps);
        self.step += 1;
        Some(blocks.map(move |block| block * BLOCK_SLOTS..((block + 1) * BLOCK_SLOTS).min(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slots of the step that is due next.
    fn slots(walk: &mut Walk, len: usize) -> Vec<usize> {
        walk.step(walk.due(), len).expect("it is due").flatten().collect()
    }

    #[test]
    fn every_slot_is_passed_once_in_the_time_of_a_walk_and_few_at_a_time() {
        for len in [0, 1, 4, 255, 1_000, 12_000, 14_000, 1 << 20] {
            let started = Instant::now();
            let mut walk = Walk::new(started, 1);
            let mut passed = vec![0_u8; len];
            let end = walk.due() + WHOLE;
            assert!(walk.step(started, len).is_none(), "not before it is due");
            while walk.due() < end {
                let slots = slots(&mut walk, len);
                let most = STEP_SLOTS.max(len.div_ceil(STEPS_MAX)) + BLOCK_SLOTS;
                assert!(slots.len() <= most, "{} of {len}", slots.len());
                for slot in slots {
                    passed[slot] += 1;
                }
            }
            let (least, most) = (passed.iter().min().unwrap_or(&1), passed.iter().max().unwrap_or(&1));
            let is_tiny = len < STEPS_MIN * BLOCK_SLOTS;
            assert!(*least >= 1 && (*most <= 2 || is_tiny), "{len}: {least} to {most} times");
        }
    }

    #[test]
    fn those_who_came_together_are_asked_a_few_at_a_time() {
        const LEN: usize = 12_000;
        // A fifteenth of them came within the time of a walk, and so fall due in one.
        let together = 4_000..4_000 + LEN / 15;
        let mut walk = Walk::new(Instant::now(), 0);
        let steps = LEN.div_ceil(STEP_SLOTS);
        let most = (0..steps)
            .map(|_| slots(&mut walk, LEN).into_iter().filter(|slot| together.contains(slot)).count())
            .max();
        assert!(most <= Some(together.len() / steps + BLOCK_SLOTS), "{most:?} in one of {steps} steps");
    }

    #[test]
    fn shards_that_start_together_step_at_different_moments() {
        let started = Instant::now();
        let mut due: Vec<_> = (0..84).map(|shard| Walk::new(started, shard).due()).collect();
        due.sort_unstable();
        let nearest = due.windows(2).map(|pair| pair[1] - pair[0]).min().expect("shards");
        assert!(nearest > WHOLE / STEPS_MIN as u32 / (84 * 4), "{nearest:?} apart");
    }

    #[test]
    fn every_slot_is_passed_while_the_table_grows() {
        let started = Instant::now();
        let mut walk = Walk::new(started, 0);
        let mut len = 5_000;
        let mut passed = vec![0_u8; len];
        // Clients keep coming, some between any two steps.
        while walk.due() < started + 3 * WHOLE {
            for slot in slots(&mut walk, len) {
                passed[slot] += 1;
            }
            len += 20;
            passed.resize(len, 0);
        }
        let least = passed[..5_000].iter().min().expect("slots");
        assert!(*least >= 2, "{least} times in three times the time of a walk");
    }

    #[test]
    fn a_table_that_shrinks_is_passed_as_far_as_it_goes() {
        let mut walk = Walk::new(Instant::now(), 0);
        slots(&mut walk, 10_000);
        let rest: Vec<_> = slots(&mut walk, 100);
        assert_eq!(rest, (8..16).collect::<Vec<_>>());
        // The walk of 10,000 goes on to its end, and the next one is as short as the table.
        for _ in 2..40 {
            slots(&mut walk, 100);
        }
        let mut passed: Vec<_> = (0..STEPS_MIN).flat_map(|_| slots(&mut walk, 100)).collect();
        passed.sort_unstable();
        assert_eq!(passed, (0..100).collect::<Vec<_>>());
    }
}

//! How large a batch a turn takes, and how long it waits for one.
//!
//! While much arrives, a few microseconds of waiting turn many small batches into fewer large ones, each with one system
//! call and one switch of the thread. While little arrives it must not cost any latency. So only after a batch is there a
//! wait for another one, for a bounded time; and when that time passes in vain, there is none for a while, twice as long
//! each time.
//!
//! The number that is waited for is also the most that the kernel takes out of its work list in one call, where it is
//! above 20 (`IO_LOCAL_TW_DEFAULT_MAX`, Linux 6.13 and later). So after a full batch more is asked for: there may be more
//! already. And after a batch of large messages fewer are: all of a batch are received before the first is answered, and
//! what is received should still be in the processor's cache then.

/// A smaller batch is not waited for.
const BATCH_MIN: u32 = 8;
/// A batch that is large enough: beyond it a message waits longer for the others than they save.
const BATCH_MAX: u32 = 128;
/// Bytes of a batch that is large enough: a part of a core's own cache, which the answers share.
const BATCH_BYTES: u64 = 256 << 10;
/// Turns without such a wait after one in vain, at first and at most.
const REST_MIN: u32 = 4;
const REST_MAX: u32 = 256;

/// What the next turn waits for.
#[derive(Debug)]
pub(crate) struct Pace {
    wanted: u32,
    wait_us_max: u32,
    /// Turns until the next try.
    rest: u32,
    /// Turns to rest when the next one is in vain.
    next_rest: u32,
}

impl Pace {
    pub(crate) fn new(wait_us_max: u32) -> Self {
        Self { wanted: 1, wait_us_max, rest: 0, next_rest: REST_MIN }
    }

    /// Completions to wait for, and for how many microseconds.
    pub(crate) fn next(&self) -> (u32, u32) {
        if self.wanted > 1 { (self.wanted, self.wait_us_max) } else { (1, 0) }
    }

    /// A turn that waited brought so many completions, with so many bytes in all.
    pub(crate) fn arrived(&mut self, completions: u32, bytes: u64) {
        let wanted = self.wanted;
        if wanted > 1 && completions < wanted / 2 {
            self.rest = self.next_rest;
            self.next_rest = (self.next_rest * 2).min(REST_MAX);
        } else if wanted > 1 {
            self.next_rest = REST_MIN;
        } else {
            self.rest = self.rest.saturating_sub(1);
        }
        let is_busy = completions >= BATCH_MIN && self.rest == 0 && self.wait_us_max > 0;
        let fit = BATCH_BYTES / (bytes / u64::from(completions.max(1))).max(1);
        let batch_max = fit.clamp(1, BATCH_MAX.into()) as u32;
        self.wanted = match completions {
            _ if !is_busy => 1,
            // Full: there may have been more.
            _ if wanted > 1 && completions >= wanted => (2 * completions).min(batch_max),
            _ => (completions / 4 * 3).min(batch_max),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_a_batch_only_after_a_batch() {
        let mut pace = Pace::new(50);
        assert_eq!(pace.next(), (1, 0));
        pace.arrived(BATCH_MIN - 1, 0);
        assert_eq!(pace.next(), (1, 0));
        pace.arrived(20, 0);
        assert_eq!(pace.next(), (15, 50));
        pace.arrived(10_000, 0);
        assert_eq!(pace.next(), (BATCH_MAX, 50));
    }

    #[test]
    fn asks_for_more_after_a_full_batch() {
        let mut pace = Pace::new(50);
        pace.arrived(20, 0);
        for (arrived, wanted) in [(15, 30), (30, 60), (60, 120), (120, BATCH_MAX), (100, 75)] {
            pace.arrived(arrived, 0);
            assert_eq!(pace.next(), (wanted, 50));
        }
    }

    #[test]
    fn asks_for_fewer_that_are_large() {
        let mut pace = Pace::new(50);
        for (bytes_each, wanted) in [(64, BATCH_MAX), (1 << 10, BATCH_MAX), (16 << 10, 16), (1 << 20, 1)] {
            for _ in 0..10 {
                pace.arrived(200, 200 * bytes_each);
            }
            assert_eq!(pace.next().0, wanted, "{bytes_each} B each");
        }
    }

    #[test]
    fn rests_longer_each_time_it_waits_in_vain() {
        let mut pace = Pace::new(50);
        pace.arrived(20, 0);
        for rest in [REST_MIN, REST_MIN * 2, REST_MIN * 4] {
            assert_eq!(pace.next(), (15, 50));
            pace.arrived(6, 0);
            for _ in 0..rest {
                assert_eq!(pace.next(), (1, 0));
                pace.arrived(20, 0);
            }
        }
        pace.arrived(15, 0);
        assert_eq!(pace.next_rest, REST_MIN, "a wait that was worth it is tried again soon");
    }

    #[test]
    fn never_waits_when_it_is_off() {
        let mut pace = Pace::new(0);
        for _ in 0..10 {
            pace.arrived(1_000, 0);
            assert_eq!(pace.next(), (1, 0));
        }
    }
}

//! How long a turn waits for a batch.
//!
//! While much arrives, a few microseconds of waiting turn many small batches into fewer large ones, each with one system
//! call. While little arrives it must not cost any latency. So the last turn that waited decides: only after a batch is
//! there a wait for another one as large, for a bounded time.

/// A smaller batch is not waited for.
const BATCH_MIN: u32 = 8;
/// A batch that is large enough.
const BATCH_MAX: u32 = 64;

/// What the next turn waits for.
#[derive(Debug)]
pub(crate) struct Pace {
    wanted: u32,
    wait_us_max: u32,
}

impl Pace {
    pub(crate) fn new(wait_us_max: u32) -> Self {
        Self { wanted: 1, wait_us_max }
    }

    /// Completions to wait for, and for how many microseconds.
    pub(crate) fn next(&self) -> (u32, u32) {
        if self.wanted > 1 { (self.wanted, self.wait_us_max) } else { (1, 0) }
    }

    /// A turn that waited brought so many completions.
    pub(crate) fn arrived(&mut self, completions: u32) {
        let is_busy = completions >= BATCH_MIN && self.wait_us_max > 0;
        self.wanted = if is_busy { completions.min(BATCH_MAX) } else { 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_a_batch_only_after_a_batch() {
        let mut pace = Pace::new(50);
        assert_eq!(pace.next(), (1, 0));
        pace.arrived(BATCH_MIN - 1);
        assert_eq!(pace.next(), (1, 0));
        pace.arrived(20);
        assert_eq!(pace.next(), (20, 50));
        pace.arrived(10_000);
        assert_eq!(pace.next(), (BATCH_MAX, 50));
        pace.arrived(1);
        assert_eq!(pace.next(), (1, 0));
    }

    #[test]
    fn never_waits_when_it_is_off() {
        let mut pace = Pace::new(0);
        pace.arrived(1_000);
        assert_eq!(pace.next(), (1, 0));
    }
}

//! Failed logins, counted for each account and not for each address: many people share one address.

use std::sync::{Mutex, PoisonError};

use petrel_protocol::limits;
use petrel_protocol::map::{Map, fingerprint};
use petrel_protocol::time::Now;

/// Bounded: an account is its name's fingerprint, under a secret, and counts end with their window.
#[derive(Debug)]
pub(crate) struct Attempts {
    seed: u64,
    counts: Mutex<Map<u64, Count>>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    tries: u32,
    since_ms: u64,
}

impl Count {
    fn ends_in_ms(self, now: Now) -> Option<u64> {
        (self.since_ms + limits::LOGIN_FAILURES_MS).checked_sub(now.mono_ms).filter(|ms| *ms > 0)
    }
}

impl Attempts {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, counts: Mutex::default() }
    }

    /// Counts a try before it is made, so that many at once are counted too; where there were too many, how long to
    /// wait, in ms.
    pub(crate) fn begin(&self, now: Now, username: &str) -> Result<(), u64> {
        let mut counts = self.lock();
        if counts.len() >= limits::LOGIN_FAILURES_ACCOUNTS_MAX {
            counts.retain(|_, count| count.ends_in_ms(now).is_some());
        }
        if counts.len() >= limits::LOGIN_FAILURES_ACCOUNTS_MAX {
            let oldest = counts.iter().min_by_key(|(_, c)| c.since_ms).map(|(account, _)| *account);
            counts.remove(&oldest.expect("the table is full"));
        }
        let count = counts.entry(self.account(username)).or_insert(Count { tries: 0, since_ms: now.mono_ms });
        match count.ends_in_ms(now) {
            Some(ms) if count.tries >= limits::LOGIN_FAILURES_MAX => return Err(ms),
            Some(_) => count.tries += 1,
            None => *count = Count { tries: 1, since_ms: now.mono_ms },
        }
        Ok(())
    }

    /// The try was right: the account starts afresh.
    pub(crate) fn succeeded(&self, username: &str) {
        self.lock().remove(&self.account(username));
    }

    /// The try could not be made.
    pub(crate) fn give_back(&self, username: &str) {
        if let Some(count) = self.lock().get_mut(&self.account(username)) {
            count.tries = count.tries.saturating_sub(1);
        }
    }

    fn account(&self, username: &str) -> u64 {
        fingerprint(self.seed, &[username.as_bytes()])
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Map<u64, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { mono_ms: 1_000 + ms, wall_ms: 0 }
    }

    #[test]
    fn the_window_closes_and_reopens() {
        let attempts = Attempts::new(7);
        for _ in 0..limits::LOGIN_FAILURES_MAX {
            assert_eq!(attempts.begin(at(0), "anna"), Ok(()));
        }
        assert_eq!(attempts.begin(at(100), "anna"), Err(limits::LOGIN_FAILURES_MS - 100));
        assert_eq!(attempts.begin(at(100), "bert"), Ok(()), "another account is not concerned");
        assert_eq!(attempts.begin(at(limits::LOGIN_FAILURES_MS), "anna"), Ok(()));
    }

    #[test]
    fn success_starts_afresh_and_what_was_not_tried_does_not_count() {
        let attempts = Attempts::new(7);
        for _ in 0..10 * limits::LOGIN_FAILURES_MAX {
            assert_eq!(attempts.begin(at(0), "anna"), Ok(()));
            attempts.give_back("anna");
        }
        for _ in 0..limits::LOGIN_FAILURES_MAX {
            assert_eq!(attempts.begin(at(0), "anna"), Ok(()));
        }
        attempts.succeeded("anna");
        assert_eq!(attempts.begin(at(0), "anna"), Ok(()));
    }

    #[test]
    fn the_table_is_bounded() {
        let attempts = Attempts::new(7);
        for n in 0..limits::LOGIN_FAILURES_ACCOUNTS_MAX as u64 + 100 {
            // One ms apart near the end, so that there is an oldest.
            let now = at(n.saturating_sub(limits::LOGIN_FAILURES_ACCOUNTS_MAX as u64 - 10));
            assert_eq!(attempts.begin(now, &n.to_string()), Ok(()));
        }
        assert_eq!(attempts.lock().len(), limits::LOGIN_FAILURES_ACCOUNTS_MAX);
    }
}

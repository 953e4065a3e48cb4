//! Tells systemd that the service works: only while its main loops really turn.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::Readiness;

/// Where no watchdog is asked for, the loops are still looked at this often, for the log and `/readyz`.
const EVERY: Duration = Duration::from_secs(5);

/// Looks at the main loops until the other end of `stopped` is dropped. `is_turning` says whether every one has gone round
/// since it was asked before.
pub(crate) fn run(stopped: &Receiver<()>, readiness: &Readiness, is_turning: impl Fn() -> bool) {
    let asked_for = sd_notify::watchdog_enabled();
    let every = asked_for.map_or(EVERY, |limit| limit / 4);
    watch(stopped, every, readiness, is_turning, || {
        if asked_for.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
    });
}

fn watch(
    stopped: &Receiver<()>,
    every: Duration,
    readiness: &Readiness,
    is_turning: impl Fn() -> bool,
    feed: impl Fn(),
) {
    // The first asking has nothing before it.
    is_turning();
    let mut was_stuck = false;
    while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        let is_stuck = !is_turning();
        match (was_stuck, is_stuck) {
            (false, true) => {
                tracing::error!(
                    "a main loop has not turned for {every:?}: the watchdog is not fed until it does"
                );
                readiness.waits_for("loop", "a main loop does not turn: see the log, or restart");
            }
            (true, false) => {
                tracing::warn!("all main loops turn again");
                readiness.has("loop");
            }
            _ => {}
        }
        if !is_stuck {
            feed();
        }
        was_stuck = is_stuck;
    }
}

/// Tells systemd, where it started this process.
pub(crate) fn tell(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!("systemd cannot be told: {e}");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_loop_that_does_not_turn_is_not_fed_for_and_named() {
        let (stop, stopped) = channel();
        let readiness = Readiness::default();
        let (asked, fed) = (Cell::new(0), Cell::new(0));
        let stop = Cell::new(Some(stop));
        watch(
            &stopped,
            Duration::from_millis(1),
            &readiness,
            || {
                asked.set(asked.get() + 1);
                // Before the last two askings it stood still.
                if asked.get() == 5 {
                    stop.take();
                }
                asked.get() < 4
            },
            || fed.set(fed.get() + 1),
        );
        assert_eq!((asked.get(), fed.get()), (5, 2));
        assert!(readiness.missing().contains_key("loop"));
    }
}

//! EINTR is nothing.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use support::{Recorder, exchange, listening, pair, pattern, run_beside, small};

static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// Ends the hammering even when a check fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_thread_hammered_by_signals_loses_nothing() {
    // SAFETY: a sigaction of zeroes is valid: no flags (so system calls end with EINTR) and an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = count as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler only adds to an atomic, which is safe in a signal handler.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) }, 0);

    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::echo();
    let (peer, _) = pair(&mut ring, addr, &mut recorder);
    // SAFETY: the call has no preconditions.
    let ring_thread = unsafe { libc::pthread_self() };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // SAFETY: the ring's thread is this test's, which joins this one before it ends.
                unsafe { libc::pthread_kill(ring_thread, libc::SIGUSR1) };
                std::thread::sleep(Duration::from_micros(20));
            }
        });
        let _over = Over(&is_over);
        for len in [1, 100, 4_000, 100_000, 1_000_000] {
            let bytes = pattern(len);
            let back = run_beside(&mut ring, &mut recorder, || exchange(&peer, &bytes));
            assert!(back == bytes);
        }
        let before = SIGNALS.load(Ordering::Relaxed);
        while SIGNALS.load(Ordering::Relaxed) < before + 100 {
            ring.turn(None, &mut recorder).expect("a signal only ends the wait");
        }
    });
}

//! Wakes a waiting ring from any thread.
//!
//! A ring that runs looks at the state before it waits, so only a ring that waits costs its waker a system call.
//! The eventfd is never read: its multishot poll reports each write.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::sys;

/// The ring's thread is running and looks at the state before it waits.
const RUNNING: u8 = 0;
/// The ring's thread waits or is about to: the eventfd must be written.
const WAITING: u8 = 1;
/// Somebody called; whoever calls now has nothing to do.
const WOKEN: u8 = 2;

/// Makes the ring's current or next waiting turn return. Any number of clones, on any thread.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    event: File,
}

impl Waker {
    /// Wakes the ring: its handler's [`woken`](crate::Handler::woken) is called in the current or the next turn. What
    /// was written before this call is seen there. Any number of wakes before that turn cost one system call, and none
    /// while the ring runs.
    pub fn wake(&self) {
        if self.shared.state.swap(WOKEN, Ordering::AcqRel) == WAITING {
            // The counter is never read, so it only rises; 2^64 wakes are out of reach, and no other error is possible
            // on an eventfd that is open.
            let _ = (&self.shared.event).write(&1_u64.to_ne_bytes());
        }
    }

    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { shared: Arc::new(Shared { state: AtomicU8::new(RUNNING), event: sys::eventfd()? }) })
    }

    pub(crate) fn event_fd(&self) -> RawFd {
        self.shared.event.as_raw_fd()
    }

    /// The ring's thread is about to wait. False when somebody called already: then it must not.
    pub(crate) fn may_wait(&self) -> bool {
        self.shared.state.compare_exchange(RUNNING, WAITING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The ring's thread runs again. True when somebody called since the last time.
    pub(crate) fn take(&self) -> bool {
        // Without a call the state is one that only the ring's thread writes, so a look is enough while it runs.
        match self.shared.state.load(Ordering::Acquire) {
            RUNNING => false,
            _ => self.shared.state.swap(RUNNING, Ordering::AcqRel) == WOKEN,
        }
    }
}

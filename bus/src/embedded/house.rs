//! The housekeeping thread: makes segments ahead, deletes those that are done, and merges those that are nearly so.
//!
//! Each of these costs syncs, which nothing that is published should wait for. None of them is needed for a record to be
//! written.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::shared::Shared;

/// What the commit thread wants done.
#[derive(Default)]
pub(super) struct House {
    todo: Mutex<Todo>,
    more: Condvar,
}

#[derive(Default)]
struct Todo {
    tidy: bool,
    closing: bool,
}

impl House {
    /// Asks for the log to be tidied.
    pub(super) fn tidy(&self) {
        self.ask(|todo| todo.tidy = true);
    }

    /// Ends the thread; what it has not begun is left for the next start.
    pub(super) fn close(&self) {
        self.ask(|todo| todo.closing = true);
    }

    fn ask(&self, change: impl FnOnce(&mut Todo)) {
        change(&mut self.lock());
        self.more.notify_one();
    }

    /// Waits for something to do. False: the log is being closed.
    fn wait(&self) -> bool {
        let mut todo = self.lock();
        while !todo.closing {
            if std::mem::take(&mut todo.tidy) {
                return true;
            }
            todo = self.more.wait(todo).expect("no holder panics");
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, Todo> {
        self.todo.lock().expect("no holder panics")
    }
}

/// Does what is asked for until the log is closed.
pub(super) fn keep(shared: &Shared) {
    while shared.house.wait() {
        let store = shared.store.read().unwrap_or_else(PoisonError::into_inner);
        let Some(store) = &*store else { continue };
        if let Err(error) = store.tidy() {
            // The commit thread finds out by itself whether the disk still takes what is published.
            tracing::warn!(
                "keeping house in the log in {} failed: {error}; it is tried again later",
                shared.folder.dir.display(),
            );
        }
    }
}

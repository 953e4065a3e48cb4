//! The housekeeping thread: makes segments ahead, deletes those that are done, and lets fjall begin new journals.
//!
//! Each of these costs many syncs, which nothing that is published should wait for. None of them is needed for a record
//! to be written: without a spare segment the last one grows.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use petrel_protocol::topics::Topic;

use super::shared::Shared;
use super::store::{Store, StoreError};

/// What the commit thread wants done. Asking again for what waits already changes nothing, so it needs no bound.
#[derive(Default)]
pub(super) struct House {
    todo: Mutex<Todo>,
    more: Condvar,
}

#[derive(Default)]
struct Todo {
    /// Topics whose next segment's keyspace is wanted.
    spares: [bool; Topic::ALL.len()],
    /// Topics of which the segments that hold nothing from these offsets on are to be deleted.
    drops: [Option<Vec<u64>>; Topic::ALL.len()],
    /// fjall shall look at its journals.
    journal: bool,
    closing: bool,
}

/// One thing to do.
enum Chore {
    Spare(Topic),
    Drop(Topic, Vec<u64>),
    Journal,
}

impl House {
    /// Asks for the keyspace of this topic's next segment.
    pub(super) fn make_spare(&self, topic: Topic) {
        self.ask(|todo| todo.spares[topic as usize] = true);
    }

    /// Asks for the deletion of the segments that hold nothing from `acked` on.
    pub(super) fn drop_segments(&self, topic: Topic, acked: Vec<u64>) {
        self.ask(|todo| todo.drops[topic as usize] = Some(acked));
    }

    /// Asks for a look at the journals.
    pub(super) fn tidy_journal(&self) {
        self.ask(|todo| todo.journal = true);
    }

    /// Ends the thread; what it has not begun is left for the next start.
    pub(super) fn close(&self) {
        self.ask(|todo| todo.closing = true);
    }

    fn ask(&self, change: impl FnOnce(&mut Todo)) {
        change(&mut self.lock());
        self.more.notify_one();
    }

    /// Waits for something to do. None: the log is being closed.
    fn next(&self) -> Option<Chore> {
        let mut todo = self.lock();
        loop {
            if todo.closing {
                return None;
            }
            for topic in Topic::ALL {
                if std::mem::take(&mut todo.spares[topic as usize]) {
                    return Some(Chore::Spare(topic));
                }
                if let Some(acked) = todo.drops[topic as usize].take() {
                    return Some(Chore::Drop(topic, acked));
                }
            }
            if std::mem::take(&mut todo.journal) {
                return Some(Chore::Journal);
            }
            todo = self.more.wait(todo).expect("no holder panics");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Todo> {
        self.todo.lock().expect("no holder panics")
    }
}

/// Does what is asked for until the log is closed.
pub(super) fn keep(shared: &Shared) {
    while let Some(chore) = shared.house.next() {
        let store = shared.store.read().unwrap_or_else(PoisonError::into_inner);
        let Some(store) = &*store else { continue };
        if let Err(error) = chore.run(store) {
            // The commit thread finds out by itself whether the disk still takes what is published.
            tracing::warn!(
                "keeping house in the log in {} failed: {error}; it is tried again later",
                shared.folder.dir.display(),
            );
        }
    }
}

impl Chore {
    fn run(self, store: &Store) -> Result<(), StoreError> {
        match self {
            Self::Spare(topic) => store.make_spare(topic).and_then(|()| store.flush_old_segments(topic)),
            Self::Drop(topic, acked) => store.drop_segments(topic, &acked),
            Self::Journal => store.tidy_journal(),
        }
    }
}

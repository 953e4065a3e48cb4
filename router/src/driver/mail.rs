//! What other threads leave for the driver's.

use std::sync::{Mutex, PoisonError};

use petrel_protocol::calls::DeliverReply;
use petrel_protocol::fanout::{Incarnation, Route};
use tokio::sync::Notify;

/// What other threads leave for the driver's.
#[derive(Default)]
pub(crate) struct Mail {
    inner: Mutex<Letters>,
    pub(super) notify: Notify,
}

#[derive(Default)]
pub(super) struct Letters {
    pub(super) answers: Vec<(u64, Option<DeliverReply>)>,
    /// Look-ups that were answered, in their order.
    pub(super) found: Vec<(u64, Vec<Route>)>,
    /// Epochs that are over.
    pub(super) revoked: Vec<Incarnation>,
    pub(super) sleep: Sleep,
    /// A partition is read no more.
    pub(super) is_partial: bool,
    /// Somebody asked whether the driver turns, and it has not since.
    pub(super) is_asked: bool,
    pub(super) stage: Stage,
}

/// What wakes the driver.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sleep {
    #[default]
    Awake,
    /// What the routes say; edges' answers are collected when it comes by.
    UntilTold,
    /// Any answer.
    UntilAnswered,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Running,
    Stopping,
    Over,
}

impl Mail {
    /// Whether the fan-out runs and reads every partition.
    pub(crate) fn is_running(&self) -> bool {
        let letters = self.lock();
        letters.stage != Stage::Over && !letters.is_partial
    }

    /// Whether the fan-out is over: nobody waits for anything any more.
    pub(super) fn is_over(&self) -> bool {
        self.lock().stage == Stage::Over
    }

    /// Leaves something that the driver waits for.
    pub(super) fn leave(&self, put: impl FnOnce(&mut Letters)) {
        let mut letters = self.lock();
        put(&mut letters);
        if std::mem::take(&mut letters.sleep) != Sleep::Awake {
            drop(letters);
            self.notify.notify_one();
        }
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Letters> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn answer(&self, ticket: u64, answer: Option<DeliverReply>) {
        let mut letters = self.lock();
        letters.answers.push((ticket, answer));
        if letters.sleep == Sleep::UntilAnswered {
            letters.sleep = Sleep::Awake;
            drop(letters);
            self.notify.notify_one();
        }
    }
}

//! Whether persist can work, and if not, which part of it waits for what. `/readyz` shows it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::StartError;

/// What persist can do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It reads, stores and answers.
    Ready,
    /// A part waits for something; persist goes on by itself when that is there.
    Waiting {
        /// The part.
        part: &'static str,
        /// What it waits for, and what to do about it.
        why: String,
    },
    /// It cannot start, and waiting mends nothing. The text names the mend.
    Failed(String),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Waiting { part, why } => write!(f, "{part}: {why}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// What ends loops that would try for ever.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stopping(Arc<AtomicBool>);

impl Stopping {
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Whether the reader turns, for a watchdog.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pulse(Arc<(AtomicBool, tokio::sync::Notify)>);

impl Pulse {
    /// Whether the reader has gone round since this was asked before.
    pub(crate) fn ask(&self) -> bool {
        let has_turned = !self.0.0.swap(true, Ordering::AcqRel);
        self.0.1.notify_one();
        has_turned
    }

    /// The reader goes round, or tries again what it cannot do yet.
    pub(crate) fn turns(&self) {
        self.0.0.store(false, Ordering::Release);
    }

    /// Waits until somebody asks.
    pub(crate) async fn asked(&self) {
        self.0.1.notified().await;
    }
}

/// The status that the threads of persist share. It begins as waiting for the store.
#[derive(Clone, Debug)]
pub(crate) struct Health(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug)]
struct State {
    /// What waits, and why.
    waiting: BTreeMap<&'static str, String>,
    failure: Option<String>,
    /// It has been ready once: what waits now, works again by itself.
    has_started: bool,
    logged_at: Option<Instant>,
}

/// A trouble that lasts is said this often.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// The store: it cannot be opened, or what has to be read or written is tried again.
pub(crate) const STORE: &str = "store";

impl Default for Health {
    fn default() -> Self {
        let waiting = BTreeMap::from([(STORE, "it is being opened".to_owned())]);
        let state = State { waiting, failure: None, has_started: false, logged_at: None };
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }
}

impl Health {
    pub(crate) fn status(&self) -> Status {
        let state = self.state();
        if let Some(why) = &state.failure {
            return Status::Failed(why.clone());
        }
        let waiting = state.waiting.iter().next();
        waiting.map_or(Status::Ready, |(part, why)| Status::Waiting { part, why: why.clone() })
    }

    /// Everything is open.
    pub(crate) fn started(&self) {
        let mut state = self.state();
        state.has_started = true;
        state.waiting.clear();
        self.0.1.notify_all();
    }

    /// This part waits. Said in the log when it begins, and then every few seconds.
    pub(crate) fn waits(&self, part: &'static str, why: String) {
        let mut state = self.state();
        if state.logged_at.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            tracing::warn!("persist waits for its {part}: {why}");
            state.logged_at = Some(Instant::now());
        }
        state.waiting.insert(part, why);
    }

    /// This part works again. Before everything is open, that alone says nothing.
    pub(crate) fn works(&self, part: &'static str) {
        let mut state = self.state();
        if state.has_started && state.waiting.remove(part).is_some() {
            tracing::info!("persist has its {part} again");
            state.logged_at = None;
        }
    }

    /// Nothing more is done. With the embedded store the caller of `start` is told instead.
    #[cfg(feature = "cassandra")]
    pub(crate) fn failed(&self, error: &StartError) {
        tracing::error!("persist cannot start: {error}");
        self.state().failure = Some(error.to_string());
        self.0.1.notify_all();
    }

    /// Blocks until it has started or failed.
    pub(crate) fn wait_started(&self) -> Result<(), StartError> {
        let is_open = |state: &mut State| !state.has_started && state.failure.is_none();
        let state = self.0.1.wait_while(self.state(), is_open).unwrap_or_else(PoisonError::into_inner);
        state.failure.clone().map_or(Ok(()), |why| Err(StartError(why)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_when_nothing_waits_any_more() {
        let health = Health::default();
        assert!(matches!(health.status(), Status::Waiting { part: STORE, .. }));
        health.works(STORE);
        assert!(matches!(health.status(), Status::Waiting { .. }), "works before it is open");
        health.started();
        assert_eq!(health.status(), Status::Ready);
        health.waits(STORE, "a disk is full".to_owned());
        health.waits("server", "it is down".to_owned());
        assert_eq!(health.status().to_string(), "server: it is down");
        health.works("server");
        assert_eq!(health.status().to_string(), "store: a disk is full");
        health.works(STORE);
        assert_eq!(health.status(), Status::Ready);
        health.wait_started().unwrap();
    }
}

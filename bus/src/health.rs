//! What keeps a log from working, for a readiness endpoint to show.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// The problems of a log, while it is opened and later. A clone is another handle on the same.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, String>>>);

impl Health {
    /// What does not work at present, and why; none where all does. One of several problems stands for all.
    pub fn problem(&self) -> Option<String> {
        self.lock().iter().next().map(|(part, problem)| format!("{part}: {problem}"))
    }

    /// A part does not work.
    pub(crate) fn fails(&self, part: &str, problem: &str) {
        self.lock().insert(part.to_owned(), problem.to_owned());
    }

    /// A part works.
    pub(crate) fn works(&self, part: &str) {
        self.lock().remove(part);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().expect("no holder panics")
    }
}

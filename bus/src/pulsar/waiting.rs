//! Something that is tried until it works: readiness shows it at once, the log has it from time to time.

use std::time::{Duration, Instant};

use crate::Health;

/// A wait is logged this often.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Waiting<'a> {
    health: &'a Health,
    part: &'static str,
    /// What the log says before the problem.
    what: &'static str,
    logged: Option<Instant>,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(health: &'a Health, part: &'static str, what: &'static str) -> Self {
        Self { health, part, what, logged: None }
    }

    /// It does not work, and is tried again.
    pub(super) fn goes_on(&mut self, problem: &str) {
        self.health.fails(self.part, problem);
        if self.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            tracing::warn!("{}: {problem}; trying again", self.what);
            self.logged = Some(Instant::now());
        }
    }

    /// It works.
    pub(super) fn is_over(&self) {
        self.health.works(self.part);
    }
}

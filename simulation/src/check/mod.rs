//! Judges a history: whether every device saw what it had to see, as it had to see it.
//!
//! The rules are written from the promises alone. Nothing here is shared with the code that keeps them.

mod end;
mod judge;
mod violation;

pub use violation::{Rule, Violation};

use crate::history::{Entry, History};
use judge::Judge;

/// On one connection, an edge remembers the latest statuses that it told: at least this many, and for
/// [`petrel_protocol::limits::SESSION_MEMORY_MS`] after the last of them. So long they only rise: as a client sees it, for
/// [`STATUS_TOLD_US`] at least, since one status may be under way for longer than the next. A device that comes online long
/// after another one has read a message may say that it has got it, and so may one after a restart; a sender keeps the
/// highest.
pub const STATUS_TOLD_MAX: usize = 16;
/// For how long, microseconds.
pub const STATUS_TOLD_US: u64 = 2_000_000;

/// What a history without a violation held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Devices.
    pub devices: usize,
    /// Sends that were asked for.
    pub sent: usize,
    /// Those that were accepted.
    pub accepted: usize,
    /// Those that were refused for good.
    pub refused: usize,
    /// Rows that were shown, over all devices.
    pub shown: usize,
    /// Times that a status was followed by a lower one when the edge had forgotten the higher.
    pub fallen: usize,
    /// Messages that were recalled.
    pub recalled: usize,
}

/// Judges a history entry by entry, so that a long one need not be in memory. What it remembers grows with the messages:
/// some hundred bytes for each, and some tens for each device that saw it.
#[derive(Debug, Default)]
pub struct Checker(Judge);

impl Checker {
    /// Takes the next entry, or names what it shows that may not be.
    pub fn entry(&mut self, entry: &Entry) -> Result<(), Violation> {
        self.0.entry(entry)
    }

    /// Takes the end: what should have come by then has, or is named.
    pub fn end(&self) -> Result<Verdict, Violation> {
        end::check(&self.0)?;
        Ok(self.0.verdict())
    }
}

/// Judges a whole run, or names the first thing that may not be.
pub fn check(history: &History) -> Result<Verdict, Violation> {
    let mut checker = Checker::default();
    for entry in &history.entries {
        checker.entry(entry)?;
    }
    checker.end()
}

//! Gives every message its place, stores it, finds it and gives it back.
//!
//! One thread reads `uplink` and `receipts`; another answers the calls. What is decided is in `protocol::sequencer`,
//! where it is kept in `store`.

use std::path::PathBuf;
use std::sync::Arc;

use petrel_bus::Bus;
use petrel_bus::calls::{Link, PersistCall, Service};

/// How persist runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder of the store; created where it is missing.
    pub dir: PathBuf,
    /// The partitions that this process reads.
    pub partitions: Vec<u16>,
    /// The Snowflake worker that account ids are drawn with; no other process may draw with the same.
    pub worker: u16,
}

/// Why persist cannot start. The text names the mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub(crate) String);

/// The running service. Dropped without [`Persist::stop`], it stops as after a crash: nothing accepted is lost.
#[derive(Debug)]
pub struct Persist;

impl Persist {
    /// Opens the store and starts to read.
    pub fn start(config: Config, bus: Bus) -> Result<Self, StartError> {
        let _ = (config, bus);
        Ok(Self)
    }

    /// A handle for callers.
    pub fn link(&self) -> Link<PersistCall> {
        let _ = self;
        Arc::new(Unavailable)
    }

    /// Finishes the batch under way, syncs, acknowledges, and joins the threads. Blocks.
    pub fn stop(self) {
        let Self = self;
    }
}

struct Unavailable;

impl Service<PersistCall> for Unavailable {
    fn call(&self, call: PersistCall) {
        drop(call);
    }
}

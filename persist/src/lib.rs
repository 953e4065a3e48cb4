//! Gives every message its place, stores it, finds it and gives it back.
//!
//! One thread reads `uplink` and `receipts` ([`reader`]); another answers the calls ([`calls`]). What is decided stands
//! in `protocol::sequencer`, where it is kept in [`store`].

mod accounts;
mod calls;
mod metrics;
mod reader;
mod store;
mod sync;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use petrel_bus::Bus;
use petrel_bus::calls::{Link, PersistCall};
use tokio::sync::oneshot;

use accounts::Accounts;
use calls::Calls;
use reader::{Reader, Stopping};
use store::Store;

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
pub struct Persist {
    calls: Calls,
    stop: Option<oneshot::Sender<()>>,
    stopping: Stopping,
    threads: Vec<JoinHandle<()>>,
    /// Kept open for as long as this runs.
    _bus: Bus,
}

impl Persist {
    /// Opens the store and starts to read.
    pub fn start(config: Config, bus: Bus) -> Result<Self, StartError> {
        let Config { dir, partitions, worker } = config;
        let failed =
            |what: &str, error: &dyn std::fmt::Display| StartError(format!("persist cannot {what}: {error}"));
        let store = Store::embedded(&dir, bus.generation())?;
        let accounts = Accounts::open(store.clone(), worker).map_err(|e| failed("read its accounts", &e))?;
        let (stop, stopped) = oneshot::channel();
        let stopping = Stopping::default();
        let reader = Reader::new(store.clone(), &bus, &partitions, stopped, stopping.clone());
        let reader = reader.map_err(|e| failed("read its partitions", &e))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|e| failed("start its runtime", &e))?;
        let (calls, waiting) = Calls::channel();
        let mut threads = Vec::new();
        let mut spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
            threads.push(thread.map_err(|e| failed("start a thread", &e))?);
            Ok(())
        };
        spawn("persist", Box::new(move || runtime.block_on(reader.run())))?;
        spawn("persist-calls", Box::new(move || waiting.answer(&store, accounts)))?;
        Ok(Self { calls, stop: Some(stop), stopping, threads, _bus: bus })
    }

    /// A handle for callers. After [`Self::stop`], every call is answered as unavailable.
    pub fn link(&self) -> Link<PersistCall> {
        Arc::new(self.calls.clone())
    }

    /// Finishes the batch under way, syncs, acknowledges, and joins the threads. Blocks.
    pub fn stop(mut self) {
        self.end();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of persist panicked before it stopped");
            }
        }
    }

    fn end(&mut self) {
        self.stopping.begin();
        if let Some(stop) = self.stop.take() {
            // Where the reader is gone already, it has stopped.
            let _ = stop.send(());
        }
        self.calls.stop();
    }
}

impl Drop for Persist {
    fn drop(&mut self) {
        if self.stop.is_some() {
            self.end();
        }
    }
}

impl std::fmt::Debug for Persist {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Persist")
    }
}

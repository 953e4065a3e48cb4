//! Gives every message its place, stores it, finds it and gives it back.
//!
//! One thread reads `uplink` and `receipts` ([`reader`]); others answer the calls ([`calls`]). What is decided stands in
//! `protocol::sequencer`, where it is kept in [`store`].

mod accounts;
mod calls;
mod metrics;
mod reader;
mod status;
mod store;
mod sync;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use petrel_bus::Bus;
use petrel_bus::calls::{Link, PersistCall};
use tokio::sync::oneshot;

use accounts::Accounts;
use calls::{Answering, Calls};
use reader::{Patience, Reader};
use status::{Health, Pulse, Stopping};
use store::{Belongs, Store};

pub use status::Status;
#[cfg(feature = "cassandra")]
pub use store::cassandra::config as cassandra;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use store::fuzzing;

/// How persist runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everything is kept.
    pub store: StoreConfig,
    /// The partitions that this process reads.
    pub partitions: Vec<u16>,
    /// The Snowflake worker that account ids are drawn with. Processes that share a store should each have their own;
    /// with the same one they still never give an id twice, and wait for each other.
    pub worker: u16,
}

/// Where persist keeps everything.
#[derive(Debug, Clone)]
pub enum StoreConfig {
    /// In this process, in this folder; created where it is missing.
    Embedded(PathBuf),
    /// On Apache Cassandra.
    #[cfg(feature = "cassandra")]
    Cassandra(cassandra::Config),
}

/// Why persist cannot start. The text names the mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub(crate) String);

/// The running service. Dropped without [`Persist::stop`], it stops as after a crash: nothing accepted is lost.
pub struct Persist {
    calls: Calls,
    health: Health,
    pulse: Pulse,
    stop: Option<oneshot::Sender<()>>,
    stopping: Stopping,
    threads: Vec<JoinHandle<()>>,
    /// Kept open for as long as this runs.
    _bus: Bus,
}

impl Persist {
    /// Opens the store and starts to read. With the embedded store, every error is answered at once. One on Cassandra is
    /// opened on a thread, which waits for as long as no server answers: see [`Self::status`] and [`Self::wait_started`].
    pub fn start(config: Config, bus: Bus) -> Result<Self, StartError> {
        let belongs = Belongs { generation: bus.generation(), generation_id: bus.generation_id() };
        let (stop, stopped) = oneshot::channel();
        let (health, stopping, pulse) = (Health::default(), Stopping::default(), Pulse::default());
        let parts = Parts {
            bus: bus.clone(),
            partitions: config.partitions,
            worker: config.worker,
            health: health.clone(),
            stopping: stopping.clone(),
            pulse: pulse.clone(),
        };
        let (calls, waiting) = Calls::channel();
        let answering = Answering::default();
        let (run, call_threads): (Box<dyn FnOnce() + Send>, usize) = match config.store {
            StoreConfig::Embedded(dir) => {
                let running = parts.open(Store::embedded(&dir, &belongs)?, stopped, &answering, &calls)?;
                (Box::new(move || running.run()), 1)
            }
            #[cfg(feature = "cassandra")]
            StoreConfig::Cassandra(config) => {
                let (answering, calls) = (answering.clone(), calls.clone());
                let run = move || {
                    let store = Store::cassandra(&config, &belongs, &parts.health, &parts.stopping);
                    let running = store.and_then(|store| {
                        store.map(|store| parts.open(store, stopped, &answering, &calls)).transpose()
                    });
                    match running {
                        Ok(Some(running)) => running.run(),
                        // Stopped before there was a server.
                        Ok(None) => {}
                        Err(error) => parts.health.failed(&error),
                    }
                };
                (Box::new(run), petrel_protocol::limits::PERSIST_CALL_THREADS)
            }
        };
        let mut threads = Vec::new();
        let mut spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
            threads.push(thread.map_err(|e| cannot("start a thread", &e))?);
            Ok(())
        };
        spawn("persist", run)?;
        for _ in 0..call_threads {
            let (waiting, answering) = (waiting.clone(), answering.clone());
            spawn("persist-calls", Box::new(move || waiting.answer(&answering)))?;
        }
        Ok(Self { calls, health, pulse, stop: Some(stop), stopping, threads, _bus: bus })
    }

    /// A handle for callers. Before the store is there, and after [`Self::stop`], every call is answered as unavailable.
    pub fn link(&self) -> Link<PersistCall> {
        Arc::new(self.calls.clone())
    }

    /// What it can do now, for `/readyz`.
    pub fn status(&self) -> Status {
        self.health.status()
    }

    /// Whether the reader has gone round since this was asked before. While it tries again what the store does not take,
    /// it does.
    pub fn is_turning(&self) -> bool {
        self.pulse.ask()
    }

    /// Blocks until the store is open and `uplink` is read. An error is one that waiting does not mend; while a server is
    /// absent, this waits.
    pub fn wait_started(&self) -> Result<(), StartError> {
        self.health.wait_started()
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
        self.calls.stop(self.threads.len() - 1);
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

/// What is put together once there is a store.
struct Parts {
    bus: Bus,
    partitions: Vec<u16>,
    worker: u16,
    health: Health,
    stopping: Stopping,
    pulse: Pulse,
}

impl Parts {
    /// Subscribes to the partitions, and lets the calls be answered: those that read messages once the store has what
    /// waits in an embedded log, whose `stored` may have kept more than the store when the power was lost.
    fn open(
        &self,
        store: Store,
        stopped: oneshot::Receiver<()>,
        answering: &Answering,
        calls: &Calls,
    ) -> Result<Running, StartError> {
        let accounts = Accounts::new(store.clone(), self.worker);
        let (health, stopping, pulse) = (self.health.clone(), self.stopping.clone(), self.pulse.clone());
        let patience = Patience { health, stopping, pulse };
        let reader = Reader::new(store.clone(), &self.bus, &self.partitions, stopped, patience);
        let mut reader = reader.map_err(|e| cannot("read its partitions", &e))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|e| cannot("start its runtime", &e))?;
        let is_behind = reader.is_behind();
        answering.begin(store, accounts, !is_behind);
        if is_behind {
            tracing::info!("what waits in the log is stored first: until then no device is synced");
            let (answering, calls) = (answering.clone(), calls.clone());
            reader.on_caught_up(move || {
                answering.catch_up(&calls);
                tracing::info!("the store has caught up with the log");
            });
        }
        self.health.started();
        Ok(Running { reader, runtime })
    }
}

/// The loop that reads, and the runtime under it.
struct Running {
    reader: Reader,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    fn run(self) {
        self.runtime.block_on(self.reader.run());
    }
}

fn cannot(what: &str, error: &dyn std::fmt::Display) -> StartError {
    StartError(format!("persist cannot {what}: {error}"))
}

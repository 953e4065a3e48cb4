//! The log in one folder, for all services in one process.
//!
//! Topics are partitioned; a record's offset is dense within its partition and never given twice. Publishers put packs
//! into a bounded queue (`queue`); one thread takes everything that waits, writes it, syncs it if it holds a pack of
//! `uplink`, and receipts (`commit`). Readers find new records in memory and older ones on disk
//! (`partition`, `consumer`). What all of a topic's subscriptions have acknowledged is deleted by the segment
//! (`store`).
//!
//! What survives: a receipted pack of `uplink` survives a power cut. Everything that was receipted on the other topics,
//! and acknowledgements that are older than [`petrel_protocol::limits::BUS_ACK_MS_MAX`], survive the process (kill -9),
//! and a power cut from the next sync on. There is one journal, so after a power cut the log is as it was at one moment:
//! an acknowledgement never survives without all that was written before it.

mod backlog;
mod commit;
mod consumer;
mod folder;
mod frame;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod house;
mod index;
mod merge;
mod metrics;
mod partition;
mod queue;
mod recover;
mod segment;
mod shared;
mod store;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, RwLock};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use petrel_protocol::limits::{BUS_BACKLOG_BYTES_MAX, PACK_BYTES_MAX};
use petrel_protocol::topics::{Subscription, Topic};

use self::commit::{Committer, TopicLog};
pub use self::consumer::Consumer;
use self::folder::Folder;
use self::house::House;
use self::partition::Partition;
use self::queue::{Pending, Queue};
use self::shared::Shared;
use crate::metrics::METRICS;
use crate::{OnReceipt, OpenError, PublishError};

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct Config {
    /// The partitions of each topic, 1 to 1,024. Fixed when the log is created.
    pub partitions: u16,
    /// The bytes of one topic that may wait for acknowledgements, by default
    /// [`petrel_protocol::limits::BUS_BACKLOG_BYTES_MAX`]. Beyond it, publishers are refused as full. Takes up to four times
    /// as much disk.
    pub backlog_bytes_max: u64,
}

impl Config {
    /// The defaults.
    pub fn new(partitions: u16) -> Self {
        Self { partitions, backlog_bytes_max: BUS_BACKLOG_BYTES_MAX }
    }
}

/// An open log. It is closed when this is dropped; publishers and consumers do not keep it open.
pub struct Log {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Creates the log in `dir`, or opens what is there.
    pub fn open(dir: &Path, config: Config) -> Result<Arc<Self>, OpenError> {
        if config.partitions == 0 || config.partitions > 1_024 {
            let partitions = config.partitions;
            return Err(OpenError(format!("a log cannot have {partitions} partitions: choose 1 to 1024")));
        }
        let mut folder = Folder::open(dir, config.partitions)?;
        let store = folder.begin()?;
        let logs = Topic::ALL.map(|topic| TopicLog::recover(&store, topic));
        let partitions =
            |log: &TopicLog| log.partitions().map(|(end, acked)| Partition::new(end, acked)).collect();
        let shared = Arc::new(Shared {
            folder,
            config,
            queue: Queue::new(),
            house: House::default(),
            partitions: logs.each_ref().map(partitions),
            backlog_bytes: logs.each_ref().map(|log| AtomicU64::new(log.backlog_bytes())),
            store: RwLock::new(Some(store)),
        });
        let keeper = Arc::clone(&shared);
        let keeper = spawn("petrel-bus-house", move || house::keep(&keeper))?;
        let committer = Committer::new(Arc::clone(&shared), logs);
        let thread = spawn("petrel-bus", move || committer.run(keeper))?;
        Ok(Arc::new(Self { shared, thread: Mutex::new(Some(thread)) }))
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.shared.folder.partitions
    }

    pub(crate) fn generation(&self) -> u32 {
        self.shared.folder.generation
    }

    pub(crate) fn generation_id(&self) -> [u8; 16] {
        self.shared.folder.generation_id
    }

    pub(crate) fn publisher(&self, topic: Topic, on_receipt: OnReceipt) -> Publisher {
        Publisher { shared: Arc::clone(&self.shared), topic, on_receipt }
    }

    /// This topic has this partition and this subscription. None where the log is closed, or cannot be read.
    pub(crate) fn subscribe(
        &self,
        topic: Topic,
        subscription: Subscription,
        partition: u16,
    ) -> Option<Consumer> {
        let slot = topic.subscriptions().iter().position(|&known| known == subscription)?;
        Consumer::new(Arc::clone(&self.shared), topic, slot, partition)
    }

    pub(crate) fn sync(&self) -> Result<(), PublishError> {
        let (waiter, answer) = sync_channel(1);
        self.shared.queue.sync(waiter)?;
        answer.recv().unwrap_or(Err(PublishError::Unavailable))
    }

    pub(crate) fn close(&self) {
        self.shared.queue.close();
        let Some(thread) = self.thread.lock().expect("no holder panics").take() else { return };
        // A receipt may hold the last handle, and so close the log on its own thread, which then ends by itself.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!("the log's thread panicked; what it had not receipted has an unknown outcome");
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(|error| OpenError(format!("cannot start the thread {name} of the log: {error}")))
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({})", self.shared.folder.dir.display())
    }
}

/// Publishes on one topic.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    topic: Topic,
    on_receipt: OnReceipt,
}

impl Publisher {
    /// See [`crate::Publisher::publish`].
    pub(crate) fn publish(&self, partition: u16, tag: u64, pack: Bytes) -> Result<(), PublishError> {
        assert!(partition < self.shared.folder.partitions, "partition {partition} does not exist");
        assert!(pack.len() <= PACK_BYTES_MAX, "a pack of {} bytes is above the limit", pack.len());
        let pending =
            Pending { topic: self.topic, partition, tag, pack, on_receipt: Arc::clone(&self.on_receipt) };
        self.shared.queue.push(pending, self.shared.backlog_room(self.topic)).inspect_err(|error| {
            METRICS.refuse(self.topic, *error);
        })
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publisher({})", self.topic.name())
    }
}

//! What the handles of a log and its commit thread share.

use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use petrel_protocol::topics::Topic;

use super::Config;
use super::folder::Folder;
use super::house::House;
use super::partition::Partition;
use super::queue::Queue;
use super::store::{Store, StoreError};

/// An open log.
pub(super) struct Shared {
    pub(super) folder: Folder,
    pub(super) config: Config,
    pub(super) queue: Queue,
    pub(super) house: House,
    /// By topic, then partition.
    pub(super) partitions: [Vec<Partition>; Topic::ALL.len()],
    /// Unacknowledged bytes of each topic.
    pub(super) backlog_bytes: [AtomicU64; Topic::ALL.len()],
    /// None while it is opened again after a failure, and after the log was closed.
    pub(super) store: RwLock<Option<Store>>,
}

impl Shared {
    pub(super) fn partition(&self, topic: Topic, partition: u16) -> &Partition {
        &self.partitions[topic as usize][usize::from(partition)]
    }

    /// The bytes that may still be published on this topic before its readers acknowledge some.
    pub(super) fn backlog_room(&self, topic: Topic) -> u64 {
        let backlog = self.backlog_bytes[topic as usize].load(Ordering::Relaxed);
        self.config.backlog_bytes_max.saturating_sub(backlog)
    }

    /// Records from disk. None where there is no store for now: the reader is woken when it is back.
    pub(super) fn read(
        &self,
        topic: Topic,
        partition: u16,
        from: u64,
        to: u64,
    ) -> Result<Vec<Bytes>, StoreError> {
        match &*self.store.read().expect("no holder panics") {
            Some(store) => store.read(topic, partition, from, to),
            None => Ok(Vec::new()),
        }
    }

    /// Ends the consumers, closes the files and lets others open the folder.
    pub(super) fn close(&self) {
        self.partitions.iter().flatten().for_each(Partition::close);
        *self.store.write().expect("no holder panics") = None;
        self.folder.unlock();
    }
}

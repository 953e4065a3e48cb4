//! Reading: from the partition's tail in memory, or from disk where that does not reach back far enough.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use petrel_protocol::ids::Position;
use petrel_protocol::topics::Topic;

use super::partition::{Found, Partition, Wake};
use super::shared::Shared;
use crate::Record;

/// Reads one partition for one subscription. Records that are no longer in memory are read from disk on the caller's
/// thread, at most [`petrel_protocol::limits::BUS_READ_BYTES`] at a time.
pub struct Consumer {
    shared: Arc<Shared>,
    topic: Topic,
    partition: u16,
    slot: usize,
    wake: Arc<Wake>,
    /// Records that were taken and not handed out, the first of which has the offset `ready_at`.
    ready: VecDeque<Bytes>,
    ready_at: u64,
    /// The offset that follows on what was handed out; none before the first.
    next: Option<u64>,
}

impl Consumer {
    /// The consumer for this slot of the partition, or none where the log is closed.
    pub(super) fn new(shared: Arc<Shared>, topic: Topic, slot: usize, partition: u16) -> Option<Self> {
        let wake = Arc::new(Wake::default());
        let ready_at = shared.partition(topic, partition).activate(slot, &wake)?;
        Some(Self { shared, topic, partition, slot, wake, ready: VecDeque::new(), ready_at, next: None })
    }

    /// See [`crate::Consumer::next`].
    pub(crate) async fn next(&mut self) -> Option<Record> {
        loop {
            if let Some(record) = self.try_next() {
                return Some(record);
            }
            if self.wake.is_over() {
                return None;
            }
            // A notification that came since the look is kept, so none is missed.
            self.wake.notify.notified().await;
        }
    }

    /// See [`crate::Consumer::try_next`].
    pub(crate) fn try_next(&mut self) -> Option<Record> {
        if self.wake.is_over() {
            return None;
        }
        if self.ready.is_empty() {
            self.fill();
        }
        let pack = self.ready.pop_front()?;
        let entry = self.ready_at;
        self.ready_at += 1;
        // It jumps only over what was acknowledged before it was read.
        let is_resumed = self.next.replace(self.ready_at) != Some(entry);
        let generation = self.shared.folder.generation;
        let position = Position { generation, ledger: 0, entry, index: 0 };
        Some(Record { partition: self.partition, position, pack, is_resumed })
    }

    /// See [`crate::Consumer::newest_waiting`].
    pub(crate) fn newest_waiting(&self) -> Option<Position> {
        let mut acked = Vec::new();
        let end = self.partition().acked(&mut acked);
        let generation = self.shared.folder.generation;
        (acked[self.slot] < end).then(|| Position { generation, ledger: 0, entry: end - 1, index: 0 })
    }

    /// See [`crate::Consumer::ack`].
    pub(crate) fn ack(&mut self, position: Position) {
        if position.generation != self.shared.folder.generation {
            return;
        }
        if self.partition().acknowledge(self.slot, &self.wake, position.entry + 1) {
            self.shared.queue.acked();
        }
    }

    fn fill(&mut self) {
        match self.partition().find(self.slot, &self.wake, self.ready_at) {
            Found::Records(at, records) => {
                self.ready_at = at;
                self.ready = records.into();
            }
            Found::OnDisk(from, to) => match self.shared.read(self.topic, self.partition, from, to) {
                Ok(records) => {
                    self.ready_at = from;
                    self.ready = records.into();
                }
                Err(error) => {
                    // Going on would skip records, so this reader ends; the service that owns it stops and says so.
                    tracing::error!(
                        topic = self.topic.name(),
                        partition = self.partition,
                        offset = from,
                        "reading the log in {} failed, so this reader stops: {error}; check the disk, or restore the \
                         folder from a copy",
                        self.shared.folder.dir.display(),
                    );
                    self.wake.end();
                }
            },
            Found::None | Found::Over => {}
        }
    }

    fn partition(&self) -> &Partition {
        self.shared.partition(self.topic, self.partition)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.partition().deactivate(self.slot, &self.wake);
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consumer({}-{} at {})", self.topic.name(), self.partition, self.ready_at)
    }
}

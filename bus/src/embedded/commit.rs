//! The commit thread: takes everything that waits, writes it, syncs it once where it must be durable, receipts.
//!
//! While one group is written and synced the next one gathers, so groups grow with the load. Only after a group of
//! several packs is there a wait, shorter than a millisecond; a lone pack never waits for a timer.
//!
//! Order of effects: written → records of `stored` and `receipts` readable and receipted → synced, if the group has a
//! record of `uplink` or somebody waits for a sync → records of `uplink` readable and receipted.
//! A record of `uplink` is not shown to its reader before it is durable: persist would give it a seq that after a power
//! cut belongs to another message.

use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLockReadGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use petrel_protocol::ids::Position;
use petrel_protocol::limits::{BUS_ACK_MS_MAX, BUS_ACK_MS_MIN, BUS_RETRY_MS};
use petrel_protocol::topics::Topic;

use super::backlog::Backlog;
use super::frame::HEADER_BYTES;
use super::metrics::METRICS;
use super::partition::Partition;
use super::queue::Group;
use super::shared::Shared;
use super::store::{Store, StoreError};
use crate::{PublishError, Receipt};

/// After a group of this many packs the next one begins [`GROUP_GAP`] after it at the earliest. Under load, more packs then
/// share a write, a sync and the wake-ups of their publishers and readers; one is at most this much later.
const GROUP_PACKS_BUSY: usize = 4;
const GROUP_GAP: Duration = Duration::from_micros(800);

/// The commit thread's state.
pub(super) struct Committer {
    shared: Arc<Shared>,
    logs: [TopicLog; Topic::ALL.len()],
    group: Group,
    /// The offset of each pack of the group.
    offsets: Vec<u64>,
    /// When acknowledgements were last written, and by when those that came since then are.
    acks_written: Instant,
    acks_due: Option<Instant>,
    health: Health,
}

/// Whether the log can be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Well,
    /// It cannot, and is tried again at this time.
    Failing(Instant),
    /// It must not, until the process starts anew.
    Failed,
}

/// The commit thread's side of a topic.
pub(super) struct TopicLog {
    topic: Topic,
    partitions: Vec<PartitionLog>,
}

/// The commit thread's side of a partition.
struct PartitionLog {
    next: u64,
    /// Records of the group that are written and not yet readable.
    staged: Vec<Bytes>,
    backlog: Backlog,
    /// The cursors on disk, by subscription.
    cursors: Vec<u64>,
}

impl TopicLog {
    /// What the store holds of a topic.
    pub(super) fn recover(store: &Store, topic: Topic) -> Self {
        let partitions = (0..store.partitions()).map(|partition| {
            let subscriptions = topic.subscriptions().iter();
            let cursors = subscriptions.map(|&of| store.cursor(topic, of, partition)).collect();
            let mut backlog = Backlog::default();
            store.waiting(topic, partition, |offset, bytes| backlog.add(offset + 1, bytes));
            PartitionLog { next: store.next_offset(topic, partition), staged: Vec::new(), backlog, cursors }
        });
        Self { topic, partitions: partitions.collect() }
    }

    /// The next offset and the cursors of each partition.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (u64, &[u64])> {
        self.partitions.iter().map(|partition| (partition.next, &partition.cursors[..]))
    }

    pub(super) fn backlog_bytes(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.backlog.bytes()).sum()
    }
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, logs: [TopicLog; Topic::ALL.len()]) -> Self {
        Self {
            shared,
            logs,
            group: Group::default(),
            offsets: Vec::new(),
            acks_written: Instant::now(),
            acks_due: None,
            health: Health::Well,
        }
    }

    /// Runs until the log is closed; `keeper` is the housekeeping thread, which ends with it.
    pub(super) fn run(mut self, keeper: JoinHandle<()>) {
        let _end = EndOnPanic(Arc::clone(&self.shared));
        loop {
            let deadline = match self.health {
                Health::Well => self.acks_due,
                Health::Failing(again) => Some(again),
                Health::Failed => Some(Instant::now() + Duration::from_millis(BUS_RETRY_MS)),
            };
            self.shared.queue.take(&mut self.group, deadline);
            let (started, packs) = (Instant::now(), self.group.packs.len());
            match self.health {
                Health::Well => self.commit(),
                Health::Failing(again) => {
                    self.refuse(PublishError::Unavailable);
                    if Instant::now() >= again && !self.group.closing {
                        self.retry();
                    }
                }
                Health::Failed => self.refuse(PublishError::Unavailable),
            }
            self.group.syncs.clear();
            let left = self.shared.queue.release(&mut self.group.packs);
            for (gauge, packs) in crate::metrics::METRICS.queue_packs.iter().zip(left) {
                gauge.set(packs as i64);
            }
            if self.group.closing {
                break;
            }
            if packs >= GROUP_PACKS_BUSY
                && let Some(early) = GROUP_GAP.checked_sub(started.elapsed())
            {
                thread::sleep(early);
            }
        }
        self.close(keeper);
    }

    fn commit(&mut self) {
        let shared = Arc::clone(&self.shared);
        let store = store(&shared);
        let Some(store) = &*store else { unreachable!("a log that is well has its store") };
        if let Err((doing, error)) = self.commit_to(store) {
            self.fail(doing, &error, !store.sync_failed());
        }
    }

    fn commit_to(&mut self, store: &Store) -> Result<(), (&'static str, StoreError)> {
        let acks = self.acks_are_due();
        let packs = self.group.packs.len();
        if packs > 0 || acks {
            if let Err(error) = self.write(store, acks) {
                let untouched = store.is_untouched();
                self.refuse(if untouched { PublishError::Unavailable } else { PublishError::Unknown });
                return Err(("writing", error));
            }
            METRICS.commits.inc();
        }
        self.receipt(|topic| topic != Topic::Uplink);
        let uplink = self.group.packs.iter().any(|pending| pending.topic == Topic::Uplink);
        if uplink || !self.group.syncs.is_empty() {
            let timer = METRICS.fsync_seconds.start_timer();
            let synced = store.sync();
            timer.observe_duration();
            if let Err(error) = synced {
                self.group.packs.retain(|pending| pending.topic == Topic::Uplink);
                self.refuse(PublishError::Unknown);
                return Err(("syncing", error));
            }
            for waiter in self.group.syncs.drain(..) {
                // Whoever asked may have gone.
                let _ = waiter.try_send(Ok(()));
            }
            self.receipt(|topic| topic == Topic::Uplink);
        }
        self.account(packs);
        if acks {
            METRICS.segments.set(store.segment_count() as i64);
            if store.is_untidy() {
                self.shared.house.tidy();
            }
        }
        Ok(())
    }

    /// Whether acknowledgements go into this group.
    fn acks_are_due(&mut self) -> bool {
        if !self.shared.queue.has_acks() {
            return false;
        }
        let now = Instant::now();
        let due = *self.acks_due.get_or_insert(now + Duration::from_millis(BUS_ACK_MS_MAX));
        let pays = !self.group.packs.is_empty()
            && now.duration_since(self.acks_written) >= Duration::from_millis(BUS_ACK_MS_MIN);
        if now < due && !pays && self.group.syncs.is_empty() && !self.group.closing {
            return false;
        }
        self.acks_due = None;
        self.acks_written = now;
        true
    }

    /// Writes the packs, each with its offset, and the cursors.
    fn write(&mut self, store: &Store, acks: bool) -> Result<(), StoreError> {
        self.offsets.clear();
        store.begin_group();
        for pending in &self.group.packs {
            let topic = pending.topic as usize;
            let log = &mut self.logs[topic];
            let partition = &mut log.partitions[usize::from(pending.partition)];
            let (offset, bytes) = (partition.next, pending.pack.len() as u64);
            store.append(pending.topic, pending.partition, offset, &pending.pack)?;
            self.offsets.push(offset);
            partition.next += 1;
            partition.staged.push(pending.pack.clone());
            partition.backlog.add(partition.next, HEADER_BYTES as u64 + bytes);
            crate::metrics::METRICS.packs[topic].inc();
            crate::metrics::METRICS.bytes[topic].inc_by(bytes);
        }
        if acks {
            self.move_cursors(store);
        }
        store.flush()
    }

    /// Moves the cursors that are not where their readers are.
    fn move_cursors(&mut self, store: &Store) {
        self.shared.queue.collect_acks();
        let mut acked = Vec::new();
        for log in &mut self.logs {
            let subscriptions = log.topic.subscriptions();
            let mut unacked = vec![0; subscriptions.len()];
            for (number, partition) in (0..).zip(&mut log.partitions) {
                let end = self.shared.partition(log.topic, number).acked(&mut acked);
                for (slot, &subscription) in subscriptions.iter().enumerate() {
                    if acked[slot] != partition.cursors[slot] {
                        store.move_cursor(log.topic, subscription, number, acked[slot]);
                    }
                    unacked[slot] += end - acked[slot];
                }
                partition.backlog.acknowledge(min_acked(&acked, end));
                partition.cursors.clone_from(&acked);
            }
            for (subscription, unacked) in subscriptions.iter().zip(unacked) {
                let labels = [log.topic.name(), subscription.name()];
                METRICS.backlog_packs.with_label_values(&labels).set(unacked as i64);
            }
        }
    }

    /// Makes what is staged on these topics readable, and receipts it.
    fn receipt(&mut self, topics: impl Fn(Topic) -> bool) {
        for log in self.logs.iter_mut().filter(|log| topics(log.topic)) {
            for (number, partition) in (0..).zip(&mut log.partitions) {
                if !partition.staged.is_empty() {
                    self.shared.partition(log.topic, number).append(&mut partition.staged);
                }
            }
        }
        let generation = self.shared.folder.generation;
        for (pending, &entry) in self.group.packs.iter().zip(&self.offsets) {
            if topics(pending.topic) {
                let position = Position { generation, ledger: 0, entry, index: 0 };
                (pending.on_receipt)(Receipt { tag: pending.tag, outcome: Ok(position) });
            }
        }
    }

    /// Tells the whole group that it has no position.
    fn refuse(&mut self, error: PublishError) {
        for pending in &self.group.packs {
            (pending.on_receipt)(Receipt { tag: pending.tag, outcome: Err(error) });
        }
        for waiter in self.group.syncs.drain(..) {
            let _ = waiter.try_send(Err(PublishError::Unavailable));
        }
    }

    fn account(&self, packs: usize) {
        if packs > 0 {
            METRICS.group_packs.observe(packs as f64);
        }
        for log in &self.logs {
            let bytes = log.backlog_bytes();
            let before = self.shared.backlog_bytes[log.topic as usize].swap(bytes, Ordering::Relaxed);
            if before != bytes {
                METRICS.backlog_bytes.with_label_values(&[log.topic.name()]).set(bytes as i64);
            }
        }
    }

    /// From now on publishes are refused. `again`: it may be tried again. Not after a failed sync: what is read then may
    /// not be on disk, so only a new start may trust it, which the operator makes after a look at the disk.
    fn fail(&mut self, doing: &'static str, error: &StoreError, again: bool) {
        METRICS.failures.with_label_values(&[doing]).inc();
        self.shared.queue.refuse(true);
        self.health = if again {
            Health::Failing(Instant::now() + Duration::from_millis(BUS_RETRY_MS))
        } else {
            Health::Failed
        };
        tracing::error!(
            "{doing} the log in {} failed: {error}. Publishes are refused; {}",
            self.shared.folder.dir.display(),
            if again {
                "free space in this folder or mend its disk: it is tried again each second"
            } else {
                "check this folder's disk, then restart"
            },
        );
    }

    /// Tries a log that has failed again.
    fn retry(&mut self) {
        let shared = Arc::clone(&self.shared);
        let dir = shared.folder.dir.display();
        match self.reopen() {
            Ok(()) => {
                self.health = Health::Well;
                self.shared.queue.refuse(false);
                tracing::info!("the log in {dir} can be written again");
            }
            Err(error) => {
                self.health = Health::Failing(Instant::now() + Duration::from_millis(BUS_RETRY_MS));
                tracing::warn!("the log in {dir} still cannot be written: {error}");
            }
        }
    }

    /// Closes the store and opens it anew. What had an unknown outcome is there now, or is not.
    fn reopen(&mut self) -> Result<(), StoreError> {
        let mut place = self.shared.store.write().expect("no holder panics");
        *place = None;
        let store = place.insert(self.shared.folder.store()?);
        store.probe()?;
        let logs = Topic::ALL.map(|topic| TopicLog::recover(store, topic));
        for log in &logs {
            for (number, partition) in (0..).zip(&log.partitions) {
                if !self.shared.partition(log.topic, number).reset(partition.next) {
                    let name = log.topic.name();
                    return Err(StoreError::Damaged(format!(
                        "{name} partition {number} has lost its newest records"
                    )));
                }
            }
        }
        // Acknowledgements that were not written yet are newer than the cursors that were read.
        self.shared.queue.acked();
        self.logs = logs;
        Ok(())
    }

    fn close(self, keeper: JoinHandle<()>) {
        self.shared.house.close();
        if keeper.join().is_err() {
            tracing::error!("the housekeeping thread of the log panicked");
        }
        let synced = match &*store(&self.shared) {
            Some(store) if self.health == Health::Well => store.sync(),
            _ => Ok(()),
        };
        if let Err(error) = synced {
            tracing::error!("syncing the log in {} failed: {error}", self.shared.folder.dir.display());
        }
        self.shared.close();
    }
}

/// A receipt's callback that panics ends the log, so that nobody waits for a receipt that never comes.
struct EndOnPanic(Arc<Shared>);

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.queue.close();
            self.0.house.close();
            self.0.partitions.iter().flatten().for_each(Partition::close);
        }
    }
}

/// What all subscriptions have acknowledged; a topic without any keeps nothing.
fn min_acked(cursors: &[u64], next: u64) -> u64 {
    cursors.iter().copied().min().unwrap_or(next)
}

fn store(shared: &Shared) -> RwLockReadGuard<'_, Option<Store>> {
    shared.store.read().expect("no holder panics")
}

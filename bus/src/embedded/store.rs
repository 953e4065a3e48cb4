//! The log on disk: a fjall database in which each topic is a row of segments.
//!
//! - A segment is a keyspace of its own, `uplink-0000000007`, with all partitions of the topic: partition and offset
//!   (big-endian) → pack. Only the last one is written to. Once every record in it is acknowledged it is deleted whole,
//!   which costs neither tombstones nor compaction; a segment that is acknowledged before it is two segments old never
//!   leaves its memtable, so its records are written once, to the journal. Making or deleting a keyspace costs some
//!   twenty syncs, so `house` does it ahead and behind, and nothing that is published waits for it. For the
//!   same reason records go in by single inserts, flushed together: fjall's batches wait while a keyspace is made.
//! - The keyspace `meta` has a row for each segment (the first offset of each partition) and one for each cursor.
//! - All keyspaces share one journal, so what is durable is a prefix of what was written: a cursor never survives a
//!   power cut that the records before it did not.
//!
//! **Known fault**: fjall (3.1.13) keeps, in its own list of keyspaces, an open file for each keyspace that was made or
//! deleted while the database is open, two for each segment; a restart gives them back (`perf/results/soak.md`).
//!
//! fjall's memory and files: a memtable of about `BUS_SEGMENT_BYTES` for each live segment (two or three a topic), a
//! block cache of 1 MiB (readers mostly find their records in the tail), one worker thread, journals of 64 MB of which
//! at most three or four exist. Keys are never looked up, so no filters are built.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::config::{BlockSizePolicy, FilterPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use petrel_protocol::limits::{BUS_READ_BYTES, BUS_READ_PACKS};
use petrel_protocol::topics::{Subscription, Topic};

/// Journal bytes after which fjall is asked to look whether it can begin a new journal; it does at 64 MB.
pub(super) const JOURNAL_CHECK_BYTES: u64 = 32 << 20;
/// How long the housekeeper waits for a new journal; a disk that takes longer holds up the writers anyway.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(5);
/// Sealed journals beyond this make fjall flush what keeps the oldest alive.
const JOURNALS_BYTES_MAX: u64 = 128 << 20;
/// A segment that is still needed when this many are newer is flushed from memory.
const SEGMENTS_IN_MEMORY: usize = 2;

/// The database.
pub(super) struct Store {
    db: Database,
    meta: Keyspace,
    partitions: u16,
    segments: [RwLock<Vec<Segment>>; Topic::ALL.len()],
    /// The keyspace of each topic's next segment, made ahead.
    spares: [Mutex<Option<(u64, Keyspace)>>; Topic::ALL.len()],
    sync_failed: AtomicBool,
}

/// Some of a topic's records.
struct Segment {
    number: u64,
    records: Keyspace,
    /// The first offset of each partition that is here or later.
    first: Vec<u64>,
}

/// What the disk or the data on it did.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("{}", describe(.0))]
    Disk(#[from] fjall::Error),
    #[error("{0}")]
    Damaged(String),
}

impl Store {
    /// Opens the database, or creates it.
    pub(super) fn open(path: &Path, partitions: u16) -> Result<Self, StoreError> {
        let db = Database::builder(path)
            .worker_threads(1)
            .cache_size(1 << 20)
            .max_journaling_size(JOURNALS_BYTES_MAX)
            .manual_journal_persist(true)
            .open()?;
        let meta = db.keyspace("meta", options)?;
        let segments = Topic::ALL.map(|_| RwLock::default());
        let spares = Topic::ALL.map(|_| Mutex::default());
        let store = Self { db, meta, partitions, segments, spares, sync_failed: AtomicBool::new(false) };
        for topic in Topic::ALL {
            store.open_segments(topic)?;
        }
        store.flush()?;
        Ok(store)
    }

    fn open_segments(&self, topic: Topic) -> Result<(), StoreError> {
        let names = self.db.list_keyspace_names();
        let mut numbers: Vec<u64> = names
            .iter()
            .filter_map(|name| name.strip_prefix(topic.name())?.strip_prefix('-')?.parse().ok())
            .collect();
        numbers.sort_unstable();
        // A row without its segment: the deletion was cut short.
        for row in self.meta.prefix(segment_row_prefix(topic)) {
            let key = row.key()?;
            if !numbers.iter().any(|&number| *key == *segment_row(topic, number)) {
                self.meta.remove(key)?;
            }
        }
        for number in numbers {
            let records = self.db.keyspace(&segment_name(topic, number), options)?;
            if let Some(row) = self.meta.get(segment_row(topic, number))? {
                let first = decode_offsets(&row, self.partitions).ok_or_else(|| {
                    StoreError::Damaged(format!("the row of {topic:?} segment {number} is broken"))
                })?;
                self.segments_mut(topic).push(Segment { number, records, first });
            } else if records.is_empty()? {
                // It was made ahead, and not begun: the row is written before the first record.
                self.db.delete_keyspace(records)?;
            } else {
                return Err(StoreError::Damaged(format!("{topic:?} segment {number} has no row")));
            }
        }
        if self.segments(topic).is_empty() {
            self.make_spare(topic)?;
            self.begin_segment(topic, vec![0; self.partitions.into()])?;
        }
        Ok(())
    }

    /// The next offset of each partition.
    pub(super) fn next_offsets(&self, topic: Topic) -> Result<Vec<u64>, StoreError> {
        let segments = self.segments(topic);
        let Some(last) = segments.last() else { return Ok(vec![0; self.partitions.into()]) };
        (0..self.partitions)
            .map(|partition| match last.records.prefix(partition.to_be_bytes()).next_back() {
                Some(record) => Ok(offset_of(&record.key()?)? + 1),
                None => Ok(last.first[usize::from(partition)]),
            })
            .collect()
    }

    /// The first offset that this subscription has not acknowledged.
    pub(super) fn cursor(
        &self,
        topic: Topic,
        subscription: Subscription,
        partition: u16,
    ) -> Result<u64, StoreError> {
        let Some(value) = self.meta.get(cursor_row(topic, subscription, partition))? else {
            // It has acknowledged nothing yet: it begins with what there is.
            return Ok(self.segments(topic).first().map_or(0, |oldest| oldest.first[usize::from(partition)]));
        };
        let value = <[u8; 8]>::try_from(&*value).map_err(|_| {
            StoreError::Damaged(format!("the cursor of {topic:?} {subscription:?} is broken"))
        })?;
        Ok(u64::from_be_bytes(value))
    }

    /// Where each topic's records go until [`Self::begin_segment`].
    pub(super) fn writing_to(&self) -> [Keyspace; Topic::ALL.len()] {
        Topic::ALL.map(|topic| {
            self.segments(topic).last().expect("there is always a segment to write to").records.clone()
        })
    }

    /// Moves a cursor. It is in the process until the next [`Self::flush`].
    pub(super) fn move_cursor(
        &self,
        topic: Topic,
        subscription: Subscription,
        partition: u16,
        acked: u64,
    ) -> Result<(), StoreError> {
        Ok(self.meta.insert(cursor_row(topic, subscription, partition), acked.to_be_bytes())?)
    }

    /// Hands what was written to the operating system: it survives the process from now on, but not a power cut.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        Ok(self.db.persist(PersistMode::Buffer)?)
    }

    /// Returns when everything written so far is on disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let synced = self.db.persist(PersistMode::SyncData);
        // A poisoned database was not asked: the failure was another's.
        if synced.as_ref().is_err_and(|error| !matches!(error, fjall::Error::Poisoned)) {
            self.sync_failed.store(true, Ordering::Relaxed);
        }
        Ok(synced?)
    }

    /// Whether a sync has failed, on any thread. Then the kernel holds pages for clean that are not on disk.
    pub(super) fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Relaxed)
    }

    /// Records of a partition from `from` on and before `to`, of which the first is there: some of them, at least one.
    pub(super) fn read(
        &self,
        topic: Topic,
        partition: u16,
        from: u64,
        to: u64,
    ) -> Result<Vec<Bytes>, StoreError> {
        let records = {
            let segments = self.segments(topic);
            let newer = segments.partition_point(|segment| segment.first[usize::from(partition)] <= from);
            let segment = newer.checked_sub(1).and_then(|index| segments.get(index));
            segment.ok_or_else(|| missing(topic, partition, from))?.records.clone()
        };
        let mut found = Vec::new();
        let mut bytes = 0;
        for record in records.range(record_key(partition, from)..record_key(partition, to)) {
            let (key, pack) = record.into_inner()?;
            if offset_of(&key)? != from + found.len() as u64 {
                break;
            }
            bytes += pack.len();
            found.push(Bytes::copy_from_slice(&pack));
            if found.len() >= BUS_READ_PACKS || bytes >= BUS_READ_BYTES {
                break;
            }
        }
        if found.is_empty() { Err(missing(topic, partition, from)) } else { Ok(found) }
    }

    /// Calls `each` with the size of every record of a partition from `from` on, and sees that none is missing.
    pub(super) fn scan(
        &self,
        topic: Topic,
        partition: u16,
        from: u64,
        mut each: impl FnMut(u64, u64),
    ) -> Result<(), StoreError> {
        let mut next = from;
        let segments = self.segments(topic);
        for (index, segment) in segments.iter().enumerate() {
            let end = segments.get(index + 1).map_or(u64::MAX, |newer| newer.first[usize::from(partition)]);
            if end <= next {
                continue;
            }
            for record in segment.records.range(record_key(partition, next)..record_key(partition, end)) {
                let (key, pack) = record.into_inner()?;
                if offset_of(&key)? != next {
                    return Err(missing(topic, partition, next));
                }
                each(next, pack.len() as u64);
                next += 1;
            }
            if end != u64::MAX && next < end {
                return Err(missing(topic, partition, next));
            }
        }
        Ok(())
    }

    /// Makes the keyspace of this topic's next segment, where it is not there yet.
    pub(super) fn make_spare(&self, topic: Topic) -> Result<(), StoreError> {
        let mut spare = self.spares[topic as usize].lock().expect("no holder panics");
        if spare.is_none() {
            let number = self.segments(topic).last().map_or(1, |segment| segment.number + 1);
            *spare = Some((number, self.db.keyspace(&segment_name(topic, number), options)?));
        }
        Ok(())
    }

    /// Begins the topic's next segment, where its keyspace is ready: what is written from now on goes there.
    pub(super) fn begin_segment(&self, topic: Topic, first: Vec<u64>) -> Result<bool, StoreError> {
        // Held to the end, so that the next spare's number is that of this segment and one; not waited for, since it is
        // also held while a spare is made.
        let Ok(mut spare) = self.spares[topic as usize].try_lock() else { return Ok(false) };
        let Some((number, records)) = spare.take() else { return Ok(false) };
        self.meta.insert(segment_row(topic, number), encode_offsets(&first))?;
        self.segments_mut(topic).push(Segment { number, records, first });
        Ok(true)
    }

    /// Flushes the segments that are still needed though newer ones have long begun.
    pub(super) fn flush_old_segments(&self, topic: Topic) -> Result<(), StoreError> {
        let old: Vec<Keyspace> = {
            let segments = self.segments(topic);
            let old = segments.len().saturating_sub(SEGMENTS_IN_MEMORY);
            segments[..old].iter().map(|segment| segment.records.clone()).collect()
        };
        for records in old {
            // Nothing happens where its memtable is empty.
            records.rotate_memtable()?;
        }
        Ok(())
    }

    /// Flushes the segment that is written to.
    pub(super) fn flush_last_segment(&self, topic: Topic) -> Result<(), StoreError> {
        let last = self.segments(topic).last().map(|segment| segment.records.clone());
        last.map_or(Ok(()), |records| Ok(records.rotate_memtable().map(drop)?))
    }

    /// How many segments this topic has, and how many of them, the oldest, hold nothing from `acked` on.
    ///
    /// A segment ends where the next one begins; the last one stays, since it knows the next offsets.
    pub(super) fn count_segments(&self, topic: Topic, acked: &[u64]) -> (usize, usize) {
        let segments = self.segments(topic);
        let ended = |next: &&Segment| next.first.iter().zip(acked).all(|(first, acked)| first <= acked);
        (segments.len(), segments.iter().skip(1).take_while(ended).count())
    }

    /// Deletes the segments that hold nothing from `acked` on.
    pub(super) fn drop_segments(&self, topic: Topic, acked: &[u64]) -> Result<(), StoreError> {
        let (_, count) = self.count_segments(topic, acked);
        if count == 0 {
            return Ok(());
        }
        let gone: Vec<Segment> = self.segments_mut(topic).drain(..count).collect();
        // The deletion is durable at once; the cursors and the last segment's row must not come after it.
        self.sync()?;
        for segment in gone {
            self.db.delete_keyspace(segment.records)?;
            self.meta.remove(segment_row(topic, segment.number))?;
        }
        // A sealed journal holds on to the memtables of its segments, also deleted ones.
        if self.db.journal_count() > 1 { self.tidy_journal() } else { Ok(()) }
    }

    /// Whether the disk takes a write and keeps it.
    pub(super) fn probe(&self) -> Result<(), StoreError> {
        self.meta.insert("probe", [0; 4096])?;
        self.sync()
    }

    /// Lets fjall begin a new journal, and remove old ones. To be called each [`JOURNAL_CHECK_BYTES`]: fjall looks at its
    /// journals only when it flushes a memtable, and those of segments are hardly ever flushed.
    pub(super) fn tidy_journal(&self) -> Result<(), StoreError> {
        self.meta.insert("journal", [])?;
        self.meta.rotate_memtable()?;
        // While a journal is begun its writers wait, also for a keyspace that is being made: not both at once.
        let until = Instant::now() + JOURNAL_PATIENCE;
        while self.meta.sealed_memtable_count() > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn segments(&self, topic: Topic) -> RwLockReadGuard<'_, Vec<Segment>> {
        self.segments[topic as usize].read().expect("no holder panics")
    }

    fn segments_mut(&self, topic: Topic) -> RwLockWriteGuard<'_, Vec<Segment>> {
        self.segments[topic as usize].write().expect("no holder panics")
    }
}

/// Adds a record to where its topic is [`Store::writing_to`]. It is in the process until the next [`Store::flush`].
pub(super) fn append(
    records: &Keyspace,
    partition: u16,
    offset: u64,
    pack: &Bytes,
) -> Result<(), StoreError> {
    Ok(records.insert(record_key(partition, offset), &pack[..])?)
}

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .manual_journal_persist(true)
        // Memtables are flushed by `house` and by the commit thread alone. Beyond this size fjall would ask its worker for
        // a rotation with each insert, and the worker waits for ever when these fill its own queue.
        .max_memtable_size(u64::MAX)
        .filter_policy(FilterPolicy::disabled())
        .data_block_size_policy(BlockSizePolicy::all(16 << 10))
}

fn segment_name(topic: Topic, number: u64) -> String {
    format!("{}-{number:010}", topic.name())
}

fn segment_row_prefix(topic: Topic) -> String {
    format!("segment/{}-", topic.name())
}

fn segment_row(topic: Topic, number: u64) -> Vec<u8> {
    format!("{}{number:010}", segment_row_prefix(topic)).into_bytes()
}

fn cursor_row(topic: Topic, subscription: Subscription, partition: u16) -> String {
    format!("cursor/{}/{}/{partition}", topic.name(), subscription.name())
}

fn record_key(partition: u16, offset: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&partition.to_be_bytes());
    key[2..].copy_from_slice(&offset.to_be_bytes());
    key
}

fn offset_of(key: &[u8]) -> Result<u64, StoreError> {
    let offset = key.get(2..).and_then(|offset| offset.try_into().ok());
    offset.map(u64::from_be_bytes).ok_or_else(|| StoreError::Damaged(format!("a record has the key {key:?}")))
}

fn encode_offsets(offsets: &[u64]) -> Vec<u8> {
    offsets.iter().flat_map(|offset| offset.to_be_bytes()).collect()
}

fn decode_offsets(row: &[u8], partitions: u16) -> Option<Vec<u64>> {
    let (offsets, rest) = row.as_chunks::<8>();
    (rest.is_empty() && offsets.len() == usize::from(partitions))
        .then(|| offsets.iter().map(|offset| u64::from_be_bytes(*offset)).collect())
}

fn missing(topic: Topic, partition: u16, offset: u64) -> StoreError {
    StoreError::Damaged(format!("record {offset} of {} partition {partition} is missing", topic.name()))
}

fn describe(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => match error.kind() {
            io::ErrorKind::StorageFull => "the disk is full".to_owned(),
            io::ErrorKind::QuotaExceeded => "the disk quota is used up".to_owned(),
            _ => error.to_string(),
        },
        fjall::Error::Poisoned => "an earlier write, flush or sync failed".to_owned(),
        fjall::Error::Locked => "another process has the database open".to_owned(),
        error => error.to_string(),
    }
}

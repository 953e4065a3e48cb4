//! The log on disk: a row of segments, one after the other, for all topics.
//!
//! - What is written is a single sequence of frames (`frame`), so what survives a power cut is a prefix of it: a cursor
//!   never survives that the records before it did not. A segment is closed, and on disk, before the next one begins; its
//!   head repeats how far everything has come, so a segment whose records are all acknowledged is deleted whole, wherever
//!   it stands in the row.
//! - In memory is where each record is that somebody still needs (`index`), and nothing else.
//! - `recover` reads the row when the log is opened, `merge` shrinks one that a slow reader keeps long.
//!
//! Only the commit thread writes; `house` keeps the row short, and readers read, at the same time.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use petrel_protocol::limits::{BUS_READ_BYTES, BUS_READ_PACKS};
use petrel_protocol::topics::{Subscription, Topic};

use super::frame::{Frame, Kind, Mark, Of};
use super::index::Index;
use super::recover::recover;
use super::segment::{Files, Name, Segment};
use super::writer::{Marks, Writer};

/// What the log needs of a disk that failed before it is used again.
const PROBE_BYTES: usize = 64 << 10;

/// The log on disk.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) files: Files,
    /// The log's own id, in each segment's head.
    pub(super) id: [u8; 16],
    partitions: u16,
    /// Where the needed records of each partition are, by topic, then partition. An index is locked before `segments`.
    indexes: [Vec<Mutex<Index>>; Topic::ALL.len()],
    segments: Mutex<Segments>,
    writer: Mutex<Writer>,
    sync_failed: AtomicBool,
}

/// The segments that are there, each under a key that no other has had.
#[derive(Debug, Default)]
pub(super) struct Segments {
    pub(super) open: BTreeMap<u32, Arc<Segment>>,
    next_key: u32,
}

impl Segments {
    pub(super) fn add(&mut self, segment: Arc<Segment>) -> u32 {
        let key = self.next_key;
        self.next_key += 1;
        self.open.insert(key, segment);
        key
    }
}

/// What the disk or the data on it did.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("{}", describe(.0))]
    Disk(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
}

impl Store {
    /// Opens the log in `dir`, or creates it; one that `is_begun` has been written to before.
    pub(super) fn open(
        dir: &Path,
        id: [u8; 16],
        partitions: u16,
        is_begun: bool,
    ) -> Result<Self, StoreError> {
        let files = Files::open(dir)?;
        let mut found = recover(&files, &id, partitions, is_begun)?;
        let writer = match found.end {
            Some(end) if !end.is_closed => {
                let segment = Arc::clone(&found.segments.open[&end.key]);
                let mut writer = Writer::new(segment, end.key, end.at, end.chain, found.marks);
                let mut nonce = [0; 16];
                getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
                writer.add(Frame::new(Kind::Opened, 0, &nonce))?;
                writer.write()?;
                // What a killed process had written is read from now on, so it must not be lost with the power any more.
                writer.segment.file.sync_data()?;
                writer
            }
            end => {
                let number = end.map_or(1, |end| found.segments.open[&end.key].name.last + 1);
                let marks = if is_begun { found.marks } else { found.marks.begin() };
                files.make_spare()?;
                let (segment, at, chain) = begin(&files, number, &id, &marks)?;
                let key = found.segments.add(Arc::clone(&segment));
                Writer::new(segment, key, at, chain, marks)
            }
        };
        Ok(Self {
            files,
            id,
            partitions,
            indexes: found.indexes.map(|topic| topic.into_iter().map(Mutex::new).collect()),
            segments: Mutex::new(found.segments),
            writer: Mutex::new(writer),
            sync_failed: AtomicBool::new(false),
        })
    }

    /// The partition's next offset.
    pub(super) fn next_offset(&self, topic: Topic, partition: u16) -> u64 {
        self.writer().marks.next(topic, partition)
    }

    /// The first offset that this subscription has not acknowledged.
    pub(super) fn cursor(&self, topic: Topic, subscription: Subscription, partition: u16) -> u64 {
        let cursor = self.writer().marks.cursor(topic, partition, subscription);
        // A new one begins with what there is.
        cursor.unwrap_or_else(|| self.index(topic, partition).first())
    }

    /// The offsets and bytes of the partition's records that not all subscriptions have acknowledged.
    pub(super) fn waiting(&self, topic: Topic, partition: u16, mut each: impl FnMut(u64, u64)) {
        let index = self.index(topic, partition);
        index.from(0).for_each(|(offset, place)| each(offset, place.bytes()));
    }

    /// What is written from now on is a group: see [`Self::is_untouched`].
    pub(super) fn begin_group(&self) {
        self.writer().begin_group();
    }

    /// Whether nothing of the group can be on disk.
    pub(super) fn is_untouched(&self) -> bool {
        self.writer().is_untouched()
    }

    /// Adds a record. It is in the process until the next [`Self::flush`].
    pub(super) fn append(
        &self,
        topic: Topic,
        partition: u16,
        offset: u64,
        pack: &[u8],
    ) -> Result<(), StoreError> {
        let mut writer = self.writer();
        if !writer.has_room(pack.len()) {
            self.begin_segment(&mut writer)?;
        }
        let place = writer.record(topic, partition, offset, pack)?;
        writer.segment.keep(place);
        self.index(topic, partition).push(place);
        Ok(())
    }

    /// Moves a cursor. It is in the process until the next [`Self::flush`].
    pub(super) fn move_cursor(&self, topic: Topic, subscription: Subscription, partition: u16, acked: u64) {
        self.writer().move_cursor(Mark { topic, partition, of: Of::Cursor(subscription), offset: acked });
    }

    /// Hands what was written to the operating system: it survives the process from now on, but not a power cut.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let moved = writer.write()?;
        for (topic, partition) in moved {
            let Some(acked) = writer.marks.acked(topic, partition) else { continue };
            let mut index = self.index(topic, partition);
            let segments = self.segments();
            index.acknowledge(acked, |place| {
                if let Some(segment) = segments.open.get(&place.segment) {
                    segment.let_go(place);
                }
            });
        }
        Ok(())
    }

    /// Returns when everything flushed so far is on disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let segment = Arc::clone(&self.writer().segment);
        self.sync_segment(&segment)
    }

    fn sync_segment(&self, segment: &Segment) -> Result<(), StoreError> {
        let synced = segment.file.sync_data();
        if synced.is_err() {
            self.sync_failed.store(true, Ordering::Relaxed);
        }
        Ok(synced?)
    }

    /// Whether a sync has failed, on any thread. Then the kernel holds pages for clean that are not on disk.
    pub(super) fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Relaxed)
    }

    /// Records of a partition from `from` on and before `to`: some of them. None only where they were acknowledged by all
    /// meanwhile.
    pub(super) fn read(
        &self,
        topic: Topic,
        partition: u16,
        from: u64,
        to: u64,
    ) -> Result<Vec<Bytes>, StoreError> {
        let mut wanted = Vec::new();
        {
            let index = self.index(topic, partition);
            let segments = self.segments();
            if from < index.first() {
                return Ok(Vec::new());
            }
            let mut bytes = 0;
            for (offset, place) in index.from(from).take_while(|(offset, _)| *offset < to) {
                let segment = segments.open.get(&place.segment).map(Arc::clone);
                wanted.push((segment.ok_or_else(|| missing(topic, partition, offset))?, place));
                bytes += place.length as usize;
                if wanted.len() >= BUS_READ_PACKS || bytes >= BUS_READ_BYTES {
                    break;
                }
            }
        }
        let packs = (from..).zip(wanted).map(|(offset, (segment, place))| {
            segment.read(place, offset)?.ok_or_else(|| missing(topic, partition, offset))
        });
        let packs = packs.collect::<Result<Vec<_>, _>>()?;
        if packs.is_empty() { Err(missing(topic, partition, from)) } else { Ok(packs) }
    }

    /// How many segments there are.
    pub(super) fn segment_count(&self) -> usize {
        self.segments().open.len()
    }

    /// Whether [`Self::tidy`] would do something.
    pub(super) fn is_untidy(&self) -> bool {
        self.wants_spare() || !self.done().is_empty() || self.wants_merge()
    }

    /// Makes the next segment's file ahead, takes away the segments that nobody needs, and merges those of which little
    /// is needed.
    pub(super) fn tidy(&self) -> Result<(), StoreError> {
        self.take_away(self.done())?;
        if self.wants_spare() {
            self.files.make_spare()?;
        }
        self.merge()
    }

    fn wants_spare(&self) -> bool {
        self.writer().is_half_full() && !self.files.has_spare()
    }

    /// The segments that nobody needs.
    fn done(&self) -> Vec<u32> {
        let segments = self.segments();
        let done = |segment: &Segment| segment.is_closed() && segment.needed() == 0;
        segments.open.iter().filter(|(_, segment)| done(segment)).map(|(key, _)| *key).collect()
    }

    fn take_away(&self, done: Vec<u32>) -> Result<(), StoreError> {
        if done.is_empty() {
            return Ok(());
        }
        // The cursors must be on disk first.
        self.sync()?;
        for key in done {
            let Some(segment) = self.segments().open.remove(&key) else { continue };
            let name = segment.name;
            match Arc::try_unwrap(segment) {
                Ok(segment) => {
                    drop(segment);
                    self.files.retire(name)?;
                }
                Err(_) => self.files.delete(name)?,
            }
        }
        Ok(())
    }

    /// Whether the disk takes a write and keeps it.
    pub(super) fn probe(&self) -> Result<(), StoreError> {
        {
            let mut writer = self.writer();
            if !writer.has_room(PROBE_BYTES) {
                self.begin_segment(&mut writer)?;
            }
            writer.add(Frame::new(Kind::Opened, 0, &vec![0; PROBE_BYTES]))?;
        }
        self.flush()?;
        self.sync()
    }

    /// Closes the segment, and begins the next one.
    fn begin_segment(&self, writer: &mut Writer) -> Result<(), StoreError> {
        // There is one as a rule. Where none can be made nothing was written yet.
        self.files.make_spare()?;
        writer.close_segment()?;
        self.sync_segment(&writer.segment)?;
        writer.segment.close();
        let (segment, at, chain) = begin(&self.files, writer.segment.name.last + 1, &self.id, &writer.marks)?;
        let key = self.segments().add(Arc::clone(&segment));
        writer.go_on_in(segment, key, at, chain);
        Ok(())
    }

    pub(super) fn index(&self, topic: Topic, partition: u16) -> MutexGuard<'_, Index> {
        self.indexes[topic as usize][usize::from(partition)].lock().expect("no holder panics")
    }

    /// The partitions of each topic.
    pub(super) fn partitions(&self) -> u16 {
        self.partitions
    }

    pub(super) fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().expect("no holder panics")
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect("no holder panics")
    }
}

/// Makes the spare file the segment with this number, on disk with its head. Returns where its records begin, and the
/// checksum that they follow.
fn begin(
    files: &Files,
    number: u64,
    id: &[u8; 16],
    marks: &Marks,
) -> Result<(Arc<Segment>, u64, u64), StoreError> {
    let name = Name::one(number);
    let file = files.begin(name)?;
    let mut payload = id.to_vec();
    marks.write(&mut payload);
    let mut head = Vec::new();
    let chain = Frame::new(Kind::Head, number, &payload).write(0, &mut head);
    file.write_all_at(&head, 0)?;
    file.sync_all()?;
    files.sync()?;
    Ok((Arc::new(Segment::new(name, file)), head.len() as u64, chain))
}

pub(super) fn missing(topic: Topic, partition: u16, offset: u64) -> StoreError {
    StoreError::Damaged(format!("record {offset} of {} partition {partition} is missing", topic.name()))
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        io::ErrorKind::QuotaExceeded => "the disk quota is used up".to_owned(),
        _ => error.to_string(),
    }
}

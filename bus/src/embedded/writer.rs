//! Where the log goes on: the segment that is written to, what waits to be written, and how far everything has come.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use petrel_protocol::limits::BUS_SEGMENT_BYTES;
use petrel_protocol::topics::{Subscription, Topic};

use super::frame::{Frame, HEADER_BYTES, Kind, Mark, Of};
use super::index::Place;
use super::segment::Segment;

/// What is gathered is written when it is this large, if not before.
const BUFFER_BYTES: usize = 1 << 20;

/// The end of the log.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) segment: Arc<Segment>,
    /// The segment's key in the store's list.
    pub(super) key: u32,
    /// Where the next frame goes in the file, and the checksum that it follows.
    at: u64,
    chain: u64,
    /// Frames that wait to be written, which end at `at`.
    buffer: Vec<u8>,
    pub(super) marks: Marks,
    /// Partitions whose cursors have moved since the last flush.
    moved: Vec<(Topic, u16)>,
    /// Whether anything was written since [`Self::begin_group`].
    has_written: bool,
}

impl Writer {
    /// Goes on in this segment, from this place on.
    pub(super) fn new(segment: Arc<Segment>, key: u32, at: u64, chain: u64, marks: Marks) -> Self {
        let (buffer, moved) = (Vec::new(), Vec::new());
        Self { segment, key, at, chain, buffer, marks, moved, has_written: false }
    }

    /// Goes on in another segment.
    pub(super) fn go_on_in(&mut self, segment: Arc<Segment>, key: u32, at: u64, chain: u64) {
        (self.segment, self.key, self.at, self.chain) = (segment, key, at, chain);
    }

    pub(super) fn begin_group(&mut self) {
        self.has_written = false;
    }

    /// Whether nothing that came since [`Self::begin_group`] can be on disk.
    pub(super) fn is_untouched(&self) -> bool {
        !self.has_written
    }

    /// Whether a pack of this length still fits into the segment.
    pub(super) fn has_room(&self, length: usize) -> bool {
        // And a frame at the end, and marks.
        self.at + (2 * HEADER_BYTES + length) as u64 <= BUS_SEGMENT_BYTES
    }

    /// Whether the next segment will soon be needed.
    pub(super) fn is_half_full(&self) -> bool {
        self.at > BUS_SEGMENT_BYTES / 2
    }

    /// Adds a record; returns its place.
    pub(super) fn record(
        &mut self,
        topic: Topic,
        partition: u16,
        offset: u64,
        pack: &[u8],
    ) -> io::Result<Place> {
        let place = Place { segment: self.key, at: self.at as u32, length: pack.len() as u32 };
        self.marks.apply(Mark { topic, partition, of: Of::Next, offset: offset + 1 });
        self.add(Frame::record(topic, partition, offset, pack))?;
        Ok(place)
    }

    /// Moves a cursor, with the next [`Self::write`].
    pub(super) fn move_cursor(&mut self, mark: Mark) {
        self.marks.apply(mark);
        if self.moved.last() != Some(&(mark.topic, mark.partition)) {
            self.moved.push((mark.topic, mark.partition));
        }
    }

    /// Adds a frame.
    pub(super) fn add(&mut self, frame: Frame<'_>) -> io::Result<()> {
        self.chain = frame.write(self.chain, &mut self.buffer);
        self.at += frame.bytes() as u64;
        if self.buffer.len() >= BUFFER_BYTES { self.write_buffer() } else { Ok(()) }
    }

    /// Writes all that waits and the frame that ends the segment.
    pub(super) fn close_segment(&mut self) -> io::Result<()> {
        self.add(Frame::new(Kind::End, 0, &[]))?;
        self.write_buffer()
    }

    /// Hands all that waits to the operating system. Returns the partitions whose cursors have moved with it.
    pub(super) fn write(&mut self) -> io::Result<Vec<(Topic, u16)>> {
        let moved = std::mem::take(&mut self.moved);
        if !moved.is_empty() {
            let mut payload = Vec::new();
            for &(topic, partition) in &moved {
                self.marks.cursors(topic, partition).for_each(|mark| mark.write(&mut payload));
            }
            self.add(Frame::new(Kind::Marks, 0, &payload))?;
        }
        self.write_buffer()?;
        Ok(moved)
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.has_written = true;
        let begin = self.at - self.buffer.len() as u64;
        self.segment.file.write_all_at(&self.buffer, begin)?;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES);
        Ok(())
    }
}

/// The next offset and the cursors of each partition.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    /// By topic, then partition.
    partitions: [Vec<PartitionMarks>; Topic::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default)]
struct PartitionMarks {
    next: u64,
    /// By the topic's subscriptions, of which none has more than two. None: there was no such subscription when the log was
    /// begun, and it has acknowledged nothing yet.
    cursors: [Option<u64>; 2],
}

impl Marks {
    pub(super) fn new(partitions: u16) -> Self {
        let partitions = vec![PartitionMarks::default(); partitions.into()];
        Self { partitions: Topic::ALL.map(|_| partitions.clone()) }
    }

    /// The marks of a log that is begun: all its subscriptions have the first record before them.
    pub(super) fn begin(mut self) -> Self {
        for topic in Topic::ALL {
            for marks in &mut self.partitions[topic as usize] {
                marks.cursors[..topic.subscriptions().len()].fill(Some(0));
            }
        }
        self
    }

    /// Moves what is marked forwards. False: there is no such partition or subscription.
    pub(super) fn apply(&mut self, mark: Mark) -> bool {
        let Some(marks) = self.partitions[mark.topic as usize].get_mut(usize::from(mark.partition)) else {
            return false;
        };
        match mark.of {
            Of::Next => marks.next = marks.next.max(mark.offset),
            Of::Cursor(subscription) => {
                let slot = mark.topic.subscriptions().iter().position(|&known| known == subscription);
                let Some(cursor) = slot.and_then(|slot| marks.cursors.get_mut(slot)) else { return false };
                *cursor = Some(cursor.map_or(mark.offset, |before| before.max(mark.offset)));
            }
        }
        true
    }

    pub(super) fn next(&self, topic: Topic, partition: u16) -> u64 {
        self.partitions[topic as usize][usize::from(partition)].next
    }

    /// What this subscription has not acknowledged begins there; none where it is new.
    pub(super) fn cursor(&self, topic: Topic, partition: u16, subscription: Subscription) -> Option<u64> {
        let slot = topic.subscriptions().iter().position(|&known| known == subscription)?;
        self.partitions[topic as usize][usize::from(partition)].cursors[slot]
    }

    /// What all subscriptions of the topic have acknowledged ends there; none while one of them is new.
    pub(super) fn acked(&self, topic: Topic, partition: u16) -> Option<u64> {
        let cursors = topic.subscriptions().iter().map(|&of| self.cursor(topic, partition, of));
        cursors.min().flatten()
    }

    /// The cursors of a partition.
    fn cursors(&self, topic: Topic, partition: u16) -> impl Iterator<Item = Mark> {
        topic.subscriptions().iter().filter_map(move |&of| {
            let offset = self.cursor(topic, partition, of)?;
            Some(Mark { topic, partition, of: Of::Cursor(of), offset })
        })
    }

    /// Adds all of them to `to`.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        for topic in Topic::ALL {
            for partition in 0..self.partitions[topic as usize].len() as u16 {
                Mark { topic, partition, of: Of::Next, offset: self.next(topic, partition) }.write(to);
                self.cursors(topic, partition).for_each(|mark| mark.write(to));
            }
        }
    }
}

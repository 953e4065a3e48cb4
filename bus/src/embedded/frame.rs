//! What a segment's file is made of: frames, each of which names the checksum of the one before it.
//!
//! ```text
//! length:u32 kind:u8 topic:u8 partition:u16 offset:u64 chain:u64 checksum:u64 payload     little-endian
//! ```
//!
//! `checksum` is XXH3-64 of the payload, seeded with XXH3-64 of the header before it. `chain` is the checksum of the frame
//! before, 0 in the first. So what a file held when it was another segment, or behind a tear, never continues what is
//! written now, and a single frame can still be verified by itself.

use petrel_protocol::topics::{Subscription, Topic};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Bytes of a frame before its payload.
pub(super) const HEADER_BYTES: usize = 32;
/// Bytes of the header that its checksum covers.
const SUMMED_BYTES: usize = 24;
/// Bytes of a mark.
const MARK_BYTES: usize = 12;

/// What a frame is. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first of a segment: `offset` is the segment's number; the log's id, then the marks of every partition.
    Head = 1,
    /// A pack.
    Record = 2,
    /// Marks that have moved.
    Marks = 3,
    /// Random bytes, written where a log that was opened goes on: what may stand behind a tear follows another chain.
    Opened = 4,
    /// The last of a segment.
    End = 5,
}

/// A frame that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    /// The number of the topic, of a record.
    pub(super) topic: u8,
    /// Of a record.
    pub(super) partition: u16,
    /// Of a record its offset, of a head the segment's number.
    pub(super) offset: u64,
    pub(super) payload: &'a [u8],
    pub(super) chain: u64,
    pub(super) checksum: u64,
}

impl<'a> Frame<'a> {
    /// A frame that is no record.
    pub(super) fn new(kind: Kind, offset: u64, payload: &'a [u8]) -> Self {
        Self { kind, topic: 0, partition: 0, offset, payload, chain: 0, checksum: 0 }
    }

    /// A pack.
    pub(super) fn record(topic: Topic, partition: u16, offset: u64, pack: &'a [u8]) -> Self {
        Self { topic: topic_number(topic), partition, ..Self::new(Kind::Record, offset, pack) }
    }

    /// Adds the frame to `to`, behind one with the checksum `chain`. Returns its checksum.
    pub(super) fn write(&self, chain: u64, to: &mut Vec<u8>) -> u64 {
        let begin = to.len();
        // A pack is at most 1 MiB, and marks are some for each partition.
        to.extend((self.payload.len() as u32).to_le_bytes());
        to.extend([self.kind as u8, self.topic]);
        to.extend(self.partition.to_le_bytes());
        to.extend(self.offset.to_le_bytes());
        to.extend(chain.to_le_bytes());
        let checksum = sum(&to[begin..], self.payload);
        to.extend(checksum.to_le_bytes());
        to.extend(self.payload);
        checksum
    }

    /// The frame at the start of these bytes, and what follows it. None where there is none that is whole.
    pub(super) fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let length = u32::from_le_bytes(header[..4].try_into().expect("4 bytes"));
        let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
        let (payload, rest) = rest.split_at_checked(length as usize)?;
        let kind = match header[4] {
            1 => Kind::Head,
            2 => Kind::Record,
            3 => Kind::Marks,
            4 => Kind::Opened,
            5 => Kind::End,
            _ => return None,
        };
        let checksum = long(SUMMED_BYTES);
        let partition = u16::from_le_bytes([header[6], header[7]]);
        let frame =
            Self { kind, topic: header[5], partition, offset: long(8), payload, chain: long(16), checksum };
        (checksum == sum(&header[..SUMMED_BYTES], payload)).then_some((frame, rest))
    }

    /// Bytes in the file.
    pub(super) fn bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }
}

fn sum(header: &[u8], payload: &[u8]) -> u64 {
    xxh3_64_with_seed(payload, xxh3_64(header))
}

/// The frames of a segment's file: those that follow each other from its start, as far as they are whole.
pub(super) struct Frames<'a> {
    rest: &'a [u8],
    at: usize,
    chain: u64,
}

impl<'a> Frames<'a> {
    /// The frames of a file that holds `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0, chain: 0 }
    }

    /// Where the last frame ends, and its checksum.
    pub(super) fn end(&self) -> (usize, u64) {
        (self.at, self.chain)
    }
}

impl<'a> Iterator for Frames<'a> {
    /// Where the frame begins, and the frame.
    type Item = (usize, Frame<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (frame, rest) = Frame::read(self.rest)?;
        // A head is the first, and nothing else is.
        if frame.chain != self.chain || (frame.kind == Kind::Head) != (self.at == 0) {
            return None;
        }
        let at = self.at;
        self.at += frame.bytes();
        (self.rest, self.chain) = (rest, frame.checksum);
        Some((at, frame))
    }
}

/// How far something of a partition has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) topic: Topic,
    pub(super) partition: u16,
    pub(super) of: Of,
    pub(super) offset: u64,
}

/// What has come so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// The partition's next offset.
    Next,
    /// The first offset that a subscription has not acknowledged.
    Cursor(Subscription),
}

impl Mark {
    /// Adds the mark to `to`: `topic:u8 of:u8 partition:u16 offset:u64`.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let of = match self.of {
            Of::Next => 0,
            Of::Cursor(Subscription::Persist) => 1,
            Of::Cursor(Subscription::Router) => 2,
        };
        to.extend([topic_number(self.topic), of]);
        to.extend(self.partition.to_le_bytes());
        to.extend(self.offset.to_le_bytes());
    }

    /// The marks in these bytes. None where they are no marks.
    pub(super) fn read_all(bytes: &[u8]) -> Option<Vec<Self>> {
        let (marks, rest) = bytes.as_chunks::<MARK_BYTES>();
        rest.is_empty().then_some(())?;
        marks
            .iter()
            .map(|mark| {
                let of = match mark[1] {
                    0 => Of::Next,
                    1 => Of::Cursor(Subscription::Persist),
                    2 => Of::Cursor(Subscription::Router),
                    _ => return None,
                };
                let offset = u64::from_le_bytes(mark[4..].try_into().expect("8 bytes"));
                let partition = u16::from_le_bytes([mark[2], mark[3]]);
                Some(Self { topic: topic(mark[0])?, partition, of, offset })
            })
            .collect()
    }
}

/// The number of a topic on disk.
fn topic_number(topic: Topic) -> u8 {
    match topic {
        Topic::Uplink => 0,
        Topic::Stored => 1,
        Topic::Receipts => 2,
    }
}

/// The topic with this number on disk.
pub(super) fn topic(number: u8) -> Option<Topic> {
    Topic::ALL.into_iter().find(|&topic| topic_number(topic) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let mut chain = Frame::new(Kind::Head, 7, b"head").write(0, &mut bytes);
        ends.push(bytes.len());
        for offset in 0..5 {
            let pack = vec![1; 100 * offset as usize];
            chain = Frame::record(Topic::Stored, 3, offset, &pack).write(chain, &mut bytes);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, ends) = segment();
        let mut frames = Frames::new(&bytes);
        let read: Vec<_> = frames.by_ref().collect();
        assert_eq!(frames.end().0, bytes.len());
        assert_eq!(read.len(), 6);
        assert_eq!((read[0].1.kind, read[0].1.offset, read[0].1.payload), (Kind::Head, 7, &b"head"[..]));
        for (index, (at, frame)) in read.iter().enumerate().skip(1) {
            assert_eq!(*at, ends[index - 1]);
            let found = (topic(frame.topic), frame.partition, frame.offset, frame.payload.len());
            assert_eq!(found, (Some(Topic::Stored), 3, index as u64 - 1, 100 * (index - 1)));
        }
    }

    #[test]
    fn any_damage_ends_them_before_it() {
        let (bytes, ends) = segment();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let mut frames = Frames::new(&damaged);
            let count = frames.by_ref().count();
            assert_eq!(count, ends.iter().filter(|&&end| end <= at).count(), "byte {at}");
            assert_eq!(Frames::new(&bytes[..at]).count(), count, "cut at {at}");
        }
    }

    #[test]
    fn what_followed_another_frame_does_not_follow_this() {
        let (bytes, ends) = segment();
        let mut replaced = bytes[..ends[1]].to_vec();
        // As long as what stood there.
        let chain = Frames::new(&replaced).last().expect("frames").1.checksum;
        Frame::record(Topic::Stored, 3, 1, &[2; 100]).write(chain, &mut replaced);
        assert_eq!(replaced.len(), ends[2]);
        replaced.extend(&bytes[ends[2]..]);
        assert_eq!(Frames::new(&replaced).count(), 3);
    }

    #[test]
    fn marks_are_read_as_they_were_written() {
        let mut bytes = Vec::new();
        let mut marks = Vec::new();
        for topic in Topic::ALL {
            let cursors = topic.subscriptions().iter().map(|&subscription| Of::Cursor(subscription));
            for (offset, of) in (5..).zip(std::iter::once(Of::Next).chain(cursors)) {
                let mark = Mark { topic, partition: 1_023, of, offset };
                mark.write(&mut bytes);
                marks.push(mark);
            }
        }
        assert_eq!(Mark::read_all(&bytes), Some(marks));
        assert_eq!(Mark::read_all(&bytes[1..]), None);
        assert_eq!(Mark::read_all(&[9; MARK_BYTES]), None);
    }
}

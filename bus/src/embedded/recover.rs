//! Reads the row of segments when the log is opened.
//!
//! Every segment but the last was closed and on disk before the next one began, so each must be whole. The last one ends
//! where its frames do: what a power cut or a kill left behind that was not synced, and nobody was promised it.

use std::sync::Arc;

use petrel_protocol::topics::Topic;

use super::frame::{self, Frame, Frames, Kind, Mark};
use super::index::{Index, Place};
use super::segment::{Files, Name, Segment};
use super::store::{Segments, StoreError, missing};
use super::writer::Marks;

/// What was found.
pub(super) struct Recovered {
    /// By topic, then partition.
    pub(super) indexes: [Vec<Index>; Topic::ALL.len()],
    pub(super) segments: Segments,
    pub(super) marks: Marks,
    /// None: nothing is there yet.
    pub(super) end: Option<End>,
}

/// Where the log ends.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// The last segment's key.
    pub(super) key: u32,
    /// Where its last frame ends, and that frame's checksum.
    pub(super) at: u64,
    pub(super) chain: u64,
    /// Whether that segment takes no more.
    pub(super) is_closed: bool,
}

/// Reads the log with this id.
pub(super) fn recover(
    files: &Files,
    id: &[u8; 16],
    partitions: u16,
    is_begun: bool,
) -> Result<Recovered, StoreError> {
    let indexes = Topic::ALL.map(|_| (0..partitions).map(|_| Index::default()).collect());
    let segments = Segments::default();
    let mut found = Recovered { indexes, segments, marks: Marks::new(partitions), end: None };
    let names = files.names()?;
    for (position, &name) in names.iter().enumerate() {
        let is_last = position + 1 == names.len();
        let segment = Segment::new(name, files.segment(name)?);
        let bytes = segment.read_all()?;
        let mut frames = Frames::new(&bytes);
        let head = frames.next().and_then(|(_, head)| head_marks(&head, name, id));
        let Some(head) = head else {
            // A kill while it was begun: nothing was written to it yet, and the one before it was closed.
            let may_be_unfinished = found.end.map_or(!is_begun, |end| end.is_closed);
            if is_last && may_be_unfinished {
                drop(segment);
                files.delete(name)?;
                break;
            }
            return Err(StoreError::Damaged(format!(
                "the head of segment {name} is broken, or another log's"
            )));
        };
        found.apply(&head, name)?;
        let segment = Arc::new(segment);
        let key = found.segments.add(Arc::clone(&segment));
        let mut is_closed = false;
        for (at, frame) in frames.by_ref() {
            match frame.kind {
                Kind::Record => found.record(key, at, &frame, name)?,
                Kind::Marks => {
                    let marks = Mark::read_all(frame.payload).ok_or_else(|| broken(name, at))?;
                    found.apply(&marks, name)?;
                }
                Kind::End => is_closed = true,
                Kind::Head | Kind::Opened => {}
            }
        }
        let (at, chain) = frames.end();
        if !is_last && !is_closed {
            return Err(broken(name, at));
        }
        if is_closed {
            segment.close();
        }
        found.end = Some(End { key, at: at as u64, chain, is_closed });
    }
    if is_begun && found.end.is_none() {
        return Err(StoreError::Damaged("its segments are missing".to_owned()));
    }
    found.let_go(partitions)?;
    Ok(found)
}

/// The marks of a segment's head, where it is one of this segment and log.
fn head_marks(head: &Frame<'_>, name: Name, id: &[u8; 16]) -> Option<Vec<Mark>> {
    let (head_id, marks) = head.payload.split_first_chunk::<16>()?;
    (head.kind == Kind::Head && head.offset == name.last && head_id == id).then_some(())?;
    Mark::read_all(marks)
}

impl Recovered {
    fn apply(&mut self, marks: &[Mark], name: Name) -> Result<(), StoreError> {
        for mark in marks {
            if !self.marks.apply(*mark) {
                return Err(StoreError::Damaged(format!(
                    "segment {name} has marks of another log: {mark:?}"
                )));
            }
            if let frame::Of::Next = mark.of {
                self.indexes[mark.topic as usize][usize::from(mark.partition)].skip_to(mark.offset);
            }
        }
        Ok(())
    }

    fn record(&mut self, key: u32, at: usize, frame: &Frame<'_>, name: Name) -> Result<(), StoreError> {
        let topic = frame::topic(frame.topic).ok_or_else(|| broken(name, at))?;
        let index = self.indexes[topic as usize].get_mut(usize::from(frame.partition));
        let index = index.ok_or_else(|| broken(name, at))?;
        if frame.offset < index.next() {
            return Err(broken(name, at));
        }
        index.skip_to(frame.offset);
        index.push(Place { segment: key, at: at as u32, length: frame.payload.len() as u32 });
        let mark = Mark { topic, partition: frame.partition, of: frame::Of::Next, offset: frame.offset + 1 };
        self.marks.apply(mark);
        Ok(())
    }

    /// Lets go of what is acknowledged, and sees that nothing else is missing.
    fn let_go(&mut self, partitions: u16) -> Result<(), StoreError> {
        for topic in Topic::ALL {
            for partition in 0..partitions {
                let index = &mut self.indexes[topic as usize][usize::from(partition)];
                let acked = self.marks.acked(topic, partition);
                let acked = acked.unwrap_or_else(|| index.first());
                if acked < index.first() {
                    return Err(missing(topic, partition, acked));
                }
                if acked > index.next() {
                    return Err(missing(topic, partition, index.next()));
                }
                index.acknowledge(acked, |_| {});
                for (_, place) in index.from(0) {
                    self.segments.open[&place.segment].keep(place);
                }
            }
        }
        Ok(())
    }
}

pub(super) fn broken(name: Name, at: usize) -> StoreError {
    StoreError::Damaged(format!("segment {name} is broken at byte {at}"))
}

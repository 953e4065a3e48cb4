//! Shrinks a long row of segments: where a reader is far behind on one topic, each segment has a few records that it still
//! needs between many that nobody does. Those of several neighbours are written into one segment that stands for them all:
//! its name says which, so those that a kill leaves beside it are known.

use std::sync::Arc;

use petrel_protocol::limits::BUS_SEGMENT_BYTES;
use petrel_protocol::topics::Topic;

use super::frame::{self, Frame, Frames, Kind};
use super::index::Place;
use super::recover::broken;
use super::segment::{Name, Segment};
use super::store::{Store, StoreError};

/// As many segments are let be: a reader that is this little behind will be done with them before a merge pays.
const SEGMENTS_LET_BE: usize = 8;

/// A record that is moved.
struct Move {
    topic: Topic,
    partition: u16,
    offset: u64,
    from: Place,
    /// Where its frame begins in the merged segment.
    to: u32,
}

impl Store {
    /// Whether [`Self::merge`] would do something.
    pub(super) fn wants_merge(&self) -> bool {
        self.run().is_some()
    }

    /// Merges what is worth it.
    pub(super) fn merge(&self) -> Result<(), StoreError> {
        while let Some(run) = self.run() {
            self.merge_run(&run)?;
        }
        Ok(())
    }

    /// Neighbours, the oldest there are, of which so little is needed that half a segment holds it. So what is needed is at
    /// least a quarter of what all segments occupy, but for the few that are let be.
    fn run(&self) -> Option<Vec<(u32, Arc<Segment>)>> {
        let segments = self.segments();
        if segments.open.len() <= SEGMENTS_LET_BE {
            return None;
        }
        let mut closed: Vec<_> = segments.open.iter().filter(|(_, segment)| segment.is_closed()).collect();
        closed.sort_unstable_by_key(|(_, segment)| segment.name);
        let mut run = Vec::new();
        let mut needed = 0;
        for (key, segment) in closed {
            if needed + segment.needed() > BUS_SEGMENT_BYTES / 2 {
                if run.len() > 1 {
                    break;
                }
                (run, needed) = (Vec::new(), 0);
            }
            if segment.needed() <= BUS_SEGMENT_BYTES / 2 {
                needed += segment.needed();
                run.push((*key, Arc::clone(segment)));
            }
        }
        (run.len() > 1).then_some(run)
    }

    fn merge_run(&self, run: &[(u32, Arc<Segment>)]) -> Result<(), StoreError> {
        let [(_, first), .., (_, last)] = run else { return Ok(()) };
        let name = Name { first: first.name.first, last: last.name.last };
        let (bytes, moves) = self.gather(run, name)?;
        // The cursors of what is left out must be on disk before it is gone.
        self.sync()?;
        let merged = Arc::new(Segment::new(name, self.files.make(name, &bytes)?));
        merged.close();
        let key = self.segments().add(Arc::clone(&merged));
        for Move { topic, partition, offset, from, to } in moves {
            let mut index = self.index(topic, partition);
            let to = Place { segment: key, at: to, length: from.length };
            if index.relocate(offset, from, to) {
                merged.keep(to);
            }
        }
        for (key, segment) in run {
            self.segments().open.remove(key);
            self.files.delete(segment.name)?;
        }
        Ok(())
    }

    /// A segment of this name with all that is needed of these, and where it is then.
    fn gather(&self, run: &[(u32, Arc<Segment>)], name: Name) -> Result<(Vec<u8>, Vec<Move>), StoreError> {
        let (mut merged, mut moves) = (Vec::new(), Vec::new());
        let mut chain = Frame::new(Kind::Head, name.last, &self.id).write(0, &mut merged);
        for (key, segment) in run {
            let bytes = segment.read_all()?;
            let mut frames = Frames::new(&bytes);
            let mut is_whole = false;
            for (at, frame) in frames.by_ref() {
                is_whole = frame.kind == Kind::End;
                if frame.kind != Kind::Record {
                    continue;
                }
                let Some(topic) = frame::topic(frame.topic) else { continue };
                if frame.partition >= self.partitions() {
                    continue;
                }
                let from = Place { segment: *key, at: at as u32, length: frame.payload.len() as u32 };
                if self.index(topic, frame.partition).place(frame.offset) == Some(from) {
                    let (partition, offset, to) = (frame.partition, frame.offset, merged.len() as u32);
                    moves.push(Move { topic, partition, offset, from, to });
                    chain = frame.write(chain, &mut merged);
                }
            }
            // What stands behind damage is not seen here, and may be needed.
            if !is_whole {
                return Err(broken(segment.name, frames.end().0));
            }
        }
        Frame::new(Kind::End, 0, &[]).write(chain, &mut merged);
        Ok((merged, moves))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;
    use std::path::Path;

    use petrel_protocol::topics::Subscription;

    use super::*;

    const ID: [u8; 16] = [3; 16];
    const PACK_BYTES: usize = 1 << 19;
    const COUNT: u64 = 300;

    fn pack(offset: u64) -> Vec<u8> {
        vec![offset as u8; 100 + offset as usize]
    }

    /// Much that is acknowledged at once, with a little between that is not.
    fn written(dir: &Path) -> Store {
        let store = Store::open(dir, ID, 2, false).unwrap();
        for offset in 0..COUNT {
            store.append(Topic::Uplink, 0, offset, &vec![1; PACK_BYTES]).unwrap();
            store.append(Topic::Receipts, 1, offset, &pack(offset)).unwrap();
            store.move_cursor(Topic::Uplink, Subscription::Persist, 0, offset + 1);
            store.flush().unwrap();
        }
        store
    }

    fn check(store: &Store, from: u64) {
        assert_eq!(store.cursor(Topic::Receipts, Subscription::Router, 1), from);
        let mut next = from;
        while next < COUNT {
            for read in store.read(Topic::Receipts, 1, next, COUNT).unwrap() {
                assert_eq!(read, pack(next), "record {next}");
                next += 1;
            }
        }
        assert_eq!(store.next_offset(Topic::Receipts, 1), COUNT);
        assert_eq!(store.next_offset(Topic::Uplink, 0), COUNT);
    }

    fn files(dir: &Path) -> HashMap<String, Vec<u8>> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
    }

    #[test]
    fn segments_of_which_little_is_needed_become_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = written(dir.path());
        assert!(store.segment_count() > SEGMENTS_LET_BE && store.is_untidy());
        store.tidy().unwrap();
        assert!(store.segment_count() <= 2, "{} segments", store.segment_count());
        assert!(!store.is_untidy());
        check(&store, 0);
        drop(store);
        let store = Store::open(dir.path(), ID, 2, true).unwrap();
        check(&store, 0);
        // Acknowledged, they go, the merged one too.
        for subscription in [Subscription::Persist, Subscription::Router] {
            store.move_cursor(Topic::Receipts, subscription, 1, COUNT);
        }
        store.flush().unwrap();
        store.tidy().unwrap();
        assert_eq!(store.segment_count(), 1);
        drop(store);
        let store = Store::open(dir.path(), ID, 2, true).unwrap();
        check(&store, COUNT);
    }

    #[test]
    fn a_damaged_segment_is_not_merged_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = written(dir.path());
        let path = dir.path().join("0000000002");
        let mut bytes = fs::read(&path).unwrap();
        // Within a pack that nobody needs, with needed ones behind it.
        bytes[PACK_BYTES] ^= 1;
        // The same file, since the store has it open.
        fs::write(&path, bytes).unwrap();
        let error = store.tidy().unwrap_err().to_string();
        assert!(error.contains("segment 0000000002 is broken"), "{error}");
        assert!(path.exists());
        check(&store, 0);
    }

    #[test]
    fn a_kill_while_they_are_merged_leaves_each_record_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = written(dir.path());
        let before = files(dir.path());
        store.tidy().unwrap();
        drop(store);
        let after = files(dir.path());
        let gone: Vec<_> = before.keys().filter(|name| !after.contains_key(*name)).collect();
        assert!(gone.len() >= SEGMENTS_LET_BE);
        // Any of those that were merged may still be there.
        for kept in 0..=gone.len() {
            let dir = tempfile::tempdir().unwrap();
            for (name, bytes) in &after {
                fs::write(dir.path().join(name), bytes).unwrap();
            }
            for name in gone.iter().take(kept) {
                fs::write(dir.path().join(name), &before[*name]).unwrap();
            }
            fs::write(dir.path().join("merged.next"), b"half of").unwrap();
            let store = Store::open(dir.path(), ID, 2, true).unwrap();
            check(&store, 0);
            assert_eq!(store.segment_count(), 2);
        }
    }
}

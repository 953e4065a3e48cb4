//! Whatever a power cut leaves of a segment behind what was synced, the log opens again, with a prefix of what was written
//! that holds all that was synced; and what is written then survives the next start. And whatever bytes stand in a
//! segment, they are no harm.

#[path = "../../../fuzz/properties/folder.rs"]
mod folder;

use std::fs;
use std::io::Read;
use std::path::Path;

use petrel_protocol::topics::{Subscription, Topic};

use self::folder::{Folder, tear};
use super::frame::{Frame, Frames, Kind, Mark};
use super::store::Store;

const ID: [u8; 16] = [7; 16];
const FIRST: &str = "0000000001";

/// The first bytes choose what was synced and the damage. Each of the next is the size of a record; every fourth is
/// acknowledged. From a zero on they are what stands in the segment instead.
pub fn check(bytes: &[u8]) {
    check_frames(bytes);
    let [synced, cut, kind, rest @ ..] = bytes else { return };
    let (sizes, noise) = rest.split_at(rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len()).min(24));
    let folder = Folder::new("segments");
    let synced = usize::from(*synced) % (sizes.len() + 1);
    let store = open(&folder.0, false);
    let mut durable = used(&folder.0).len();
    for (offset, &size) in sizes.iter().enumerate() {
        store.append(Topic::Uplink, 1, offset as u64, &pack(offset as u64, size)).expect("written");
        if offset % 4 == 3 {
            store.move_cursor(Topic::Uplink, Subscription::Persist, 1, offset as u64);
        }
        store.flush().expect("flushed");
        if offset + 1 == synced {
            durable = used(&folder.0).len();
        }
    }
    drop(store);
    let mut torn = used(&folder.0);
    tear(&mut torn, durable, *cut, *kind, noise);
    fs::write(folder.0.join(FIRST), torn).expect("written");
    check_opens(&folder.0, synced, sizes);
}

/// Frames that are read are those that would be written; so are marks.
fn check_frames(bytes: &[u8]) {
    if let Some((frame, _)) = Frame::read(bytes) {
        let mut written = Vec::new();
        assert_eq!(frame.write(frame.chain, &mut written), frame.checksum);
        assert_eq!(written, bytes[..frame.bytes()]);
    }
    if let Some(marks) = Mark::read_all(bytes) {
        let mut written = Vec::new();
        for mark in marks {
            mark.write(&mut written);
        }
        assert_eq!(written, bytes);
    }
    // Behind a whole frame, where a checksum does not end it at once.
    let mut segment = Vec::new();
    Frame::new(Kind::Head, 1, bytes).write(0, &mut segment);
    segment.extend(bytes);
    assert_eq!(Frames::new(&segment).count(), 1);
}

fn check_opens(dir: &Path, synced: usize, sizes: &[u8]) {
    let mut kept = None;
    for start in 0..2_u64 {
        let store = open(dir, true);
        let next = store.next_offset(Topic::Uplink, 1);
        let count = next - start;
        assert!(count >= synced as u64, "{count} of {synced} records that were synced");
        assert_eq!(*kept.get_or_insert(count), count, "the same at each start");
        let mut from = store.cursor(Topic::Uplink, Subscription::Persist, 1);
        assert!(from <= count, "what is not there was not acknowledged");
        while from < count {
            let packs = store.read(Topic::Uplink, 1, from, count).expect("it can be read");
            for read in packs {
                assert_eq!(read, pack(from, sizes[from as usize]), "record {from}");
                from += 1;
            }
        }
        store.append(Topic::Uplink, 1, next, &pack(next, 1)).expect("it can be written");
        store.flush().expect("flushed");
    }
}

fn open(dir: &Path, is_begun: bool) -> Store {
    Store::open(dir, ID, 2, is_begun).unwrap_or_else(|error| panic!("{error}"))
}

fn pack(offset: u64, size: u8) -> Vec<u8> {
    // Sizes are multiples, so that records cross blocks.
    vec![offset as u8 | 1; usize::from(size) * 16]
}

/// What is written of the segment.
fn used(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = fs::File::open(dir.join(FIRST)).expect("a segment");
    // More than is written here.
    file.take(1 << 18).read_to_end(&mut bytes).expect("it can be read");
    let mut frames = Frames::new(&bytes);
    frames.by_ref().for_each(drop);
    let (end, _) = frames.end();
    bytes.truncate(end);
    bytes
}

#[test]
fn seeds() {
    crate::replay::replay("segments", check);
}

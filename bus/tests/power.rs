//! A power cut: what was not synced is gone, or only some of its blocks are there. What was synced must be.

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use petrel_bus::Bus;
use petrel_protocol::topics::{Subscription, Topic};
use support::{Publishing, next};

const SEGMENT: &str = "log/0000000001";

/// What a power cut does to the segment from some byte on.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// The file ends there.
    Cut,
    /// Nothing was written from there on.
    Zeroes,
    /// One block was not written, what follows was.
    Hole,
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The segment's bytes up to the last that is not zero.
fn length(dir: &Path) -> u64 {
    let segment = fs::read(dir.join(SEGMENT)).unwrap();
    segment.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1)
}

fn damage(dir: &Path, damage: Damage, at: u64, end: u64) {
    let segment = fs::OpenOptions::new().write(true).open(dir.join(SEGMENT)).unwrap();
    match damage {
        Damage::Cut => segment.set_len(at).unwrap(),
        Damage::Zeroes => segment.write_all_at(&vec![0; (end - at) as usize], at).unwrap(),
        Damage::Hole => {
            let length = 512.min(end - at);
            segment.write_all_at(&vec![0; length as usize], at).unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_synced_survives_a_power_cut() {
    let original = tempfile::tempdir().unwrap();
    let bus = Bus::embedded(original.path(), 2).unwrap();
    let (uplink, stored) = (Publishing::new(&bus, Topic::Uplink), Publishing::new(&bus, Topic::Stored));
    for i in 0..20_u8 {
        stored.put(1, vec![i | 1; 700]);
        uplink.put(1, vec![i | 1; 700]);
    }
    let synced = length(original.path());
    // Not synced, in batches of several blocks.
    for i in 0..6_u8 {
        stored.put(1, vec![i | 1; 5_000]);
    }
    let end = length(original.path());
    assert!(end > synced + 30_000, "the tail is in the segment");
    let unsynced_copy = tempfile::tempdir().unwrap();
    copy_folder(original.path(), unsynced_copy.path());
    fs::remove_file(unsynced_copy.path().join("lock")).unwrap();

    for kind in [Damage::Cut, Damage::Zeroes, Damage::Hole] {
        for at in (synced..end).step_by(3_301) {
            let dir = tempfile::tempdir().unwrap();
            copy_folder(unsynced_copy.path(), dir.path());
            damage(dir.path(), kind, at, end);
            check(dir.path(), &format!("{kind:?} at {}", at - synced)).await;
        }
    }
}

async fn check(dir: &Path, what: &str) {
    for start in 0..2 {
        let bus = Bus::embedded(dir, 2).unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut persist = bus.subscribe(Topic::Uplink, Subscription::Persist, 1).unwrap();
        for i in 0..20_u8 {
            let record = next(&mut persist).await;
            assert_eq!(record.position.entry, u64::from(i), "{what}");
            assert_eq!(record.pack, vec![i | 1; 700], "{what}");
        }
        let mut router = bus.subscribe(Topic::Stored, Subscription::Router, 1).unwrap();
        let mut stored = 0;
        while let Some(record) = router.try_next() {
            assert_eq!(record.position.entry, stored, "{what}");
            stored += 1;
        }
        assert!(stored >= 20, "{what}: what was written before the sync is there");
        // It goes on from there, and what it writes now survives the next start.
        let entry = Publishing::new(&bus, Topic::Uplink).put(1, "more").entry;
        assert_eq!(entry, 20 + start, "{what}");
        bus.close();
    }
}

//! The store with the machine that writes it: reopened at any time, and with rows that somebody damaged.

use std::collections::HashSet;
use std::fs;

use bytes::Bytes;
use petrel_protocol::ids::{Position, UserId};
use petrel_protocol::sequencer::{Batch, DeadLetter, Fault};

use super::meta::META_FORMAT;
use super::torn::folder::tear;
use super::torn::{copy_folder, journal};
use super::*;
use crate::store::tests::{
    GENERATION, belongs, keeps_users_and_devices_apart, log, pair, run, writes_again_end_the_same,
};
use crate::store::{FORMAT, Store};

fn open(dir: &Path) -> Store {
    Store::embedded(dir, &belongs(GENERATION)).unwrap()
}

fn embedded(store: &Store) -> Embedded {
    match store {
        Store::Embedded(folder) => folder.opened(),
        #[cfg(feature = "cassandra")]
        Store::Cassandra(_) => unreachable!("these tests open folders"),
    }
}

/// Every row of the tables that the machine writes.
fn dump(store: &Store) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let embedded = embedded(store);
    let t = &*embedded.0;
    let mut all = Vec::new();
    for table in [&t.messages, &t.message_keys, &t.message_ids, &t.conversation_heads, &t.user_conversations]
    {
        for entry in table.keyspace.iter() {
            let (key, row) = entry.into_inner().unwrap();
            all.push((table.name, key.to_vec(), row.to_vec()));
        }
    }
    all
}

#[test]
fn a_store_that_is_reopened_between_any_batches_ends_the_same() {
    let (log, dirs) = (log(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let undisturbed = open(dirs[0].path());
    run(&undisturbed, &log, usize::MAX);
    let expected = dump(&undisturbed);
    assert!(expected.len() > 1_000);
    for commits in [1, 2, 7, 20, 33] {
        // Never synced, and each run starts from the first record again.
        run(&open(dirs[1].path()), &log, commits);
    }
    let store = open(dirs[1].path());
    run(&store, &log, usize::MAX);
    assert_eq!(dump(&store), expected);
}

#[test]
fn a_newer_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), &belongs(GENERATION)).unwrap();
    store.set_meta(META_FORMAT, u64::from(FORMAT) + 1).unwrap();
    drop(store);
    let error = Store::embedded(dir.path(), &belongs(GENERATION)).err().unwrap().to_string();
    assert!(error.contains("start the newer version"), "{error}");
}

#[test]
fn another_generation_of_the_bus_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    drop(open(dir.path()));
    let error = Store::embedded(dir.path(), &belongs(GENERATION + 1)).err().unwrap().to_string();
    assert!(error.contains("belongs to generation 5 (0707"), "{error}");
    assert!(error.contains("and this bus has 6 (0707"), "{error}");
    let other = Belongs { generation_id: [8; 16], ..belongs(GENERATION) };
    let error = Store::embedded(dir.path(), &other).err().unwrap().to_string();
    assert!(error.contains("and this bus has 5 (0808"), "{error}");
}

#[test]
fn a_damaged_row_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    run(&store, &log()[..4], usize::MAX);
    let embedded = embedded(&store);
    let t = &*embedded.0;
    let head_key = keys::conversation(pair());
    t.conversation_heads.keyspace.insert(head_key, [1, 0xff]).unwrap();
    let loads = Loads { heads: vec![pair()], ..Loads::default() };
    let error = store.load(&loads).unwrap_err().to_string();
    assert!(error.contains("`conversation_heads`") && error.contains("torn"), "{error}");
    let message_key = keys::message(pair(), 2, Part::Row);
    t.messages.keyspace.insert(message_key, b"?").unwrap();
    let mut seen = Vec::new();
    let error = store.rows(pair(), 1, 9, &mut |shown| {
        seen.push(shown.row.seq);
        true
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`messages`") && error.contains("its version is unknown"), "{error}");
    assert_eq!(seen, [1]);
    t.user_conversations.keyspace.insert(lowest(UserId(9)), [1]).unwrap();
    let error = store.conversations(UserId(9), None, 10).unwrap_err().to_string();
    assert!(error.contains("its conversation is impossible"), "{error}");
}

#[test]
fn tables_keep_users_and_devices_apart() {
    let dir = tempfile::tempdir().unwrap();
    keeps_users_and_devices_apart(&open(dir.path()));
}

#[test]
fn writes_again_end_the_same_as_the_store_gives_them_back() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    writes_again_end_the_same(&open(dirs[0].path()), &|| open(dirs[1].path()));
}

fn dead_letter(partition: u16, bytes: Bytes) -> Batch {
    let (position, fault) = (Position::default(), Fault::Undecodable);
    Batch { dead_letters: vec![DeadLetter { partition, position, fault, bytes }], ..Batch::default() }
}

#[test]
fn dead_letters_of_two_partitions_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for partition in 0..2 {
        store.commit(&[Arc::new(dead_letter(partition, Bytes::from_static(b"?")))]).unwrap();
    }
    assert_eq!(embedded(&store).0.dead_letters.keyspace.iter().count(), 2);
}

#[test]
fn a_power_cut_takes_only_what_was_not_synced() {
    let (log, original) = (log(), tempfile::tempdir().unwrap());
    let store = open(original.path());
    run(&store, &log[..log.len() / 2], usize::MAX);
    store.sync().unwrap();
    let synced = journal(original.path()).len();
    let synced_rows = dump(&store);
    run(&store, &log, usize::MAX);
    let small = journal(original.path()).len();
    // Rows of several blocks: there a hole is within a row, and the rest of its batch looks whole.
    for number in 0..4 {
        store.commit(&[Arc::new(dead_letter(number, vec![7; 5_000].into()))]).unwrap();
    }
    let (whole, expected) = (journal(original.path()), dump(&store));
    assert!(small > synced + 10_000 && whole.len() > small + 20_000, "the tail is in the journal");
    for (kind, damage) in (0..).zip(["cut", "zeroes", "a hole"]) {
        for at in [synced, synced + 9_001, small, small + 1_000, small + 12_000] {
            let mut journal = whole.clone();
            tear(&mut journal, at, 0, kind, &[]);
            let dir = tempfile::tempdir().unwrap();
            copy_folder(original.path(), dir.path());
            fs::write(dir.path().join("0.jnl"), journal).unwrap();
            let store = Store::embedded(dir.path(), &belongs(GENERATION));
            let store = store.unwrap_or_else(|error| panic!("{damage} at {at}: {error}"));
            // Heads may have moved on.
            let kept: HashSet<_> = dump(&store).into_iter().map(|(table, key, _)| (table, key)).collect();
            let is_kept = |(table, key, _): &(_, Vec<u8>, _)| kept.contains(&(*table, key.clone()));
            assert!(synced_rows.iter().all(is_kept), "{damage} at {at}");
            // The log has what is not there.
            run(&store, &log, usize::MAX);
            assert!(dump(&store) == expected, "{damage} at {at}");
        }
    }
}

#[test]
fn a_creation_that_was_cut_short_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("keyspaces")).unwrap();
    for file in ["lock", "0.jnl", "version"] {
        fs::write(dir.path().join(file), "").unwrap();
    }
    drop(open(dir.path()));
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("0.jnl"), "").unwrap();
    fs::write(foreign.path().join("letters"), "dear").unwrap();
    fs::write(foreign.path().join("lock"), "").unwrap();
    assert!(Store::embedded(foreign.path(), &belongs(GENERATION)).is_err());
    assert_eq!(fs::read(foreign.path().join("letters")).unwrap(), b"dear", "what is not ours is left alone");
}

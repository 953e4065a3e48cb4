//! The store with the machine that writes it: reopened at any time, and with rows that somebody damaged.

use bytes::Bytes;
use petrel_protocol::ids::{Position, UserId};
use petrel_protocol::sequencer::Batch;

use super::*;
use crate::store::Store;
use crate::store::tests::{
    GENERATION, belongs, keeps_users_and_devices_apart, log, pair, run, writes_again_end_the_same,
};

fn open(dir: &Path) -> Store {
    Store::embedded(dir, &belongs(GENERATION)).unwrap()
}

fn embedded(store: &Store) -> &Tables {
    match store {
        Store::Embedded(store) => &store.0,
        #[cfg(feature = "cassandra")]
        Store::Cassandra(_) => unreachable!("these tests open folders"),
    }
}

/// Every row of the tables that the machine writes.
fn dump(store: &Store) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let t = embedded(store);
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
    let t = embedded(&store);
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

#[test]
fn dead_letters_of_two_partitions_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut dead = Batch::default();
    for partition in 0..2 {
        let fault = petrel_protocol::sequencer::Fault::Undecodable;
        let (position, bytes) = (Position::default(), Bytes::from_static(b"?"));
        dead.dead_letters.push(petrel_protocol::sequencer::DeadLetter { partition, position, fault, bytes });
    }
    store.commit(&[Arc::new(dead)]).unwrap();
    assert_eq!(embedded(&store).dead_letters.keyspace.iter().count(), 2);
}

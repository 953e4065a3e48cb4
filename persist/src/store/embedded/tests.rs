//! The store with the machine that writes it: reopened at any time, and with rows that somebody damaged.

use bytes::Bytes;
use petrel_protocol::events::{self, Uplink, UplinkPack, uplink};
use petrel_protocol::ids::{ConversationId, Device, Position, UserId};
use petrel_protocol::sequencer::{Batch, Config, Input, Output, Record, Sequencer};
use petrel_protocol::time::Now;
use prost::Message;

use super::*;
use crate::store::Store;

const GENERATION: u32 = 5;

fn open(dir: &Path) -> Store {
    Store::embedded(dir, &belongs(GENERATION)).unwrap()
}

fn belongs(generation: u32) -> Belongs {
    Belongs { generation, generation_id: [7; 16] }
}

fn embedded(store: &Store) -> &Tables {
    match store {
        Store::Embedded(store) => &store.0,
        #[cfg(feature = "cassandra")]
        Store::Cassandra(_) => unreachable!("these tests open folders"),
    }
}

fn pair() -> ConversationId {
    ConversationId::of_users(UserId(1), UserId(2))
}

fn uplink(user: u64, at_ms: u64, body: uplink::Body) -> Uplink {
    let conversation = Some(pair().into());
    let edge_time_ms = 1_700_000_000_000 + at_ms;
    Uplink { conversation, edge_time_ms, user, device: 1, origin: None, body: Some(body) }
}

fn send(user: u64, client: u64, msg_id: u64, at_ms: u64) -> Uplink {
    let content = format!("{client} {msg_id}");
    let client_msg_id = Bytes::copy_from_slice(&u128::from(client).to_be_bytes());
    uplink(
        user,
        at_ms,
        uplink::Body::Send(events::Send { client_msg_id, msg_id, content, ..Default::default() }),
    )
}

fn recall(user: u64, msg_id: u64, at_ms: u64) -> Uplink {
    uplink(user, at_ms, uplink::Body::Recall(events::Recall { msg_id }))
}

/// Messages, duplicates, stolen ids and recalls.
fn log() -> Vec<Record> {
    let event = |n: u64| {
        let (user, client, id) = (1 + n % 2, n, 1_000 + n);
        match n % 7 {
            3 => send(1 + (n - 1) % 2, n - 1, id, n),
            5 => recall(1 + (n - 4) % 2, 1_000 + n - 4, n),
            6 => send(user, client, 1_000 + n - 5, n),
            _ => send(user, client, id, n),
        }
    };
    let records = (0..200_u64).map(|n| {
        let position = Position { generation: GENERATION, ledger: 0, entry: n, index: 0 };
        let pack = UplinkPack { events: vec![event(3 * n), event(3 * n + 1), event(3 * n + 2)] };
        Record { position, pack: pack.encode_to_vec().into(), is_resumed: n == 0 }
    });
    records.collect()
}

/// Carries out what the machine wants, until `commits` batches are written.
fn drive(store: &Store, machine: &mut Sequencer, input: Input, commits: &mut usize) {
    let mut inputs = vec![input];
    while let Some(input) = inputs.pop() {
        let mut outputs = Vec::new();
        machine.handle(Now::default(), input, &mut outputs);
        for output in outputs {
            match output {
                Output::Load(loads) => inputs.push(Input::Loaded(store.load(&loads).unwrap())),
                Output::Commit(batch) => {
                    if *commits == 0 {
                        return;
                    }
                    *commits -= 1;
                    store.commit(&[batch]).unwrap();
                    inputs.push(Input::Committed);
                }
                Output::Publish(_) => inputs.push(Input::Published),
                Output::Ack(_) => {}
            }
        }
    }
}

fn run(store: &Store, records: &[Record], mut commits: usize) {
    let mut machine = Sequencer::new(Config::new(0, 1, 7));
    for records in records.chunks(4) {
        drive(store, &mut machine, Input::Records(records.to_vec()), &mut commits);
        if commits == 0 {
            return;
        }
    }
}

/// Every row of the tables that the machine writes.
fn dump(store: &Store) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let t = embedded(store);
    let mut all = Vec::new();
    for table in [&t.messages, &t.message_keys, &t.conversation_heads, &t.user_conversations] {
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
    let error = store.heads(&[pair()]).unwrap_err().to_string();
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
    let store = open(dir.path());
    run(&store, &log()[..4], usize::MAX);
    let id = |user, device| CursorId { user: UserId(user), device, conversation: pair() };
    let raised = [(id(1, Some(Device::Web)), 3), (id(1, None), 2), (id(2, Some(Device::Web)), 1)];
    store.advance(&raised, &|_| None).unwrap();
    let cursors = |user, device| store.cursors(UserId(user), device, pair(), pair()).unwrap();
    assert_eq!(cursors(1, Device::Web), [(pair(), 3)]);
    assert_eq!(cursors(2, Device::Web), [(pair(), 1)]);
    assert_eq!(cursors(1, Device::Android), []);
    store.register(UserId(1), Device::Bot, &[]).unwrap();
    store.register(UserId(1), Device::Android, &[]).unwrap();
    assert_eq!(store.devices(UserId(1)).unwrap(), [Device::Android, Device::Bot]);
    assert_eq!(store.devices(UserId(2)).unwrap(), []);
    assert_eq!(store.conversations(UserId(1), None, 10).unwrap(), [pair()]);
    assert_eq!(store.conversations(UserId(3), None, 10).unwrap(), []);
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

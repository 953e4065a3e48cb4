//! The store with the machine that writes it: what every kind of store has to do alike, whatever is under it.

use bytes::Bytes;
use petrel_protocol::events::{self, Uplink, UplinkPack, uplink};
use petrel_protocol::ids::{ConversationId, Device, Position, UserId};
use petrel_protocol::sequencer::{Config, Head, Input, Key, KeyId, Loads, Output, Record, Sequencer};
use petrel_protocol::time::Now;
use prost::Message;

use super::{Belongs, CursorId, Store};

pub(crate) const GENERATION: u32 = 5;

pub(crate) fn belongs(generation: u32) -> Belongs {
    Belongs { generation, generation_id: [7; 16] }
}

pub(super) fn pair() -> ConversationId {
    ConversationId::of_users(UserId(1), UserId(2))
}

fn uplink(user: u64, at_ms: u64, body: uplink::Body) -> Uplink {
    let conversation = Some(pair().into());
    let edge_time_ms = 1_700_000_000_000 + at_ms;
    Uplink { conversation, edge_time_ms, user, device: 1, origin: None, body: Some(body) }
}

pub(super) fn send(user: u64, client: u64, msg_id: u64, at_ms: u64) -> Uplink {
    let content = format!("{client} {msg_id}");
    let client_msg_id = Bytes::copy_from_slice(&u128::from(client).to_be_bytes());
    uplink(
        user,
        at_ms,
        uplink::Body::Send(events::Send { client_msg_id, msg_id, content, ..Default::default() }),
    )
}

pub(super) fn recall(user: u64, msg_id: u64, at_ms: u64) -> Uplink {
    uplink(user, at_ms, uplink::Body::Recall(events::Recall { msg_id }))
}

/// Messages, duplicates, stolen ids and recalls.
pub(super) fn log() -> Vec<Record> {
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

pub(super) fn run(store: &Store, records: &[Record], mut commits: usize) {
    let mut machine = Sequencer::new(Config::new(0, 1, 7));
    for records in records.chunks(4) {
        drive(store, &mut machine, Input::Records(records.to_vec()), &mut commits);
        if commits == 0 {
            return;
        }
    }
}

/// The head of the conversation, as a reader gets it.
pub(super) fn head(store: &Store) -> Option<Head> {
    store.load(&Loads { heads: vec![pair()], ..Loads::default() }).unwrap().heads[0]
}

/// Everything that the machine has written about the conversation, as the store gives it back.
pub(super) fn contents(store: &Store) -> Vec<String> {
    let mut all = Vec::new();
    let head = head(store);
    all.push(format!("{head:?}"));
    let seq = head.map_or(0, |head| head.seq);
    store
        .rows(pair(), 1, seq, &mut |shown| {
            all.push(format!("{shown:?}"));
            true
        })
        .unwrap();
    let ids = (0..3_000).map(|n| KeyId { conversation: pair(), key: Key::Message(n) });
    let client = |n: u64, user| Key::Client { sender: UserId(user), id: u128::from(n).to_be_bytes() };
    let clients = (0..1_500).map(|n| KeyId { conversation: pair(), key: client(n / 2, 1 + n % 2) });
    let targets = (1..=seq).filter(|seq| !all[*seq as usize].contains("Recall(")).map(|seq| (pair(), seq));
    let loads = Loads { heads: Vec::new(), keys: ids.chain(clients).collect(), targets: targets.collect() };
    let loaded = store.load(&loads).unwrap();
    all.extend(loaded.keys.iter().flatten().map(|row| format!("{row:?}")));
    all.extend(loaded.targets.iter().map(|target| format!("{target:?}")));
    for user in [1, 2] {
        all.push(format!("{:?}", store.conversations(UserId(user), None, usize::MAX).unwrap()));
    }
    all
}

/// Whatever is written again, by a machine that begins anew at any place, ends as if it was written once.
pub(super) fn writes_again_end_the_same(undisturbed: &Store, disturbed: &impl Fn() -> Store) {
    let log = log();
    run(undisturbed, &log, usize::MAX);
    let expected = contents(undisturbed);
    assert!(expected.len() > 1_000, "{}", expected.len());
    for commits in [1, 2, 7, 20, 33] {
        // Never synced, and each run starts from the first record again.
        run(&disturbed(), &log, commits);
    }
    let store = disturbed();
    run(&store, &log, usize::MAX);
    assert_eq!(contents(&store), expected);
}

pub(super) fn keeps_users_and_devices_apart(store: &Store) {
    run(store, &log()[..4], usize::MAX);
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
    let listed = store.conversations(UserId(1), None, 10).unwrap();
    assert_eq!(listed, [(pair(), head(store).unwrap().seq)]);
    assert_eq!(store.conversations(UserId(3), None, 10).unwrap(), []);
}

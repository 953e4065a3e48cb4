//! The store on a real server, by its rows: who writes last does not win, and nobody opens what is not theirs.

use std::sync::atomic::{AtomicU64, Ordering};

use petrel_protocol::calls::Account;
use petrel_protocol::events::Message;
use petrel_protocol::ids::{ConversationId, Device, Position, UserId};
use petrel_protocol::sequencer::{Batch, Head, MessageRow, Recall, RowBody};

use super::config::{Consistency, Replication};
use super::*;
use crate::store::tests::{
    GENERATION, belongs, head as read_head, keeps_users_and_devices_apart, log, pair, run,
    writes_again_end_the_same,
};
use crate::store::{CursorId, SeqRange, Store};

/// A keyspace, dropped at the end.
struct Keyspace(Config);

impl Keyspace {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let node = std::env::var("PETREL_TEST_CASSANDRA").unwrap_or_else(|_| "127.0.0.1:9042".into());
        std::net::TcpStream::connect(&node).unwrap_or_else(|error| {
            panic!("no Cassandra at {node} ({error}): start it with deploy/local/up")
        });
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut config = Config::new(vec![node], format!("petrel_test_{random:x}_{count}"));
        config.replication = Replication::Everywhere(1);
        Self(config)
    }

    fn try_open(&self, config: &Config, belongs: &Belongs) -> Result<Store, StartError> {
        assert_eq!(self.0.keyspace, config.keyspace);
        let opened = Cassandra::open(config, belongs, &Health::default(), &Stopping::default())?;
        Ok(Store::Cassandra(opened.expect("nobody stops it")))
    }

    fn open(&self) -> Store {
        self.try_open(&self.0, &belongs(GENERATION)).unwrap()
    }

    fn run(&self, statement: &str) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let statement = statement.replace("KS", &self.0.keyspace);
        runtime.block_on(async {
            schema::define(&connection::connect(&self.0).await.unwrap(), statement).await.unwrap();
        });
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        self.run("DROP KEYSPACE IF EXISTS KS");
    }
}

fn head(applied: u64, seq: u64) -> Batch {
    let position = Position { generation: GENERATION, ledger: 0, entry: applied, index: 0 };
    let head = Head { position, seq, applied, visible: seq, edge_time_ms: 1_000 + applied };
    Batch { heads: vec![(pair(), head)], ..Batch::default() }
}

fn message(applied: u64, seq: u64, content: &str) -> MessageRow {
    let message = Message { msg_id: 100 + seq, content: content.into(), ..Message::default() };
    MessageRow {
        conversation: pair(),
        seq,
        applied,
        sender: UserId(1),
        device: 1,
        edge_time_ms: 1_000,
        visible: seq,
        body: RowBody::Message(message),
    }
}

fn commit(store: &Store, batch: Batch) {
    store.commit(&[Arc::new(batch)]).unwrap();
}

/// Seq, content and whether it was recalled.
fn rows(store: &Store, from: u64, to: u64) -> Vec<(u64, String, bool)> {
    let mut rows = Vec::new();
    let mut take = |shown: crate::store::ShownRow| {
        let content = match shown.row.body {
            RowBody::Message(message) => message.content,
            RowBody::Recall(_) => "recall".to_owned(),
        };
        rows.push((shown.row.seq, content, shown.is_recalled));
        true
    };
    store.rows(pair(), from, to, &mut take).unwrap();
    rows
}

#[test]
fn writes_again_end_the_same_as_the_store_gives_them_back() {
    let keyspaces = [Keyspace::new(), Keyspace::new()];
    let disturbed = keyspaces[1].open();
    writes_again_end_the_same(&keyspaces[0].open(), &|| disturbed.clone());
}

#[test]
fn tables_keep_users_and_devices_apart() {
    keeps_users_and_devices_apart(&Keyspace::new().open());
}

#[test]
fn a_late_head_of_a_reader_that_was_replaced_does_not_win() {
    let keyspace = Keyspace::new();
    let (old, new) = (keyspace.open(), keyspace.open());
    commit(&old, head(1, 1));
    commit(&new, head(3, 2));
    // The old reader was stopped over this write, and goes on now.
    commit(&old, head(2, 2));
    let found = read_head(&new).unwrap();
    assert_eq!((found.applied, found.seq, found.position.entry), (3, 2, 3));
    // The same event again changes nothing, however often.
    commit(&old, head(3, 2));
    assert_eq!(read_head(&new).unwrap(), found);
}

#[test]
fn a_late_insert_does_not_undo_a_recall() {
    let keyspace = Keyspace::new();
    let store = keyspace.open();
    let position = Position { generation: GENERATION, ledger: 0, entry: 2, index: 0 };
    let recall = Recall { conversation: pair(), target_seq: 1, applied: 2, position, seq: 2 };
    let recalled = || Batch { recalls: vec![recall], ..Batch::default() };
    let inserted = || Batch { messages: vec![message(1, 1, "secret")], ..Batch::default() };
    // The mark alone is no message.
    commit(&store, recalled());
    assert_eq!(rows(&store, 1, 9), []);
    for batch in [inserted(), recalled(), inserted()] {
        commit(&store, batch);
        assert_eq!(rows(&store, 1, 9), [(1, String::new(), true)]);
    }
}

#[test]
fn cursors_are_maxima_below_the_head_whoever_writes_them() {
    let keyspace = Keyspace::new();
    let (one, other) = (keyspace.open(), keyspace.open());
    commit(&one, head(5, 5));
    let id = CursorId { user: UserId(1), device: Some(Device::Web), conversation: pair() };
    let cursor = |store: &Store| store.cursors(UserId(1), Device::Web, pair(), pair()).unwrap();
    for (store, seq, expected) in [(&one, 3, 3), (&other, 2, 3), (&other, 900, 5), (&one, 4, 5)] {
        store.advance(&[(id, seq)], &|_| None).unwrap();
        assert_eq!(cursor(store), [(pair(), expected)]);
    }
    // A conversation without a head has no seqs to be beyond.
    let foreign = ConversationId::of_users(UserId(1), UserId(9));
    one.advance(&[(CursorId { conversation: foreign, ..id }, 7)], &|_| None).unwrap();
    assert_eq!(one.cursors(UserId(1), Device::Web, foreign, foreign).unwrap(), []);
}

#[test]
fn a_late_entry_in_a_list_does_not_win_and_one_that_is_missing_comes_with_the_replay() {
    let keyspace = Keyspace::new();
    let (old, new) = (keyspace.open(), keyspace.open());
    let listed = |user| new.conversations(UserId(user), None, 10).unwrap();
    commit(&new, head(3, 2));
    commit(&old, head(2, 1));
    assert_eq!([listed(1), listed(2)], [[(pair(), 2)], [(pair(), 2)]]);
    // What a crash between the head and the lists leaves.
    let keyspace = Keyspace::new();
    let store = keyspace.open();
    run(&store, &log()[..4], usize::MAX);
    let seq = read_head(&store).unwrap().seq;
    keyspace.run("TRUNCATE KS.user_conversations");
    run(&store, &log()[..4], usize::MAX);
    assert_eq!(store.conversations(UserId(2), None, 10).unwrap(), [(pair(), seq)]);
}

#[test]
fn lists_that_an_older_version_wrote_have_the_seqs_of_the_heads() {
    let keyspace = Keyspace::new();
    commit(&keyspace.open(), head(4, 3));
    keyspace.run("ALTER TABLE KS.user_conversations DROP seq");
    keyspace.run(&format!("INSERT INTO KS.meta (name, number) VALUES ('{}', 1)", schema::META_VERSION));
    let store = keyspace.open();
    assert_eq!(store.conversations(UserId(1), None, 10).unwrap(), [(pair(), 3)]);
    commit(&store, head(5, 4));
    assert_eq!(store.conversations(UserId(1), None, 10).unwrap(), [(pair(), 4)]);
}

#[test]
fn rows_of_many_conversations_come_in_few_requests_and_all_of_them() {
    let keyspace = Keyspace::new();
    let store = keyspace.open();
    let with = |n: u64| ConversationId::of_users(UserId(1), UserId(10 + n));
    let count = 45;
    let rows = |n: u64| {
        let of =
            |seq| MessageRow { conversation: with(n), ..message(seq, seq, &"x".repeat(n as usize * 100)) };
        [of(1), of(2)]
    };
    let messages = (0..count).flat_map(rows).collect();
    let heads = (0..count).map(|n| (with(n), head(2, 2).heads[0].1)).collect();
    commit(&store, Batch { messages, heads, ..Batch::default() });
    let listed = store.conversations(UserId(1), None, 1_000).unwrap();
    assert!(listed.into_iter().eq((0..count).map(|n| (with(n), 2))));
    let cursors: Vec<_> = (0..count)
        .map(|n| {
            (CursorId { user: UserId(10 + n), device: Some(Device::Web), conversation: with(n) }, 1 + n % 2)
        })
        .collect();
    store.advance(&cursors, &|_| None).unwrap();
    for (id, seq) in cursors {
        let cursor = store.cursors(id.user, Device::Web, id.conversation, id.conversation).unwrap();
        assert_eq!(cursor, [(id.conversation, seq)]);
    }
    // Everything of some, the second of others, in the order that was asked for.
    let range = |n: u64| SeqRange { conversation: with(n), from_seq: 1 + n % 2, to_seq: 2 };
    let ranges: Vec<_> = (0..count).rev().map(range).collect();
    let mut found = Vec::new();
    let mut take = |index: usize, shown: crate::store::ShownRow| {
        found.push((index, shown.row.conversation, shown.row.seq));
        found.len() < 60
    };
    store.ranges(&ranges, &mut take).unwrap();
    let all = ranges.iter().enumerate();
    let all = all.flat_map(|(index, r)| (r.from_seq..=2).map(move |seq| (index, r.conversation, seq)));
    assert!(found.iter().copied().eq(all.take(60)), "{found:?}");
}

#[test]
fn rows_are_read_across_pages_and_buckets_as_far_as_they_are_wanted() {
    let keyspace = Keyspace::new();
    let store = keyspace.open();
    let messages = (900..=2_100).map(|seq| message(seq, seq, &format!("message {seq}"))).collect();
    commit(&store, Batch { messages, ..Batch::default() });
    let all = rows(&store, 1, 5_000);
    assert!(all.iter().map(|row| row.0).eq(900..=2_100));
    assert_eq!(all[0].1, "message 900");
    assert!(rows(&store, 1_020, 1_030).iter().map(|row| row.0).eq(1_020..=1_030));
    let mut seen = 0;
    let take = &mut |_| {
        seen += 1;
        seen < 150
    };
    store.rows(pair(), 1_000, 5_000, take).unwrap();
    assert_eq!(seen, 150);
    let mut found = Vec::new();
    let ranges = [(1_000, 1_200), (1_500, 1_500), (1_020, 5_000)];
    let ranges = ranges.map(|(from_seq, to_seq)| SeqRange { conversation: pair(), from_seq, to_seq });
    let mut take = |index: usize, shown: crate::store::ShownRow| {
        found.push((index, shown.row.seq));
        true
    };
    store.ranges(&ranges, &mut take).unwrap();
    let first = (1_000..=1_200).map(|seq| (0, seq)).chain([(1, 1_500)]);
    assert!(found.into_iter().eq(first.chain((1_020..=2_100).map(|seq| (2, seq)))));
}

#[test]
fn a_newer_schema_is_left_alone() {
    let keyspace = Keyspace::new();
    drop(keyspace.open());
    keyspace.run(&format!("INSERT INTO KS.meta (name, number) VALUES ('{}', 99)", schema::META_VERSION));
    let error = keyspace.try_open(&keyspace.0, &belongs(GENERATION)).err().unwrap().to_string();
    assert!(error.contains("schema version 99") && error.contains("start the newer version"), "{error}");
}

#[test]
fn another_log_is_an_error() {
    let keyspace = Keyspace::new();
    drop(keyspace.open());
    drop(keyspace.open());
    // A log that was wiped begins with the same number again, and has another id.
    let wiped = Belongs { generation_id: [8; 16], ..belongs(GENERATION) };
    for other in [wiped, belongs(GENERATION + 1)] {
        let error = keyspace.try_open(&keyspace.0, &other).err().unwrap().to_string();
        assert!(
            error.contains("belongs to generation 5 (0707") && error.contains("name an empty keyspace"),
            "{error}"
        );
    }
}

#[test]
fn requests_go_to_a_replica() {
    let keyspace = Keyspace::new();
    let Store::Cassandra(store) = keyspace.open() else { unreachable!("it was opened there") };
    let client = &store.client;
    assert!(client.statements.insert_message.prepared.is_token_aware());
    assert!(client.statements.select_head.prepared.is_token_aware());
    // Without it the driver knows no replicas.
    let cluster = client.connection.session().get_cluster_state();
    assert!(cluster.get_keyspace(&keyspace.0.keyspace).is_some());
    let replicas = client.connection.replicas();
    let node = Arc::as_ptr(&cluster.get_nodes_info()[0]) as usize;
    let id = pair().to_bytes();
    assert_eq!(replicas.first(&client.statements.select_head, (&id[..],)), node);
    assert_eq!(replicas.first(&client.statements.select_key, (&id[..], &b"key"[..])), node);
    assert_eq!(replicas.first(&client.statements.select_devices, (7_i64,)), node);
    assert_eq!(replicas.first(&client.statements.select_target, (&id[..], 3_i64, 4_i64)), node);
}

#[test]
fn processes_that_start_at_once_create_one_schema() {
    let keyspace = Keyspace::new();
    std::thread::scope(|scope| {
        let opened: Vec<_> = (0..3).map(|_| scope.spawn(|| keyspace.open())).collect();
        for (n, opened) in (1..).zip(opened) {
            let store = opened.join().unwrap();
            commit(&store, head(n, n));
            assert_eq!(read_head(&store).unwrap().applied, n);
        }
    });
}

#[test]
fn one_replica_is_not_asked_where_there_are_more() {
    let keyspace = Keyspace::new();
    let config = Config { consistency: Consistency::One, ..keyspace.0.clone() };
    drop(keyspace.try_open(&config, &belongs(GENERATION)).unwrap());
    keyspace.run("ALTER KEYSPACE KS WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}");
    let error = keyspace.try_open(&config, &belongs(GENERATION)).err().unwrap().to_string();
    assert!(error.contains("has 3 replicas") && error.contains("set LOCAL_QUORUM"), "{error}");
}

#[test]
fn a_name_is_taken_once_and_a_span_of_ids_too() {
    let keyspace = Keyspace::new();
    let (one, other) = (keyspace.open(), keyspace.open());
    let account =
        |user| Account { user, username: "ann".into(), password_hash: "hash".into(), token_version: 0 };
    assert!(one.create_account(&account(7), 5).unwrap());
    assert!(!other.create_account(&account(8), 5).unwrap());
    assert!(
        one.create_account(&account(7), 5).unwrap(),
        "a try again of the same account is the same account"
    );
    assert_eq!(other.find_account("ann").unwrap().unwrap().user, 7);
    assert_eq!(one.snowflake_mark(3).unwrap(), 0);
    assert_eq!(one.move_snowflake_mark(3, 0, 1_000).unwrap(), None);
    assert_eq!(other.move_snowflake_mark(3, 0, 1_000).unwrap(), Some(1_000));
    assert_eq!(other.move_snowflake_mark(3, 1_000, 2_000).unwrap(), None);
    assert_eq!(one.move_snowflake_mark(3, 1_000, 2_500).unwrap(), Some(2_000));
    assert_eq!(one.snowflake_mark(4).unwrap(), 0, "another worker has a mark of its own");
    let raised = [&one, &other].map(|store| store.raise_token_version(UserId(7)).unwrap());
    assert_eq!(raised, [1, 2]);
    assert_eq!(one.find_account("ann").unwrap().unwrap().token_version, 2);
}

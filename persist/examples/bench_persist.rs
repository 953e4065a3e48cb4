//! What persist costs: CPU of its threads for each event, by the size of the batches; a first message against a later
//! one; a sync. `cargo run --profile bench-dev -p petrel-persist --example bench_persist`
//!
//! One pack is under way at a time, so that a batch is as large as a pack: what the store takes when more are is measured
//! by `pipelined` alone.
//!
//! With `--features cassandra` and BENCH_CASSANDRA=127.0.0.1:9042 the store is a keyspace there, dropped at the end. A
//! tenth of the events is enough then.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use petrel_bus::calls::{PersistCall, Reply};
use petrel_bus::{Bus, Consumer, Publisher, Receipt};
use petrel_persist::{Config, Persist, StoreConfig};
use petrel_protocol::calls::SyncRequest;
use petrel_protocol::events::{self, ReceiptPack, Send, StoredPack, Uplink, UplinkPack, uplink};
use petrel_protocol::ids::{ConversationId, UserId};
use petrel_protocol::topics::{Subscription, Topic};
use prost::Message;

const CONTENT_BYTES: usize = 200;
/// Packs under way where several are.
const PIPELINED: usize = 8;
/// One partition of four has as many conversations as these users have among each other.
const USERS: u64 = 500;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many events a part has.
fn events() -> u64 {
    if is_remote() { 6_000 } else { 60_000 }
}

fn is_remote() -> bool {
    std::env::var_os("BENCH_CASSANDRA").is_some()
}

/// The store under test, and what ends it.
fn store(dir: &Path) -> (StoreConfig, Scratch) {
    #[cfg(feature = "cassandra")]
    if let Ok(node) = std::env::var("BENCH_CASSANDRA") {
        use petrel_persist::cassandra::{Config, Replication};
        let random = random(&mut u64::from(std::process::id()).wrapping_add(dir.as_os_str().len() as u64));
        let name = dir
            .file_name()
            .unwrap()
            .to_string_lossy()
            .bytes()
            .fold(random, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let mut config = Config::new(vec![node], format!("petrel_bench_{name:x}"));
        config.replication = Replication::Everywhere(1);
        return (StoreConfig::Cassandra(config.clone()), Scratch(Some(config)));
    }
    (StoreConfig::Embedded(dir.join("store")), Scratch::default())
}

/// A keyspace that is dropped at the end.
#[derive(Default)]
struct Scratch(#[cfg(feature = "cassandra")] Option<petrel_persist::cassandra::Config>);

impl Drop for Scratch {
    fn drop(&mut self) {
        #[cfg(feature = "cassandra")]
        if let Some(config) = self.0.take() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let builder =
                    scylla::client::session_builder::SessionBuilder::new().known_nodes(&config.nodes);
                let session = builder.build().await.unwrap();
                session.query_unpaged(format!("DROP KEYSPACE {}", config.keyspace), ()).await.unwrap();
            });
        }
    }
}

struct World {
    bus: Bus,
    persist: Persist,
    uplink: (Publisher, Receiver<Receipt>),
    stored: Consumer,
    runtime: tokio::runtime::Runtime,
    next_id: u64,
    at_ms: u64,
    /// Events that came with those of the pack before.
    ahead: usize,
    _scratch: Scratch,
}

impl World {
    fn start(dir: &Path) -> Self {
        let bus = Bus::embedded(&dir.join("bus"), 1).unwrap();
        let (store, scratch) = store(dir);
        let config = Config { store, partitions: vec![0], worker: 1 };
        let persist = Persist::start(config, bus.clone()).unwrap();
        persist.wait_started().unwrap();
        let (sender, receiver) = channel();
        let sender = Mutex::new(sender);
        let on_receipt = Arc::new(move |receipt| drop(sender.lock().unwrap().send(receipt)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self {
            uplink: (bus.publisher(Topic::Uplink, on_receipt), receiver),
            stored: bus.subscribe(Topic::Stored, Subscription::Router, 0).unwrap(),
            bus,
            persist,
            runtime,
            next_id: 0,
            at_ms: 1_700_000_000_000,
            ahead: 0,
            _scratch: scratch,
        }
    }

    fn stop(self) {
        self.persist.stop();
        self.bus.close();
    }

    /// One pack of sends in these conversations, until it is on `stored`.
    fn round(&mut self, conversations: &[(u64, u64)]) {
        self.publish(conversations);
        self.uplink.1.recv().unwrap().outcome.unwrap();
        self.read(conversations.len());
    }

    fn publish(&mut self, conversations: &[(u64, u64)]) {
        let events = conversations.iter().map(|(from, to)| self.send(*from, *to)).collect();
        self.uplink.0.publish(0, 0, UplinkPack { events }.encode_to_vec().into()).unwrap();
    }

    /// Waits until this many more events are on `stored`.
    fn read(&mut self, count: usize) {
        while self.ahead < count {
            let record = self.runtime.block_on(self.stored.next()).unwrap();
            self.ahead += StoredPack::decode(record.pack).unwrap().events.len();
            self.stored.ack(record.position);
        }
        self.ahead -= count;
    }

    fn send(&mut self, user: u64, to: u64) -> Uplink {
        self.next_id += 1;
        self.at_ms += u64::from(self.next_id.is_multiple_of(15));
        let client_msg_id =
            Bytes::copy_from_slice(&u128::from(self.next_id.wrapping_mul(0x9e37_79b9)).to_be_bytes());
        let content = "x".repeat(CONTENT_BYTES);
        let send =
            Send { client_msg_id, msg_id: self.next_id << 12, format: 1, content, ..Default::default() };
        Uplink {
            conversation: Some(ConversationId::of_users(UserId(user), UserId(to)).into()),
            edge_time_ms: self.at_ms,
            user,
            device: 1,
            origin: Some(events::Address { edge: 1, epoch: 1, shard: 1, slot: 7, generation: 9 }),
            body: Some(uplink::Body::Send(send)),
        }
    }
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// CPU time of this process's threads by name.
fn cpu() -> BTreeMap<String, Duration> {
    let mut times = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let ns = read("schedstat").split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
        *times.entry(read("comm").trim().to_owned()).or_default() += Duration::from_nanos(ns);
    }
    times
}

fn report(what: &str, events: u64, before: &BTreeMap<String, Duration>, took: Duration) {
    let per_event = |time: Duration| time.as_secs_f64() * 1e6 / events as f64;
    print!("{what:44} {:8.2} µs wall", per_event(took));
    for (name, time) in cpu() {
        let spent = time.saturating_sub(before.get(&name).copied().unwrap_or_default());
        if per_event(spent) >= 0.05 && !name.starts_with("bench") {
            print!("  {name} {:.2}", per_event(spent));
        }
    }
    println!();
}

fn batches(size: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path());
    let mut state = 7;
    let events = if size == 1 { events() / 10 } else { events() };
    for pass in ["first run", "again, with a store that is not empty"] {
        let (before, began) = (cpu(), Instant::now());
        for _ in 0..events / size {
            let mut user = || 1 + random(&mut state) % USERS;
            let pairs: Vec<_> =
                (0..size).map(|_| (user(), user())).map(|(a, b)| (a, b + u64::from(a == b))).collect();
            world.round(&pairs);
        }
        report(&format!("{size} a batch, any to any: {pass}"), events, &before, began.elapsed());
    }
    world.stop();
}

/// Several packs under way: what the store takes.
fn pipelined() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path());
    let mut state = 7;
    let mut user = || 1 + random(&mut state) % USERS;
    let pairs: Vec<_> =
        (0..events() * 2).map(|_| (user(), user())).map(|(a, b)| (a, b + u64::from(a == b))).collect();
    let (before, began) = (cpu(), Instant::now());
    let mut packs = pairs.chunks(100);
    packs.by_ref().take(PIPELINED).for_each(|pack| world.publish(pack));
    for done in pairs.chunks(100) {
        world.read(done.len());
        if let Some(pack) = packs.next() {
            world.publish(pack);
        }
    }
    let took = began.elapsed();
    report(&format!("{PIPELINED} packs of 100 under way"), pairs.len() as u64, &before, took);
    println!("  {:.0} events/s", pairs.len() as f64 / took.as_secs_f64());
    world.stop();
}

/// A million events: whether compactions keep up, and what the slowest round waited for.
fn sustained() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path());
    let mut state = 7;
    let (before, began) = (cpu(), Instant::now());
    let mut rounds = Vec::new();
    for _ in 0..1_000_000 / 300 {
        let mut user = || 1 + random(&mut state) % USERS;
        let pairs: Vec<_> =
            (0..300).map(|_| (user(), user())).map(|(a, b)| (a, b + u64::from(a == b))).collect();
        let began = Instant::now();
        world.round(&pairs);
        rounds.push(began.elapsed());
    }
    report("sustained, 300 a batch, a million events", 1_000_000, &before, began.elapsed());
    rounds.sort_unstable();
    let at = |share: f64| rounds[((rounds.len() - 1) as f64 * share) as usize];
    println!(
        "  a round: p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?}",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    world.stop();
}

fn first_and_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path());
    let pairs: Vec<_> = (0..events() / 3).map(|n| (1 + n % USERS, 2_000 + n / USERS)).collect();
    for pass in ["first message of a conversation", "second one", "third one"] {
        let (before, began) = (cpu(), Instant::now());
        for pairs in pairs.chunks(30) {
            world.round(pairs);
        }
        report(&format!("30 a batch: {pass}"), pairs.len() as u64, &before, began.elapsed());
    }
    world.stop();
}

/// Receipts of random conversations, as each message has one where nobody writes to the same one twice.
fn receipts() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path());
    let mut state = 7;
    let mut user = || 1 + random(&mut state) % USERS;
    let pairs: Vec<_> =
        (0..events()).map(|_| (user(), user())).map(|(a, b)| (a, b + u64::from(a == b))).collect();
    pairs.chunks(300).for_each(|pairs| world.round(pairs));
    let publisher = world.bus.publisher(Topic::Receipts, Arc::new(|_| ()));
    let (before, began) = (cpu(), Instant::now());
    for pairs in pairs.chunks(1_000) {
        let receipt = |(from, to): &(u64, u64)| events::Receipt {
            conversation: Some(ConversationId::of_users(UserId(*from), UserId(*to)).into()),
            user: *to,
            device: 1,
            delivered_seq: 1,
            ..Default::default()
        };
        let pack = ReceiptPack { events: pairs.iter().map(receipt).collect() };
        publisher.publish(0, 0, pack.encode_to_vec().into()).unwrap();
        // Longer than receipts are gathered.
        std::thread::sleep(Duration::from_millis(150));
    }
    report("receipts, 1,000 in 150 ms", events(), &before, began.elapsed());
    world.stop();
}

fn sync(conversations: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path());
    let pairs: Vec<_> = (0..conversations).map(|n| (2 + n * 7, 1)).collect();
    for _ in 0..3 {
        pairs.chunks(250).for_each(|pairs| world.round(pairs));
    }
    let link = world.persist.link();
    let sync = || {
        let request = SyncRequest { user: 1, device: 1, rows_max: 256, ..Default::default() };
        let (reply, answer) = Reply::channel();
        link.call(PersistCall::Sync(request, reply));
        world.runtime.block_on(answer).unwrap()
    };
    let read: Vec<_> =
        pairs.iter().map(|(peer, _)| ConversationId::of_users(UserId(1), UserId(*peer))).collect();
    sync();
    let receipt = |(index, conversation): (usize, &ConversationId)| events::Receipt {
        conversation: Some((*conversation).into()),
        user: 1,
        device: 1,
        delivered_seq: if index < 5 { 2 } else { 3 },
        ..Default::default()
    };
    let pack = ReceiptPack { events: read.iter().enumerate().map(receipt).collect() };
    let publisher = world.bus.publisher(Topic::Receipts, Arc::new(|_| ()));
    publisher.publish(0, 0, pack.encode_to_vec().into()).unwrap();
    while sync().ranges.len() != 5 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let calls = if is_remote() { 200 } else { 1_000 };
    let (before, began) = (cpu(), Instant::now());
    for _ in 0..calls {
        assert_eq!(sync().ranges.len(), 5);
    }
    report(
        &format!("sync, {conversations} conversations, 5 of them behind"),
        calls,
        &before,
        began.elapsed(),
    );
    world.stop();
}

fn main() {
    // One part alone: `batches`, `pipelined`, `first`, `sustained`, `receipts` or `sync`.
    let part = std::env::args().nth(1).unwrap_or_default();
    let is_on = |name: &str| part.is_empty() || part == name;
    println!("µs for each event (sync: each call): wall, then CPU by thread");
    for size in [1, 30, 300].into_iter().filter(|_| is_on("batches")) {
        batches(size);
    }
    if is_on("pipelined") {
        pipelined();
    }
    if is_on("first") {
        first_and_later();
    }
    if is_on("sustained") && !is_remote() {
        sustained();
    }
    if is_on("receipts") {
        receipts();
    }
    for conversations in [5, 50, 500].into_iter().filter(|_| is_on("sync")) {
        sync(conversations);
    }
}

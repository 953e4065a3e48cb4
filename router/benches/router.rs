//! What router costs: `cargo bench -p petrel-router --profile bench-dev`. Prints one table; CPU time is a thread's own, so
//! that other load on the machine hardly shows.

use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use petrel_bus::Bus;
use petrel_bus::calls::{EdgeCall, PersistCall, Reply, RouterCall, Service};
use petrel_protocol::calls::{Account, Claim, DeliverReply, Lease};
use petrel_protocol::events::{Message, Stored, StoredPack, stored::Body};
use petrel_protocol::fanout::{Fanout, Input, Output, Record};
use petrel_protocol::ids::{Address, ConversationId, Device, Position, UserId};
use petrel_protocol::time::Now;
use petrel_protocol::token::Keys;
use petrel_protocol::topics::{Topic, partition};
use petrel_router::routes::{Claimant, Memory};
use petrel_router::{Config, Router};
use prost::Message as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Now = Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000 };
const USERS: u64 = 1_000_000;

fn main() {
    // `-- driver`, say, measures that alone.
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let is_asked = |what: &str| asked.is_empty() || asked.iter().any(|a| a == what);
    println!("| what | measured |\n| --- | --- |");
    if is_asked("routes") {
        slope(250_000, 1_000_000);
    }
    if is_asked("routes") || is_asked("machine") {
        let routes = claims();
        for size in [1, 30, 300] {
            machine(&routes, size);
        }
    }
    if is_asked("driver") {
        for size in [1, 30, 300] {
            driver(size);
        }
    }
    if is_asked("logins") {
        logins();
    }
}

/// The time that a thread of this process has had a core, from the kernel.
fn cpu(thread: &str) -> Duration {
    let schedstat = fs::read_to_string(format!("{thread}/schedstat")).expect("Linux with schedstat");
    Duration::from_nanos(schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("ns on the core"))
}

fn own_cpu() -> Duration {
    // The kernel brings a running thread's time up to date when it gives the core away.
    thread::yield_now();
    cpu("/proc/thread-self")
}

fn thread_named(name: &str) -> String {
    let threads = fs::read_dir("/proc/self/task").expect("Linux");
    let paths = threads.flatten().map(|t| t.path().display().to_string());
    let mut its =
        paths.filter(|path| fs::read_to_string(format!("{path}/comm")).is_ok_and(|c| c.trim() == name));
    its.next().expect("the thread runs")
}

fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4_096
}

fn lease() -> Lease {
    Lease { edge: 1, epoch: 10, url: "ws://127.0.0.1:1".into(), sessions_max: 1 << 21, ..Default::default() }
}

fn address(user: u64) -> Address {
    Address { edge: 1, shard: (user % 8) as u16, slot: (user / 8) as u32, generation: 1, epoch: 10 }
}

fn claim(routes: &Memory, users: std::ops::RangeInclusive<u64>) {
    for user in users {
        let (user, device, address) = (UserId(user), Device::Android, address(user));
        let claimant = Claimant { user, device, address, age_ms: 0 };
        routes.claim(NOW, &claimant).expect("the lease lives");
    }
}

/// What a route adds to the process, once the allocator has given back what growing left.
fn slope(from: u64, to: u64) {
    let routes = Memory::default();
    routes.lease(NOW, &lease());
    let settled = || {
        for _ in 0..40 {
            thread::sleep(Duration::from_millis(5));
            black_box(vec![0_u8; 100_000]);
        }
        resident()
    };
    claim(&routes, 1..=from);
    let before = settled();
    claim(&routes, from + 1..=to);
    let (at_once, after) = (resident(), settled());
    let each = |bytes: u64| bytes.saturating_sub(before) as f64 / (to - from) as f64;
    println!(
        "| a route, slope from {from} to {to} | {:.1} B ({:.1} B at once) |",
        each(after),
        each(at_once)
    );
}

fn claims() -> Memory {
    let routes = Memory::default();
    routes.lease(NOW, &lease());
    let before = own_cpu();
    claim(&routes, 1..=USERS);
    println!(
        "| a claim, tables growing | {:.0} ns |",
        own_cpu().saturating_sub(before).as_nanos() as f64 / USERS as f64
    );
    let before = own_cpu();
    claim(&routes, 1..=USERS);
    println!(
        "| a claim of what is held | {:.0} ns |",
        own_cpu().saturating_sub(before).as_nanos() as f64 / USERS as f64
    );
    let users: Vec<UserId> = (0..600).map(|n| UserId(1 + n * 1_637 % USERS)).collect();
    let before = own_cpu();
    for _ in 0..200 {
        black_box(routes.look_up(NOW, &users));
    }
    println!(
        "| a user in a look-up of 600 | {:.0} ns |",
        own_cpu().saturating_sub(before).as_nanos() as f64 / 120_000.0
    );
    routes
}

/// `size` messages of 128 B between random users, all connected.
fn pack(number: u64, size: usize) -> StoredPack {
    let events = (0..size as u64).map(|n| {
        let random = (number * 1_000 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (from, to) = (1 + (random >> 20) % USERS, 1 + (random >> 40) % USERS);
        let to = if to == from { to % USERS + 1 } else { to };
        Stored {
            conversation: Some(ConversationId::of_users(UserId(from), UserId(to)).into()),
            seq: number + 1,
            edge_time_ms: 1,
            user: from,
            device: Device::Android as u32,
            origin: Some(address(from).into()),
            again: false,
            body: Some(Body::Message(Message {
                client_msg_id: Bytes::copy_from_slice(&[7; 16]),
                msg_id: random,
                format: 1,
                content: "x".repeat(128),
                time: 1,
                is_recalled: false,
            })),
        }
    });
    StoredPack { events: events.collect() }
}

/// The machine and the routes, without log and threads: each event is an own and a push.
fn machine(routes: &Memory, size: usize) {
    let rounds = 60_000 / size as u64;
    let packs: Vec<Bytes> = (0..rounds).map(|n| pack(n, size).encode_to_vec().into()).collect();
    let mut fanout = Fanout::new();
    let mut out = Vec::new();
    let mut deliveries = 0;
    let before = own_cpu();
    for (entry, pack) in (0..).zip(packs) {
        let position = Position { entry, ..Position::default() };
        let record = Record { topic: Topic::Stored, partition: 0, position, pack };
        fanout.handle(NOW, Input::Records(vec![record]), &mut out);
        while !out.is_empty() {
            for output in std::mem::take(&mut out) {
                match output {
                    Output::LookUp { round, users } => {
                        let routes = routes.look_up(NOW, &users);
                        fanout.handle(NOW, Input::Routes { round, routes }, &mut out);
                    }
                    Output::Deliver { ticket, batch } => {
                        deliveries += batch.deliveries.len();
                        drop(batch);
                        let answer = Some(DeliverReply::default());
                        fanout.handle(NOW, Input::Answered { ticket, answer }, &mut out);
                    }
                    _ => {}
                }
            }
        }
    }
    let count = rounds * size as u64;
    assert_eq!(deliveries as u64, 2 * count);
    let us = own_cpu().saturating_sub(before).as_nanos() as f64 / 1e3 / count as f64;
    println!("| fan-out of an event, machine and routes, {size} a record | {us:.2} µs |");
}

/// Takes everything at once.
#[derive(Default)]
struct Edge {
    deliveries: AtomicU64,
    batches: AtomicU64,
}

impl Service<EdgeCall> for Edge {
    fn call(&self, call: EdgeCall) {
        let EdgeCall::Deliver(batch, reply) = call;
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.deliveries.fetch_add(batch.deliveries.len() as u64, Ordering::Relaxed);
        reply.send(Ok(DeliverReply::default()));
    }
}

/// One account for every name; its hash is made once.
#[derive(Default)]
struct Persist(Mutex<Option<Account>>);

impl Service<PersistCall> for Persist {
    fn call(&self, call: PersistCall) {
        let mut account = self.0.lock().expect("nobody panics");
        match call {
            PersistCall::CreateAccount(new, reply) => {
                let made = Account {
                    user: 1,
                    username: new.username,
                    password_hash: new.password_hash,
                    token_version: 1,
                };
                *account = Some(made.clone());
                reply.send(Ok(made));
            }
            PersistCall::FindAccount(_, reply) => reply.send(Ok(account.clone())),
            other => drop(other),
        }
    }
}

struct World {
    router: Router,
    edge: Arc<Edge>,
    bus: Bus,
    _dir: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let bus = Bus::embedded(&dir.path().join("bus"), 4).expect("a log");
        let config = Config::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        let keys = Arc::new(Keys::with_new_key("k", [1; 32]));
        let router =
            Router::start(config, bus.clone(), Arc::new(Persist::default()), keys).expect("a router");
        let edge = Arc::new(Edge::default());
        router.attach_edge(1, edge.clone());
        router.link().call(RouterCall::Lease(lease(), Reply::ignored()));
        Self { router, edge, bus, _dir: dir }
    }
}

/// The driver's thread on the embedded log, at 15,000 events a second.
fn driver(size: usize) {
    const RATE: u64 = 15_000;
    let world = World::start();
    for user in 1..=USERS {
        let (device, address) = (Device::Android as u32, Some(address(user).into()));
        world
            .router
            .link()
            .call(RouterCall::Claim(Claim { user, device, address, ..Claim::default() }, Reply::ignored()));
    }
    let rounds = 3 * RATE / size as u64;
    let packs: Vec<(u16, Bytes)> = (0..rounds)
        .map(|n| {
            // One pack is one partition's: its events are those of its first conversation's partition.
            let pack = pack(n, size);
            let conversation = pack.events[0].conversation.as_ref().expect("it has one");
            let conversation = ConversationId::try_from(conversation).expect("it is one");
            (partition(conversation, 4), pack.encode_to_vec().into())
        })
        .collect();
    let publisher = world.bus.publisher(Topic::Stored, Arc::new(|_| ()));
    let thread = thread_named("petrel-fanout");
    let before = cpu(&thread);
    let start = Instant::now();
    for (n, (partition, pack)) in (0..).zip(packs) {
        let due = Duration::from_nanos(n * size as u64 * 1_000_000_000 / RATE);
        if let Some(wait) = due.checked_sub(start.elapsed()) {
            thread::sleep(wait);
        }
        publisher.publish(partition, 0, pack).expect("there is room");
    }
    let count = rounds * size as u64;
    let end = Instant::now() + Duration::from_secs(20);
    while world.edge.deliveries.load(Ordering::Relaxed) < 2 * count {
        assert!(Instant::now() < end, "{} deliveries", world.edge.deliveries.load(Ordering::Relaxed));
        thread::sleep(Duration::from_millis(5));
    }
    let us = cpu(&thread).saturating_sub(before).as_nanos() as f64 / 1e3 / count as f64;
    let a_batch = 2.0 * count as f64 / world.edge.batches.load(Ordering::Relaxed) as f64;
    println!(
        "| fan-out of an event, driver's thread on the log at {RATE}/s, {size} a record | {us:.2} µs ({a_batch:.0} deliveries a batch) |"
    );
    world.router.stop();
    world.bus.close();
}

fn logins() {
    let world = World::start();
    let addr = world.router.http_addr();
    let body = "{\"username\":\"anna\",\"password\":\"secret\",\"device_type\":4}";
    let request = move |path: &str| {
        let mut stream = TcpStream::connect(addr).expect("it listens");
        let length = body.len();
        let head = format!(
            "POST /api/v1/{path} HTTP/1.1\r\nhost: p\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    };
    assert!(request("register").starts_with("HTTP/1.1 201"));
    let done = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let done = done.clone();
            thread::spawn(move || {
                while start.elapsed() < Duration::from_secs(5) {
                    let answer = request("login");
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("a client");
    }
    let rate = done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    println!("| logins over HTTP, argon2id with 19 MiB and 2 passes, one at once | {rate:.0}/s |");
    world.router.stop();
    world.bus.close();
}

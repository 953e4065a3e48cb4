//! Brokers that die, stop, move topics and fill up.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use petrel_bus::{Bus, Health, PublishError, Publisher, Receipt};
use petrel_protocol::ids::Position;
use petrel_protocol::topics::{Subscription, Topic};

use crate::broker::Broker;
use crate::stack::Stack;
use crate::support::{PATIENCE, Publishing, next, wait_until};

const PARTITIONS: u16 = 2;

fn on(broker: &Broker) -> Stack {
    Stack::at(&broker.address(), &broker.admin(), PARTITIONS)
}

type Outcomes = Arc<Mutex<HashMap<u64, Result<Position, PublishError>>>>;

/// A publisher without end, and a reader of all partitions that acknowledges each record.
struct Load {
    is_over: Arc<AtomicBool>,
    /// Each pack has its receipt, and no more will come.
    is_settled: Arc<AtomicBool>,
    outcomes: Outcomes,
    publisher: std::thread::JoinHandle<u64>,
    readers: Vec<tokio::task::JoinHandle<Vec<(Position, u64)>>>,
}

/// What has become of everything.
struct Ended {
    published: u64,
    outcomes: HashMap<u64, Result<Position, PublishError>>,
    /// By partition, in the order of reading.
    read: Vec<Vec<(Position, u64)>>,
}

impl Load {
    fn start(bus: &Bus) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let is_settled = Arc::new(AtomicBool::new(false));
        let outcomes = Outcomes::default();
        let sink = Arc::clone(&outcomes);
        let on_receipt = move |receipt: Receipt| {
            let before = sink.lock().unwrap().insert(receipt.tag, receipt.outcome);
            assert!(before.is_none(), "one receipt for each pack");
        };
        let publisher = bus.publisher(Topic::Uplink, Arc::new(on_receipt));
        let over = Arc::clone(&is_over);
        let publisher = std::thread::spawn(move || publish_until(&over, &publisher, PARTITIONS));
        let readers =
            (0..PARTITIONS).map(|partition| read_all(bus, partition, &is_settled, &outcomes)).collect();
        Self { is_over, is_settled, outcomes, publisher, readers }
    }

    fn receipted(&self) -> usize {
        self.outcomes.lock().unwrap().values().filter(|outcome| outcome.is_ok()).count()
    }

    fn wait_for_more(&self, count: usize) {
        let before = self.receipted();
        wait_until("more receipts", || self.receipted() >= before + count);
    }

    async fn end(self) -> Ended {
        self.is_over.store(true, Ordering::Relaxed);
        let published = self.publisher.join().unwrap();
        wait_until("a receipt for each pack", || self.outcomes.lock().unwrap().len() as u64 == published);
        let outcomes = self.outcomes.lock().unwrap().clone();
        self.is_settled.store(true, Ordering::Relaxed);
        let mut read = Vec::new();
        for reader in self.readers {
            read.push(reader.await.unwrap());
        }
        Ended { published, outcomes, read }
    }
}

/// Publishes numbered packs to so many partitions in turn, a few at a time; answers with how many.
pub(crate) fn publish_until(is_over: &AtomicBool, publisher: &Publisher, partitions: u16) -> u64 {
    let mut tag = 0_u64;
    while !is_over.load(Ordering::Relaxed) {
        let pack = Bytes::copy_from_slice(&tag.to_be_bytes());
        if publisher.publish((tag % u64::from(partitions)) as u16, tag, pack).is_ok() {
            tag += 1;
        }
        std::thread::sleep(Duration::from_micros(300));
    }
    tag
}

/// Silence after which a reader looks whether it has everything, and how often it looks before it gives up: one that connects
/// to its partition again may be silent for longer than one of these.
const SILENCE: Duration = Duration::from_secs(5);
const LOOKS: u32 = 12;

/// Reads until everything that was receipted has come, and then nothing more.
fn read_all(
    bus: &Bus,
    partition: u16,
    is_settled: &Arc<AtomicBool>,
    outcomes: &Outcomes,
) -> tokio::task::JoinHandle<Vec<(Position, u64)>> {
    let mut consumer = bus.subscribe(Topic::Uplink, Subscription::Persist, partition).unwrap();
    let (is_settled, outcomes) = (Arc::clone(is_settled), Arc::clone(outcomes));
    tokio::spawn(async move {
        let mut read = Vec::new();
        let mut looks = 0;
        loop {
            match tokio::time::timeout(SILENCE, consumer.next()).await {
                Ok(Some(record)) => {
                    read.push((record.position, u64::from_be_bytes(record.pack[..8].try_into().unwrap())));
                    consumer.ack(record.position);
                }
                Ok(None) => panic!("the reader ended"),
                Err(_) if is_settled.load(Ordering::Relaxed) => {
                    looks += 1;
                    if looks == LOOKS || has_all(partition, &read, &outcomes.lock().unwrap()) {
                        return read;
                    }
                }
                Err(_) => {}
            }
        }
    })
}

/// Whether everything that was receipted on a partition is among what was read.
fn has_all(
    partition: u16,
    read: &[(Position, u64)],
    outcomes: &HashMap<u64, Result<Position, PublishError>>,
) -> bool {
    let read: HashSet<u64> = read.iter().map(|(_, tag)| *tag).collect();
    let here = |tag: &u64| tag % u64::from(PARTITIONS) == u64::from(partition);
    outcomes.iter().filter(|(tag, outcome)| here(tag) && outcome.is_ok()).all(|(tag, _)| read.contains(tag))
}

impl Ended {
    /// Nothing receipted is lost, what is refused is not there, and order holds.
    fn verify(&self) {
        let mut firsts = HashMap::new();
        for (partition, read) in self.read.iter().enumerate() {
            // The first time that each position was read; what comes again is the same.
            let mut at: std::collections::BTreeMap<Position, u64> = std::collections::BTreeMap::new();
            for (position, tag) in read {
                let before = at.insert(*position, *tag);
                assert!(before.is_none_or(|before| before == *tag), "{position:?} has two packs");
            }
            let mut highest = None;
            for (position, tag) in at {
                assert_eq!(tag % u64::from(PARTITIONS), partition as u64);
                if firsts.insert(tag, position).is_none() {
                    assert!(highest < Some(tag), "{tag} came first after {highest:?}");
                    highest = Some(tag);
                }
            }
        }
        for (tag, outcome) in &self.outcomes {
            match outcome {
                Ok(_) => assert!(firsts.contains_key(tag), "{tag} is receipted and lost"),
                Err(PublishError::Unknown) => {}
                Err(error) => assert!(!firsts.contains_key(tag), "{tag} is {error} and there"),
            }
        }
        let count = |wanted: fn(&Result<Position, PublishError>) -> bool| {
            self.outcomes.values().filter(|outcome| wanted(outcome)).count()
        };
        println!(
            "{} packs: {} receipted, {} unknown, {} refused after they were taken",
            self.published,
            count(Result::is_ok),
            count(|outcome| *outcome == Err(PublishError::Unknown)),
            count(|outcome| matches!(outcome, Err(PublishError::Unavailable | PublishError::Full))),
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_loses_nothing_and_keeps_the_order() {
    let broker = Broker::started();
    let stack = on(&broker);
    let bus = stack.open().await;
    let load = Load::start(&bus);
    for _ in 0..3 {
        load.wait_for_more(500);
        broker.kill();
        wait_until("refusals", || stack.config.health.problem().is_some());
        broker.start();
    }
    load.wait_for_more(500);
    load.end().await.verify();
    assert_eq!(stack.config.health.problem(), None, "all is well again");
    bus.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stands_still_is_waited_for() {
    let broker = Broker::started();
    let stack = on(&broker);
    let bus = stack.open().await;
    let load = Load::start(&bus);
    load.wait_for_more(200);
    broker.signal("-STOP");
    wait_until("refusals", || stack.config.health.problem().is_some());
    // Long enough for packs to get an unknown outcome.
    let unknown = || {
        let outcomes = load.outcomes.lock().unwrap();
        outcomes.values().any(|outcome| *outcome == Err(PublishError::Unknown))
    };
    wait_until("an unknown outcome", unknown);
    broker.signal("-CONT");
    load.wait_for_more(500);
    load.end().await.verify();
    bus.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_move_are_found_again() {
    let stack = Stack::new(PARTITIONS);
    let bus = stack.open().await;
    let load = Load::start(&bus);
    let namespace = format!("namespaces/{}/{}", stack.config.tenant, stack.config.namespace);
    for _ in 0..5 {
        load.wait_for_more(300);
        let (status, body) = stack.admin("PUT", &format!("{namespace}/unload"), "");
        assert_eq!(status, 204, "{body}");
    }
    load.wait_for_more(300);
    let ended = load.end().await;
    ended.verify();
    assert!(ended.outcomes.values().all(Result::is_ok), "a topic that moves costs a moment, and no refusal");
    bus.close();
}

/// The first problem that is told and has this text.
async fn told(health: &Health, text: &str) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(problem) = health.problem().filter(|problem| problem.contains(text)) {
            return problem;
        }
        assert!(Instant::now() < until, "it is told");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_absent_broker_is_waited_for_and_told() {
    let broker = Broker::new();
    let stack = on(&broker);
    let health = stack.config.health.clone();
    let opening = tokio::spawn(Bus::pulsar(stack.config.clone()));
    let problem = told(&health, "").await;
    assert!(problem.contains("cannot be reached") && problem.contains("127.0.0.1"), "{problem}");
    assert!(!opening.is_finished());
    let broker = tokio::task::spawn_blocking(move || {
        broker.start();
        broker
    });
    let broker = broker.await.unwrap();
    let bus = opening.await.unwrap().expect("it opens when the broker is there");
    assert_eq!(health.problem(), None);
    Publishing::new(&bus, Topic::Uplink).put(0, "x");
    bus.close();
    drop(broker);
}

/// At the start of a machine its resolver may not work yet.
#[tokio::test]
async fn a_name_that_is_not_found_is_waited_for_and_told() {
    let mut stack = Stack::new(PARTITIONS);
    // RFC 6761, section 6.4: it is never found.
    stack.config.broker = "pulsar://broker.invalid:6650".to_owned();
    let health = stack.config.health.clone();
    let opening = tokio::spawn(Bus::pulsar(stack.config.clone()));
    told(&health, "broker.invalid").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!opening.is_finished(), "it waits");
    opening.abort();
}

/// A balancer before a broker that starts, or a broker that ends, takes connections and closes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_broker_that_hangs_up_at_first_is_waited_for() {
    let mut stack = Stack::new(PARTITIONS);
    let broker = stack.config.broker.strip_prefix("pulsar://").unwrap().to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    stack.config.broker = format!("pulsar://{}", listener.local_addr().unwrap());
    let (told, health) = (Arc::new(Mutex::new(Vec::new())), stack.config.health.clone());
    let tells = Arc::clone(&told);
    tokio::spawn(async move {
        for count in 0.. {
            let (mut client, _) = listener.accept().await.unwrap();
            if count < 4 {
                continue;
            }
            tells.lock().unwrap().extend(health.problem());
            let mut broker = tokio::net::TcpStream::connect(&broker).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut broker).await });
        }
    });
    let bus = stack.open().await;
    Publishing::new(&bus, Topic::Uplink).put(0, "x");
    let told = told.lock().unwrap().clone();
    assert!(told.iter().any(|problem| problem.contains("127.0.0.1")), "{told:?}");
    assert_eq!(stack.config.health.problem(), None);
    bus.close();
}

#[tokio::test]
async fn a_full_backlog_refuses_until_readers_acknowledge() {
    let mut stack = Stack::new(1);
    stack.config.backlog_bytes_max = 2 << 20;
    let bus = stack.open().await;
    let publishing = Publishing::new(&bus, Topic::Receipts);
    // The broker looks from time to time.
    let mut taken = Vec::new();
    wait_until("the refusal", || {
        match publishing.publish(0, 0, vec![1; 100_000]) {
            Ok(()) => taken.push(publishing.receipts(1).remove(0).outcome),
            Err(error) => assert!([PublishError::Full, PublishError::Unavailable].contains(&error)),
        }
        publishing.publish(0, 0, "x") == Err(PublishError::Full)
    });
    let problem = stack.config.health.problem().expect("it is told");
    assert!(problem.contains("the backlog is full"), "{problem}");
    Publishing::new(&bus, Topic::Uplink).put(0, "the bound is for each topic");

    // Nothing that was receipted is gone, and room comes with the last acknowledgement of both.
    for subscription in [Subscription::Persist, Subscription::Router] {
        let mut consumer = bus.subscribe(Topic::Receipts, subscription, 0).unwrap();
        for position in taken.iter().flatten() {
            let mut record = next(&mut consumer).await;
            while record.position < *position {
                record = next(&mut consumer).await;
            }
            assert_eq!(record.position, *position);
        }
        while let Ok(Some(record)) = tokio::time::timeout(Duration::from_secs(1), consumer.next()).await {
            taken.push(Ok(record.position));
        }
        consumer.ack(*taken.iter().flatten().max().unwrap());
    }
    wait_until("room", || publishing.publish(0, 0, "x").is_ok());
    bus.close();
}

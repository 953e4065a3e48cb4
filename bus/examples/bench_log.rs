//! Measures the log: receipts a second, their latency, CPU a pack, and what reading costs.
//!
//! ```text
//! cargo run --release -p petrel-bus --example bench_log -- [--dir DIR] [--seconds N]
//! cargo run --release -p petrel-bus --features pulsar --example bench_log -- \
//!   --pulsar pulsar://127.0.0.1:6650 --admin http://127.0.0.1:8090 [--seconds N]
//! ```
//!
//! The second is for the log on Pulsar, in a tenant `petrel-bench` that is left there. A closed loop: a given number of packs is in flight, each receipt is handed to the publishing thread, which publishes
//! the next. A reader on a thread of its own reads and acknowledges everything. CPU is that of the whole process, so it
//! includes the publishing and the reading thread, but not a broker. `uplink` is synced before its receipts, `stored` is
//! not, on the embedded log.
#![allow(clippy::print_stdout, reason = "the table is the output")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use petrel_bus::{Bus, Receipt};
use petrel_protocol::topics::{Subscription, Topic};

const PARTITIONS: u16 = 4;

struct Options {
    dir: PathBuf,
    seconds: u64,
    /// Broker and administration, for the log on Pulsar.
    pulsar: Option<(String, String)>,
}

/// One line of the table.
struct Run {
    topic: Topic,
    in_flight: usize,
    events: usize,
    event_bytes: usize,
    reader: bool,
}

fn main() {
    let options = options();
    println!(
        "| topic | in flight | events a pack | bytes a pack | reader | packs/s | events/s | p50 us | p99 us | max us \
              | CPU us a pack | CPU us an event | MiB resident |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    if options.pulsar.is_some() {
        for (in_flight, events) in
            [(1, 1), (8, 1), (32, 1), (128, 1), (1, 30), (8, 30), (32, 30), (1, 60), (8, 60), (32, 60)]
        {
            run(&options, &Run { topic: Topic::Uplink, in_flight, events, event_bytes: 200, reader: true });
        }
        return;
    }
    for topic in [Topic::Uplink, Topic::Stored] {
        for (in_flight, events) in [(1, 1), (8, 1), (32, 1), (128, 1), (8, 30), (32, 30), (128, 30)] {
            run(&options, &Run { topic, in_flight, events, event_bytes: 200, reader: true });
        }
    }
    run(&options, &Run { topic: Topic::Uplink, in_flight: 32, events: 1, event_bytes: 200, reader: false });
    idle(&options);
}

fn options() -> Options {
    let mut options = Options { dir: std::env::temp_dir(), seconds: 5, pulsar: None };
    let (mut broker, mut admin) = (None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "--dir" => options.dir = value.into(),
            "--seconds" => options.seconds = value.parse().expect("a number of seconds"),
            "--pulsar" => broker = Some(value),
            "--admin" => admin = Some(value),
            _ => panic!("unknown argument {argument}: there are --dir, --seconds, --pulsar and --admin"),
        }
    }
    options.pulsar = broker.map(|broker| (broker, admin.expect("--pulsar needs --admin too")));
    options
}

/// An empty log. The folder is that of the embedded one.
fn open(options: &Options) -> (Bus, Option<tempfile::TempDir>) {
    let Some((broker, admin)) = &options.pulsar else {
        let dir = tempfile::tempdir_in(&options.dir).expect("a folder");
        return (Bus::embedded(dir.path(), PARTITIONS).expect("it opens"), Some(dir));
    };
    (open_pulsar(broker, admin), None)
}

#[cfg(feature = "pulsar")]
fn open_pulsar(broker: &str, admin: &str) -> Bus {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let namespace = format!("run-{}", now.as_nanos());
    let config = petrel_bus::pulsar::Config::new(broker, admin, "petrel-bench", &namespace, PARTITIONS);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(Bus::pulsar(config)).expect("it opens")
}

#[cfg(not(feature = "pulsar"))]
fn open_pulsar(_broker: &str, _admin: &str) -> Bus {
    panic!("--pulsar needs the feature pulsar: cargo run --features pulsar")
}

/// The receipts on their way to the publishing thread.
#[derive(Default)]
struct Receipts {
    tags: Mutex<Vec<u64>>,
    more: Condvar,
}

fn run(options: &Options, run: &Run) {
    let (bus, _dir) = open(options);
    let subscription = run.topic.subscriptions()[0];
    let readers: Vec<_> = if run.reader { vec![reader(&bus, run.topic, subscription)] } else { Vec::new() };

    let receipts = Arc::new(Receipts::default());
    let sink = Arc::clone(&receipts);
    let publisher = bus.publisher(
        run.topic,
        Arc::new(move |receipt: Receipt| {
            receipt.outcome.expect("the log is well");
            let mut tags = sink.tags.lock().unwrap();
            tags.push(receipt.tag);
            if tags.len() == 1 {
                sink.more.notify_one();
            }
        }),
    );
    let pack = Bytes::from(vec![7; run.event_bytes * run.events]);
    warm_up(&publisher, &receipts, &pack);
    let mut sent = vec![Instant::now(); run.in_flight];
    for (tag, at) in sent.iter_mut().enumerate() {
        *at = Instant::now();
        publisher
            .publish((tag % usize::from(PARTITIONS)) as u16, tag as u64, pack.clone())
            .expect("there is room");
    }
    let (begin, cpu) = (Instant::now(), cpu());
    let end = begin + Duration::from_secs(options.seconds);
    let mut latencies = Vec::with_capacity(1 << 20);
    let mut tags = Vec::new();
    while Instant::now() < end {
        {
            let mut list = receipts.tags.lock().unwrap();
            while list.is_empty() {
                list = receipts.more.wait(list).unwrap();
            }
            std::mem::swap(&mut *list, &mut tags);
        }
        for tag in tags.drain(..) {
            let now = Instant::now();
            let at = &mut sent[tag as usize];
            latencies.push(now.duration_since(*at).as_micros() as u32);
            *at = now;
            let partition = (tag % u64::from(PARTITIONS)) as u16;
            publisher.publish(partition, tag, pack.clone()).expect("there is room");
        }
    }
    let (seconds, cpu) = (begin.elapsed().as_secs_f64(), self::cpu() - cpu);
    let resident = resident_mib();
    bus.close();
    for reader in readers {
        reader.join().expect("the reader ends with the bus");
    }
    latencies.sort_unstable();
    let packs = latencies.len();
    let per_pack = cpu / packs as f64;
    println!(
        "| {} | {} | {} | {} | {} | {:.0} | {:.0} | {} | {} | {} | {per_pack:.2} | {:.2} | {resident} |",
        run.topic.name(),
        run.in_flight,
        run.events,
        pack.len(),
        if run.reader { "yes" } else { "no" },
        packs as f64 / seconds,
        (packs * run.events) as f64 / seconds,
        latencies[packs / 2],
        latencies[packs * 99 / 100],
        latencies[packs - 1],
        per_pack / run.events as f64,
    );
}

/// One pack on each partition, so that connections and files are open.
fn warm_up(publisher: &petrel_bus::Publisher, receipts: &Receipts, pack: &Bytes) {
    for partition in 0..PARTITIONS {
        publisher.publish(partition, 0, pack.clone()).expect("there is room");
    }
    let mut list = receipts.tags.lock().unwrap();
    while list.len() < usize::from(PARTITIONS) {
        list = receipts.more.wait_timeout(list, Duration::from_millis(10)).unwrap().0;
    }
    list.clear();
}

/// Reads and acknowledges all partitions on a thread of its own.
fn reader(bus: &Bus, topic: Topic, subscription: Subscription) -> std::thread::JoinHandle<()> {
    let bus = bus.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let consumers: Vec<_> =
            (0..PARTITIONS).map(|p| bus.subscribe(topic, subscription, p).expect("it is there")).collect();
        drop(bus);
        runtime.block_on(async {
            let tasks: Vec<_> = consumers
                .into_iter()
                .map(|mut consumer| {
                    tokio::spawn(async move {
                        while let Some(mut record) = consumer.next().await {
                            // As a service does: takes what is there, acknowledges the last.
                            while let Some(more) = consumer.try_next() {
                                record = more;
                            }
                            consumer.ack(record.position);
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("no panic");
            }
        });
    })
}

/// What an idle log costs, and what reading alone does.
fn idle(options: &Options) {
    let dir = tempfile::tempdir_in(&options.dir).expect("a folder");
    let bus = Bus::embedded(dir.path(), PARTITIONS).expect("it opens");
    let before = cpu();
    std::thread::sleep(Duration::from_secs(2));
    println!("\nidle: {:.0} us of CPU in 2 s, {} MiB resident", cpu() - before, resident_mib());

    let count = 500_000_u64;
    let receipted = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&receipted);
    let publisher = bus.publisher(
        Topic::Stored,
        Arc::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        }),
    );
    let pack = Bytes::from(vec![7; 200]);
    for tag in 0..count {
        while publisher.publish(0, tag, pack.clone()).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    while receipted.load(Ordering::Relaxed) < count {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut consumer = bus.subscribe(Topic::Stored, Subscription::Router, 0).expect("it is there");
    let (begin, before) = (Instant::now(), cpu());
    let mut read = 0_u64;
    while consumer.try_next().is_some() {
        read += 1;
    }
    println!(
        "try_next() from disk: {:.2} us of CPU, {:.2} us each ({read} packs of 200 B)",
        (cpu() - before) / read as f64,
        begin.elapsed().as_secs_f64() * 1e6 / read as f64,
    );
}

/// The CPU time of all threads of this process, user and kernel, in microseconds.
fn cpu() -> f64 {
    // Nanoseconds of each thread that lives; none ends while something is measured.
    let tasks = std::fs::read_dir("/proc/self/task").expect("this is Linux");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse::<f64>().ok())
        .sum::<f64>()
        / 1e3
}

fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("a number of pages") / 256
}

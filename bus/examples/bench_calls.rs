//! What a call between processes costs: batches of deliveries, as router sends them to an edge.
//!
//! `cargo run --release -p petrel-bus --features grpc --example bench_calls` prints, for a number of deliveries a call
//! and of calls under way: calls a second, the time to an answer, and the CPU of both sides together for each call and
//! each delivery. Both sides run in this process, each on a thread of its own, over loopback.

use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use petrel_bus::calls::{EdgeCall, Link, Reply, Service};
use petrel_bus::grpc::{Remote, Server, Services};
use petrel_protocol::calls::{DeliverBatch, DeliverReply, Delivery, Push, delivery::What};
use petrel_protocol::events::Conversation;
use tokio::runtime::Runtime;

/// How long each line is measured.
const SPAN: Duration = Duration::from_secs(3);
/// Bytes of a pushed packet: a short text with its envelope.
const PACKET_BYTES: usize = 250;

struct Edge;

impl Service<EdgeCall> for Edge {
    fn call(&self, EdgeCall::Deliver(batch, reply): EdgeCall) {
        std::hint::black_box(batch);
        reply.send(Ok(DeliverReply::default()));
    }
}

fn main() {
    let (serving, calling) = (runtime("serving"), runtime("calling"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let services = Services { edge: Some(Arc::new(Edge)), ..Services::default() };
    let server = Server::start(serving.handle(), listener, services).expect("a server");
    let remote = Remote::new(calling.handle(), &server.addr().to_string()).expect("an address");
    while !remote.is_open() {
        thread::sleep(Duration::from_millis(1));
    }
    let edge: Link<EdgeCall> = Arc::new(remote);
    println!(
        "deliveries  under way    calls/s  deliveries/s   p50 µs   p99 µs  CPU µs/call  CPU µs/delivery"
    );
    for (deliveries, under_way) in [(1, 1), (1, 64), (16, 1), (16, 16), (256, 1), (256, 8), (1_024, 4)] {
        measure(&edge, deliveries, under_way);
    }
    drop(edge);
    serving.block_on(server.stop());
}

fn runtime(name: &str) -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).thread_name(name).enable_all().build().expect("a runtime")
}

fn measure(edge: &Link<EdgeCall>, deliveries: usize, under_way: usize) {
    let batch = batch(deliveries);
    let (tell, told) = mpsc::channel();
    let start = |batch: &DeliverBatch| {
        let (tell, since) = (tell.clone(), Instant::now());
        let then = move |answer: Result<_, _>| {
            answer.expect("the server runs");
            // The receiver is this function.
            let _ = tell.send(since.elapsed());
        };
        edge.call(EdgeCall::Deliver(batch.clone(), Reply::new(then)));
    };
    (0..under_way).for_each(|_| start(&batch));
    let (begun, cpu) = (Instant::now(), cpu_time());
    let mut times = Vec::new();
    while begun.elapsed() < SPAN {
        times.push(told.recv().expect("an answer"));
        start(&batch);
    }
    let (span, cpu) = (begun.elapsed(), cpu_time().saturating_sub(cpu));
    (0..under_way).for_each(|_| {
        told.recv().expect("an answer");
    });
    times.sort_unstable();
    let calls = times.len() as f64;
    let at = |part: f64| times[(calls * part) as usize].as_micros();
    let rate = calls / span.as_secs_f64();
    let cpu_us = cpu.as_secs_f64() * 1e6 / calls;
    println!(
        "{deliveries:10}  {under_way:9}  {rate:9.0}  {:12.0}  {:7}  {:7}  {cpu_us:11.1}  {:15.2}",
        rate * deliveries as f64,
        at(0.5),
        at(0.99),
        cpu_us / deliveries as f64,
    );
}

fn batch(deliveries: usize) -> DeliverBatch {
    let packet = Bytes::from(vec![7; PACKET_BYTES]);
    let push = |slot| Delivery {
        shard: 1,
        slot,
        generation: 3,
        user: 1_000_000 + u64::from(slot),
        device: 4,
        what: Some(What::Push(Push {
            conversation: Some(Conversation { kind: 1, a: 1_000_000, b: 2_000_000 }),
            seq: 17,
            msg_id: 1 << 60,
            client_msg_id: Bytes::from_static(&[9; 16]),
            from: 2_000_000,
            packet: packet.clone(),
            is_recall: false,
        })),
    };
    DeliverBatch { edge: 1, epoch: 1, deliveries: (0..deliveries as u32).map(push).collect() }
}

/// CPU time of this process so far: its generator's included, which does little beside.
fn cpu_time() -> Duration {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task").expect("Linux") {
        let path = task.expect("a task").path().join("schedstat");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        total += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Duration::from_nanos(total)
}

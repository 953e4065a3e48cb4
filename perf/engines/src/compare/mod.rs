//! Servers in turn under one client: interleaved, repeated, each round with a fresh process.
//!
//! A round of a scene starts every server once, each round with another one first, so that what drifts on the machine
//! meets all of them alike; ratios are taken within a round.

mod client;
mod process;
mod profile;
mod report;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use client::{Client, Shape};
pub use process::Server;
use process::{Running, slabs};
use profile::Profile;
pub use report::{markdown, markdown_idle};

/// Connections before the first measurement of memory: what a server takes once is taken by then.
const IDLE_FIRST: usize = 1_000;
/// What connections need to settle before memory is read.
const IDLE_SETTLE: Duration = Duration::from_millis(500);

/// Which message goes where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Each message comes back.
    Echo,
    /// Each message goes to everybody.
    Broadcast,
}

/// One kind of load.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Scene {
    /// Echo or broadcast.
    pub kind: Kind,
    /// Bytes of each message.
    pub payload_bytes: usize,
    /// WebSockets that are open.
    pub connections: usize,
    /// Messages a second over all connections; none is as fast as the answers come.
    pub per_second: Option<u64>,
}

/// How much is measured, and where.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Times that each server is started.
    pub rounds: usize,
    /// Load before a measurement.
    pub warm_up: Duration,
    /// Length of a measurement.
    pub time: Duration,
    /// The core of the servers.
    pub server_core: usize,
    /// The core of the client.
    pub client_core: usize,
    /// The first port; servers take turns on 100 ports from there.
    pub port: u16,
    /// Whether perf takes a profile of each measurement.
    pub is_profiled: bool,
}

/// What one server did in one round.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Measured {
    /// Messages a second: answers, or deliveries of a broadcast.
    pub per_second: f64,
    /// The server's time on cores for each of them, microseconds.
    pub cpu_us: f64,
    /// The part of it in the program; the rest is in the kernel.
    pub user_us: f64,
    /// Everything that its core did meanwhile, for each of them: the server, and what no process is charged for.
    pub core_us: f64,
    /// The part of `cpu_us` that is not within the kernel's `tcp_sendmsg` and `tcp_recvmsg`, where a profile was taken.
    pub outside_tcp_us: Option<f64>,
    /// Latencies, microseconds.
    pub p50_us: f64,
    /// Likewise.
    pub p99_us: f64,
    /// Likewise.
    pub p999_us: f64,
}

/// What one idle connection costs.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Idle {
    /// The server's own resident memory, bytes.
    pub user_bytes: f64,
    /// Slabs of the kernel, bytes, both ends of the connection; none where they cannot be read.
    pub kernel_bytes: Option<f64>,
}

/// A server's rounds, or why there are none.
pub type Outcome<T> = (Server, Result<Vec<T>, String>);

/// Runs all servers under one load.
pub fn compare(servers: &[Server], scene: &Scene, effort: &Effort) -> io::Result<Vec<Outcome<Measured>>> {
    in_turn(servers, effort, |server, turn| measure(server, scene, effort, turn))
}

/// Measures what an idle connection costs on each server.
pub fn compare_idle(
    servers: &[Server],
    connections: usize,
    effort: &Effort,
) -> io::Result<Vec<Outcome<Idle>>> {
    in_turn(servers, effort, |server, turn| measure_idle(server, connections, effort, turn))
}

fn in_turn<T>(
    servers: &[Server],
    effort: &Effort,
    mut measure: impl FnMut(&Server, usize) -> io::Result<T>,
) -> io::Result<Vec<Outcome<T>>> {
    process::pin(effort.client_core)?;
    let mut outcomes: Vec<Outcome<T>> =
        servers.iter().map(|server| (server.clone(), Ok(Vec::new()))).collect();
    for round in 0..effort.rounds {
        for place in 0..servers.len() {
            let (server, outcome) = &mut outcomes[(round + place) % servers.len()];
            let Ok(measured) = outcome else { continue };
            match measure(server, round * servers.len() + place) {
                Ok(one) => measured.push(one),
                Err(error) => *outcome = Err(format!("round {}: {error}", round + 1)),
            }
        }
    }
    Ok(outcomes)
}

fn start(server: &Server, scene: &Scene, effort: &Effort, turn: usize) -> io::Result<Running> {
    let addr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), effort.port + (turn % 100) as u16);
    let mut extra = Vec::new();
    if scene.kind == Kind::Broadcast {
        extra.push("--broadcast".to_owned());
    }
    if server.answers != 1 {
        extra.push(format!("--answers={}", server.answers));
    }
    Running::start(server, &extra, addr, effort.server_core)
}

fn measure(server: &Server, scene: &Scene, effort: &Effort, turn: usize) -> io::Result<Measured> {
    let running = start(server, scene, effort, turn)?;
    let shape = Shape { payload_bytes: scene.payload_bytes, answers: server.answers };
    let mut client = Client::new(running.addr, shape)?;
    client.open(scene.connections)?;
    load(&mut client, scene, effort.warm_up)?;
    client.take_latencies();
    let profile = effort.is_profiled.then(|| Profile::start(running.pid(), effort.time)).transpose()?;
    let (before, begun) = (running.cpu()?, Instant::now());
    let messages = load(&mut client, scene, effort.time)?;
    let (spent, took) = (running.cpu()?.since(before), begun.elapsed());
    let latencies = client.take_latencies();
    client.settle()?;
    drop(client);
    if messages == 0 {
        return Err(io::Error::other("no message came back"));
    }
    let share_outside_tcp = profile.map(Profile::share_outside_tcp).transpose()?;
    let each = |us: f64| us / messages as f64;
    let latency = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    let all_us = spent.all_ns as f64 / 1e3;
    let user_share = spent.user_ticks as f64 / (spent.user_ticks + spent.system_ticks).max(1) as f64;
    let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
    Ok(Measured {
        per_second: messages as f64 / took.as_secs_f64(),
        cpu_us: each(all_us),
        user_us: each(all_us * user_share),
        core_us: each(spent.core_ticks as f64 / ticks_per_second * 1e6),
        outside_tcp_us: share_outside_tcp.map(|share| each(all_us * share)),
        p50_us: latency(0.5),
        p99_us: latency(0.99),
        p999_us: latency(0.999),
    })
}

fn load(client: &mut Client, scene: &Scene, time: Duration) -> io::Result<u64> {
    match (scene.kind, scene.per_second) {
        (Kind::Broadcast, _) => client.broadcasts(time),
        (Kind::Echo, None) => client.closed_loop(time),
        (Kind::Echo, Some(per_second)) => client.fixed_rate(per_second, time),
    }
}

fn measure_idle(server: &Server, connections: usize, effort: &Effort, turn: usize) -> io::Result<Idle> {
    let scene = Scene { kind: Kind::Echo, payload_bytes: 64, connections, per_second: None };
    let running = start(server, &scene, effort, turn)?;
    let mut client = Client::new(running.addr, Shape { payload_bytes: 64, answers: 1 })?;
    client.open(IDLE_FIRST)?;
    let memory = || -> io::Result<(u64, Option<u64>)> {
        sleep(IDLE_SETTLE);
        Ok((running.memory()?, slabs()))
    };
    let (user_before, kernel_before) = memory()?;
    client.open(IDLE_FIRST + connections)?;
    let (user_after, kernel_after) = memory()?;
    let each = |before: u64, after: u64| (after as f64 - before as f64) / connections as f64;
    Ok(Idle {
        user_bytes: each(user_before, user_after),
        kernel_bytes: kernel_before.zip(kernel_after).map(|(before, after)| each(before, after)),
    })
}

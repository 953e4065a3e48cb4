//! One seed from its start to its verdict.

use std::sync::Arc;

use petrel_protocol::client::Config;
use petrel_protocol::ids::{Device as Kind, UserId};
use petrel_router::routes::Memory;

use super::clients::Device;
use super::coverage::Coverage;
use super::edge::{ASSERT_MS, Edge};
use super::faults::{Fault, Faults, Swarm};
use super::persist::Persist;
use super::power::Power;
use super::queue::Queue;
use super::store::Store;
use super::trace::{About, Trace};
use super::{Event, Log, Mutation, Size, World};
use crate::check::{self, Verdict, Violation};
use crate::history::{History, What};
use crate::random::Random;

/// What to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// A mistake to make on purpose.
    pub mutation: Option<Mutation>,
    /// What may go wrong.
    pub swarm: Swarm,
    /// Whether to remember what happens.
    pub is_traced: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// Events that happened.
    pub events: u64,
    /// Virtual time that passed.
    pub virtual_ms: u64,
    /// What the checker found, or what is wrong.
    pub verdict: Result<Verdict, Failure>,
    /// Which faults struck, and which states were reached.
    pub coverage: Coverage,
    /// What the devices did and saw.
    pub history: History,
    /// What happened, where that was asked for.
    pub trace: Option<Trace>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The promise that was broken.
    pub rule: &'static str,
    /// Whom it concerns.
    pub about: About,
    /// What exactly.
    pub text: String,
    /// When it was noticed.
    pub at_us: u64,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        let (user, peer) = (violation.device.user, violation.peer);
        let about = About {
            id: violation.id,
            conversation: (peer != 0).then(|| (user.min(peer), user.max(peer))),
            seq: violation.seq,
            is_general: false,
        };
        Self { rule: violation.rule.name(), about, at_us: violation.at_us, text: violation.to_string() }
    }
}

/// How long the clients connect before anybody sends.
const START_US: u64 = 500_000;
/// Events after which a run has lost its way.
const EVENTS_MAX: u64 = 400_000;

/// Runs a seed to its end.
pub fn run(plan: &Plan) -> Report {
    let mut world = World::new(plan);
    while world.failure.is_none() && world.step() {
        if world.events > EVENTS_MAX {
            world.fail("progress", About::default(), format!("{EVENTS_MAX} events, and no end"));
        }
    }
    let verdict = match world.failure() {
        Some(failure) => Err(failure),
        None => check::check(&world.history).map_err(Failure::from),
    };
    Report {
        events: world.events,
        virtual_ms: world.now_us / 1_000,
        verdict,
        coverage: world.coverage,
        history: world.history,
        trace: world.trace,
    }
}

impl World {
    fn new(plan: &Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let mut faults = Faults::draw(plan.swarm, &mut random);
        // Only one process at once loses its power together with its store and its log.
        let is_one_process = faults.chaos.contains(&Fault::PowerCut);
        let size = Size {
            users: random.between(2, 6),
            edges: random.between(1, 4) as usize,
            shards: random.between(1, 4) as usize,
            partitions: random.between(1, 5) as u16,
            operations: random.between(50, 400) as u32,
            pause_us: 10_000 << random.below(6),
            is_atomic: random.coin() || is_one_process,
            are_routes_apart: random.coin() && !is_one_process,
            assert_ms: if random.coin() { ASSERT_MS } else { u64::MAX / 2 },
            are_ids_shared: random.coin(),
            page_rows: if random.coin() { u32::MAX } else { random.between(1, 20) as u32 },
        };
        if size.assert_ms != ASSERT_MS {
            // Nothing else would find what it drops.
            faults.chaos.retain(|fault| *fault != Fault::RoutesDropped);
        }
        let clients_repair = random.below(4) != 0;
        let config = client_config(&mut random, &faults, clients_repair);
        let faults_versions = faults.versions;
        let mut world = Self {
            now_us: 0,
            queue: Queue::default(),
            events: 0,
            faults,
            mutation: plan.mutation,
            size,
            is_calm: false,
            coverage: Coverage::default(),
            power: Power::new(is_one_process),
            operations_left: size.operations,
            looks: 0,
            clients_repair,
            clients_wait: config.pipeline == 1,
            activity: 0,
            last_look: (0, 0),
            history: History::default(),
            trace: plan.is_traced.then(Trace::default),
            failure: None,
            log: Log::new(size.partitions, plan.mutation == Some(Mutation::WipedBus)),
            store: Store::new(plan.mutation, is_one_process),
            routes: Memory::default(),
            devices: devices(&mut random, size.users, faults_versions, &Arc::new(config)),
            connections: Vec::new(),
            edges: (1..=size.edges as u16).map(Edge::new).collect(),
            persist: Persist::new(size.partitions),
            routers: Vec::new(),
            scratch: Vec::new(),
            random,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let (size, faults) = (self.size, self.faults.clone());
        self.note(About::all(), || format!("{size:?}, {faults:?}"));
        // The first connections are undisturbed: a device is entitled to what comes after its first login.
        let faults = std::mem::replace(&mut self.faults, Faults::none());
        for partition in 0..self.size.partitions {
            self.persist_begins(partition);
        }
        self.router_begins();
        for edge in 0..self.edges.len() {
            self.edge_begins(edge);
        }
        for device in 0..self.devices.len() {
            let (shows_in_order, sends_one_by_one) = (self.clients_repair, self.clients_wait);
            self.record(device, What::Opened { shows_in_order, sends_one_by_one });
            self.after(10_000, Event::Connect(device));
            let delay = START_US + self.random.below(self.size.pause_us);
            self.after(delay, Event::Operate(device));
        }
        self.faults = faults;
        let length_us = u64::from(self.size.operations) * self.size.pause_us / self.devices.len() as u64;
        self.sync_all();
        if self.faults.chaos_ms != 0 {
            self.after(START_US + self.faults.chaos_ms * 1_000, Event::Chaos);
        }
        self.after(START_US + length_us * 5 / 4 + 200_000, Event::Calm);
    }
}

fn client_config(random: &mut Random, faults: &Faults, clients_repair: bool) -> Config {
    Config {
        starts_at_one: true,
        pipeline: if random.coin() { 1 } else { random.between(2, 6) as u16 },
        in_flight_max: random.between(1, 40) as u16,
        refusals_max: if random.coin() { 0 } else { random.between(1, 5) as u32 },
        answer_ms: if faults.impatient_ms == 0 { 5_000 } else { faults.impatient_ms },
        gap_ms: if clients_repair { random.between(20, 1_000) } else { 1 << 40 },
        ping_after_ms: 3_000,
        dead_after_ms: 6_000,
        ..Config::default()
    }
}

fn devices(random: &mut Random, users: u64, versions: u64, config: &Arc<Config>) -> Vec<Device> {
    let mut devices = Vec::new();
    for user in 1..=users {
        let count = random.between(1, 4) as usize;
        let kinds = Kind::ALL.iter().take(count);
        devices.extend(kinds.map(|kind| {
            let is_next = random.one_in(versions);
            Device::new(UserId(user), *kind, is_next, Arc::clone(config))
        }));
    }
    devices
}

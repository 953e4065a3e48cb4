//! The simulated world: virtual time, and the processes, networks and stores that live in it.
//!
//! Everything that happens is an event in one heap, ordered by its time and then by when it was scheduled. One generator
//! of random numbers decides about latencies, faults and what the clients do, so a seed is a run.

mod calls;
mod chaos;
mod clients;
mod coverage;
mod edge;
mod faults;
mod log;
mod mutation;
mod network;
mod packs;
mod persist;
mod power;
mod queue;
mod rest;
mod router;
mod run;
mod shard;
mod store;
mod trace;
mod versions;
mod wire;

use petrel_protocol::time::Now;
use petrel_router::routes::Memory;

pub use coverage::{Coverage, Met};
pub use faults::{Fault, Swarm};
pub use mutation::Mutation;
pub use run::{Failure, Plan, Report, run};
pub use trace::{About, Trace};

use crate::history::{Entry, History, What};
use crate::random::Random;
use calls::Call;
use clients::Device;
use edge::Edge;
use faults::Faults;
use log::Log;
use network::{Connection, Frame};
use persist::{Persist, StoreStep};
use power::Power;
use queue::Queue;
use router::Router;
use shard::{SessionId, ShardId, Told};
use store::Store;

/// Something that is to happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client does something, or connects, or looks at its clock.
    Operate(usize),
    Connect(usize),
    ClientTick(usize, u64),
    /// A connection reaches its edge.
    Accept {
        device: usize,
        shard: ShardId,
        is_guest: bool,
    },
    ToClient(usize, Frame),
    ToEdge(usize, Frame),
    /// Some bytes of a connection: whether they are on their way up, and what they are.
    Piece(usize, bool, Vec<u8>),
    ClientLost(usize),
    EdgeLost(usize),
    /// A shard was woken, its timers are due.
    Turn(ShardId),
    FlushReceipts(ShardId),
    Sweep(ShardId),
    Renew(usize, u32),
    DrainEnds(usize, u32),
    /// A pack of a shard reaches the log; its receipt reaches the shard.
    Append {
        shard: ShardId,
        partition: u16,
        tag: u64,
        generation: u32,
        pack: bytes::Bytes,
    },
    /// A pack that nobody waits for reaches the log, where it is still of this generation.
    AppendQuietly(petrel_protocol::topics::Topic, u16, u32, bytes::Bytes),
    Tell(ShardId, Told),
    /// A call reaches its service.
    Call(Box<Call>),
    /// A reader of the log looks for records; a step at the store is done.
    PersistReads(usize),
    StoreDone(usize, Box<StoreStep>),
    /// Writes of a life of the power reach the store.
    StoreWritesLate(u32, Vec<store::Write>),
    ReceiptsRead(u16),
    PersistBegins(u16),
    PersistEnds(usize),
    /// The partition of the first reader comes back to it from the second.
    PersistReturns(usize, usize),
    RouterReads(usize),
    RouterTick(usize),
    RoutesFound(usize, u64, Vec<petrel_protocol::ids::UserId>),
    Deliver {
        router: usize,
        edge: usize,
        ticket: u64,
        batch: Box<petrel_protocol::calls::DeliverBatch>,
    },
    Answered {
        router: usize,
        ticket: u64,
        answer: Option<petrel_protocol::calls::DeliverReply>,
    },
    Revoked {
        router: usize,
        incarnation: petrel_protocol::fanout::Incarnation,
        is_lost: bool,
    },
    RouterBegins,
    RouterEnds(usize),
    EdgeBegins(usize),
    /// Something befalls a process.
    Chaos,
    /// Is the sealed generation of `uplink` drained?
    LookAtGeneration,
    /// Everything that was written is safe from here on.
    Sync,
    /// Nothing goes wrong from here on.
    Calm,
    /// Does everything rest?
    Look,
}

/// Milliseconds since 1970 at the start of every run.
const WALL_START_MS: u64 = 1_800_000_000_000;
/// Monotonic clocks do not start at 0.
const MONO_START_MS: u64 = 1_000_000;

/// How large a world is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) users: u64,
    pub(crate) edges: usize,
    pub(crate) shards: usize,
    pub(crate) partitions: u16,
    /// What the clients do in all.
    pub(crate) operations: u32,
    /// Mean time between two operations of one device.
    pub(crate) pause_us: u64,
    /// The store writes rows and heads at once.
    pub(crate) is_atomic: bool,
    /// Routes outlive their router.
    pub(crate) are_routes_apart: bool,
    /// How often a session asks for its route; without end where it never does.
    pub(crate) assert_ms: u64,
    /// Clients of different users choose the same ids.
    pub(crate) are_ids_shared: bool,
    /// Rows in a page of a sync's answer, at most.
    pub(crate) page_rows: u32,
}

pub(crate) struct World {
    now_us: u64,
    queue: Queue,
    events: u64,
    random: Random,
    faults: Faults,
    mutation: Option<Mutation>,
    size: Size,
    is_calm: bool,
    coverage: Coverage,
    power: Power,
    operations_left: u32,
    /// How often it was looked whether the world rests.
    looks: u32,
    /// Clients ask for gaps and show rows in order; else they are judged by what arrives unasked.
    clients_repair: bool,
    /// Clients await each outcome before they send the next message into a conversation.
    clients_wait: bool,
    /// Changes with everything that is no heartbeat.
    activity: u64,
    last_look: (u64, u32),
    history: History,
    trace: Option<Trace>,
    failure: Option<Failure>,
    log: Log,
    store: Store,
    routes: Memory,
    devices: Vec<Device>,
    connections: Vec<Connection>,
    edges: Vec<Edge>,
    persist: Persist,
    routers: Vec<Router>,
    scratch: Vec<petrel_protocol::fanout::Output>,
}

impl World {
    fn schedule(&mut self, at_us: u64, event: Event) {
        self.queue.push(at_us.max(self.now_us), event);
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.schedule(self.now_us + delay_us, event);
    }

    /// How long something takes that takes about `mean_us`, with the run's jitter.
    fn delay(&mut self, mean_us: u64) -> u64 {
        let usual = self.random.between(mean_us / 2, mean_us * 3 / 2 + 1);
        if self.faults.jitter_us != 0 && self.random.one_in(4) {
            self.coverage.met(Met::Late);
            usual + self.random.below(self.faults.jitter_us)
        } else {
            usual
        }
    }

    /// Whether a fault that happens once in `n` times happens now.
    fn strikes(&mut self, n: u64) -> bool {
        self.random.one_in(n)
    }

    fn now(&self) -> Now {
        self.now_with(0)
    }

    /// The clock of a process whose wall clock is wrong by so much.
    fn now_with(&self, offset_ms: i64) -> Now {
        let ms = self.now_us / 1_000;
        Now { mono_ms: MONO_START_MS + ms, wall_ms: (WALL_START_MS + ms).saturating_add_signed(offset_ms) }
    }

    fn is_mutated(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn record(&mut self, device: usize, what: What) {
        let device = self.name(device);
        self.history.entries.push(Entry { at_us: self.now_us, device, what });
    }

    fn note(&mut self, about: About, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.add(self.now_us, about, text());
        }
    }

    fn met(&mut self, what: Met) {
        self.coverage.met(what);
    }

    /// Something is wrong in the world itself; the first one counts.
    fn fail(&mut self, rule: &'static str, about: About, text: String) {
        let at_us = self.now_us;
        self.failure.get_or_insert(Failure { rule, about, text, at_us });
    }

    /// Lets the next event happen; false where there is none.
    fn step(&mut self) -> bool {
        let Some((at_us, event)) = self.queue.pop() else { return false };
        debug_assert!(at_us >= self.now_us, "time goes forward");
        self.now_us = at_us;
        self.events += 1;
        match event {
            Event::Operate(device) => self.operate(device),
            Event::Connect(device) => self.connect(device),
            Event::ClientTick(device, due_us) => self.client_tick(device, due_us),
            Event::Accept { device, shard, is_guest } => self.accept(device, shard, is_guest),
            Event::ToClient(connection, frame) => self.at_client(connection, frame),
            Event::ToEdge(connection, frame) => self.at_edge(connection, frame),
            Event::Piece(connection, is_up, piece) => self.piece(connection, is_up, piece),
            Event::ClientLost(connection) => self.client_lost(connection),
            Event::EdgeLost(connection) => self.edge_lost(connection),
            Event::Turn(shard) => self.turn(shard),
            Event::FlushReceipts(shard) => self.flush_receipts(shard),
            Event::Sweep(shard) => self.sweep(shard),
            Event::Renew(edge, life) => self.renew(edge, life),
            Event::DrainEnds(edge, life) => self.drain_ends(edge, life),
            Event::Append { shard, partition, tag, generation, pack } => {
                self.append(shard, partition, tag, generation, pack);
            }
            Event::AppendQuietly(topic, partition, generation, pack) => {
                self.append_quietly(topic, partition, generation, pack);
            }
            Event::Tell(shard, told) => self.tell(shard, told),
            Event::Call(call) => self.call(*call),
            Event::PersistReads(reader) => self.persist_reads(reader),
            Event::StoreDone(reader, step) => self.store_done(reader, *step),
            Event::StoreWritesLate(life, writes) => self.write_late(life, writes),
            Event::ReceiptsRead(partition) => self.receipts_read(partition),
            Event::PersistBegins(partition) => self.persist_begins(partition),
            Event::PersistEnds(reader) => self.persist_ends(reader),
            Event::PersistReturns(reader, from) => self.persist_returns(reader, from),
            Event::RouterReads(router) => self.router_reads(router),
            Event::RouterTick(router) => self.router_tick(router),
            Event::RoutesFound(router, round, users) => self.routes_found(router, round, &users),
            Event::Deliver { router, edge, ticket, batch } => self.deliver(router, edge, ticket, *batch),
            Event::Answered { router, ticket, answer } => self.answered(router, ticket, answer),
            Event::Revoked { router, incarnation, is_lost } => self.revoked(router, incarnation, is_lost),
            Event::RouterBegins => self.router_begins(),
            Event::RouterEnds(router) => self.router_ends(router),
            Event::EdgeBegins(edge) => self.edge_begins(edge),
            Event::Chaos => self.chaos(),
            Event::LookAtGeneration => self.look_at_generation(),
            Event::Sync => self.sync_all(),
            Event::Calm => self.calm(),
            Event::Look => self.look(),
        }
        true
    }
}

/// A session's own identity, for lines of the trace.
impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ShardId { edge, life, shard } = self.shard;
        write!(f, "edge {edge}.{life}/{shard}/{}:{}", self.slot, self.generation)
    }
}

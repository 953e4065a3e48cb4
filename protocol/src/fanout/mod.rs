//! Who gets what persist decided, as router decides about it: from records of the bus to one batch for each edge.
//!
//! The machine takes records of `stored` and `receipts` in rounds. A round asks once for the routes of everybody in it,
//! becomes one batch for each edge, and is acknowledged on the bus when every edge has answered (each delivery queued,
//! its session gone, or marked dirty) or its lease is over: then whatever was not shown is synced from the store.
//!
//! Rounds are forwarded and acknowledged in the order in which they came, so an edge sees a conversation in seq order.
//! A route is a hint: a wrong one costs a look-up, never a message.

mod answered;
mod build;
mod edges;
mod read;

use std::collections::VecDeque;

use bytes::Bytes;

use crate::calls::{DeliverBatch, DeliverReply};
use crate::ids::{Address, ConversationId, Device, Position, UserId};
use crate::limits;
use crate::time::Now;
use crate::topics::Topic;
use answered::Answered;
use edges::Edges;
use read::Event;

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// Records read from the bus: one round. The order within a partition is the bus's. Only while
    /// [`Fanout::has_room`].
    Records(Vec<Record>),
    /// The answer to [`Output::LookUp`]. Answers may come in any order, but the look-ups themselves are made in theirs:
    /// a later round must not know a route that an earlier one no longer found, or a session is pushed a gap.
    Routes {
        /// The look-up's round.
        round: u64,
        /// The routes that are valid now, sorted by `user`.
        routes: Vec<Route>,
    },
    /// An edge's answer to [`Output::Deliver`].
    Answered {
        /// The delivery's ticket.
        ticket: u64,
        /// None: it could not be reached or did not take the batch.
        answer: Option<DeliverReply>,
    },
    /// The lease is over or was replaced: none of its sessions can be reached through it any more.
    LeaseEnded(Incarnation),
    /// Time has passed: see [`Fanout::tick_at_ms`].
    Tick,
}

/// One record of the bus.
#[derive(Clone, Debug)]
pub struct Record {
    /// `stored` or `receipts`.
    pub topic: Topic,
    /// The partition it was read from.
    pub partition: u16,
    /// The position of the pack's first event.
    pub position: Position,
    /// The encoded pack.
    pub pack: Bytes,
}

/// Where one device of a user is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The user's index in the look-up.
    pub user: u32,
    /// The device type.
    pub device: Device,
    /// Its session.
    pub address: Address,
}

/// One life of an edge: what a lease is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation {
    /// The edge's id.
    pub edge: u16,
    /// Which of its lives.
    pub epoch: u64,
}

pub use build::kick;

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Find the routes of these users, all at once, and answer with [`Input::Routes`].
    LookUp {
        /// Comes back with the answer.
        round: u64,
        /// Each user once.
        users: Vec<UserId>,
    },
    /// Call the edge, and answer with [`Input::Answered`]. The calls to one edge keep their order.
    Deliver {
        /// Comes back with the answer.
        ticket: u64,
        /// The batch; `edge` and `epoch` in it say to whom.
        batch: DeliverBatch,
    },
    /// The record at this position and all before it in its partition have had their effect.
    Ack {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u16,
        /// The record's position.
        position: Position,
    },
    /// The edge did not answer in time: end its epoch, so that it claims its routes anew and syncs every session, and say
    /// [`Input::LeaseEnded`] once that is done. Until then what it owes is not given up: nobody would sync its sessions.
    Revoke(Incarnation),
    /// A message was stored for a user with no device connected: the hook for notifications. At its first publication
    /// only.
    Offline(Offline),
    /// An event that cannot be delivered by anybody. It is counted and skipped.
    DeadLetter {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u16,
        /// The event's position, or the record's where the pack cannot be read.
        position: Position,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A round's events were handed to the edges: for metrics.
    Forwarded {
        /// Its events, dropped replays included.
        events: usize,
        /// Replays that were dropped, since their earlier push was answered.
        replays: usize,
        /// The earliest stamp that an edge gave one of them; 0 where there was none.
        edge_time_ms: u64,
    },
}

/// A message for somebody who is not connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offline {
    /// Who is not connected.
    pub user: UserId,
    /// Who wrote it.
    pub from: UserId,
    /// In which conversation.
    pub conversation: ConversationId,
    /// Its place there.
    pub seq: u64,
    /// Its id.
    pub msg_id: u64,
}

/// Why an event cannot be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The pack is not valid protobuf.
    Undecodable,
    /// The event has no conversation, or one that cannot be.
    Conversation,
    /// Groups are not served yet.
    Group,
    /// The event's user is not a member of the conversation.
    User,
    /// A message or recall without a seq.
    Seq,
    /// The event has no body, or one that this version does not know.
    Body,
}

impl Fault {
    /// A short name, for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::Conversation => "conversation",
            Self::Group => "group",
            Self::User => "user",
            Self::Seq => "seq",
            Self::Body => "body",
        }
    }
}

/// The machine. See the module.
#[derive(Debug, Default)]
pub struct Fanout {
    /// In the order in which they came; the front one is acknowledged next.
    rounds: VecDeque<Round>,
    /// The number of the front round.
    first: u64,
    /// How many of `rounds`, from the front, were forwarded.
    forwarded: usize,
    bytes: usize,
    edges: Edges,
    answered: Answered,
}

/// Records that share a look-up.
#[derive(Debug)]
struct Round {
    /// What is acknowledged at its end: the last record of each partition.
    acks: Vec<(Topic, u16, Position)>,
    bytes: usize,
    users: usize,
    events: Vec<Event>,
    routes: Option<Vec<Route>>,
    /// Batches that no edge has answered.
    unanswered: usize,
    /// What was pushed, to be remembered when it is answered.
    pushed: Vec<(ConversationId, u64)>,
    /// An edge's lease ended before its answer: its pushes do not count as answered.
    is_lost: bool,
}

impl Fanout {
    /// A machine that knows of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether another round may come. Where not, read no more of the bus.
    pub fn has_room(&self) -> bool {
        self.rounds.len() < limits::FANOUT_ROUNDS_MAX && self.bytes < limits::FANOUT_BYTES_MAX
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.rounds.is_empty()
    }

    /// When to give [`Input::Tick`], in [`Now::mono_ms`]; none while no edge owes an answer.
    pub fn tick_at_ms(&self) -> Option<u64> {
        self.edges.tick_at_ms()
    }

    /// The incarnations that owe an answer.
    pub fn waiting_for(&self) -> impl Iterator<Item = Incarnation> {
        self.edges.waiting_for()
    }

    /// Takes one input and appends what is to be done to `out`.
    ///
    /// # Panics
    /// Where the caller breaks the contract: records beyond the window, routes for no look-up or not sorted.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Records(records) => self.records(now, records, out),
            Input::Routes { round, routes } => {
                let index = round.checked_sub(self.first).map(|i| i as usize);
                let round = index
                    .and_then(|i| self.rounds.get_mut(i))
                    .expect("a look-up of a round that is under way");
                round.routes = Some(routes);
                self.forward(now, out);
            }
            Input::Answered { ticket, answer: Some(_) } => {
                if let Some(round) = self.edges.answered(ticket) {
                    self.round(round).unanswered -= 1;
                }
            }
            Input::Answered { ticket, answer: None } => self.edges.failed(now, ticket),
            Input::LeaseEnded(incarnation) => self.lose(incarnation),
            Input::Tick => {
                out.extend(self.edges.overdue(now).into_iter().map(Output::Revoke));
                self.edges.retry(now, out);
            }
        }
        self.finish(out);
    }

    fn records(&mut self, now: Now, records: Vec<Record>, out: &mut Vec<Output>) {
        assert!(self.has_room(), "a round beyond the window");
        let number = self.first + self.rounds.len() as u64;
        let (round, users) = read::round(records, out);
        self.bytes += round.bytes;
        self.rounds.push_back(round);
        if users.is_empty() {
            // Nobody is to be found: cursors alone, or nothing that can be read.
            self.rounds.back_mut().expect("just pushed").routes = Some(Vec::new());
            self.forward(now, out);
        } else {
            out.push(Output::LookUp { round: number, users });
        }
    }

    /// Hands over what has its routes, in order.
    fn forward(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some(round) = self.rounds.get_mut(self.forwarded) {
            let Some(routes) = round.routes.take() else { return };
            let number = self.first + self.forwarded as u64;
            let built = build::batches(round, &routes, &self.answered, out);
            round.unanswered = built.len();
            self.forwarded += 1;
            for batch in built {
                if !self.edges.deliver(now, number, batch, out) {
                    let round = self.round(number);
                    round.unanswered -= 1;
                    round.is_lost = true;
                }
            }
        }
    }

    /// None of what this incarnation owes will be answered.
    fn lose(&mut self, incarnation: Incarnation) {
        for number in self.edges.remove(incarnation) {
            let round = self.round(number);
            round.unanswered -= 1;
            round.is_lost = true;
        }
    }

    /// Acknowledges the rounds that are done, in order.
    fn finish(&mut self, out: &mut Vec<Output>) {
        while self.forwarded > 0 && self.rounds[0].unanswered == 0 {
            let round = self.rounds.pop_front().expect("one was forwarded");
            self.forwarded -= 1;
            self.first += 1;
            self.bytes -= round.bytes;
            if !round.is_lost {
                for (conversation, seq) in round.pushed {
                    self.answered.note(conversation, seq);
                }
            }
            for (topic, partition, position) in round.acks {
                out.push(Output::Ack { topic, partition, position });
            }
        }
    }

    fn round(&mut self, number: u64) -> &mut Round {
        &mut self.rounds[(number - self.first) as usize]
    }
}

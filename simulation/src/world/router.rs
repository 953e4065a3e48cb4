//! router: the real fan-out and the real route table, over simulated calls to the edges.

use petrel_protocol::calls::{DeliverBatch, DeliverReply, delivery::What};
use petrel_protocol::fanout::{Fanout, Incarnation, Input, Output, Record};
use petrel_protocol::ids::{ConversationId, UserId};
use petrel_protocol::topics::{Subscription, Topic};

use super::coverage::Met;
use super::shard::SessionId;
use super::{About, Event, Mutation, World};

pub(crate) struct Router {
    is_up: bool,
    fanout: Fanout,
    /// The next record of each partition, of `stored` and of `receipts`.
    next: [Vec<u64>; 2],
    is_read_due: bool,
    is_tick_due: bool,
    last_ticket: u64,
    look_up_us: u64,
    /// By edge: the calls to one edge keep their order.
    streams: Vec<Stream>,
}

#[derive(Clone, Default)]
struct Stream {
    call_us: u64,
    answer_us: u64,
    /// The call at which the stream broke, until router has heard of it: whatever it wrote up to then is lost too.
    broken_by: Option<u64>,
    void_to: u64,
}

const TOPICS: [Topic; 2] = [Topic::Stored, Topic::Receipts];
/// One way between router and an edge.
const WAY_US: u64 = 300;
/// What did not reach the routes is tried again after this long.
const RETRY_US: u64 = 200_000;
/// How often a router with something under way looks at its clock.
const TICK_US: u64 = 50_000;

impl Router {
    pub(crate) fn is_idle(&self, log: &super::Log) -> bool {
        let is_read = |(topic, next): (&Topic, &Vec<u64>)| {
            (0..).zip(next).all(|(partition, next)| *next == log.len(*topic, partition))
        };
        self.is_up && self.fanout.is_idle() && TOPICS.iter().zip(&self.next).all(is_read)
    }
}

impl World {
    /// Whether there is a router that answers edges' calls.
    pub(crate) fn has_router(&self) -> bool {
        self.routers.last().is_some_and(|router| router.is_up)
    }

    pub(crate) fn router_begins(&mut self) {
        if self.has_router() {
            let old = self.routers.len() - 1;
            // It runs on for a while beside its successor.
            let delay = self.random.between(10_000, 3_000_000);
            self.after(delay, Event::RouterEnds(old));
        }
        let next = TOPICS.map(|topic| {
            let unacked = |partition| self.log.unacked(topic, Subscription::Router, partition);
            (0..self.size.partitions).map(unacked).collect()
        });
        let number = self.routers.len();
        self.routers.push(Router {
            is_up: true,
            fanout: Fanout::new(),
            next,
            is_read_due: false,
            is_tick_due: false,
            last_ticket: 0,
            look_up_us: 0,
            streams: vec![Stream::default(); self.size.edges],
        });
        self.note(About::all(), || format!("router {number} begins"));
        self.wake_router(number);
    }

    pub(crate) fn router_ends(&mut self, router: usize) {
        if std::mem::replace(&mut self.routers[router].is_up, false) {
            self.note(About::all(), || format!("router {router} ends"));
        }
    }

    pub(crate) fn wake_routers(&mut self) {
        for router in 0..self.routers.len() {
            self.wake_router(router);
        }
    }

    fn wake_router(&mut self, router: usize) {
        let it = &mut self.routers[router];
        if it.is_up && !std::mem::replace(&mut it.is_read_due, true) {
            let delay = self.delay(100);
            self.after(delay, Event::RouterReads(router));
        }
    }

    pub(crate) fn router_reads(&mut self, router: usize) {
        self.routers[router].is_read_due = false;
        if !self.routers[router].is_up || !self.routers[router].fanout.has_room() {
            return;
        }
        let most = 1 + self.random.index(8);
        let start = self.random.index(usize::from(self.size.partitions)) as u16;
        let mut records = Vec::new();
        let it = &mut self.routers[router];
        for (topic, next) in TOPICS.into_iter().zip(&mut it.next) {
            for offset in 0..self.size.partitions {
                let partition = (start + offset) % self.size.partitions;
                let next = &mut next[usize::from(partition)];
                while records.len() < most && *next < self.log.len(topic, partition) {
                    let (position, pack) = self.log.record(topic, partition, *next);
                    records.push(Record { topic, partition, position, pack });
                    *next += 1;
                }
            }
        }
        if records.is_empty() {
            return;
        }
        if self.is_mutated(Mutation::AckStoredBeforeEffect) {
            for Record { topic, partition, position, .. } in &records {
                self.log.ack(*topic, Subscription::Router, *partition, *position);
            }
        }
        if router + 1 == self.routers.len() && self.strikes(self.faults.crash) {
            self.met(Met::RouterCrashed);
            return self.kill_router();
        }
        self.fanout(router, Input::Records(records));
        self.wake_router(router);
    }

    fn fanout(&mut self, router: usize, input: Input) {
        let now = self.now();
        let had_room = self.routers[router].fanout.has_room();
        let mut outputs = std::mem::take(&mut self.scratch);
        self.routers[router].fanout.handle(now, input, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                Output::LookUp { round, users } => {
                    // The look-ups of one router are made in their order.
                    let delay = self.delay(WAY_US);
                    let at_us = self.routers[router].look_up_us.max(self.now_us + delay);
                    self.routers[router].look_up_us = at_us;
                    self.schedule(at_us, Event::RoutesFound(router, round, users));
                }
                Output::Deliver { ticket, batch } => self.send_batch(router, ticket, batch),
                Output::Ack { topic, partition, position } => {
                    if router + 1 == self.routers.len() {
                        self.log.ack(topic, Subscription::Router, partition, position);
                    }
                }
                Output::Revoke(incarnation) => {
                    self.note(About::all(), || format!("router {router} revokes {incarnation:?}"));
                    self.call_revoke(router, incarnation);
                }
                Output::DeadLetter { fault, .. } => {
                    self.fail(
                        "no-dead-letters",
                        About::default(),
                        format!("router cannot read an event: {fault:?}"),
                    );
                }
                Output::Offline(_) | Output::Forwarded { .. } => {}
            }
        }
        self.scratch = outputs;
        let it = &mut self.routers[router];
        if it.fanout.has_room() && !had_room {
            self.wake_router(router);
        }
        let it = &mut self.routers[router];
        if !it.fanout.is_idle() && !std::mem::replace(&mut it.is_tick_due, true) {
            self.after(TICK_US, Event::RouterTick(router));
        }
    }

    /// A revocation is asked for until it is done.
    fn call_revoke(&mut self, router: usize, incarnation: Incarnation) {
        let is_lost = self.strikes(self.faults.call_lost);
        let delay = self.delay(if is_lost { RETRY_US } else { WAY_US });
        self.after(delay, Event::Revoked { router, incarnation, is_lost });
    }

    pub(crate) fn revoked(&mut self, router: usize, incarnation: Incarnation, is_lost: bool) {
        if !self.routers[router].is_up {
            return;
        }
        if is_lost {
            return self.call_revoke(router, incarnation);
        }
        self.routes.revoke(incarnation);
        self.fanout(router, Input::LeaseEnded(incarnation));
    }

    pub(crate) fn routes_found(&mut self, router: usize, round: u64, users: &[UserId]) {
        if self.routers[router].is_up {
            let found = self.routes.look_up(self.now(), users);
            self.fanout(router, Input::Routes { round, routes: found });
        }
    }

    fn send_batch(&mut self, router: usize, ticket: u64, batch: DeliverBatch) {
        self.activity += 1;
        let edge = usize::try_from(batch.edge).expect("small") - 1;
        self.note(About::default(), || {
            let (epoch, first) = (batch.epoch, batch.deliveries.first());
            format!("router {router} sends edge {edge} of epoch {epoch} ticket {ticket}: {first:?}, …")
        });
        let delay = self.delay(WAY_US);
        let now_us = self.now_us;
        let it = &mut self.routers[router];
        it.last_ticket = it.last_ticket.max(ticket);
        let stream = &mut it.streams[edge];
        stream.call_us = stream.call_us.max(now_us + delay);
        let at_us = stream.call_us;
        self.schedule(at_us, Event::Deliver { router, edge, ticket, batch: Box::new(batch) });
    }

    /// A batch reaches its edge, or is lost with all that is behind it.
    pub(crate) fn deliver(&mut self, router: usize, edge: usize, ticket: u64, batch: DeliverBatch) {
        let it = &self.routers[router];
        let is_void = ticket <= it.streams[edge].void_to || it.streams[edge].broken_by.is_some();
        let is_gone = !self.edges[edge].is_up || self.is_isolated(edge);
        let breaks = !is_void && (is_gone || self.strikes(self.faults.deliver_break));
        let mut answer = None;
        if !is_void && !is_gone && (!breaks || self.random.coin()) {
            answer = Some(self.take_batch(edge, batch));
        }
        if breaks {
            self.met(Met::DeliverBroke);
            self.routers[router].streams[edge].broken_by = Some(ticket);
            answer = None;
        }
        let delay = self.delay(WAY_US);
        let now_us = self.now_us;
        let stream = &mut self.routers[router].streams[edge];
        stream.answer_us = stream.answer_us.max(now_us + delay);
        let at_us = stream.answer_us;
        self.schedule(at_us, Event::Answered { router, ticket, answer });
    }

    pub(crate) fn answered(&mut self, router: usize, ticket: u64, answer: Option<DeliverReply>) {
        let it = &mut self.routers[router];
        for stream in it.streams.iter_mut().filter(|s| s.broken_by == Some(ticket)) {
            stream.broken_by = None;
            stream.void_to = it.last_ticket;
        }
        if it.is_up {
            self.fanout(router, Input::Answered { ticket, answer });
        }
    }

    pub(crate) fn router_tick(&mut self, router: usize) {
        let now = self.now();
        let it = &mut self.routers[router];
        it.is_tick_due = false;
        if !it.is_up {
            return;
        }
        if it.fanout.tick_at_ms().is_some_and(|at| at <= now.mono_ms) {
            self.fanout(router, Input::Tick);
        }
        let it = &self.routers[router];
        let dead: Vec<_> = it.fanout.waiting_for().filter(|i| !self.routes.is_live(now, *i)).collect();
        for incarnation in dead {
            self.note(About::all(), || format!("router {router}: {incarnation:?} is over"));
            self.fanout(router, Input::LeaseEnded(incarnation));
        }
        let it = &mut self.routers[router];
        if !it.fanout.is_idle() && !std::mem::replace(&mut it.is_tick_due, true) {
            self.after(TICK_US, Event::RouterTick(router));
        }
    }

    /// Records that are not acknowledged come again, to the router that has read them.
    pub(crate) fn redeliver_stored(&mut self) {
        let router = self.routers.len() - 1;
        self.met(Met::StoredAgain);
        for (index, topic) in TOPICS.into_iter().enumerate() {
            for partition in 0..self.size.partitions {
                let unacked = self.log.unacked(topic, Subscription::Router, partition);
                self.routers[router].next[index][usize::from(partition)] = unacked;
            }
        }
        self.wake_router(router);
    }

    pub(crate) fn note_delivery(&mut self, id: SessionId, user: u64, what: &What) {
        if self.trace.is_none() {
            return;
        }
        let of = |conversation: Option<&petrel_protocol::events::Conversation>| {
            conversation.and_then(|c| ConversationId::try_from(c).ok())
        };
        match what {
            What::Push(push) => {
                let Some(conversation) = of(push.conversation.as_ref()) else { return };
                // A recall is about the row that it recalls; its own place is enough here.
                let about = About::row(conversation, push.seq);
                self.note(about, || format!("{id} is given seq {}", push.seq));
            }
            What::Own(own) => {
                let Some(conversation) = of(own.conversation.as_ref()) else { return };
                let about = About::row(conversation, own.seq);
                self.note(about, || format!("{id} is told that its own is seq {}", own.seq));
            }
            What::Status(update) => {
                let Some(told) = update.status.as_ref() else { return };
                let about = About::message(user, &told.client_msg_id);
                self.note(about, || format!("{id} is told status {}", told.status));
            }
            What::Refused(_) | What::Duplicate(_) | What::Kick(_) => {}
        }
    }
}

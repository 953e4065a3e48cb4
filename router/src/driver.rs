//! Drives the fan-out on a thread of its own: reads `stored` and `receipts`, looks routes up, calls the edges.

mod mail;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use petrel_bus::calls::{EdgeCall, Reply};
use petrel_bus::{Bus, Consumer, SubscribeError};
use petrel_protocol::calls::{DeliverBatch, DeliverReply};
use petrel_protocol::fanout::{Fanout, Incarnation, Input, Output, Record};
use petrel_protocol::ids::{Position, UserId};
use petrel_protocol::limits;
use petrel_protocol::topics::{Subscription, Topic};

use crate::metrics::METRICS;
use crate::service::{Directory, again};
pub(crate) use mail::Mail;
use mail::{Sleep, Stage};

/// Answers of edges are collected this often while nothing needs them sooner: acknowledging the log can wait.
const COLLECT_MS: u64 = 50;
/// Rounds begin at least this far apart, unless the round before was full: under load, more events then share a look-up
/// and a wake-up of each shard, and a message is at most this much later.
const ROUND_GAP: Duration = Duration::from_micros(500);
/// What is under way gets this long to be answered when router stops. The rest is pushed again at the next start.
const STOP_MS: u64 = 2_000;

/// A running fan-out.
pub(crate) struct Driver {
    thread: JoinHandle<()>,
    mail: Arc<Mail>,
}

impl Driver {
    /// Subscribes to every partition and starts the thread.
    pub(crate) fn start(bus: &Bus, directory: Arc<Directory>) -> Result<Self, DriverError> {
        let mut readers = Vec::new();
        for topic in [Topic::Stored, Topic::Receipts] {
            for partition in 0..bus.partitions() {
                let consumer = bus.subscribe(topic, Subscription::Router, partition)?;
                readers.push(Reader { topic, partition, consumer, is_open: true });
            }
        }
        let mail = Arc::new(Mail::default());
        let work = Work {
            directory,
            readers,
            next_reader: 0,
            is_behind: false,
            round_at: Instant::now(),
            fanout: Fanout::new(),
            outputs: Vec::new(),
            look_ups: Vec::new(),
            is_looking_up: false,
            mail: mail.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new()
            .name("petrel-fanout".into())
            .spawn(move || runtime.block_on(work.run()))?;
        Ok(Self { thread, mail })
    }

    /// What the thread shares.
    pub(crate) fn mail(&self) -> Arc<Mail> {
        self.mail.clone()
    }

    /// Whether the thread has gone round since this was asked before.
    pub(crate) fn is_turning(&self) -> bool {
        let has_turned = !std::mem::replace(&mut self.mail.lock().is_asked, true);
        self.mail.notify.notify_one();
        has_turned
    }

    /// Reads no more, waits a while for what is under way, acknowledges it, and joins the thread.
    pub(crate) fn stop(self) {
        self.mail.lock().stage = Stage::Stopping;
        self.mail.notify.notify_one();
        if self.thread.join().is_err() {
            tracing::error!("the fan-out's thread had panicked");
        }
    }
}

/// Why the fan-out did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriverError {
    #[error("a partition cannot be read: {0}")]
    Subscribe(#[from] SubscribeError),
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

struct Reader {
    topic: Topic,
    partition: u16,
    consumer: Consumer,
    is_open: bool,
}

struct Work {
    directory: Arc<Directory>,
    readers: Vec<Reader>,
    /// Whose turn it is to be read first, so that no partition starves another.
    next_reader: usize,
    /// The latest round was full: more is there.
    is_behind: bool,
    /// When the latest round began.
    round_at: Instant,
    fanout: Fanout,
    outputs: Vec<Output>,
    /// Look-ups that wait for the one under way: they are made in their order, and then all at once.
    look_ups: Vec<(u64, Vec<UserId>)>,
    is_looking_up: bool,
    mail: Arc<Mail>,
}

impl Work {
    async fn run(mut self) {
        let mut stop_at_ms = None;
        loop {
            let is_stopping = self.collect();
            self.tick();
            let now = self.directory.clock.now();
            if is_stopping {
                let stop_at_ms = *stop_at_ms.get_or_insert(now.mono_ms + STOP_MS);
                if self.fanout.is_idle() || now.mono_ms >= stop_at_ms {
                    break;
                }
            } else if self.is_behind && self.fanout.has_room() {
                let records = self.read(None);
                if !records.is_empty() {
                    self.input(Input::Records(records));
                    continue;
                }
            }
            if let Some((reader, record)) = self.wait(is_stopping).await {
                match record {
                    Some(record) => {
                        if let Some(early) = ROUND_GAP.checked_sub(self.round_at.elapsed()) {
                            // Nothing else runs on this thread.
                            std::thread::sleep(early);
                        }
                        let records = self.read(Some((reader, record)));
                        self.input(Input::Records(records));
                    }
                    None => self.close(reader),
                }
            }
        }
        self.mail.lock().stage = Stage::Over;
    }

    /// Takes what was left; whether router stops.
    fn collect(&mut self) -> bool {
        let (answers, is_stopping) = {
            let mut letters = self.mail.lock();
            letters.sleep = Sleep::Awake;
            letters.is_asked = false;
            (std::mem::take(&mut letters.answers), letters.stage == Stage::Stopping)
        };
        for (ticket, answer) in answers {
            self.input(Input::Answered { ticket, answer });
        }
        let mut outputs = std::mem::take(&mut self.outputs);
        self.routes_told(&mut outputs);
        self.carry_out(outputs);
        is_stopping
    }

    /// Takes what the routes said. Answers with whether they said anything.
    fn routes_told(&mut self, outputs: &mut Vec<Output>) -> bool {
        let (found, revoked) = {
            let mut letters = self.mail.lock();
            (std::mem::take(&mut letters.found), std::mem::take(&mut letters.revoked))
        };
        let now = self.directory.clock.now();
        let is_any = !found.is_empty() || !revoked.is_empty();
        self.is_looking_up &= found.is_empty();
        for (round, routes) in found {
            self.fanout.handle(now, Input::Routes { round, routes }, outputs);
        }
        for incarnation in revoked {
            self.fanout.handle(now, Input::LeaseEnded(incarnation), outputs);
        }
        is_any
    }

    /// Looks after edges that owe an answer.
    fn tick(&mut self) {
        let now = self.directory.clock.now();
        if self.fanout.tick_at_ms().is_some_and(|at| at <= now.mono_ms) {
            self.input(Input::Tick);
        }
        let dead: Vec<_> =
            self.fanout.waiting_for().filter(|i| !self.directory.routes.is_live(now, *i)).collect();
        for incarnation in dead {
            self.input(Input::LeaseEnded(incarnation));
        }
    }

    /// What can be read at once, up to one round, after `first`.
    fn read(&mut self, first: Option<(usize, petrel_bus::Record)>) -> Vec<Record> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut take = |topic, record: petrel_bus::Record| {
            bytes += record.pack.len();
            let petrel_bus::Record { partition, position, pack, .. } = record;
            records.push(Record { topic, partition, position, pack });
            records.len() < limits::FANOUT_ROUND_RECORDS_MAX && bytes < limits::FANOUT_ROUND_BYTES_MAX
        };
        let count = self.readers.len();
        let start = first.as_ref().map_or(self.next_reader, |(reader, _)| *reader);
        let mut has_room = first.is_none_or(|(reader, record)| take(self.readers[reader].topic, record));
        for offset in 0..count {
            let reader = &mut self.readers[(start + offset) % count];
            while has_room && reader.is_open {
                let Some(record) = reader.consumer.try_next() else { break };
                has_room = take(reader.topic, record);
            }
        }
        self.next_reader = (start + 1) % count;
        self.is_behind = !has_room;
        self.round_at = Instant::now();
        records
    }

    /// Waits for a record, an answer that is awaited, or the time to look again.
    async fn wait(&mut self, is_stopping: bool) -> Option<(usize, Option<petrel_bus::Record>)> {
        let may_read = !is_stopping && self.fanout.has_room();
        {
            let mut letters = self.mail.lock();
            let is_told = !letters.found.is_empty() || !letters.revoked.is_empty();
            if is_told || !letters.answers.is_empty() || (letters.stage == Stage::Stopping) != is_stopping {
                return None;
            }
            letters.sleep = if may_read { Sleep::UntilTold } else { Sleep::UntilAnswered };
        }
        let pause = if self.fanout.is_idle() {
            // Nothing is owed: until a record comes, there is nothing to do.
            None
        } else {
            let now_ms = self.directory.clock.now().mono_ms;
            let tick_ms = self.fanout.tick_at_ms().map_or(COLLECT_MS, |at| at.saturating_sub(now_ms));
            Some(Duration::from_millis(tick_ms.clamp(1, COLLECT_MS)))
        };
        let mut waiting: Vec<_> = self
            .readers
            .iter_mut()
            .enumerate()
            .filter(|(_, reader)| may_read && reader.is_open)
            .map(|(index, reader)| (index, Box::pin(reader.consumer.next())))
            .collect();
        let record = std::future::poll_fn(|context| {
            for (index, next) in &mut waiting {
                if let Poll::Ready(record) = next.as_mut().poll(context) {
                    return Poll::Ready((*index, record));
                }
            }
            Poll::Pending
        });
        let mut pause = pin!(async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        });
        tokio::select! {
            biased;
            record = record => Some(record),
            () = self.mail.notify.notified() => None,
            () = &mut pause => None,
        }
    }

    /// A partition ended: the bus was closed or cannot be read, or another router took over. The others go on.
    fn close(&mut self, reader: usize) {
        let reader = &mut self.readers[reader];
        reader.is_open = false;
        self.mail.lock().is_partial = true;
        tracing::error!(
            "partition {} of {} is read no more: nothing of it is delivered live; restart Petrel, unless another router took over or the log was closed",
            reader.partition,
            reader.topic.name()
        );
    }

    /// Gives the machine an input and does what comes of it.
    fn input(&mut self, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.fanout.handle(self.directory.clock.now(), input, &mut outputs);
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, mut outputs: Vec<Output>) {
        let wall_ms = self.directory.clock.now().wall_ms;
        loop {
            for output in std::mem::take(&mut outputs) {
                self.output(wall_ms, output);
            }
            self.look_up();
            // Routes in memory have answered already.
            if !self.routes_told(&mut outputs) {
                break;
            }
        }
        self.outputs = outputs;
    }

    /// Makes the look-ups that wait, where none is under way. One that fails is made again until it is answered: without
    /// an answer, nobody is taken for offline, and nothing is acknowledged.
    fn look_up(&mut self) {
        if self.is_looking_up || self.look_ups.is_empty() {
            return;
        }
        self.is_looking_up = true;
        let look_ups = std::mem::take(&mut self.look_ups);
        let (directory, mail) = (self.directory.clone(), self.mail.clone());
        self.directory.routes.run(async move {
            let users: Vec<UserId> = look_ups.iter().flat_map(|(_, users)| users).copied().collect();
            METRICS.look_up_users.observe(users.len() as f64);
            let mut routes = loop {
                match directory.routes.look_up(directory.clock.now(), &users).await {
                    Ok(routes) => break routes,
                    Err(_) if mail.is_over() => return,
                    Err(_) => again("look_up").await,
                }
            };
            let mut found = Vec::with_capacity(look_ups.len());
            let mut first = users.len() as u32;
            for (round, users) in look_ups.into_iter().rev() {
                first -= users.len() as u32;
                let mut its = routes.split_off(routes.partition_point(|route| route.user < first));
                for route in &mut its {
                    route.user -= first;
                }
                found.push((round, its));
            }
            found.reverse();
            mail.leave(|letters| letters.found = found);
        });
    }

    fn output(&mut self, wall_ms: u64, output: Output) {
        match output {
            Output::LookUp { round, users } => self.look_ups.push((round, users)),
            Output::Revoke(incarnation) => self.revoke(incarnation),
            Output::Deliver { ticket, batch } => self.deliver(ticket, batch),
            Output::Ack { topic, partition, position } => self.ack(topic, partition, position),
            Output::Offline(offline) => {
                METRICS.offline.inc();
                tracing::trace!(
                    user = offline.user.0,
                    seq = offline.seq,
                    "stored for a user who is not connected"
                );
            }
            Output::DeadLetter { topic, partition, position, fault } => {
                METRICS.dead_letters.with_label_values(&[topic.name(), fault.name()]).inc();
                tracing::error!(
                    "an event of {} that nobody can deliver was set aside (partition {partition}, {position:?}): {}",
                    topic.name(),
                    fault.name()
                );
            }
            Output::Forwarded { events, replays, edge_time_ms } => {
                METRICS.rounds.inc();
                METRICS.events.inc_by(events as u64);
                METRICS.replays.inc_by(replays as u64);
                if edge_time_ms != 0 {
                    METRICS.lag_seconds.observe(wall_ms.saturating_sub(edge_time_ms) as f64 / 1e3);
                }
            }
        }
    }

    fn revoke(&self, incarnation: Incarnation) {
        METRICS.revoked_epochs.inc();
        tracing::warn!(
            "edge {} did not answer for {} ms: its epoch {} is revoked, its sessions will be synced",
            incarnation.edge,
            limits::DELIVER_ANSWER_MS_MAX,
            incarnation.epoch
        );
        let (directory, mail) = (self.directory.clone(), self.mail.clone());
        self.directory.routes.run(async move {
            while directory.routes.revoke(incarnation).await.is_err() {
                if mail.is_over() {
                    return;
                }
                again("revoke").await;
            }
            mail.leave(|letters| letters.revoked.push(incarnation));
        });
    }

    fn deliver(&self, ticket: u64, batch: DeliverBatch) {
        let count = batch.deliveries.len() as u64;
        let mail = self.mail.clone();
        let reply = Reply::new(move |answer: Result<DeliverReply, _>| {
            let answer = answer.ok();
            match &answer {
                Some(DeliverReply { gone, dirty }) => {
                    let count_as = |outcome, n| METRICS.deliveries.with_label_values(&[outcome]).inc_by(n);
                    let (gone, dirty) = (u64::from(*gone), u64::from(*dirty));
                    count_as("queued", count.saturating_sub(gone + dirty));
                    count_as("gone", gone);
                    count_as("dirty", dirty);
                }
                None => METRICS.failed_batches.inc(),
            }
            mail.answer(ticket, answer);
        });
        // An edge that is not attached: the reply is dropped, which says so.
        if let Some(edge) = self.directory.edge(batch.edge as u16) {
            edge.call(EdgeCall::Deliver(batch, reply));
        }
    }

    fn ack(&mut self, topic: Topic, partition: u16, position: Position) {
        let its = |r: &&mut Reader| (r.topic, r.partition) == (topic, partition);
        let reader = self.readers.iter_mut().find(its).expect("what was read has its reader");
        reader.consumer.ack(position);
    }
}

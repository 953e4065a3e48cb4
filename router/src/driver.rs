//! Drives the fan-out on a thread of its own: reads `stored` and `receipts`, looks routes up, calls the edges.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use petrel_bus::calls::{EdgeCall, Reply};
use petrel_bus::{Bus, Consumer, SubscribeError};
use petrel_protocol::calls::{DeliverBatch, DeliverReply};
use petrel_protocol::fanout::{Fanout, Incarnation, Input, Output, Record};
use petrel_protocol::ids::Position;
use petrel_protocol::limits;
use petrel_protocol::topics::{Subscription, Topic};
use tokio::sync::Notify;

use crate::metrics::METRICS;
use crate::service::Directory;

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

/// What other threads leave for the driver's.
#[derive(Default)]
pub(crate) struct Mail {
    inner: Mutex<Letters>,
    notify: Notify,
}

#[derive(Default)]
struct Letters {
    answers: Vec<(u64, Option<DeliverReply>)>,
    /// The driver sleeps until the next answer; else it collects them when it comes by.
    is_awaited: bool,
    /// A partition is read no more.
    is_partial: bool,
    /// Somebody asked whether the driver turns, and it has not since.
    is_asked: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Running,
    Stopping,
    Over,
}

impl Mail {
    /// Whether the fan-out runs and reads every partition.
    pub(crate) fn is_running(&self) -> bool {
        let letters = self.lock();
        letters.stage != Stage::Over && !letters.is_partial
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Letters> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, ticket: u64, answer: Option<DeliverReply>) {
        let mut letters = self.lock();
        letters.answers.push((ticket, answer));
        if letters.is_awaited {
            letters.is_awaited = false;
            drop(letters);
            self.notify.notify_one();
        }
    }
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

    /// Takes the edges' answers; whether router stops.
    fn collect(&mut self) -> bool {
        let (answers, is_stopping) = {
            let mut letters = self.mail.lock();
            letters.is_awaited = false;
            letters.is_asked = false;
            (std::mem::take(&mut letters.answers), letters.stage == Stage::Stopping)
        };
        for (ticket, answer) in answers {
            self.input(Input::Answered { ticket, answer });
        }
        is_stopping
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
            if !letters.answers.is_empty() || (letters.stage == Stage::Stopping) != is_stopping {
                return None;
            }
            letters.is_awaited = !may_read;
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
        let now = self.directory.clock.now();
        self.fanout.handle(now, input, &mut outputs);
        while !outputs.is_empty() {
            for output in std::mem::take(&mut outputs) {
                match output {
                    Output::LookUp { round, users } => {
                        METRICS.look_up_users.observe(users.len() as f64);
                        let routes = self.directory.routes.look_up(now, &users);
                        self.fanout.handle(now, Input::Routes { round, routes }, &mut outputs);
                    }
                    Output::Revoke(incarnation) => {
                        self.revoke(incarnation);
                        self.fanout.handle(now, Input::LeaseEnded(incarnation), &mut outputs);
                    }
                    other => self.output(now.wall_ms, other),
                }
            }
        }
        self.outputs = outputs;
    }

    fn output(&mut self, wall_ms: u64, output: Output) {
        match output {
            Output::LookUp { .. } | Output::Revoke(_) => unreachable!("answered where it came up"),
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
        self.directory.routes.revoke(self.directory.clock.now(), incarnation);
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

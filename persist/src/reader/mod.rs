//! The loop that reads `uplink` and `receipts` of all its partitions, on one thread.
//!
//! Each turn takes what waits in every partition, lets the sequencers decide, writes all of their batches as one, and
//! hands the results to `stored`. The store is called in place, and blocks this thread on purpose: what cannot be written
//! must not be overtaken.

mod cursors;
mod outgoing;
mod partition;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use petrel_bus::{Bus, Consumer, Receipt, Record, SubscribeError};
use petrel_protocol::limits;
use petrel_protocol::sequencer::{Batch, Input};
use petrel_protocol::topics::{Subscription, Topic};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::metrics::METRICS;
use crate::status::{Health, Pulse, STORE, Stopping};
use crate::store::{Store, StoreError};
use cursors::Cursors;
use outgoing::Outgoing;
use partition::Partition;

/// The loop's state.
pub(crate) struct Reader {
    store: Store,
    partitions: Vec<Partition>,
    cursors: Cursors,
    receipts: UnboundedReceiver<Receipt>,
    stop: oneshot::Receiver<()>,
    patience: Patience,
    /// When what was done has to be synced and acknowledged.
    sync_at: Option<Instant>,
    events_to_sync: usize,
    /// What is told once everything that was in `uplink` at the start is stored.
    on_caught_up: Option<Box<dyn FnOnce() + Send>>,
}

/// Why a loop iteration began.
#[derive(Default)]
struct Woken {
    records: Vec<(usize, Record)>,
    receipts: Vec<Receipt>,
    /// The bus was closed, somebody else reads, or the loop is to end.
    is_over: bool,
}

/// The time that what is under way has to be finished in when the loop ends.
const FINISH: Duration = Duration::from_secs(2);

impl Reader {
    /// Subscribes. `stop` ends [`Self::run`].
    pub(crate) fn new(
        store: Store,
        bus: &Bus,
        partitions: &[u16],
        stop: oneshot::Receiver<()>,
        patience: Patience,
    ) -> Result<Self, SubscribeError> {
        let (sender, receipts) = unbounded_channel();
        // Bounded by the one pack of each partition that is under way. A loop that has ended wants none.
        let on_receipt = Arc::new(move |receipt| drop(sender.send(receipt)));
        let publisher = bus.publisher(Topic::Stored, on_receipt);
        let seed = random_seed();
        let consumer = |topic, partition| bus.subscribe(topic, Subscription::Persist, partition);
        let mut readers = Vec::new();
        let mut receipt_consumers = Vec::new();
        for partition in partitions {
            let outgoing = Outgoing::new(publisher.clone(), *partition);
            let uplink = consumer(Topic::Uplink, *partition)?;
            readers.push(Partition::new(*partition, bus.partitions(), seed, uplink, outgoing));
            receipt_consumers.push(consumer(Topic::Receipts, *partition)?);
        }
        let cursors = Cursors::new(receipt_consumers);
        let (sync_at, events_to_sync, on_caught_up) = (None, 0, None);
        Ok(Self {
            store,
            partitions: readers,
            cursors,
            receipts,
            stop,
            patience,
            sync_at,
            events_to_sync,
            on_caught_up,
        })
    }

    /// Whether the store may lack something that was in `uplink` at the start.
    pub(crate) fn is_behind(&self) -> bool {
        self.partitions.iter().any(Partition::is_behind)
    }

    /// `told` runs once everything that was in `uplink` at the start is stored.
    pub(crate) fn on_caught_up(&mut self, told: impl FnOnce() + Send + 'static) {
        self.on_caught_up = Some(Box::new(told));
    }

    /// Reads until it is stopped or the bus is closed.
    pub(crate) async fn run(mut self) {
        let mut is_over = false;
        while !is_over {
            let woken = self.wait(true).await;
            is_over = woken.is_over;
            if !self.turn(woken) {
                return;
            }
        }
        // What has begun is finished, as far as the bus answers.
        let until = Instant::now() + FINISH;
        while self.partitions.iter().any(|p| !p.machine.is_idle()) && Instant::now() < until {
            let Ok(woken) = tokio::time::timeout_at(until, self.wait(false)).await else { break };
            if !self.turn(woken) {
                return;
            }
        }
        self.sync();
    }

    /// One turn with what has come. False: the loop has to end as after a crash.
    fn turn(&mut self, woken: Woken) -> bool {
        self.patience.pulse.turns();
        let now = Instant::now();
        for receipt in woken.receipts {
            let partition = self.partitions.iter_mut().find(|p| p.outgoing.is_of(&receipt));
            partition.expect("each tag is a partition's").receipt(&receipt, now);
        }
        let mut records = woken.records.into_iter().peekable();
        for (index, partition) in self.partitions.iter_mut().enumerate() {
            let mut read = Vec::new();
            while let Some((_, record)) = records.next_if(|(of, _)| *of == index) {
                read.push(record);
            }
            if !woken.is_over {
                partition.read_more(&mut read);
            }
            partition.records(read);
            partition.outgoing.retry(now);
        }
        if !self.pump(now) {
            return false;
        }
        if self.on_caught_up.is_some()
            && !self.is_behind()
            && let Some(told) = self.on_caught_up.take()
        {
            told();
        }
        if self.cursors.is_due(now) {
            let advanced = self.cursors.gather(now);
            let (store, partitions) = (&self.store, &self.partitions);
            let known = |conversation| partitions.iter().find_map(|p| p.machine.head_seq(conversation));
            let advance = || store.advance(&advanced, &known);
            let timer = METRICS.cursors_seconds.start_timer();
            if self.patience.retried("cursors cannot be written", advance).is_none() {
                return false;
            }
            timer.observe_duration();
            self.cursors.written();
        }
        let is_due =
            self.sync_at.is_some_and(|at| at <= now) || self.events_to_sync >= limits::PERSIST_SYNC_EVENTS;
        !is_due || self.sync()
    }

    /// Carries out effects until only receipts are awaited.
    fn pump(&mut self, now: Instant) -> bool {
        loop {
            let mut batches: Vec<(usize, Arc<Batch>)> = Vec::new();
            for (index, partition) in self.partitions.iter_mut().enumerate() {
                loop {
                    let store = &self.store;
                    let Some(loads) = partition.effects(now) else { break };
                    let loaded = self.patience.retried("the store cannot be read", || store.load(&loads));
                    let Some(loaded) = loaded else { return false };
                    partition.handle(Input::Loaded(loaded));
                }
                batches.extend(partition.commit.take().map(|batch| (index, batch)));
            }
            let done: usize = self.partitions.iter_mut().map(Partition::take_done).sum();
            if done > 0 {
                self.events_to_sync += done;
                self.sync_at.get_or_insert(now + Duration::from_millis(limits::PERSIST_SYNC_MS));
            }
            if batches.is_empty() {
                return true;
            }
            let refs: Vec<Arc<Batch>> = batches.iter().map(|(_, batch)| Arc::clone(batch)).collect();
            let timer = METRICS.commit_seconds.start_timer();
            if self.patience.retried("a batch cannot be written", || self.store.commit(&refs)).is_none() {
                return false;
            }
            timer.observe_duration();
            METRICS.batch_events.observe(refs.iter().map(|batch| batch.counts.events).sum::<usize>() as f64);
            for (index, batch) in batches {
                count(&batch);
                self.partitions[index].handle(Input::Committed);
            }
        }
    }

    /// Makes what is done survive a power cut, then acknowledges it. What was published on `stored` comes before the
    /// acknowledgement in the bus's own journal.
    fn sync(&mut self) -> bool {
        self.sync_at = None;
        self.events_to_sync = 0;
        if self.partitions.iter().all(|partition| partition.ack.is_none()) {
            return true;
        }
        let timer = METRICS.sync_seconds.start_timer();
        if self.patience.retried("the store cannot be synced", || self.store.sync()).is_none() {
            return false;
        }
        timer.observe_duration();
        for partition in &mut self.partitions {
            partition.acknowledge();
        }
        true
    }

    /// Waits for anything to do. Where nothing is under way and nothing comes, it waits without a timer.
    async fn wait(&mut self, is_reading: bool) -> Woken {
        let mut at = [self.sync_at, self.cursors.due_at()].into_iter().flatten().min();
        at = self.partitions.iter().filter_map(|p| p.outgoing.retry_at()).chain(at).min();
        let partitions = self.partitions.iter_mut().enumerate();
        let readable = partitions.filter(|(_, p)| is_reading && p.machine.has_room());
        let mut uplink: Vec<_> = readable.map(|(index, p)| (index, next(&mut p.consumer))).collect();
        let awaited = if is_reading { self.cursors.awaited() } else { Vec::new() };
        let mut cursors: Vec<_> = awaited.into_iter().map(|(i, c)| (i, next(c))).collect();
        let mut news: Vec<(usize, Option<Record>)> = Vec::new();
        let mut woken = Woken::default();
        let mut timer = pin!(async {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        });
        let (receipts, stop) = (&mut self.receipts, &mut self.stop);
        let mut asked = pin!(self.patience.pulse.asked());
        std::future::poll_fn(|context| {
            let mut is_ready = false;
            for (index, next) in &mut uplink {
                if let Poll::Ready(record) = next.as_mut().poll(context) {
                    is_ready = true;
                    woken.is_over |= record.is_none();
                    woken.records.extend(record.map(|record| (*index, record)));
                }
            }
            for (index, next) in &mut cursors {
                if let Poll::Ready(record) = next.as_mut().poll(context) {
                    is_ready = true;
                    news.push((*index, record));
                }
            }
            while let Poll::Ready(Some(receipt)) = receipts.poll_recv(context) {
                is_ready = true;
                woken.receipts.push(receipt);
            }
            if is_reading && is_stopped(stop, context) {
                is_ready = true;
                woken.is_over = true;
            }
            is_ready |= asked.as_mut().poll(context).is_ready();
            is_ready |= timer.as_mut().poll(context).is_ready();
            if is_ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        drop((uplink, cursors));
        for (index, record) in news {
            woken.is_over |= record.is_none();
            self.cursors.began(index, record);
        }
        woken
    }
}

fn is_stopped(stop: &mut oneshot::Receiver<()>, context: &mut Context<'_>) -> bool {
    Pin::new(stop).poll(context).is_ready()
}

type Next<'a> = Pin<Box<dyn Future<Output = Option<Record>> + Send + 'a>>;

fn next(consumer: &mut Consumer) -> Next<'_> {
    Box::pin(consumer.next())
}

/// What a retry needs to know, and who is told of it.
pub(crate) struct Patience {
    pub(crate) health: Health,
    pub(crate) stopping: Stopping,
    pub(crate) pulse: Pulse,
}

impl Patience {
    /// Tries until it is done; nothing later overtakes it. None: the loop is to end.
    fn retried<T>(&self, what: &str, mut attempt: impl FnMut() -> Result<T, StoreError>) -> Option<T> {
        let mut pause = Duration::from_millis(10);
        let mut has_failed = false;
        loop {
            match attempt() {
                Ok(done) => {
                    if has_failed {
                        self.health.works(STORE);
                    }
                    return Some(done);
                }
                Err(error) => self.health.waits(STORE, format!("{what}: {error}; trying again")),
            }
            has_failed = true;
            self.pulse.turns();
            METRICS.failures.inc();
            if self.stopping.is_begun() {
                return None;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

fn count(batch: &Batch) {
    use petrel_protocol::events::stored::Body;
    let counts = batch.counts;
    METRICS.events.inc_by(counts.events as u64);
    METRICS.seqs.inc_by(batch.messages.len() as u64);
    METRICS.replays.inc_by(counts.replays as u64);
    METRICS.lost_replays.inc_by(counts.lost_replays as u64);
    METRICS.heads.with_label_values(&["memory"]).inc_by(counts.heads_kept as u64);
    METRICS.heads.with_label_values(&["store"]).inc_by(counts.heads_loaded as u64);
    METRICS.keys_loaded.inc_by(counts.keys_loaded as u64);
    for dead in &batch.dead_letters {
        METRICS.dead_letters.inc();
        let (partition, position, fault) = (dead.partition, dead.position, dead.fault);
        tracing::error!(partition, ?position, "an event of uplink is a dead letter: {fault}");
    }
    for stored in &batch.stored {
        match &stored.body {
            Some(Body::Duplicate(_)) => METRICS.duplicates.inc(),
            Some(Body::Refused(refused)) => {
                METRICS.refusals.with_label_values(&[&refused.code.to_string()]).inc();
            }
            _ => {}
        }
    }
}

/// A secret that clients cannot know. It decides nothing, so any two runs may differ in it.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

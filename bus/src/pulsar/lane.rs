//! One partition's way to the broker: a queue, a producer, and the packs under way.
//!
//! The client sends again what is under way when its connection comes back, before anything newer, so order holds. A
//! pack that cannot be handed to the client within a bound was certainly not sent, and is refused; from then on the lane
//! refuses at once, until what is under way is settled and a new producer is open. A producer that cannot be opened also
//! says why: a full backlog, or no broker.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use petrel_protocol::limits;
use petrel_protocol::topics::Topic;
use pulsar::error::{ConnectionError, Error, ProducerError};
use pulsar::proto::ServerError;
use pulsar::{Producer, ProducerOptions, TokioExecutor, producer};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::metrics::METRICS;
use super::receipts::{self, Flight, Outcome};
use super::shared::Shared;
use super::side::{Client, until_closed};
use crate::{Health, OnReceipt, PublishError};

/// How long the first pack waits for the client to take it.
const HOLD: Duration = Duration::from_millis(limits::BUS_HOLD_MS);
/// How long a pack waits behind others.
const QUEUE: Duration = Duration::from_millis(limits::BUS_QUEUE_MS_MAX);
const RETRY: Duration = Duration::from_millis(limits::BUS_RECONNECT_MS_MAX);

/// A handle to a lane.
pub(super) struct Lane {
    topic: Topic,
    queue: mpsc::UnboundedSender<Work>,
    refusal: Arc<Refusal>,
}

/// What waits in a lane. Packs are bounded by their topic's room, syncs by their callers.
enum Work {
    Pack(Ticket, Bytes),
    Sync(SyncWaiter),
}

pub(super) type SyncWaiter = SyncSender<()>;

/// Whose pack it is that is on its way.
pub(super) struct Ticket {
    pub(super) tag: u64,
    pub(super) bytes: usize,
    pub(super) on_receipt: OnReceipt,
    pub(super) taken_at: Instant,
}

/// Whether packs are refused at once, and as what.
#[derive(Default)]
struct Refusal(AtomicU8);

impl Refusal {
    fn set(&self, error: Option<PublishError>) {
        let value = match error {
            None => 0,
            Some(PublishError::Full) => 1,
            Some(_) => 2,
        };
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> Option<PublishError> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(PublishError::Full),
            _ => Some(PublishError::Unavailable),
        }
    }
}

impl Lane {
    /// Starts the lane's tasks, which begin to open its producer.
    pub(super) fn start(shared: &Arc<Shared>, topic: Topic, partition: u16) -> Self {
        let (queue, work) = mpsc::unbounded_channel();
        let (flights, landing) = mpsc::unbounded_channel();
        let refusal = Arc::new(Refusal::default());
        let sender = Sender {
            name: format!("publishing on {}-{partition}", topic.name()),
            topic,
            pulsar_topic: shared.names.partition(topic, partition),
            client: shared.publish_client.clone(),
            health: shared.config.health.clone(),
            closing: shared.closing(),
            work,
            waiting: VecDeque::new(),
            in_flight: Arc::new(Semaphore::new(limits::BUS_LANE_IN_FLIGHT_MAX)),
            flights,
            refusal: Arc::clone(&refusal),
        };
        shared.publishing.spawn(sender.run());
        shared.publishing.spawn(receipts::settle(Arc::downgrade(shared), topic, landing));
        Self { topic, queue, refusal }
    }

    pub(super) fn publish(
        &self,
        shared: &Shared,
        tag: u64,
        pack: Bytes,
        on_receipt: &OnReceipt,
    ) -> Result<(), PublishError> {
        if shared.is_closing() {
            return Err(PublishError::Unavailable);
        }
        if let Some(refusal) = self.refusal.get() {
            return Err(refusal);
        }
        let bytes = pack.len();
        shared.take_room(self.topic, bytes)?;
        let ticket = Ticket { tag, bytes, on_receipt: Arc::clone(on_receipt), taken_at: Instant::now() };
        self.queue.send(Work::Pack(ticket, pack)).map_err(|_| {
            shared.release(self.topic, bytes);
            PublishError::Unavailable
        })
    }

    /// `waiter` is told once when everything before this is receipted, and never where the lane ends first.
    pub(super) fn sync(&self, waiter: SyncWaiter) -> Result<(), PublishError> {
        self.queue.send(Work::Sync(waiter)).map_err(|_| PublishError::Unavailable)
    }
}

/// The task that owns the producer.
struct Sender {
    name: String,
    topic: Topic,
    pulsar_topic: String,
    client: Client,
    health: Health,
    closing: watch::Receiver<bool>,
    work: mpsc::UnboundedReceiver<Work>,
    waiting: VecDeque<Work>,
    in_flight: Arc<Semaphore>,
    flights: mpsc::UnboundedSender<Flight>,
    refusal: Arc<Refusal>,
}

impl Sender {
    async fn run(mut self) {
        while let Some(mut producer) = self.open().await {
            self.health.works(&self.name);
            self.refusal.set(None);
            if Box::pin(self.send_all(&mut producer)).await {
                break;
            }
            METRICS.producer_failures.with_label_values(&[self.topic.name()]).inc();
            self.refuse_waiting(PublishError::Unavailable);
            // What is under way is sent again when the connection comes back, while this producer lives. Nothing newer
            // is sent before its outcome is known.
            let all = limits::BUS_LANE_IN_FLIGHT_MAX as u32;
            drop(self.in_flight.acquire_many(all).await);
        }
        // What came after the log was closed.
        self.work.close();
        self.refuse_waiting(PublishError::Unavailable);
    }

    /// Opens a producer; tries until there is one. None: the log is closed.
    async fn open(&mut self) -> Option<Producer<TokioExecutor>> {
        loop {
            let topic = self.pulsar_topic.clone();
            // The client must not be dropped while it connects, so it goes on by itself where nobody waits any more.
            let opening = tokio::spawn(open(self.client.clone(), topic));
            let opened = self.while_waiting(opening).await?;
            let error = match opened.unwrap_or_else(|_| Err(Error::Executor)) {
                Ok(producer) => return Some(producer),
                Err(error) => error,
            };
            METRICS.producer_failures.with_label_values(&[self.topic.name()]).inc();
            let (refusal, problem) = explain(&error);
            if self.refusal.get() != Some(refusal) {
                tracing::warn!(topic = self.pulsar_topic, "{}: {problem}; trying again", self.name);
            }
            self.health.fails(&self.name, &problem);
            self.refusal.set(Some(refusal));
            self.refuse_waiting(refusal);
            self.while_waiting(tokio::time::sleep(RETRY)).await?;
        }
    }

    /// Waits for something while there is no producer, and refuses what waits for too long. None: the log is closed.
    async fn while_waiting<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let mut what = std::pin::pin!(what);
        loop {
            let oldest = self.waiting.iter().find_map(|work| match work {
                Work::Pack(ticket, _) => Some(ticket.taken_at),
                Work::Sync(_) => None,
            });
            let expiry = async {
                match oldest {
                    Some(taken_at) => sleep_until(taken_at + HOLD).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                done = &mut what => return Some(done),
                () = until_closed(&mut self.closing) => return None,
                work = self.work.recv() => self.waiting.extend(work),
                () = expiry => {
                    if self.refusal.get().is_none() {
                        tracing::warn!(topic = self.pulsar_topic, "{}: no broker answers", self.name);
                        self.health.fails(&self.name, "no broker answers; start it, or mend the way to it");
                        self.refusal.set(Some(PublishError::Unavailable));
                    }
                    self.refuse_waiting(PublishError::Unavailable);
                }
            }
        }
    }

    /// Sends what comes. True: all is sent, and the log is closed; false: the producer is stuck.
    #[expect(
        clippy::large_futures,
        reason = "the lane's task holds it; in a box it would be allocated for each pack"
    )]
    async fn send_all(&mut self, producer: &mut Producer<TokioExecutor>) -> bool {
        loop {
            let work = if let Some(work) = self.waiting.pop_front() {
                work
            } else {
                tokio::select! {
                    biased;
                    Some(work) = self.work.recv() => work,
                    () = until_closed(&mut self.closing) => return true,
                }
            };
            match work {
                Work::Sync(waiter) => self.land(Flight::Sync(waiter)),
                Work::Pack(ticket, pack) => {
                    if let Err(problem) = self.send(producer, ticket, &pack).await {
                        tracing::warn!(topic = self.pulsar_topic, "{}: {problem}", self.name);
                        self.health.fails(&self.name, &problem);
                        self.refusal.set(Some(PublishError::Unavailable));
                        return false;
                    }
                }
            }
        }
    }

    /// Hands a pack to the client, or refuses it. Waiting for either step and giving up sends nothing.
    #[expect(
        clippy::large_futures,
        reason = "the lane's task holds it; in a box it would be allocated for each pack"
    )]
    async fn send(
        &self,
        producer: &mut Producer<TokioExecutor>,
        ticket: Ticket,
        pack: &Bytes,
    ) -> Result<(), String> {
        if ticket.taken_at.elapsed() > QUEUE {
            // The lane moves, but too slowly for what is published.
            self.land(Flight::refused(ticket, PublishError::Full));
            return Ok(());
        }
        let until = Instant::now() + HOLD;
        let refused = PublishError::Unavailable;
        let Ok(permit) = timeout_at(until, Arc::clone(&self.in_flight).acquire_owned()).await else {
            self.land(Flight::refused(ticket, refused));
            return Err(
                "the broker has not receipted what is under way; it is stuck, or overloaded".to_owned()
            );
        };
        let message = producer::Message { payload: pack.to_vec(), ..Default::default() };
        match timeout_at(until, producer.send_non_blocking(message)).await {
            Ok(Ok(receipt)) => {
                let until = Instant::now() + Duration::from_millis(limits::BUS_PUBLISH_MS_MAX);
                self.land(Flight::Pack(ticket, Outcome::Sent { receipt, until, _permit: permit.ok() }));
                Ok(())
            }
            Ok(Err(error)) => {
                self.land(Flight::refused(ticket, refused));
                Err(explain(&error).1)
            }
            Err(_) => {
                self.land(Flight::refused(ticket, refused));
                Err("the connection to the broker is lost; waiting for it".to_owned())
            }
        }
    }

    fn refuse_waiting(&mut self, error: PublishError) {
        loop {
            let work = self.waiting.pop_front().or_else(|| self.work.try_recv().ok());
            match work {
                Some(Work::Pack(ticket, _)) => self.land(Flight::refused(ticket, error)),
                Some(Work::Sync(waiter)) => self.land(Flight::Sync(waiter)),
                None => return,
            }
        }
    }

    /// Receipts are given in the order of publishing, refusals included.
    fn land(&self, flight: Flight) {
        // The other task ends only after this one, or by a panic, which closes the log.
        let _ = self.flights.send(flight);
    }
}

#[expect(clippy::large_futures, reason = "a task of its own holds it")]
async fn open(client: Client, topic: String) -> Result<Producer<TokioExecutor>, Error> {
    // Waiting for room in the connection's queue keeps order; the lane bounds how long it waits.
    let options = ProducerOptions { block_queue_if_full: true, ..ProducerOptions::default() };
    client.producer().with_topic(topic).with_options(options).build().await
}

/// How publishes are refused for this error, and what to tell people.
fn explain(error: &Error) -> (PublishError, String) {
    let kind = match error {
        Error::Connection(ConnectionError::PulsarError(kind, _))
        | Error::Producer(ProducerError::Connection(ConnectionError::PulsarError(kind, _))) => *kind,
        _ => None,
    };
    match kind {
        Some(
            ServerError::ProducerBlockedQuotaExceededError
            | ServerError::ProducerBlockedQuotaExceededException,
        ) => {
            let problem = "the backlog is full; start its readers, or raise the limit of the backlog";
            (PublishError::Full, problem.to_owned())
        }
        Some(ServerError::TopicTerminatedError) => {
            let problem = "the generation is sealed; configure the next one";
            (PublishError::Unavailable, problem.to_owned())
        }
        _ => (PublishError::Unavailable, format!("the broker says: {error}")),
    }
}

/// A handle that does not keep the log open.
pub(super) type WeakShared = Weak<Shared>;

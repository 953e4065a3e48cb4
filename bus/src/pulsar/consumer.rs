//! Reading: a task keeps the subscription, and hands records to the consumer through a short queue.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use petrel_protocol::ids::Position;
use petrel_protocol::limits;
use petrel_protocol::topics::{Subscription, Topic};
use pulsar::proto::MessageIdData;
use pulsar::{ConsumerOptions, SubType, TokioExecutor};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::follow::{Follow, Next, Place};
use super::metrics::METRICS;
use super::shared::Shared;
use super::side::{Client, until_closed};
use crate::{Health, Record};

/// Reads one partition for one subscription, while the broker gives it to this process.
pub struct Consumer {
    name: String,
    generation: u32,
    records: mpsc::Receiver<Record>,
    ack: Arc<Ack>,
}

/// What a consumer and its task share, and what the next consumer of the partition goes on from.
pub(super) struct Ack {
    state: watch::Sender<State>,
}

#[derive(Clone, Copy)]
struct State {
    /// Everything up to here has had its effect.
    acked: Option<Place>,
    /// Another consumer of this process took over, or this one was dropped.
    is_over: bool,
}

impl Ack {
    fn is_over(&self) -> bool {
        self.state.borrow().is_over
    }

    /// Ends the consumer; what it has acknowledged.
    fn end(&self) -> Option<Place> {
        self.state.send_modify(|state| state.is_over = true);
        self.state.borrow().acked
    }
}

impl Consumer {
    /// Subscribes, and takes over from an older consumer of this process. None where the log is closed.
    pub(super) fn new(
        shared: &Arc<Shared>,
        topic: Topic,
        subscription: Subscription,
        partition: u16,
    ) -> Option<Self> {
        if shared.is_closing() {
            return None;
        }
        let mut readers = shared.readers.lock().expect("no holder panics");
        let key = (topic, subscription, partition);
        let acked = readers.get(&key).and_then(|older| older.end());
        let ack = Arc::new(Ack { state: watch::Sender::new(State { acked, is_over: false }) });
        readers.insert(key, Arc::clone(&ack));
        drop(readers);
        let (give, records) = mpsc::channel(limits::BUS_PREFETCH_PACKS);
        let name = format!("reading {}-{partition} for {}", topic.name(), subscription.name());
        let generation = shared.config.generation;
        let reader = Reader {
            name: name.clone(),
            topic,
            partition,
            generation,
            pulsar_topic: shared.names.partition(topic, partition),
            subscription,
            consumer_name: shared.config.name.clone(),
            client: shared.read_client.clone(),
            health: shared.config.health.clone(),
            closing: shared.closing(),
            acks: ack.state.subscribe(),
            follow: Follow::new(acked),
            give,
        };
        shared.reading.spawn(reader.run());
        Some(Self { name, generation, records, ack })
    }

    /// See [`crate::Consumer::next`].
    pub(crate) async fn next(&mut self) -> Option<Record> {
        let record = self.records.recv().await;
        record.filter(|_| !self.ack.is_over())
    }

    /// See [`crate::Consumer::try_next`].
    pub(crate) fn try_next(&mut self) -> Option<Record> {
        if self.ack.is_over() { None } else { self.records.try_recv().ok() }
    }

    /// See [`crate::Consumer::ack`].
    pub(crate) fn ack(&mut self, position: Position) {
        if position.generation != self.generation {
            return;
        }
        let place = Some((position.ledger, position.entry));
        self.ack.state.send_if_modified(|state| {
            let is_news = !state.is_over && state.acked < place;
            if is_news {
                state.acked = place;
            }
            is_news
        });
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.ack.end();
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consumer({})", self.name)
    }
}

/// The client's consumer. It is asked for no decoding: packs are taken as they are.
type Subscribed = pulsar::Consumer<Vec<u8>, TokioExecutor>;

/// The task behind a consumer.
struct Reader {
    name: String,
    topic: Topic,
    partition: u16,
    generation: u32,
    pulsar_topic: String,
    subscription: Subscription,
    consumer_name: String,
    client: Client,
    health: Health,
    closing: watch::Receiver<bool>,
    acks: watch::Receiver<State>,
    follow: Follow,
    give: mpsc::Sender<Record>,
}

/// Why reading stops.
enum End {
    /// The consumer is over, or the log is closed.
    Over,
    /// The subscription has ended by itself.
    Lost(String),
}

const RETRY: Duration = Duration::from_millis(limits::BUS_RECONNECT_MS_MAX);
/// How long the last acknowledgement is waited for.
const FLUSH: Duration = Duration::from_secs(1);

impl Reader {
    async fn run(mut self) {
        loop {
            // The client must not be dropped while it connects, so it goes on by itself where nobody waits any more.
            let subscribing = tokio::spawn(subscribe(
                self.client.clone(),
                self.pulsar_topic.clone(),
                self.subscription.name(),
                self.consumer_name.clone(),
            ));
            let subscribed = tokio::select! {
                subscribed = subscribing => subscribed.unwrap_or(Err(pulsar::Error::Executor)),
                () = is_over(&mut self.acks, &mut self.closing) => break,
            };
            let problem = match subscribed {
                Ok(consumer) => {
                    self.health.works(&self.name);
                    self.follow.subscribed();
                    match self.read(consumer).await {
                        End::Over => break,
                        End::Lost(problem) => problem,
                    }
                }
                Err(error) => format!("the broker says: {error}"),
            };
            METRICS.consumer_failures.with_label_values(&[self.topic.name()]).inc();
            tracing::warn!(topic = self.pulsar_topic, "{}: {problem}; subscribing again", self.name);
            self.health.fails(&self.name, &problem);
            tokio::select! {
                () = sleep(RETRY) => {}
                () = is_over(&mut self.acks, &mut self.closing) => break,
            }
        }
        self.health.works(&self.name);
    }

    /// Reads until the subscription ends, and sees that what was acknowledged reaches the broker.
    async fn read(&mut self, mut consumer: Subscribed) -> End {
        let end = match self.follow.acked() {
            // What was acknowledged while there was no subscription.
            Some(acked) => match self.acknowledge(&mut consumer, acked).await {
                Ok(()) => self.read_on(&mut consumer).await,
                Err(problem) => End::Lost(problem),
            },
            None => self.read_on(&mut consumer).await,
        };
        if matches!(end, End::Over) {
            let acked = self.acks.borrow().acked;
            if let Some(acked) = acked
                && self.follow.ack(acked)
            {
                let _ = self.acknowledge(&mut consumer, acked).await;
            }
            // An answer on the same connection means that the acknowledgements before it have arrived.
            let _ = timeout(FLUSH, consumer.check_connection()).await;
        }
        end
    }

    async fn read_on(&mut self, consumer: &mut Subscribed) -> End {
        let mut is_acked_again = false;
        loop {
            let (give, acks) = (&self.give, &mut self.acks);
            let came = tokio::select! {
                biased;
                () = until_closed(&mut self.closing) => return End::Over,
                changed = acks.changed() => {
                    let State { acked, is_over } = *acks.borrow_and_update();
                    if is_over || changed.is_err() {
                        return End::Over;
                    }
                    if let Some(acked) = acked
                        && self.follow.ack(acked)
                        && let Err(problem) = self.acknowledge(consumer, acked).await
                    {
                        return End::Lost(problem);
                    }
                    continue;
                }
                came = with_room(give, consumer) => came,
            };
            // A consumer that is gone is over too, which the next turn sees.
            let Some((room, message)) = came else { continue };
            let message = match message {
                Some(Ok(message)) => message,
                Some(Err(error)) => return End::Lost(format!("the broker says: {error}")),
                None => return End::Lost("the subscription ended".to_owned()),
            };
            let id = message.message_id();
            let place = (id.ledger_id, id.entry_id);
            match self.follow.came(place) {
                Next::Give { is_resumed } => {
                    is_acked_again = false;
                    METRICS.records.with_label_values(&[self.topic.name()]).inc();
                    if is_resumed {
                        METRICS.resumed.with_label_values(&[self.topic.name()]).inc();
                    }
                    let (ledger, entry) = place;
                    let position = Position { generation: self.generation, ledger, entry, index: 0 };
                    let pack = Bytes::from(message.payload.data);
                    room.send(Record { partition: self.partition, position, pack, is_resumed });
                }
                Next::AckAgain(acked) => {
                    METRICS.again.with_label_values(&[self.topic.name()]).inc();
                    drop(room);
                    if !std::mem::replace(&mut is_acked_again, true)
                        && let Err(problem) = self.acknowledge(consumer, acked).await
                    {
                        return End::Lost(problem);
                    }
                }
            }
        }
    }

    /// Everything up to here. It is put into the client's queue; where it is lost, the records come again.
    async fn acknowledge(&self, consumer: &mut Subscribed, (ledger, entry): Place) -> Result<(), String> {
        let id = MessageIdData {
            ledger_id: ledger,
            entry_id: entry,
            partition: Some(i32::from(self.partition)),
            ..MessageIdData::default()
        };
        let acked = consumer.cumulative_ack_with_id(&self.pulsar_topic, id).await;
        acked.map_err(|error| format!("an acknowledgement could not be sent: {error}"))
    }
}

type Came = Option<Result<pulsar::consumer::Message<Vec<u8>>, pulsar::Error>>;

/// The next message, once there is room for its record. None: the consumer is gone.
async fn with_room<'a>(
    give: &'a mpsc::Sender<Record>,
    consumer: &mut Subscribed,
) -> Option<(mpsc::Permit<'a, Record>, Came)> {
    let room = give.reserve().await.ok()?;
    let message = std::future::poll_fn(|context| Pin::new(&mut *consumer).poll_next(context)).await;
    Some((room, message))
}

/// Returns when nothing is to be read any more.
async fn is_over(acks: &mut watch::Receiver<State>, closing: &mut watch::Receiver<bool>) {
    tokio::select! {
        _ = acks.wait_for(|state| state.is_over) => {}
        () = until_closed(closing) => {}
    }
}

async fn subscribe(
    client: Client,
    topic: String,
    subscription: &str,
    name: String,
) -> Result<Subscribed, pulsar::Error> {
    // The subscription is there already: a missing one is not made here, since it would begin at the topic's end.
    let options =
        ConsumerOptions::default().durable(true).with_receiver_queue_size(limits::BUS_PREFETCH_PACKS as u32);
    client
        .consumer()
        .with_topic(topic)
        .with_subscription(subscription)
        .with_subscription_type(SubType::Failover)
        .with_consumer_name(name)
        .with_batch_size(limits::BUS_PREFETCH_PACKS as u32)
        .with_options(options)
        .build()
        .await
}

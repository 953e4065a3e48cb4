//! How the services meet: the log between them ([`Bus`]), and the calls between them ([`calls`]).
//!
//! The log is partitioned by conversation. Publishing is durable before its receipt; reading is at least once, in order
//! within a partition, by one active reader for each subscription; acknowledging comes after the effect.

pub mod calls;
pub mod durable;
pub mod embedded;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "pulsar")]
mod health;
mod metrics;
#[cfg(feature = "pulsar")]
pub mod pulsar;
#[cfg(test)]
#[path = "../../fuzz/properties/replay.rs"]
mod replay;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use petrel_protocol::ids::Position;
use petrel_protocol::topics::{Subscription, Topic};

#[cfg(feature = "pulsar")]
pub use crate::health::Health;

/// The log between the services. A clone is another handle on the same log.
#[derive(Clone, Debug)]
pub enum Bus {
    /// In this process, in one folder.
    Embedded(Arc<embedded::Log>),
    /// On Apache Pulsar, shared with other processes.
    #[cfg(feature = "pulsar")]
    Pulsar(Arc<pulsar::Log>),
}

impl Bus {
    /// Creates the embedded log in `dir`, or opens what is there.
    pub fn embedded(dir: &Path, partitions: u16) -> Result<Self, OpenError> {
        embedded::Log::open(dir, embedded::Config::new(partitions)).map(Self::Embedded)
    }

    /// Opens the log on Pulsar: makes and verifies its topics, and connects. Waits for a broker that is away, and says so
    /// in `config.health`; an error is for a person to mend.
    #[cfg(feature = "pulsar")]
    pub async fn pulsar(config: pulsar::Config) -> Result<Self, OpenError> {
        pulsar::Log::open(config).await.map(Self::Pulsar)
    }

    /// The partitions of each topic; fixed for a generation.
    pub fn partitions(&self) -> u16 {
        match self {
            Self::Embedded(log) => log.partitions(),
            #[cfg(feature = "pulsar")]
            Self::Pulsar(log) => log.partitions(),
        }
    }

    /// The generation of the topics: positions compare within one.
    pub fn generation(&self) -> u32 {
        match self {
            Self::Embedded(log) => log.generation(),
            #[cfg(feature = "pulsar")]
            Self::Pulsar(log) => log.generation(),
        }
    }

    /// The generation's random id. Two logs never have the same, so a store that remembers it notices a log that was
    /// emptied or exchanged, whose positions would otherwise pass for old ones.
    pub fn generation_id(&self) -> [u8; 16] {
        match self {
            Self::Embedded(log) => log.generation_id(),
            #[cfg(feature = "pulsar")]
            Self::Pulsar(log) => log.generation_id(),
        }
    }

    /// A handle to publish on `topic`. `on_receipt` runs on a thread of the bus and must not block. The receipts of one
    /// publisher and partition come in publish order.
    pub fn publisher(&self, topic: Topic, on_receipt: OnReceipt) -> Publisher {
        match self {
            Self::Embedded(log) => Publisher::Embedded(log.publisher(topic, on_receipt)),
            #[cfg(feature = "pulsar")]
            Self::Pulsar(log) => Publisher::Pulsar(log.publisher(topic, on_receipt)),
        }
    }

    /// Reads `partition` of `topic` from the first record that `subscription` has not acknowledged. Where a consumer of
    /// the same subscription and partition lives, this one takes over: the older one's `next` ends and its
    /// acknowledgements count no more.
    pub fn subscribe(
        &self,
        topic: Topic,
        subscription: Subscription,
        partition: u16,
    ) -> Result<Consumer, SubscribeError> {
        let partitions = self.partitions();
        if partition >= partitions {
            return Err(SubscribeError::NoSuchPartition { partition, partitions });
        }
        if !topic.subscriptions().contains(&subscription) {
            return Err(SubscribeError::NoSuchSubscription(topic, subscription));
        }
        let consumer = match self {
            Self::Embedded(log) => log.subscribe(topic, subscription, partition).map(Consumer::Embedded),
            #[cfg(feature = "pulsar")]
            Self::Pulsar(log) => log.subscribe(topic, subscription, partition).map(Consumer::Pulsar),
        };
        consumer.ok_or(SubscribeError::Unavailable)
    }

    /// Returns when everything written so far, acknowledgements included, is on disk. Blocks.
    pub fn sync(&self) -> Result<(), PublishError> {
        match self {
            Self::Embedded(log) => log.sync(),
            #[cfg(feature = "pulsar")]
            Self::Pulsar(log) => log.sync(),
        }
    }

    /// Writes and syncs what waits, ends every consumer and stops the threads. Blocks. Later calls do nothing; later
    /// publishes are refused as unavailable.
    pub fn close(&self) {
        match self {
            Self::Embedded(log) => log.close(),
            #[cfg(feature = "pulsar")]
            Self::Pulsar(log) => log.close(),
        }
    }
}

/// What takes a publisher's receipts.
pub type OnReceipt = Arc<dyn Fn(Receipt) + Send + Sync>;

/// A handle to publish on one topic, from any thread. A clone shares the receipts' callback.
#[derive(Clone, Debug)]
pub enum Publisher {
    /// On the embedded log.
    Embedded(embedded::Publisher),
    /// On Pulsar.
    #[cfg(feature = "pulsar")]
    Pulsar(pulsar::Publisher),
}

impl Publisher {
    /// Hands a pack to the bus; never blocks. `Ok`: exactly one receipt with this `tag` follows. `Err`: none does, and
    /// the pack is certainly not in the log ([`PublishError::Full`] or [`PublishError::Unavailable`]).
    pub fn publish(&self, partition: u16, tag: u64, pack: Bytes) -> Result<(), PublishError> {
        match self {
            Self::Embedded(publisher) => publisher.publish(partition, tag, pack),
            #[cfg(feature = "pulsar")]
            Self::Pulsar(publisher) => publisher.publish(partition, tag, pack),
        }
    }

    /// How many packs of one partition are best under way at a time; what comes meanwhile travels together. On the embedded
    /// log the packs of a group share its sync, so that two keep it busy. A broker is paid for each message, whatever is
    /// in it: one, and its packs grow as it becomes slower.
    pub fn packs_at_once(&self) -> u8 {
        match self {
            Self::Embedded(_) => 2,
            #[cfg(feature = "pulsar")]
            Self::Pulsar(_) => 1,
        }
    }
}

/// The one active reader of a partition for its subscription.
#[derive(Debug)]
pub enum Consumer {
    /// Of the embedded log.
    Embedded(embedded::Consumer),
    /// On Pulsar.
    #[cfg(feature = "pulsar")]
    Pulsar(pulsar::Consumer),
}

impl Consumer {
    /// The next record; waits for it. `None`: the bus was closed, or another consumer took over. Cancel-safe, and works
    /// on every runtime.
    pub async fn next(&mut self) -> Option<Record> {
        match self {
            Self::Embedded(consumer) => consumer.next().await,
            #[cfg(feature = "pulsar")]
            Self::Pulsar(consumer) => consumer.next().await,
        }
    }

    /// The next record, where it is there already.
    pub fn try_next(&mut self) -> Option<Record> {
        match self {
            Self::Embedded(consumer) => consumer.try_next(),
            #[cfg(feature = "pulsar")]
            Self::Pulsar(consumer) => consumer.try_next(),
        }
    }

    /// The newest record that is there now, where it is not acknowledged. Of the embedded log alone: on Pulsar this is
    /// always none.
    pub fn newest_waiting(&self) -> Option<Position> {
        match self {
            Self::Embedded(consumer) => consumer.newest_waiting(),
            #[cfg(feature = "pulsar")]
            Self::Pulsar(_) => None,
        }
    }

    /// This record and all before it have had their effect. Never goes backwards; the index is ignored, since a record
    /// is acknowledged whole.
    pub fn ack(&mut self, position: Position) {
        match self {
            Self::Embedded(consumer) => consumer.ack(position),
            #[cfg(feature = "pulsar")]
            Self::Pulsar(consumer) => consumer.ack(position),
        }
    }
}

/// Why the log cannot be opened. The text names the mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub(crate) String);

/// Why a partition cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// There is no such partition.
    #[error("partition {partition} does not exist: the topics have {partitions}")]
    NoSuchPartition {
        /// What was asked for.
        partition: u16,
        /// What there is.
        partitions: u16,
    },
    /// The topic does not keep records for this subscription (`protocol::topics`).
    #[error("{} does not read {}: add it to Topic::subscriptions in protocol/src/topics.rs", .1.name(), .0.name())]
    NoSuchSubscription(Topic, Subscription),
    /// The log is closed, or its folder cannot be read.
    #[error("the bus is closed or cannot be read")]
    Unavailable,
}

/// What a publisher is told about one pack.
#[derive(Debug)]
pub struct Receipt {
    /// What the publisher gave with the pack.
    pub tag: u64,
    /// The position of the pack's first event, or why it has none.
    pub outcome: Result<Position, PublishError>,
}

/// Why a pack has no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Too much is under way. The pack is certainly not in the log.
    #[error("the bus takes no more for now")]
    Full,
    /// The log cannot be reached or written. The pack is certainly not in the log.
    #[error("the bus is unavailable")]
    Unavailable,
    /// The pack may or may not be in the log: publish the same events again, or tell who asked.
    #[error("whether the bus took it is unknown")]
    Unknown,
}

/// One record as a reader gets it.
#[derive(Debug, Clone)]
pub struct Record {
    /// The partition it was read from.
    pub partition: u16,
    /// The position of the first event in the pack (index 0).
    pub position: Position,
    /// The encoded pack.
    pub pack: Bytes,
    /// It is the first that this consumer got, or got since it lost the partition for a while, or it does not follow
    /// directly on the one before it: another consumer may have read what is between. What its reader remembers of the
    /// partition may be stale. A record that repeats one which this consumer had is not resumed.
    pub is_resumed: bool,
}

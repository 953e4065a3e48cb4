//! The log on Apache Pulsar, for services that run as processes of their own.
//!
//! Each topic of [`petrel_protocol::topics`] is a partitioned topic, made and verified before anything is published
//! (`bootstrap`). A pack is one message, never batched by the client, so a position is (generation, ledger, entry). Two
//! threads run it (`side`): one publishes, one reads, each with a client and so with connections of its own, since the
//! client leaves Nagle's algorithm on, and acknowledgements and sends on one connection would wait for each other.
//!
//! - **Publishing** (`lane`, `receipts`): one producer a partition. What is under way is sent again in its order when
//!   the connection comes back; what cannot be handed over in time is refused; what is not receipted in time has an
//!   unknown outcome. The broker does not deduplicate: the client's sequence numbers begin again at each start, and
//!   would make it drop new packs.
//! - **Reading** (`consumer`, `follow`): one Failover consumer a partition. The broker gives a partition to one of the
//!   processes that subscribe to it; the others wait. Acknowledgements are cumulative and asynchronous.
//! - **What survives**: a receipt means that the bookies have the pack on disk. Acknowledgements that the broker has
//!   taken survive it but for about the last second, which is then read again.
//!
//! A broker that is away is waited for; [`crate::Health`] says so.

mod admin;
mod bootstrap;
mod config;
mod consumer;
mod follow;
mod lane;
mod metrics;
mod names;
mod policies;
mod receipts;
mod shared;
mod side;
mod waiting;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use petrel_protocol::limits::PACK_BYTES_MAX;
use petrel_protocol::topics::{Subscription, Topic};

pub use self::config::{Config, Token};
pub use self::consumer::Consumer;
use self::shared::Shared;
use self::side::Sides;
use crate::metrics::METRICS;
use crate::{OnReceipt, OpenError, PublishError};

/// An open log. It is closed when this is dropped; publishers and consumers do not keep it open.
pub struct Log {
    shared: Arc<Shared>,
    sides: Sides,
}

impl Log {
    /// Makes the topics where they are missing, verifies them, and connects. Waits for a broker that is away.
    pub async fn open(config: Config) -> Result<Arc<Self>, OpenError> {
        let names = config.verified()?;
        // Dropping this future ends the threads.
        let sides = Sides::start()?;
        let generation_id = sides.publish(bootstrap::until_ready(config.clone(), names.clone())).await??;
        let publish_client = sides.publish(side::connect(config.clone())).await?;
        let read_client = sides.read(side::connect(config.clone())).await?;
        let shared = Shared::new(config, names, generation_id, &sides, publish_client, read_client);
        Ok(Arc::new(Self { shared: Arc::new(shared), sides }))
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.shared.config.partitions
    }

    pub(crate) fn generation(&self) -> u32 {
        self.shared.config.generation
    }

    pub(crate) fn generation_id(&self) -> [u8; 16] {
        self.shared.generation_id
    }

    pub(crate) fn publisher(&self, topic: Topic, on_receipt: OnReceipt) -> Publisher {
        // Its producers are opened now, so that the first packs need not wait for them.
        Shared::lanes(&self.shared, topic);
        Publisher { shared: Arc::clone(&self.shared), topic, on_receipt }
    }

    /// This topic has this partition and this subscription. None where the log is closed.
    pub(crate) fn subscribe(
        &self,
        topic: Topic,
        subscription: Subscription,
        partition: u16,
    ) -> Option<Consumer> {
        Consumer::new(&self.shared, topic, subscription, partition)
    }

    /// Waits until everything that was published is receipted: a receipt is durable. Acknowledgements are not waited
    /// for; those that are lost are read again.
    pub(crate) fn sync(&self) -> Result<(), PublishError> {
        let (waiter, answers) = sync_channel(usize::from(self.partitions()) * Topic::ALL.len());
        let mut asked = 0;
        for lane in self.shared.opened_lanes() {
            lane.sync(waiter.clone())?;
            asked += 1;
        }
        drop(waiter);
        if self.shared.is_closing() || answers.iter().count() < asked {
            return Err(PublishError::Unavailable);
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.sides.close();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({}/{})", self.shared.config.tenant, self.shared.config.namespace)
    }
}

/// Publishes on one topic.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    topic: Topic,
    on_receipt: OnReceipt,
}

impl Publisher {
    /// See [`crate::Publisher::publish`].
    pub(crate) fn publish(&self, partition: u16, tag: u64, pack: Bytes) -> Result<(), PublishError> {
        assert!(partition < self.shared.config.partitions, "partition {partition} does not exist");
        assert!(pack.len() <= PACK_BYTES_MAX, "a pack of {} bytes is above the limit", pack.len());
        let lane = &Shared::lanes(&self.shared, self.topic)[usize::from(partition)];
        let taken = lane.publish(&self.shared, tag, pack, &self.on_receipt);
        taken.inspect_err(|error| METRICS.refuse(self.topic, *error))
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publisher({})", self.topic.name())
    }
}

//! What the handles of a log and its tasks share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use petrel_protocol::limits::{BUS_QUEUE_BYTES_MAX, BUS_QUEUE_PACKS_MAX};
use petrel_protocol::topics::{Subscription, Topic};
use tokio::sync::watch;

use super::Config;
use super::consumer::Ack;
use super::lane::Lane;
use super::names::Names;
use super::side::{Client, Side, Sides};
use crate::PublishError;
use crate::metrics::METRICS;

/// An open log.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) names: Names,
    pub(super) generation_id: [u8; 16],
    pub(super) publish_client: Client,
    pub(super) read_client: Client,
    pub(super) publishing: Side,
    pub(super) reading: Side,
    closing: watch::Sender<bool>,
    /// What each topic has taken and not receipted.
    loads: [Load; Topic::ALL.len()],
    /// By topic, once it is published on; then by partition.
    lanes: [OnceLock<Vec<Lane>>; Topic::ALL.len()],
    /// The consumer of this process that is active, for each partition that was ever subscribed to.
    pub(super) readers: Mutex<HashMap<(Topic, Subscription, u16), Arc<Ack>>>,
}

#[derive(Default)]
struct Load {
    packs: AtomicUsize,
    bytes: AtomicUsize,
}

impl Shared {
    pub(super) fn new(
        config: Config,
        names: Names,
        generation_id: [u8; 16],
        sides: &Sides,
        publish_client: Client,
        read_client: Client,
    ) -> Self {
        Self {
            config,
            names,
            generation_id,
            publish_client,
            read_client,
            publishing: sides.publishing(),
            reading: sides.reading(),
            closing: sides.closing(),
            loads: Default::default(),
            lanes: Default::default(),
            readers: Mutex::default(),
        }
    }

    /// A topic's lanes, by partition. They begin with the first call.
    pub(super) fn lanes(shared: &Arc<Self>, topic: Topic) -> &[Lane] {
        shared.lanes[topic as usize].get_or_init(|| {
            (0..shared.config.partitions).map(|partition| Lane::start(shared, topic, partition)).collect()
        })
    }

    /// The lanes that have begun.
    pub(super) fn opened_lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().filter_map(OnceLock::get).flatten()
    }

    pub(super) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Told when the log is closed.
    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// Closes the log without waiting for it.
    pub(super) fn begin_to_close(&self) {
        self.closing.send_replace(true);
    }

    /// Takes room for a pack.
    pub(super) fn take_room(&self, topic: Topic, bytes: usize) -> Result<(), PublishError> {
        let load = &self.loads[topic as usize];
        let packs = load.packs.fetch_add(1, Ordering::Relaxed) + 1;
        let all = load.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if packs > BUS_QUEUE_PACKS_MAX || all > BUS_QUEUE_BYTES_MAX {
            self.give_room(topic, bytes);
            return Err(PublishError::Full);
        }
        METRICS.queue_packs[topic as usize].inc();
        Ok(())
    }

    /// Gives back the room of a refused attempt.
    fn give_room(&self, topic: Topic, bytes: usize) {
        let load = &self.loads[topic as usize];
        load.packs.fetch_sub(1, Ordering::Relaxed);
        load.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A pack is receipted: its room is free.
    pub(super) fn release(&self, topic: Topic, bytes: usize) {
        self.give_room(topic, bytes);
        METRICS.queue_packs[topic as usize].dec();
    }
}

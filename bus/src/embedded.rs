//! The log in one folder, for all services in one process.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use petrel_protocol::ids::Position;
use petrel_protocol::topics::{Subscription, Topic};

use crate::{OnReceipt, OpenError, PublishError, Record, SubscribeError};

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct Config {
    /// The partitions of each topic.
    pub partitions: u16,
}

impl Config {
    /// The defaults.
    pub fn new(partitions: u16) -> Self {
        Self { partitions }
    }
}

/// The log.
#[derive(Debug)]
pub struct Log {
    partitions: u16,
}

impl Log {
    /// Creates the log in `dir`, or opens what is there.
    pub fn open(_dir: &Path, config: Config) -> Result<Arc<Self>, OpenError> {
        Ok(Arc::new(Self { partitions: config.partitions }))
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.partitions
    }

    pub(crate) fn generation(&self) -> u32 {
        let _ = self;
        1
    }

    pub(crate) fn publisher(self: &Arc<Self>, _topic: Topic, _on_receipt: OnReceipt) -> Publisher {
        Publisher
    }

    pub(crate) fn subscribe(
        self: &Arc<Self>,
        _topic: Topic,
        _subscription: Subscription,
        _partition: u16,
    ) -> Result<Consumer, SubscribeError> {
        Ok(Consumer)
    }

    pub(crate) fn sync(&self) -> Result<(), PublishError> {
        let _ = self;
        Ok(())
    }

    pub(crate) fn close(&self) {
        let _ = self;
    }
}

/// Publishes on one topic.
#[derive(Clone, Debug)]
pub struct Publisher;

impl Publisher {
    pub(crate) fn publish(&self, _partition: u16, _tag: u64, _pack: Bytes) -> Result<(), PublishError> {
        let _ = self;
        Err(PublishError::Unavailable)
    }
}

/// Reads one partition.
#[derive(Debug)]
pub struct Consumer;

impl Consumer {
    pub(crate) async fn next(&mut self) -> Option<Record> {
        std::future::ready(None).await
    }

    pub(crate) fn try_next(&mut self) -> Option<Record> {
        let _ = self;
        None
    }

    pub(crate) fn ack(&mut self, _position: Position) {
        let _ = self;
    }
}

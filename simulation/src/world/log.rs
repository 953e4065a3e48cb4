//! The log between the services: partitions of records, and how far each subscription has acknowledged them.

use bytes::Bytes;
use petrel_protocol::ids::Position;
use petrel_protocol::topics::{Subscription, Topic};

/// All topics.
pub(crate) struct Log {
    topics: [Vec<Partition>; 3],
}

#[derive(Default, Clone)]
struct Partition {
    records: Vec<Bytes>,
    /// The next record that each subscription would be given after a restart.
    acked: [u64; 2],
}

impl Log {
    pub(crate) fn new(partitions: u16) -> Self {
        let topic = || vec![Partition::default(); usize::from(partitions)];
        Self { topics: [topic(), topic(), topic()] }
    }

    pub(crate) fn append(&mut self, topic: Topic, partition: u16, pack: Bytes) {
        self.partition(topic, partition).records.push(pack);
    }

    pub(crate) fn len(&self, topic: Topic, partition: u16) -> u64 {
        self.topics[topic as usize][usize::from(partition)].records.len() as u64
    }

    pub(crate) fn record(&self, topic: Topic, partition: u16, entry: u64) -> (Position, Bytes) {
        let pack = self.topics[topic as usize][usize::from(partition)].records[entry as usize].clone();
        (Position { generation: 1, ledger: 0, entry, index: 0 }, pack)
    }

    pub(crate) fn ack(
        &mut self,
        topic: Topic,
        subscription: Subscription,
        partition: u16,
        position: Position,
    ) {
        let acked = &mut self.partition(topic, partition).acked[subscription as usize];
        *acked = (*acked).max(position.entry + 1);
    }

    /// The first record that is not acknowledged.
    pub(crate) fn unacked(&self, topic: Topic, subscription: Subscription, partition: u16) -> u64 {
        self.topics[topic as usize][usize::from(partition)].acked[subscription as usize]
    }

    fn partition(&mut self, topic: Topic, partition: u16) -> &mut Partition {
        &mut self.topics[topic as usize][usize::from(partition)]
    }
}

//! The log between the services: partitions of records, and how far each subscription has acknowledged them.

use bytes::Bytes;
use petrel_protocol::ids::Position;
use petrel_protocol::topics::{Subscription, Topic};

/// All topics. Only `uplink` has more than one generation.
pub(crate) struct Log {
    topics: [Vec<Partition>; 3],
    /// `uplink` takes nothing more in this generation.
    is_sealed: bool,
    generation: u32,
    /// A new generation begins its positions anew and does not say so.
    is_wiped: bool,
    /// What can be lost with the power: the lengths of the topics that are not synced at once.
    synced: [Vec<u64>; 3],
}

#[derive(Clone)]
struct Partition {
    records: Vec<Bytes>,
    /// The next record that each subscription would be given after a restart.
    acked: [u64; 2],
    /// The first record of each generation.
    bases: Vec<u64>,
}

impl Log {
    pub(crate) fn new(partitions: u16, is_wiped: bool) -> Self {
        let empty = Partition { records: Vec::new(), acked: [0; 2], bases: vec![0] };
        let topic = || vec![empty.clone(); usize::from(partitions)];
        let synced = || vec![0; usize::from(partitions)];
        Self {
            topics: [topic(), topic(), topic()],
            is_sealed: false,
            generation: 1,
            is_wiped,
            synced: [synced(), synced(), synced()],
        }
    }

    pub(crate) fn append(&mut self, topic: Topic, partition: u16, pack: Bytes) {
        self.partition(topic, partition).records.push(pack);
    }

    pub(crate) fn len(&self, topic: Topic, partition: u16) -> u64 {
        self.topics[topic as usize][usize::from(partition)].records.len() as u64
    }

    /// A record and its position.
    pub(crate) fn record(&self, topic: Topic, partition: u16, index: u64) -> (Position, Bytes) {
        let it = &self.topics[topic as usize][usize::from(partition)];
        let generation = it.bases.partition_point(|base| *base <= index) as u32;
        let entry = index - it.bases[generation as usize - 1];
        let generation = if self.is_wiped { 1 } else { generation };
        (Position { generation, ledger: 0, entry, index: 0 }, it.records[index as usize].clone())
    }

    pub(crate) fn ack(
        &mut self,
        topic: Topic,
        subscription: Subscription,
        partition: u16,
        position: Position,
    ) {
        let is_wiped = self.is_wiped;
        let it = self.partition(topic, partition);
        let generation = if is_wiped { it.bases.len() } else { position.generation as usize };
        let next = it.bases[generation - 1] + position.entry + 1;
        let acked = &mut it.acked[subscription as usize];
        *acked = (*acked).max(next);
    }

    /// The first record that is not acknowledged.
    pub(crate) fn unacked(&self, topic: Topic, subscription: Subscription, partition: u16) -> u64 {
        self.topics[topic as usize][usize::from(partition)].acked[subscription as usize]
    }

    /// The generation in which `uplink` takes records, unless it is sealed.
    pub(crate) fn open_generation(&self) -> Option<u32> {
        (!self.is_sealed).then_some(self.generation)
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    pub(crate) fn seal(&mut self) {
        self.is_sealed = true;
    }

    /// Begins the next generation of `uplink` where the sealed one is acknowledged to its end.
    pub(crate) fn begin_generation(&mut self) -> bool {
        let uplink = &mut self.topics[Topic::Uplink as usize];
        let is_drained = |p: &Partition| p.acked[Subscription::Persist as usize] == p.records.len() as u64;
        if !self.is_sealed || !uplink.iter().all(is_drained) {
            return false;
        }
        for partition in uplink {
            partition.bases.push(partition.records.len() as u64);
        }
        self.generation += 1;
        self.is_sealed = false;
        true
    }

    /// From here on, what is there survives the power.
    pub(crate) fn sync(&mut self) {
        for (synced, topic) in self.synced.iter_mut().zip(&self.topics) {
            for (synced, partition) in synced.iter_mut().zip(topic) {
                *synced = partition.records.len() as u64;
            }
        }
    }

    /// The power was cut: all but `uplink` keeps what was synced, and perhaps more.
    pub(crate) fn lose_unsynced(&mut self, mut survivors: impl FnMut(u64) -> u64) {
        for topic in [Topic::Stored, Topic::Receipts] {
            for (synced, partition) in
                self.synced[topic as usize].iter().zip(&mut self.topics[topic as usize])
            {
                let len = synced + survivors(partition.records.len() as u64 - synced);
                partition.records.truncate(len as usize);
                partition.acked = partition.acked.map(|acked| acked.min(len));
            }
        }
    }

    fn partition(&mut self, topic: Topic, partition: u16) -> &mut Partition {
        &mut self.topics[topic as usize][usize::from(partition)]
    }
}

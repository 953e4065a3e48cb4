//! What the sessions of a shard publish, packed by partition: two packs of a partition on their way, the rest waits and
//! travels together.

use petrel_protocol::events::{Receipt, ReceiptPack, Uplink, UplinkPack};
use petrel_protocol::ids::ConversationId;
use petrel_protocol::limits;
use petrel_protocol::map::Map;
use petrel_protocol::topics::partition;

use super::shard::Owner;

/// Packs of one partition that wait for the bus's receipt.
const OUT_MAX: u8 = 2;

/// The packs of one shard.
pub(crate) struct Packs {
    lanes: Vec<Lane>,
    on_their_way: Map<u64, (u16, Vec<Owner>)>,
    next_tag: u64,
    count: usize,
}

/// One partition as this shard publishes on it.
#[derive(Default)]
pub(crate) struct Lane {
    events: Vec<Uplink>,
    owners: Vec<Owner>,
    receipts: Vec<Receipt>,
    out: u8,
    /// The bus keeps the order of a publisher: when its last pack arrives, when its last receipt comes back.
    pub(crate) last_append_us: u64,
    pub(crate) last_receipt_us: u64,
    /// The pack with which the publisher's connection broke, until the shard has heard of it: whatever was published
    /// up to then is lost with it.
    pub(crate) broken_by: Option<u64>,
    pub(crate) void_before: u64,
}

impl Packs {
    pub(crate) fn new(partitions: u16) -> Self {
        Self {
            lanes: (0..partitions).map(|_| Lane::default()).collect(),
            on_their_way: Map::default(),
            next_tag: 0,
            count: 0,
        }
    }

    /// Events whose outcome is not known.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn lanes(&self) -> u16 {
        self.lanes.len() as u16
    }

    pub(crate) fn lane(&mut self, partition: u16) -> &mut Lane {
        &mut self.lanes[usize::from(partition)]
    }

    pub(crate) fn add(&mut self, conversation: ConversationId, event: Uplink, owner: Owner) {
        let partition = partition(conversation, self.lanes());
        let lane = self.lane(partition);
        lane.events.push(event);
        lane.owners.push(owner);
        self.count += 1;
    }

    pub(crate) fn add_receipt(&mut self, conversation: ConversationId, receipt: Receipt) {
        let partition = partition(conversation, self.lanes());
        self.lane(partition).receipts.push(receipt);
    }

    /// The next pack of a partition, where one may go.
    pub(crate) fn take(&mut self, partition: u16, out_max: Option<u8>) -> Option<(Vec<Owner>, UplinkPack)> {
        let lane = self.lane(partition);
        if lane.events.is_empty() || lane.out >= out_max.unwrap_or(OUT_MAX) {
            return None;
        }
        let count = lane.events.len().min(limits::PACK_EVENTS_MAX);
        let owners = lane.owners.drain(..count).collect();
        Some((owners, UplinkPack { events: lane.events.drain(..count).collect() }))
    }

    /// A pack goes out; answers with its tag.
    pub(crate) fn sent(&mut self, partition: u16, owners: Vec<Owner>) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        self.lane(partition).out += 1;
        self.on_their_way.insert(tag, (partition, owners));
        tag
    }

    /// A pack was refused at once.
    pub(crate) fn refused(&mut self, owners: &[Owner]) {
        self.count -= owners.len();
    }

    /// What became of a pack is known: whose events were in it. Where that is unknown, whatever is behind it on its way or
    /// waits must not pass it: all of it shares the outcome.
    pub(crate) fn settle(&mut self, tag: u64, is_unknown: bool) -> Vec<Owner> {
        let Some((partition, mut owners)) = self.on_their_way.remove(&tag) else { return Vec::new() };
        let next_tag = self.next_tag;
        let lane = &mut self.lanes[usize::from(partition)];
        lane.out -= 1;
        if lane.broken_by == Some(tag) {
            lane.broken_by = None;
            lane.void_before = next_tag;
        }
        if is_unknown {
            let mut behind: Vec<_> = self.on_their_way.extract_if(|_, (p, _)| *p == partition).collect();
            behind.sort_unstable_by_key(|(tag, _)| *tag);
            owners.extend(behind.into_iter().flat_map(|(_, (_, owners))| owners));
            lane.out = 0;
            lane.events.clear();
            owners.append(&mut lane.owners);
        }
        self.count -= owners.len();
        owners
    }

    pub(crate) fn take_receipts(&mut self, partition: u16) -> Option<ReceiptPack> {
        let events = std::mem::take(&mut self.lane(partition).receipts);
        (!events.is_empty()).then_some(ReceiptPack { events })
    }
}

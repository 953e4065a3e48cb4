//! What the sessions of a shard publish, packed by partition.
//!
//! While as many packs of a partition are on their way as the bus wants, further events wait and travel together: packs
//! grow with the load and nothing waits for a timer.

use bytes::Bytes;
use petrel_bus::{PublishError, Publisher};
use petrel_protocol::events::{Receipt, ReceiptPack, Uplink, UplinkPack};
use petrel_protocol::ids::ConversationId;
use petrel_protocol::limits;
use petrel_protocol::map::Map;
use petrel_protocol::session::Outcome;
use petrel_protocol::topics::partition;
use petrel_ring::SocketId;
use prost::Message;

/// Receipts that wait for the bus. Beyond: dropped and counted; the device then sees a duplicate at its next connect.
const RECEIPTS_WAITING_MAX: usize = 65_536;

/// Who waits for an event's outcome: the session and its ticket.
pub(crate) type Owner = (SocketId, u32);

#[derive(Default)]
struct Waiting {
    events: Vec<Uplink>,
    owners: Vec<Owner>,
    out: u8,
}

/// The packs of one shard.
pub(crate) struct Packs {
    uplink: Publisher,
    receipts: Publisher,
    /// Packs of one partition that may wait for the bus's receipt.
    out_max: u8,
    waiting: Vec<Waiting>,
    waiting_receipts: Vec<Vec<Receipt>>,
    on_their_way: Map<u64, (u16, Vec<Owner>)>,
    next_tag: u64,
    count: usize,
    /// Vectors of owners to use again.
    spare: Vec<Vec<Owner>>,
}

impl Packs {
    pub(crate) fn new(uplink: Publisher, receipts: Publisher, partitions: u16) -> Self {
        Self {
            out_max: uplink.packs_at_once(),
            uplink,
            receipts,
            waiting: (0..partitions).map(|_| Waiting::default()).collect(),
            waiting_receipts: (0..partitions).map(|_| Vec::new()).collect(),
            on_their_way: Map::default(),
            next_tag: 0,
            count: 0,
            spare: Vec::new(),
        }
    }

    /// Events whose outcome is not known yet.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn add(&mut self, conversation: ConversationId, event: Uplink, owner: Owner) {
        let partitions = self.waiting.len() as u16;
        let waiting = &mut self.waiting[usize::from(partition(conversation, partitions))];
        waiting.events.push(event);
        waiting.owners.push(owner);
        self.count += 1;
    }

    /// Notes a receipt; false where it had to be dropped.
    pub(crate) fn add_receipt(&mut self, conversation: ConversationId, receipt: Receipt) -> bool {
        let partitions = self.waiting_receipts.len() as u16;
        let waiting = &mut self.waiting_receipts[usize::from(partition(conversation, partitions))];
        if waiting.len() >= RECEIPTS_WAITING_MAX {
            return false;
        }
        waiting.push(receipt);
        true
    }

    /// Publishes what may go now. Events that the bus refused at once are settled through `refused`.
    pub(crate) fn flush(&mut self, refused: &mut Vec<(Owner, Outcome)>) {
        for p in 0..self.waiting.len() {
            while !self.waiting[p].events.is_empty() && self.waiting[p].out < self.out_max {
                self.publish(p, refused);
            }
            self.publish_receipts(p);
        }
    }

    fn publish(&mut self, p: usize, refused: &mut Vec<(Owner, Outcome)>) {
        let waiting = &mut self.waiting[p];
        let count = pack_len(&waiting.events);
        let mut owners = self.spare.pop().unwrap_or_default();
        owners.extend(waiting.owners.drain(..count));
        let pack = UplinkPack { events: waiting.events.drain(..count).collect() };
        let tag = self.next_tag;
        self.next_tag += 1;
        match self.uplink.publish(p as u16, tag, pack.encode_to_vec().into()) {
            Ok(()) => {
                waiting.out += 1;
                self.on_their_way.insert(tag, (p as u16, owners));
            }
            Err(e) => {
                self.count -= count;
                refused.extend(owners.drain(..).map(|owner| (owner, outcome_of(e))));
                self.spare.push(owners);
            }
        }
    }

    fn publish_receipts(&mut self, p: usize) {
        let waiting = &mut self.waiting_receipts[p];
        while !waiting.is_empty() {
            let count = waiting.len().min(limits::PACK_EVENTS_MAX);
            let rest = waiting.split_off(count);
            let pack = ReceiptPack { events: std::mem::replace(waiting, rest) };
            let encoded: Bytes = pack.encode_to_vec().into();
            if self.receipts.publish(p as u16, 0, encoded).is_err() {
                // The bus takes no more just now: keep them, in order, for the next turn.
                let mut events = pack.events;
                events.append(waiting);
                *waiting = events;
                return;
            }
        }
    }

    /// The bus told what became of a pack: calls `each` for its events in order.
    pub(crate) fn settle(&mut self, tag: u64, mut each: impl FnMut(Owner)) {
        let Some((p, mut owners)) = self.on_their_way.remove(&tag) else { return };
        self.waiting[usize::from(p)].out -= 1;
        self.count -= owners.len();
        owners.drain(..).for_each(&mut each);
        if self.spare.len() < 64 {
            self.spare.push(owners);
        }
    }
}

/// How many events from the front make one pack.
fn pack_len(events: &[Uplink]) -> usize {
    let mut bytes = 0;
    let fits = events.iter().take(limits::PACK_EVENTS_MAX).take_while(|event| {
        bytes += event.encoded_len() + 8;
        bytes <= limits::PACK_BYTES_MAX
    });
    // A single event is far smaller than a pack: limits.rs asserts it.
    fits.count().max(1)
}

/// What the bus said, as sessions are told.
pub(crate) fn outcome_of(error: PublishError) -> Outcome {
    match error {
        PublishError::Full => Outcome::Full,
        PublishError::Unavailable => Outcome::Unavailable,
        PublishError::Unknown => Outcome::Unknown,
    }
}

//! Receipts on their way to cursors. They are unordered and only rise, so they are gathered for a moment, and one write
//! stands for several.

use std::collections::HashMap;
use std::time::Duration;

use petrel_bus::{Consumer, Record};
use petrel_protocol::events::{Receipt, ReceiptPack};
use petrel_protocol::ids::{ConversationId, Device, Position, UserId};
use petrel_protocol::limits;
use prost::Message;
use tokio::time::Instant;

use crate::metrics::METRICS;
use crate::store::CursorId;

pub(super) struct Cursors {
    consumers: Vec<Source>,
    /// When to write; none while no receipt has come.
    due_at: Option<Instant>,
}

struct Source {
    consumer: Consumer,
    /// What woke the loop, and is gathered with the rest.
    first: Option<Record>,
    ack: Option<Position>,
}

const GATHER: Duration = Duration::from_millis(limits::PERSIST_RECEIPTS_MS);

impl Cursors {
    pub(super) fn new(consumers: Vec<Consumer>) -> Self {
        let source = |consumer| Source { consumer, first: None, ack: None };
        Self { consumers: consumers.into_iter().map(source).collect(), due_at: None }
    }

    pub(super) fn due_at(&self) -> Option<Instant> {
        self.due_at
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due_at.is_some_and(|at| at <= now)
    }

    /// The consumers to wait for: none while receipts are being gathered anyway.
    pub(super) fn awaited(&mut self) -> Vec<(usize, &mut Consumer)> {
        if self.due_at.is_some() {
            return Vec::new();
        }
        self.consumers.iter_mut().map(|source| &mut source.consumer).enumerate().collect()
    }

    /// The first receipts have come.
    pub(super) fn began(&mut self, index: usize, record: Option<Record>) {
        if let Some(record) = record {
            self.consumers[index].first = Some(record);
            self.due_at.get_or_insert_with(|| Instant::now() + GATHER);
        }
    }

    /// Everything that is there, as maxima.
    pub(super) fn gather(&mut self, now: Instant) -> Vec<(CursorId, u64)> {
        let mut cursors = HashMap::new();
        let mut left = limits::PERSIST_RECEIPT_PACKS;
        for source in &mut self.consumers {
            while left > 0 {
                let Some(record) = source.first.take().or_else(|| source.consumer.try_next()) else { break };
                source.ack = Some(record.position);
                left -= 1;
                add(record, &mut cursors);
            }
        }
        METRICS.cursors.inc_by(cursors.len() as u64);
        // Where the bound was reached, the rest follows at once.
        self.due_at = (left == 0).then_some(now);
        let mut cursors: Vec<_> = cursors.into_iter().collect();
        cursors.sort_unstable();
        cursors
    }

    /// What was gathered is written. A power cut may take it back, which costs a device a duplicate.
    pub(super) fn written(&mut self) {
        for source in &mut self.consumers {
            if let Some(position) = source.ack.take() {
                source.consumer.ack(position);
            }
        }
    }
}

fn add(record: Record, cursors: &mut HashMap<CursorId, u64>) {
    let Ok(pack) = ReceiptPack::decode(record.pack) else {
        METRICS.dead_letters.inc();
        tracing::error!(partition = record.partition, position = ?record.position, "receipts cannot be decoded");
        return;
    };
    METRICS.receipts.inc_by(pack.events.len() as u64);
    for receipt in pack.events {
        for (id, seq) in as_cursors(&receipt) {
            let highest: &mut u64 = cursors.entry(id).or_default();
            *highest = seq.max(*highest);
        }
    }
}

/// None for what no edge sends: a receipt of somebody who is not in the conversation, or of an unknown device type.
fn as_cursors(receipt: &Receipt) -> impl Iterator<Item = (CursorId, u64)> {
    let user = UserId(receipt.user);
    let conversation = receipt.conversation.as_ref().and_then(|c| ConversationId::try_from(c).ok());
    let conversation = conversation.filter(|conversation| conversation.peer_of(user).is_some());
    let device = Device::from_number(receipt.device);
    let id = |device| conversation.map(|conversation| CursorId { user, device, conversation });
    let delivered = device.and_then(|device| id(Some(device))).map(|id| (id, receipt.delivered_seq));
    let read = id(None).map(|id| (id, receipt.read_seq));
    delivered.into_iter().chain(read).filter(|(_, seq)| *seq > 0)
}

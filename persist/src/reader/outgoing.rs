//! The packs of one batch on their way to `stored`: one at a time, so that a pack which has to be tried again is never
//! overtaken.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use petrel_bus::{Publisher, Receipt};
use petrel_protocol::events::Stored;
use petrel_protocol::limits;
use prost::Message;
use tokio::time::Instant;

use crate::metrics::METRICS;

pub(super) struct Outgoing {
    publisher: Publisher,
    partition: u16,
    packs: VecDeque<Bytes>,
    /// The first of them is not with the bus; when to hand it over.
    retry_at: Option<Instant>,
}

const RETRY: Duration = Duration::from_millis(20);

impl Outgoing {
    pub(super) fn new(publisher: Publisher, partition: u16) -> Self {
        Self { publisher, partition, packs: VecDeque::new(), retry_at: None }
    }

    /// Whether this receipt is for this partition.
    pub(super) fn is_of(&self, receipt: &Receipt) -> bool {
        receipt.tag == u64::from(self.partition)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Begins to publish the events of a batch.
    pub(super) fn publish(&mut self, events: &[Stored], now: Instant) {
        assert!(self.packs.is_empty(), "one batch is published at a time");
        self.packs = packs(events).into();
        self.hand_over(now);
    }

    /// Takes the bus's answer; true: that was the last pack of the batch.
    pub(super) fn receipt(&mut self, receipt: &Receipt, now: Instant) -> bool {
        match receipt.outcome {
            Ok(_) => {
                self.packs.pop_front();
                self.hand_over(now);
                self.packs.is_empty()
            }
            Err(error) => {
                // In the log or not: readers drop what comes twice.
                tracing::warn!(
                    partition = self.partition,
                    "stored cannot be published: {error}; trying again"
                );
                METRICS.failures.inc();
                self.retry_at = Some(now + RETRY);
                false
            }
        }
    }

    pub(super) fn retry(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.hand_over(now);
        }
    }

    fn hand_over(&mut self, now: Instant) {
        self.retry_at = None;
        let Some(pack) = self.packs.front() else { return };
        if self.publisher.publish(self.partition, u64::from(self.partition), pack.clone()).is_err() {
            METRICS.failures.inc();
            self.retry_at = Some(now + RETRY);
        }
    }
}

/// The tag of `StoredPack.events`: field 1, length-delimited.
const EVENT_TAG: u8 = (1 << 3) | 2;

/// The events as packs within the bounds. An event alone is always within them.
fn packs(events: &[Stored]) -> Vec<Bytes> {
    let mut packs = Vec::new();
    let (mut pack, mut count) = (BytesMut::new(), 0);
    for event in events {
        let length = event.encoded_len();
        let framed = 1 + prost::length_delimiter_len(length) + length;
        if count == limits::PACK_EVENTS_MAX || (count > 0 && pack.len() + framed > limits::PACK_BYTES_MAX) {
            packs.push(pack.split().freeze());
            count = 0;
        }
        pack.put_u8(EVENT_TAG);
        event.encode_length_delimited(&mut pack).expect("a growing buffer has room");
        count += 1;
    }
    if count > 0 {
        packs.push(pack.freeze());
    }
    packs
}

#[cfg(test)]
mod tests {
    use petrel_protocol::events::StoredPack;

    use super::*;

    #[test]
    fn packs_decode_as_packs_and_keep_the_bounds() {
        let event = |seq, bytes: usize| {
            let body = petrel_protocol::events::Message { content: "x".repeat(bytes), ..Default::default() };
            let body = Some(petrel_protocol::events::stored::Body::Message(body));
            Stored { seq, body, ..Default::default() }
        };
        let small: Vec<_> = (0..2_500).map(|seq| event(seq, 1)).collect();
        let large: Vec<_> = (0..70).map(|seq| event(seq, limits::CONTENT_BYTES_MAX)).collect();
        for events in [small, large] {
            let packs = packs(&events);
            assert!(packs.len() == 3, "{}", packs.len());
            let mut seqs = Vec::new();
            for pack in packs {
                assert!(pack.len() <= limits::PACK_BYTES_MAX);
                let pack = StoredPack::decode(pack).unwrap();
                assert!(pack.events.len() <= limits::PACK_EVENTS_MAX);
                seqs.extend(pack.events.into_iter().map(|event| event.seq));
            }
            assert!(seqs.into_iter().eq(0..events.len() as u64));
        }
        assert!(packs(&[]).is_empty());
    }
}

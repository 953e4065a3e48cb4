//! The packs of one lane that are under way, and their receipts in the order of publishing.

use std::sync::Arc;

use petrel_protocol::ids::Position;
use petrel_protocol::topics::Topic;
use pulsar::CommandSendReceipt;
use pulsar::producer::SendFuture;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};

use super::lane::{SyncWaiter, Ticket, WeakShared};
use super::metrics::METRICS;
use super::shared::Shared;
use crate::{PublishError, Receipt};

/// What is to be settled next.
pub(super) enum Flight {
    Pack(Ticket, Outcome),
    /// Told when everything before it is settled.
    Sync(SyncWaiter),
}

/// What became of a pack.
pub(super) enum Outcome {
    /// The client has it.
    Sent {
        receipt: SendFuture,
        /// When its outcome is taken for unknown.
        until: Instant,
        /// Room among the packs under way.
        _permit: Option<OwnedSemaphorePermit>,
    },
    /// It was not sent.
    Refused(PublishError),
}

impl Flight {
    pub(super) fn refused(ticket: Ticket, error: PublishError) -> Self {
        Self::Pack(ticket, Outcome::Refused(error))
    }
}

/// Settles one after the other.
pub(super) async fn settle(shared: WeakShared, topic: Topic, mut flights: mpsc::UnboundedReceiver<Flight>) {
    while let Some(flight) = flights.recv().await {
        let (ticket, outcome) = match flight {
            Flight::Pack(ticket, outcome) => (ticket, outcome),
            Flight::Sync(waiter) => {
                let _ = waiter.send(());
                continue;
            }
        };
        let (outcome, permit) = match outcome {
            Outcome::Refused(error) => (Err(error), None),
            Outcome::Sent { receipt, until, _permit: permit } => {
                let generation = shared.upgrade().map_or(0, |shared| shared.config.generation);
                let receipt = timeout_at(until, receipt).await;
                let position =
                    receipt.ok().and_then(Result::ok).and_then(|receipt| position(&receipt, generation));
                (position.ok_or(PublishError::Unknown), permit)
            }
        };
        count(topic, &ticket, outcome);
        drop(permit);
        let alive = shared.upgrade();
        if let Some(shared) = &alive {
            shared.release(topic, ticket.bytes);
        }
        let guard = ClosesOnPanic(alive);
        (ticket.on_receipt)(Receipt { tag: ticket.tag, outcome });
        drop(guard);
    }
}

/// None for the receipt that a deduplicating broker gives to what it dropped.
fn position(receipt: &CommandSendReceipt, generation: u32) -> Option<Position> {
    let id = receipt.message_id.as_ref()?;
    let (ledger, entry) = (id.ledger_id, id.entry_id);
    (ledger != u64::MAX).then_some(Position { generation, ledger, entry, index: 0 })
}

fn count(topic: Topic, ticket: &Ticket, outcome: Result<Position, PublishError>) {
    match outcome {
        Ok(_) => {
            crate::metrics::METRICS.packs[topic as usize].inc();
            crate::metrics::METRICS.bytes[topic as usize].inc_by(ticket.bytes as u64);
            let seconds = ticket.taken_at.elapsed().as_secs_f64();
            METRICS.receipt_seconds.with_label_values(&[topic.name()]).observe(seconds);
        }
        Err(PublishError::Unknown) => METRICS.unknown.with_label_values(&[topic.name()]).inc(),
        Err(error) => crate::metrics::METRICS.refuse(topic, error),
    }
}

/// A callback that panics has left its service in an unknown state: the log ends, and hangs nobody.
struct ClosesOnPanic(Option<Arc<Shared>>);

impl Drop for ClosesOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(shared) = &self.0
        {
            tracing::error!("a callback for receipts panicked, so the log is closed");
            shared.begin_to_close();
        }
    }
}

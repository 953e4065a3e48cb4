//! The batches that edges owe an answer for, in the order in which each edge gets them.

use std::collections::VecDeque;

use super::{Incarnation, Output};
use crate::calls::DeliverBatch;
use crate::limits;
use crate::map::Map;
use crate::time::Now;

#[derive(Debug, Default)]
pub(super) struct Edges {
    by_incarnation: Map<Incarnation, Edge>,
    /// Whom the tickets under way were given for.
    tickets: Map<u64, Incarnation>,
    last_ticket: u64,
    /// Given up, oldest first. What was looked up before their end must not go to them: it would follow a gap.
    ended: VecDeque<Incarnation>,
}

#[derive(Debug, Default)]
struct Edge {
    /// Unanswered, in order. Those before `sent` are under way, the others wait for the retry.
    batches: VecDeque<Batch>,
    sent: usize,
    /// A batch failed: everything from it on is sent again then, in order.
    retry_at_ms: Option<u64>,
    /// It was overdue: its end is asked for.
    is_revoked: bool,
}

#[derive(Debug)]
struct Batch {
    round: u64,
    /// Of its latest sending.
    ticket: u64,
    since_ms: u64,
    content: DeliverBatch,
}

impl Edges {
    /// Sends a batch, or queues it behind one that failed.
    /// False where the edge's incarnation is over.
    pub(super) fn deliver(
        &mut self,
        now: Now,
        round: u64,
        batch: DeliverBatch,
        out: &mut Vec<Output>,
    ) -> bool {
        let incarnation = Incarnation { edge: batch.edge as u16, epoch: batch.epoch };
        if self.ended.contains(&incarnation) {
            return false;
        }
        if !self.by_incarnation.contains_key(&incarnation) {
            // An earlier life of this edge that owes nothing will not be heard of again.
            self.by_incarnation.retain(|i, e| i.edge != incarnation.edge || !e.batches.is_empty());
        }
        let edge = self.by_incarnation.entry(incarnation).or_default();
        edge.batches.push_back(Batch { round, ticket: 0, since_ms: now.mono_ms, content: batch });
        if edge.retry_at_ms.is_none() {
            edge.send(incarnation, &mut self.tickets, &mut self.last_ticket, out);
        }
        true
    }

    /// The round whose batch this ticket answers, or none where the ticket is no longer under way.
    pub(super) fn answered(&mut self, ticket: u64) -> Option<u64> {
        let edge = self.by_incarnation.get_mut(&self.tickets.remove(&ticket)?)?;
        let index = edge.batches.iter().position(|b| b.ticket == ticket).expect("a ticket has its batch");
        edge.sent -= 1;
        edge.batches.remove(index).map(|b| b.round)
    }

    /// The batch of this ticket was not taken: it and those after it are sent again, later.
    pub(super) fn failed(&mut self, now: Now, ticket: u64) {
        let Some(incarnation) = self.tickets.get(&ticket) else { return };
        let edge = self.by_incarnation.get_mut(incarnation).expect("a ticket has its edge");
        let index = edge.batches.iter().position(|b| b.ticket == ticket).expect("a ticket has its batch");
        for batch in edge.batches.range(index..edge.sent) {
            self.tickets.remove(&batch.ticket);
        }
        edge.sent = index;
        edge.retry_at_ms.get_or_insert(now.mono_ms + limits::DELIVER_RETRY_MS);
    }

    /// Sends what waits for its retry.
    pub(super) fn retry(&mut self, now: Now, out: &mut Vec<Output>) {
        for (incarnation, edge) in &mut self.by_incarnation {
            if edge.retry_at_ms.is_some_and(|at| at <= now.mono_ms) {
                edge.retry_at_ms = None;
                edge.send(*incarnation, &mut self.tickets, &mut self.last_ticket, out);
            }
        }
    }

    /// Those that have not answered for too long, each once.
    pub(super) fn overdue(&mut self, now: Now) -> Vec<Incarnation> {
        let mut overdue = Vec::new();
        for (incarnation, edge) in &mut self.by_incarnation {
            if edge.due_at_ms().is_some_and(|at| at <= now.mono_ms) {
                edge.is_revoked = true;
                overdue.push(*incarnation);
            }
        }
        overdue
    }

    /// Forgets an incarnation; the rounds of the batches that it did not answer.
    pub(super) fn remove(&mut self, incarnation: Incarnation) -> Vec<u64> {
        if !self.ended.contains(&incarnation) {
            if self.ended.len() >= limits::FANOUT_ENDED_MAX {
                self.ended.pop_front();
            }
            self.ended.push_back(incarnation);
        }
        let Some(edge) = self.by_incarnation.remove(&incarnation) else { return Vec::new() };
        for batch in edge.batches.range(..edge.sent) {
            self.tickets.remove(&batch.ticket);
        }
        edge.batches.into_iter().map(|b| b.round).collect()
    }

    pub(super) fn waiting_for(&self) -> impl Iterator<Item = Incarnation> {
        self.by_incarnation.iter().filter(|(_, e)| !e.batches.is_empty()).map(|(i, _)| *i)
    }

    pub(super) fn tick_at_ms(&self) -> Option<u64> {
        self.by_incarnation.values().flat_map(|e| [e.due_at_ms(), e.retry_at_ms]).flatten().min()
    }
}

impl Edge {
    /// When the oldest batch has waited for too long; none where that was noticed.
    fn due_at_ms(&self) -> Option<u64> {
        self.batches.front().filter(|_| !self.is_revoked).map(|b| b.since_ms + limits::DELIVER_ANSWER_MS_MAX)
    }

    fn send(
        &mut self,
        incarnation: Incarnation,
        tickets: &mut Map<u64, Incarnation>,
        last_ticket: &mut u64,
        out: &mut Vec<Output>,
    ) {
        for batch in self.batches.range_mut(self.sent..) {
            *last_ticket += 1;
            batch.ticket = *last_ticket;
            tickets.insert(batch.ticket, incarnation);
            out.push(Output::Deliver { ticket: batch.ticket, batch: batch.content.clone() });
        }
        self.sent = self.batches.len();
    }
}

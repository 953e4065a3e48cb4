//! What sessions ask of router and persist, and the bound of it.

use std::collections::VecDeque;
use std::sync::Arc;

use petrel_bus::calls::{PersistCall, Reply, RouterCall};
use petrel_protocol::calls::SyncRequest;
use petrel_protocol::limits;
use petrel_protocol::session::Output;
use petrel_ring::SocketId;

use crate::connection::Connection;
use crate::inbox::Told;
use crate::shard::Shard;

/// Syncs of one shard: some with persist, the others in the order in which they came. A session has one at most.
#[derive(Default)]
pub(crate) struct Syncs {
    out: usize,
    waiting: VecDeque<(SocketId, SyncRequest)>,
}

impl Syncs {
    /// The one that may go to persist now, if there is one.
    fn next(&mut self) -> Option<(SocketId, SyncRequest)> {
        if self.out >= limits::SHARD_SYNCS_MAX {
            return None;
        }
        let next = self.waiting.pop_front();
        self.out += usize::from(next.is_some());
        if self.waiting.is_empty() {
            // One storm must not hold its memory for good.
            self.waiting.shrink_to(limits::SHARD_SYNCS_MAX);
        }
        next
    }
}

impl Shard {
    /// Asks what a session wants to be asked.
    pub(crate) fn call(&mut self, id: SocketId, call: Output) {
        let inbox = Arc::clone(&self.inbox);
        match call {
            Output::Claim | Output::Assert => {
                let (address, now) = (self.address(id), self.now());
                let Some(session) = self.connection(id).and_then(Connection::session) else { return };
                let claim = session.claim(now, address, matches!(call, Output::Assert));
                let tell = move |r: Result<_, _>| inbox.tell(Told::Claimed(id, address.epoch, r.ok()));
                self.router.call(RouterCall::Claim(claim, Reply::new(tell)));
            }
            Output::Sync(request) => {
                self.syncs.waiting.push_back((id, request));
                self.send_syncs();
            }
            Output::History(request) => {
                let reply = Reply::new(move |r: Result<_, _>| inbox.tell(Told::History(id, r.ok())));
                self.persist.call(PersistCall::History(request, reply));
            }
            Output::Resolve(request) => {
                let reply = Reply::new(move |r: Result<_, _>| inbox.tell(Told::Resolved(id, r.ok())));
                self.persist.call(PersistCall::Resolve(request, reply));
            }
            _ => unreachable!("only calls are given here"),
        }
    }

    /// One sync was answered: another may go.
    pub(crate) fn sync_answered(&mut self) {
        self.syncs.out -= 1;
        self.send_syncs();
    }

    fn send_syncs(&mut self) {
        while let Some((id, request)) = self.syncs.next() {
            if self.connection(id).is_none() {
                self.syncs.out -= 1;
                continue;
            }
            self.metrics.syncs.inc();
            let inbox = Arc::clone(&self.inbox);
            let reply = Reply::new(move |r: Result<_, _>| inbox.tell(Told::Synced(id, r.ok())));
            self.persist.call(PersistCall::Sync(request, reply));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_beyond_the_bound_wait_their_turn_and_give_their_memory_back() {
        let mut syncs = Syncs::default();
        let id = |slot| SocketId { slot, generation: 0 };
        let count = 3 * limits::SHARD_SYNCS_MAX as u32;
        syncs.waiting.extend((0..count).map(|slot| (id(slot), SyncRequest::default())));
        let mut order = Vec::new();
        while let Some((id, _)) = syncs.next() {
            order.push(id.slot);
        }
        assert_eq!(order.len(), limits::SHARD_SYNCS_MAX);
        while syncs.out > 0 {
            syncs.out -= 1;
            order.extend(syncs.next().map(|(id, _)| id.slot));
        }
        assert_eq!(order, (0..count).collect::<Vec<_>>());
        assert!(syncs.waiting.capacity() <= 2 * limits::SHARD_SYNCS_MAX);
    }
}

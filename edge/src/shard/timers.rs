//! What falls due: receipts, slow handshakes, silent sessions, the drain.

use std::ops::Range;
use std::time::{Duration, Instant};

use petrel_protocol::codes::close;
use petrel_protocol::limits;
use petrel_protocol::session::Input;
use petrel_ring::{Ring, SocketId};

use super::Shard;
use crate::connection::{Connection, State};
use crate::metrics::Metrics;

impl Shard {
    pub(super) fn next_timer(&self) -> Instant {
        let walk = self.walk.due();
        let flush = self.next_flush.unwrap_or(walk);
        let drain = self.drain_until.map_or(walk, |_| Instant::now() + Duration::from_millis(10));
        walk.min(flush).min(drain)
    }

    /// Timers: handshakes that take too long, a part of the table, receipts.
    pub(super) fn timers(&mut self, ring: &mut Ring) {
        let instant = self.instant;
        if self.next_flush.is_some_and(|at| at <= instant) {
            self.next_flush = None;
            for id in std::mem::take(&mut self.flush_later) {
                self.input(ring, id, Input::FlushReceipts);
            }
        }
        if let Some(blocks) = self.walk.step(instant, self.connections.len()) {
            self.sweep(ring, blocks);
        }
        if self.drain_until.is_some() && self.packs.len() == 0 {
            for slot in 0..self.connections.len() as u32 {
                let generation = self.connections[slot as usize].generation;
                let id = SocketId { slot, generation };
                if self.connections[slot as usize].session().is_some_and(|s| !s.is_busy()) {
                    self.close(ring, id, close::GOING_AWAY, "this edge stops: reconnect");
                } else if matches!(self.connections[slot as usize].state, State::Handshake(_)) {
                    ring.abort(id);
                }
            }
        }
    }

    fn sweep(&mut self, ring: &mut Ring, blocks: impl Iterator<Item = Range<usize>>) {
        while let Some((id, started_ms)) = self.handshakes.front().copied() {
            let is_slow = matches!(self.connection(id), Some(Connection { state: State::Handshake(_), .. }));
            if is_slow && self.now.mono_ms < started_ms + limits::HANDSHAKE_MS_MAX {
                break;
            }
            self.handshakes.pop_front();
            if is_slow {
                self.refuse_slow(ring, id);
            }
        }
        for slot in blocks.flatten() {
            let connection = &mut self.connections[slot];
            let generation = connection.generation;
            let Some(session) = connection.session() else { continue };
            if session.is_due(self.now, &self.shared.config) {
                self.input(ring, SocketId { slot: slot as u32, generation }, Input::Sweep);
            }
        }
        for (code, count) in self.out.take_refusals() {
            Metrics::nacks(code as i32, count);
        }
        self.metrics.unstored.set(self.shared.unstored as i64);
    }
}

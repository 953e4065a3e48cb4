//! What sessions want, carried out: frames, publications, calls, the end.

use std::time::Duration;

use petrel_bus::calls::{Reply, RouterCall};
use petrel_protocol::codes::{Code, close};
use petrel_protocol::limits;
use petrel_protocol::packets::{BatchMsgIdsPush, MsgType, nack, response};
use petrel_protocol::session::{Output, Outputs};
use petrel_protocol::websocket::{self, Opcode};
use petrel_ring::{Ring, SendError, SocketId};

use super::Shard;
use crate::connection::State;
use crate::metrics::Metrics;

/// How often receipts are flushed while some wait.
const FLUSH_EVERY: Duration = Duration::from_millis(limits::RECEIPT_COALESCE_MS);
/// Requests for ids that wait for the generator. Beyond: refused as overloaded.
const WAITING_FOR_IDS_MAX: usize = 1_024;
/// Fresh ids that are kept at hand.
const SPARE_IDS: usize = 256;

impl Shard {
    /// Carries out what sessions want.
    pub(super) fn carry_out(&mut self, ring: &mut Ring, id: SocketId) {
        if self.out.is_empty() {
            return;
        }
        let mut actions = self.out.take();
        for action in actions.drain(..) {
            match action {
                Output::Send(sent) => self.send(ring, id, self.out.bytes(&sent)),
                Output::SendShared(packet) => {
                    self.metrics.pushes.inc();
                    let mut head = [0; 14];
                    let len = websocket::encode_header(&mut head, None, Opcode::Binary, true, packet.len());
                    let sent = ring.send_parts(id, &head[..len], &packet);
                    self.sent(ring, id, sent);
                }
                Output::Ping(payload) => self.send_frame(ring, id, Opcode::Ping, &payload),
                Output::Publish(conversation, mut event, ticket) => {
                    self.metrics.sends.inc();
                    event.origin = Some(self.address(id).into());
                    self.packs.add(conversation, *event, (id, ticket));
                }
                Output::Receipt(conversation, receipt) => {
                    if !self.packs.add_receipt(conversation, receipt) {
                        self.metrics.receipts_dropped.inc();
                    }
                }
                Output::FlushReceiptsLater => {
                    self.flush_later.push(id);
                    self.next_flush.get_or_insert(self.instant + FLUSH_EVERY);
                }
                Output::IdBatch => self.id_batch(ring, id),
                Output::Close(code, reason) => self.close(ring, id, code, reason),
                call @ (Output::Claim
                | Output::Assert
                | Output::Sync(_)
                | Output::History(_)
                | Output::Resolve(_)) => {
                    self.call(id, call);
                }
            }
        }
        self.out.clear(actions);
    }

    pub(super) fn send(&self, ring: &mut Ring, id: SocketId, packet: &[u8]) {
        self.send_frame(ring, id, Opcode::Binary, packet);
    }

    pub(super) fn send_frame(&self, ring: &mut Ring, id: SocketId, opcode: Opcode, payload: &[u8]) {
        self.metrics.packets_out.inc();
        let mut head = [0; 14];
        let len = websocket::encode_header(&mut head, None, opcode, true, payload.len());
        let sent = ring.send(id, &head[..len]).and_then(|()| ring.send(id, payload));
        self.sent(ring, id, sent);
    }

    fn sent(&self, ring: &mut Ring, id: SocketId, sent: Result<(), SendError>) {
        match sent {
            Ok(()) | Err(SendError::Gone) => {}
            Err(SendError::Full) => {
                // The client does not read. What it misses is stored; it is synced when it is back.
                self.metrics.slow_readers.inc();
                Metrics::close(close::SLOW_READER);
                ring.abort(id);
            }
        }
    }

    /// Answers with a batch of ids; where there are not as many just now, once there are.
    pub(super) fn id_batch(&mut self, ring: &mut Ring, id: SocketId) {
        let mut msg_ids = Vec::with_capacity(limits::ID_BATCH);
        if self.ids.take(self.now.wall_ms, limits::ID_BATCH, &mut msg_ids) {
            let batch = response(MsgType::PushBatchMsgIds, &BatchMsgIdsPush { msg_ids });
            return self.send(ring, id, &batch);
        }
        if self.waiting_for_ids.len() < WAITING_FOR_IDS_MAX {
            return self.waiting_for_ids.push(id);
        }
        let text = "no message ids can be given out just now: ask again later";
        let kind = MsgType::GetBatchMsgIds;
        self.send(ring, id, &nack(Code::Overloaded, text, 1_000, kind, bytes::Bytes::new(), 0));
    }

    /// Sends a close frame and closes after it.
    pub(super) fn close(&mut self, ring: &mut Ring, id: SocketId, code: u16, reason: &str) {
        Metrics::close(code);
        self.send_frame(ring, id, Opcode::Close, &websocket::close_payload(code, reason));
        self.end_session(id);
        ring.close(id);
    }

    /// The session is over: its acks are published and its route removed. The slot waits for the ring's `closed`.
    pub(super) fn end_session(&mut self, id: SocketId) {
        let address = self.address(id);
        let Some(connection) =
            self.connections.get_mut(id.slot as usize).filter(|c| c.generation == id.generation)
        else {
            return;
        };
        connection.decoder = websocket::Decoder::new();
        let State::Open(mut session) = std::mem::replace(&mut connection.state, State::Closing) else {
            return;
        };
        // Its outputs are receipts only; they are not mixed with those that are being carried out.
        let mut out = Outputs::default();
        session.end(&mut self.shared, &mut out);
        for output in out.take() {
            if let Output::Receipt(conversation, receipt) = output
                && !self.packs.add_receipt(conversation, receipt)
            {
                self.metrics.receipts_dropped.inc();
            }
        }
        self.router.call(RouterCall::Release(session.release(address), Reply::ignored()));
        self.count_sessions(-1);
    }

    pub(super) fn refill_ids(&mut self) {
        let missing = SPARE_IDS.saturating_sub(self.shared.spare_ids.len());
        if missing > SPARE_IDS / 2 {
            self.ids.take(self.now.wall_ms, missing, &mut self.shared.spare_ids);
        }
    }
}

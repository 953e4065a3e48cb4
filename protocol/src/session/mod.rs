//! One connected client, as the edge decides about it: what its packets lead to, what it is shown, when it ends.
//!
//! A session starts when the token was checked. It claims its route, is synced from the store, and is then live. It does
//! not know sockets, frames or threads: the shard feeds it inputs and carries out its outputs.

mod live;
mod outputs;
mod route;
mod sent;
mod sync;
mod up;
mod window;

use bytes::Bytes;

pub use outputs::{Outputs, Sent};
pub use sync::{Packet, as_packet};

use crate::calls::{
    Claim, ClaimReply, HistoryRequest, Range, Release, ResolveReply, ResolveRequest, SyncReply, SyncRequest,
};
use crate::codes::{Code, close};
use crate::events::{Receipt, Uplink};
use crate::ids::{Address, ConversationId, Device, UserId};
use crate::limits;
use crate::packets::{Drain, MsgType};
use crate::time::Now;
use window::Window;

/// What can happen to a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// The first input: the token was good.
    Start,
    /// A binary message of the client.
    Packet(&'a [u8]),
    /// A pong of the client, with the ping's payload.
    Pong(&'a [u8]),
    /// What became of the publication that had this ticket.
    Published(u32, Outcome),
    /// The answer to [`Output::Claim`] or [`Output::Assert`]; none where it could not be asked. Only where the edge's
    /// epoch is still the one under which it was asked: else a claim would be taken for confirmed that is not.
    Claimed(Option<ClaimReply>),
    /// A page of what this device lacks; none where persist could not answer.
    Synced(Option<SyncReply>),
    /// The answer to [`Output::History`].
    History(Option<Range>),
    /// The answer to [`Output::Resolve`], in the order of the requests.
    Resolved(Option<ResolveReply>),
    /// Something for this device, from router.
    Delivery(crate::calls::delivery::What),
    /// A push for this device was lost: sync.
    Dirty,
    /// The lease ran out and the edge has a new epoch: claim again.
    ClaimAgain,
    /// From time to time: timers, retries.
    Sweep,
    /// Receipts have waited for [`limits::RECEIPT_COALESCE_MS`].
    FlushReceipts,
    /// The edge is about to stop.
    Drain,
}

/// What became of a publication on `uplink`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durable.
    Accepted,
    /// Certainly not in the log, since too much is under way.
    Full,
    /// Certainly not in the log, since it cannot be reached.
    Unavailable,
    /// In the log or not.
    Unknown,
}

/// What a session wants done.
#[derive(Debug)]
pub enum Output {
    /// Send this packet, which stands in [`Outputs::bytes`].
    Send(Sent),
    /// Send this packet, which other sessions share.
    SendShared(Bytes),
    /// Send a ping with this payload.
    Ping([u8; 4]),
    /// Publish on `uplink`, then tell the session with [`Input::Published`].
    Publish(ConversationId, Box<Uplink>, u32),
    /// Publish on `receipts`; nobody waits for it.
    Receipt(ConversationId, Receipt),
    /// Give [`Input::FlushReceipts`] after [`limits::RECEIPT_COALESCE_MS`].
    FlushReceiptsLater,
    /// Claim the route of this session's address: see [`Session::claim`].
    Claim,
    /// Ask whether the route is this session's still: see [`Session::claim`].
    Assert,
    /// Ask persist what this device lacks.
    Sync(SyncRequest),
    /// Ask persist for a range of a conversation.
    History(HistoryRequest),
    /// Ask persist for the seq of a message.
    Resolve(ResolveRequest),
    /// Answer with a batch of message ids.
    IdBatch,
    /// Close the connection with this code and reason, after what was sent.
    Close(u16, &'static str),
}

/// The bounds and times of sessions. The defaults stand in [`limits`].
#[derive(Clone, Debug)]
pub struct Config {
    /// A client that was silent this long is pinged.
    pub ping_after_ms: u64,
    /// A client that was silent this long is closed, if it was pinged and had the time between the two to answer.
    pub evict_after_ms: u64,
    /// Sends of the shard that are accepted and not yet stored. Beyond: refused as overloaded.
    pub shard_unstored_max: usize,
    /// A session asks this often whether its route is its own still.
    pub assert_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ping_after_ms: limits::PING_AFTER_MS,
            evict_after_ms: limits::EVICT_AFTER_MS,
            shard_unstored_max: limits::SHARD_UNSTORED_MAX,
            assert_ms: limits::ASSERT_MS,
        }
    }
}

/// What the sessions of one shard share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Bounds and times.
    pub config: Config,
    /// Fresh message ids, kept filled by the shard.
    pub spare_ids: Vec<u64>,
    /// Sends that went to `uplink` and did not yet come back as stored: the shard's credit in use.
    pub unstored: usize,
    /// The edge is about to stop: new sends are refused.
    pub is_draining: bool,
}

/// Which part of its life a session is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The claim is under way, or is to be tried again.
    Claiming,
    /// What was stored before is being pushed.
    Syncing,
    /// Pushes are shown as they come.
    Live,
    /// The connection is about to close: nothing more is sent or taken.
    Closing,
}

/// One connected client. A few dozen bytes while idle; what is under way stands in [`Work`].
#[derive(Debug)]
pub struct Session {
    user: UserId,
    /// When the client was last heard, in quarters of a second of monotonic time.
    heard: u32,
    /// When it connected, in sixteens of milliseconds: two years until the time of a session is forgotten.
    connected: u32,
    /// When its route was last claimed or asserted, in quarters of a second.
    asserted: u32,
    /// The version of its token: a session with an older one than the account's was revoked.
    token_version: u32,
    device: Device,
    phase: Phase,
    faults: u8,
    is_pinged: bool,
    is_ready: bool,
    work: Option<Box<Work>>,
}

/// What is under way in a session; freed when nothing is.
#[derive(Debug, Default)]
struct Work {
    /// Sends that the bus has not receipted.
    publishing: sent::Publishing,
    /// Sends that were given to the bus and did not come back as stored.
    unstored: usize,
    /// Conversations in which a send has an unknown outcome, by the send's id.
    held: Vec<sent::Held>,
    /// Highest statuses of this session's latest own messages, so that a lower one is not sent after a higher one.
    statuses: sent::Statuses,
    /// Pushed and not yet acknowledged, or acknowledged and not yet published.
    window: Window,
    sync: sync::Progress,
    /// Acks whose message is being looked up, in the order of the requests.
    resolving: std::collections::VecDeque<up::Resolving>,
    is_history_pending: bool,
    used_at: u32,
}

impl Work {
    /// Whether nothing is under way.
    fn is_idle(&self) -> bool {
        self.publishing.is_empty()
            && self.unstored == 0
            && self.held.is_empty()
            && self.window.is_empty()
            && self.sync.is_idle()
            && self.resolving.is_empty()
            && !self.is_history_pending
    }

    /// Whether, besides, nothing is remembered.
    fn is_blank(&self) -> bool {
        self.is_idle() && self.statuses.is_empty() && self.window.is_blank()
    }
}

impl Session {
    /// A session of `user` on `device` that was just connected with a token of this version.
    pub fn new(now: Now, user: UserId, device: Device, token_version: u32) -> Self {
        Self {
            user,
            heard: quarters(now),
            connected: sixteens(now),
            asserted: quarters(now),
            token_version,
            device,
            phase: Phase::Claiming,
            faults: 0,
            is_pinged: false,
            is_ready: false,
            work: None,
        }
    }

    /// Whose session it is.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// On which type of device.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Whether pushes are shown as they come.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether something that was accepted from this client, or that it acknowledged, is still under way.
    pub fn is_busy(&self) -> bool {
        self.work.as_ref().is_some_and(|w| !w.publishing.is_empty() || w.window.has_news())
    }

    /// Notes a sign of life: any bytes at all.
    pub fn heard(&mut self, now: Now) {
        self.heard = quarters(now);
        self.is_pinged = false;
    }

    /// Whether [`Input::Sweep`] would do anything now. Cheap: called for every session every few seconds.
    pub fn is_due(&self, now: Now, config: &Config) -> bool {
        self.work.is_some()
            || self.phase == Phase::Claiming
            || self.is_assertion_due(now, config)
            || silent_ms(now, self.heard)
                >= if self.is_pinged { config.evict_after_ms } else { config.ping_after_ms }
    }

    /// Takes one input and appends what is to be done to `out`.
    pub fn handle(&mut self, now: Now, input: Input<'_>, shared: &mut Shared, out: &mut Outputs) {
        if self.phase == Phase::Closing {
            return;
        }
        match input {
            Input::Start => out.push(Output::Claim),
            Input::Packet(bytes) => self.packet(now, bytes, shared, out),
            Input::Pong(payload) => self.pong(payload, out),
            Input::Published(ticket, outcome) => self.published(now, ticket, outcome, shared, out),
            Input::Claimed(reply) => self.claimed(now, reply, shared, out),
            Input::Synced(reply) => self.synced(now, reply, out),
            Input::History(range) => self.history(range, out),
            Input::Resolved(reply) => self.resolved(reply, out),
            Input::Delivery(what) => self.delivery(now, what, shared, out),
            Input::Dirty => self.dirty(shared, out),
            Input::ClaimAgain => self.claim_again(shared, out),
            Input::Sweep => self.sweep(now, shared, out),
            Input::FlushReceipts => self.flush_receipts(out),
            Input::Drain => self.drain(out),
        }
    }

    /// The session's end: its connection is gone. What it acknowledged is published, its credit is given back.
    pub fn end(&mut self, shared: &mut Shared, out: &mut Outputs) {
        self.flush_receipts(out);
        if let Some(work) = self.work.take() {
            shared.unstored -= work.unstored;
        }
        self.phase = Phase::Closing;
    }

    /// What claims the route for this session, or only asserts it, where `address` is its own.
    pub fn claim(&self, now: Now, address: Address, is_assertion: bool) -> Claim {
        Claim {
            user: self.user.0,
            device: self.device as u32,
            address: Some(address.into()),
            age_ms: u64::from(sixteens(now).wrapping_sub(self.connected)) * 16,
            is_assertion,
        }
    }

    /// What removes this session's route, where `address` is its own.
    pub fn release(&self, address: Address) -> Release {
        Release { user: self.user.0, device: self.device as u32, address: Some(address.into()) }
    }

    fn work(&mut self) -> &mut Work {
        self.work.get_or_insert_default()
    }

    fn close(&mut self, code: u16, reason: &'static str, out: &mut Outputs) {
        self.phase = Phase::Closing;
        out.push(Output::Close(code, reason));
    }

    fn sweep(&mut self, now: Now, shared: &mut Shared, out: &mut Outputs) {
        let silent = silent_ms(now, self.heard);
        if self.is_pinged && silent >= shared.config.evict_after_ms {
            return self.close(close::SILENT, "no sign of life: answer pings, or send one every 30 s", out);
        }
        if !self.is_pinged && silent >= shared.config.ping_after_ms {
            self.is_pinged = true;
            // A shard that is late asks late: what went by until it did is not held against the client.
            self.heard = quarters(now).wrapping_sub((shared.config.ping_after_ms / 250) as u32);
            out.push(Output::Ping([0; 4]));
        }
        if self.phase == Phase::Claiming {
            out.push(Output::Claim);
        } else if self.is_assertion_due(now, &shared.config) {
            self.asserted = quarters(now);
            out.push(Output::Assert);
        }
        let quarters_now = quarters(now);
        if let Some(work) = &mut self.work {
            work.held.retain(|held| !held.is_given_up(now));
            sync::retry(work, self.phase, self.user, self.device, out);
            let unused_ms = u64::from(quarters_now.wrapping_sub(work.used_at)) * 250;
            if unused_ms > CREDIT_MS_MAX && work.publishing.is_empty() {
                shared.unstored -= std::mem::take(&mut work.unstored);
            }
            // The latest statuses and acks stay for a while after the last use.
            if work.is_idle() && unused_ms > limits::SESSION_MEMORY_MS {
                self.work = None;
            }
        }
    }

    fn drain(&mut self, out: &mut Outputs) {
        self.flush_receipts(out);
        out.packet(MsgType::Drain, &Drain { reconnect_after_ms: 0 });
    }

    /// Refuses one packet; too many refusals for faults end the session.
    fn fault(&mut self, code: Code, text: &str, refused: &up::RefusedPacket, out: &mut Outputs) {
        refused.nack(code, text, 0, out);
        self.faults = self.faults.saturating_add(1);
        if u32::from(self.faults) >= limits::SESSION_FAULTS_MAX {
            self.close(
                close::TOO_MANY_FAULTS,
                "too many bad packets: the nacks say what was wrong with each",
                out,
            );
        }
    }
}

/// Credit of a session that publishes nothing is freed after this long: what would give it back was lost.
const CREDIT_MS_MAX: u64 = 30_000;

fn quarters(now: Now) -> u32 {
    (now.mono_ms / 250) as u32
}

fn sixteens(now: Now) -> u32 {
    (now.mono_ms / 16) as u32
}

fn silent_ms(now: Now, heard: u32) -> u64 {
    u64::from(quarters(now).wrapping_sub(heard)) * 250
}

#[cfg(test)]
mod tests;

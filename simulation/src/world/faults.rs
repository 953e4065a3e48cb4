//! What goes wrong in a run: each seed switches on its own subset, so that faults are also met without each other.

use crate::random::Random;

/// A kind of fault that a run can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// Connections are cut.
    Cut,
    /// The edge notices a cut late, or only when the client stays silent.
    HalfOpen,
    /// Frames travel as bytes, in pieces: a cut may be inside of a frame.
    Pieces,
    /// A client stops reading for a while.
    SlowReader,
    /// Little may wait for one client.
    SmallEgress,
    /// Clients send again although nothing was lost.
    Impatient,
    /// A sender uses message ids of others.
    BorrowedIds,
    /// Whatever travels may be late, and things of different connections pass each other.
    Jitter,
    /// The bus refuses packs as full or unavailable.
    PublishRefused,
    /// The outcome of a pack is unknown.
    PublishUnknown,
    /// The bus silently takes a pack twice.
    PublishAgain,
    /// Packs of receipts are lost.
    ReceiptsLost,
    /// Store operations time out; they may have been applied, now or later.
    StoreTimeout,
    /// Readers die between two effects.
    Crash,
    /// Calls between services are lost, or their answers are.
    CallLost,
    /// Streams of deliveries break.
    DeliverBreak,
    /// Little fits into a shard's inbox.
    SmallInbox,
    /// Some processes are of the next version: what they write has fields that others do not know.
    Versions,
    /// An edge is killed.
    EdgeKilled,
    /// An edge and router do not reach each other for a while.
    EdgeIsolated,
    /// An edge is stopped in order.
    EdgeDrained,
    /// An edge's wall clock steps.
    ClockStep,
    /// A reader of persist is killed.
    PersistKilled,
    /// A new reader begins while the old one still runs.
    PersistReplaced,
    /// A new reader begins, and after a while the old one, which still runs, has the partition again.
    PersistReturned,
    /// Router is killed.
    RouterKilled,
    /// A new router begins while the old one still runs.
    RouterReplaced,
    /// Records that are not acknowledged, or were not long ago, are read again by the same reader.
    Redelivered,
    /// All routes and leases are gone: an emptied Redis.
    RoutesLost,
    /// Some routes are gone while their leases live: a failover that lost the last writes, or an eviction.
    RoutesDropped,
    /// Somebody logs in with a device's account on the same device type.
    LoggedInElsewhere,
    /// `uplink` is sealed, drained and begun anew.
    Generation,
    /// Power is cut: what was not synced is lost, and every process with it.
    PowerCut,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 33] = [
        Self::Cut,
        Self::HalfOpen,
        Self::Pieces,
        Self::SlowReader,
        Self::SmallEgress,
        Self::Impatient,
        Self::BorrowedIds,
        Self::Jitter,
        Self::PublishRefused,
        Self::PublishUnknown,
        Self::PublishAgain,
        Self::ReceiptsLost,
        Self::StoreTimeout,
        Self::Crash,
        Self::CallLost,
        Self::DeliverBreak,
        Self::SmallInbox,
        Self::Versions,
        Self::EdgeKilled,
        Self::EdgeIsolated,
        Self::EdgeDrained,
        Self::ClockStep,
        Self::PersistKilled,
        Self::PersistReplaced,
        Self::PersistReturned,
        Self::RouterKilled,
        Self::RouterReplaced,
        Self::Redelivered,
        Self::RoutesLost,
        Self::RoutesDropped,
        Self::LoggedInElsewhere,
        Self::Generation,
        Self::PowerCut,
    ];

    /// Whether it befalls whole processes, now and then; the others accompany what they disturb.
    fn is_chaos(self) -> bool {
        self >= Self::EdgeKilled
    }
}

/// Which faults a run may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Swarm {
    /// A subset that the seed draws.
    #[default]
    Drawn,
    /// These.
    Only(&'static [Fault]),
}

impl Swarm {
    /// None.
    pub const CALM: Self = Self::Only(&[]);
}

/// The faults of a run. `1 in n` fields are 0 where the fault is off.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// A connection is cut at 1 in so many packets.
    pub(crate) cut: u64,
    pub(crate) is_half_open: bool,
    pub(crate) are_pieces: bool,
    /// A client stops reading for a while, at 1 in so many packets.
    pub(crate) slow_reader: u64,
    /// Clients wait only this long for an answer; 0: as usual.
    pub(crate) impatient_ms: u64,
    /// 1 in so many sends has another's message id.
    pub(crate) borrowed_ids: u64,
    /// What waits in the network jumps by up to this much.
    pub(crate) jitter_us: u64,
    /// 1 in so many packs.
    pub(crate) publish_refused: u64,
    pub(crate) publish_unknown: u64,
    pub(crate) publish_again: u64,
    pub(crate) receipts_lost: u64,
    /// 1 in so many store operations.
    pub(crate) store_timeout: u64,
    /// A reader of persist dies at 1 in so many steps, and router at 1 in so many rounds.
    pub(crate) crash: u64,
    /// 1 in so many calls.
    pub(crate) call_lost: u64,
    /// 1 in so many batches.
    pub(crate) deliver_break: u64,
    /// Deliveries that a shard's inbox holds.
    pub(crate) inbox_max: usize,
    /// Bytes that wait for one client.
    pub(crate) egress_max: usize,
    /// 1 in so many processes is of the next version.
    pub(crate) versions: u64,
    /// Milliseconds between what befalls whole processes; 0: nothing does.
    pub(crate) chaos_ms: u64,
    /// Which of that is on.
    pub(crate) chaos: Vec<Fault>,
}

/// Where a fault is off.
const INBOX_MAX: usize = 16_384;
const EGRESS_MAX: usize = 1 << 20;

impl Faults {
    /// None at all.
    pub(crate) fn none() -> Self {
        Self {
            cut: 0,
            is_half_open: false,
            are_pieces: false,
            slow_reader: 0,
            impatient_ms: 0,
            borrowed_ids: 0,
            jitter_us: 0,
            publish_refused: 0,
            publish_unknown: 0,
            publish_again: 0,
            receipts_lost: 0,
            store_timeout: 0,
            crash: 0,
            call_lost: 0,
            deliver_break: 0,
            inbox_max: INBOX_MAX,
            egress_max: EGRESS_MAX,
            versions: 0,
            chaos_ms: 0,
            chaos: Vec::new(),
        }
    }

    /// The faults of a swarm, with random strengths.
    pub(crate) fn draw(swarm: Swarm, random: &mut Random) -> Self {
        let mut faults = Self::none();
        match swarm {
            Swarm::Only(kinds) => kinds.iter().for_each(|kind| faults.switch_on(*kind, random)),
            Swarm::Drawn => {
                // How many faults there are is drawn too: some seeds have nearly none, some nearly all.
                let share = random.between(1, 4);
                for kind in Fault::ALL {
                    // Bytes instead of frames cost time in every packet.
                    let is_costly = kind == Fault::Pieces;
                    if random.below(4) < share && (!is_costly || random.one_in(4)) {
                        faults.switch_on(kind, random);
                    }
                }
            }
        }
        if !faults.chaos.is_empty() {
            faults.chaos_ms = 200 << random.below(5);
        }
        faults
    }

    fn switch_on(&mut self, kind: Fault, random: &mut Random) {
        let mut rate = |least: u64| least << random.below(4);
        match kind {
            Fault::Cut => self.cut = rate(50),
            Fault::HalfOpen => self.is_half_open = true,
            Fault::Pieces => self.are_pieces = true,
            Fault::SlowReader => self.slow_reader = rate(50),
            Fault::SmallEgress => self.egress_max = random.between(500, 4_000) as usize,
            Fault::Impatient => self.impatient_ms = random.between(20, 500),
            Fault::BorrowedIds => self.borrowed_ids = rate(10),
            Fault::Jitter => self.jitter_us = 1 << random.between(10, 18),
            Fault::PublishRefused => self.publish_refused = rate(10),
            Fault::PublishUnknown => self.publish_unknown = rate(10),
            Fault::PublishAgain => self.publish_again = rate(10),
            Fault::ReceiptsLost => self.receipts_lost = rate(5),
            Fault::StoreTimeout => self.store_timeout = rate(10),
            Fault::Crash => self.crash = rate(30),
            Fault::CallLost => self.call_lost = rate(10),
            Fault::DeliverBreak => self.deliver_break = rate(10),
            Fault::SmallInbox => self.inbox_max = random.between(1, 8) as usize,
            Fault::Versions => self.versions = 2,
            kind => {
                debug_assert!(kind.is_chaos(), "all others are above");
                self.chaos.push(kind);
            }
        }
    }

    /// Everything that still goes wrong stops.
    pub(crate) fn stop(&mut self) {
        let are_pieces = self.are_pieces;
        *self = Self::none();
        // Connections that carry bytes go on to do so.
        self.are_pieces = are_pieces;
    }
}

//! What goes wrong in a run: each seed switches on its own subset, so that faults are also met without each other.

use crate::random::Random;

/// The faults of a run. `1 in n` fields are 0 where the fault is off.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A connection is cut at 1 in so many packets.
    pub(crate) cut: u64,
    /// The edge notices a cut late, or only when the client stays silent.
    pub(crate) is_half_open: bool,
    /// A client stops reading for a while, at 1 in so many packets.
    pub(crate) slow_reader: u64,
    /// Sends are sent again although nothing was lost: clients wait only this long for an answer; 0: as usual.
    pub(crate) impatient_ms: u64,
    /// Packets that wait in the network jump by up to this much.
    pub(crate) jitter_us: u64,
    /// The bus refuses 1 in so many packs as full or unavailable.
    pub(crate) publish_refused: u64,
    /// The outcome of 1 in so many packs is unknown.
    pub(crate) publish_unknown: u64,
    /// The bus silently takes 1 in so many packs twice.
    pub(crate) publish_again: u64,
    /// 1 in so many packs of receipts is lost.
    pub(crate) receipts_lost: u64,
    /// 1 in so many store operations times out; it may have been applied, now or later.
    pub(crate) store_timeout: u64,
    /// A reader of persist dies at 1 in so many steps, and router at 1 in so many rounds.
    pub(crate) crash: u64,
    /// 1 in so many calls between services is lost, or its answer is.
    pub(crate) call_lost: u64,
    /// The stream of deliveries to an edge breaks at 1 in so many batches.
    pub(crate) deliver_break: u64,
    /// Deliveries that a shard's inbox holds.
    pub(crate) inbox_max: usize,
    /// Bytes that wait for one client.
    pub(crate) egress_max: usize,
    /// Milliseconds between what befalls whole processes; 0: nothing does.
    pub(crate) chaos_ms: u64,
    /// Which of that is on.
    pub(crate) chaos: Vec<Chaos>,
}

/// What befalls whole processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chaos {
    EdgeKilled,
    EdgeIsolated,
    EdgeDrained,
    ClockStep,
    PersistKilled,
    /// A new reader begins while the old one still runs.
    PersistReplaced,
    /// A new reader begins, and after a while the old one, which still runs, has the partition again.
    PersistReturned,
    RouterKilled,
    RouterReplaced,
    /// Records that are not acknowledged are read again by the same reader.
    Redelivered,
    /// All routes and leases are gone: an emptied Redis.
    RoutesLost,
    /// Some routes are gone while their leases live: a failover that lost the last writes, or an eviction.
    RoutesDropped,
}

impl Chaos {
    const ALL: [Self; 12] = [
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
    ];
}

/// Where a fault is off.
const INBOX_MAX: usize = 16_384;
const EGRESS_MAX: usize = 1 << 20;

impl Faults {
    /// None at all.
    pub fn none() -> Self {
        Self { inbox_max: INBOX_MAX, egress_max: EGRESS_MAX, ..Self::default() }
    }

    /// A random subset, with random strengths.
    pub fn draw(random: &mut Random) -> Self {
        let mut faults = Self::none();
        // How many faults there are is drawn too: some seeds have nearly none, some nearly all.
        let share = random.between(1, 4);
        let on = |random: &mut Random| random.below(4) < share;
        let rate = |random: &mut Random, least: u64| least << random.below(4);
        if on(random) {
            faults.cut = rate(random, 50);
        }
        faults.is_half_open = on(random);
        if on(random) {
            faults.slow_reader = rate(random, 50);
        }
        if on(random) {
            faults.impatient_ms = random.between(20, 500);
        }
        if on(random) {
            faults.jitter_us = 1 << random.between(10, 18);
        }
        if on(random) {
            faults.publish_refused = rate(random, 10);
        }
        if on(random) {
            faults.publish_unknown = rate(random, 10);
        }
        if on(random) {
            faults.publish_again = rate(random, 10);
        }
        if on(random) {
            faults.receipts_lost = rate(random, 5);
        }
        if on(random) {
            faults.store_timeout = rate(random, 10);
        }
        if on(random) {
            faults.crash = rate(random, 30);
        }
        if on(random) {
            faults.call_lost = rate(random, 10);
        }
        if on(random) {
            faults.deliver_break = rate(random, 10);
        }
        if on(random) {
            faults.inbox_max = random.between(1, 8) as usize;
        }
        if on(random) {
            faults.egress_max = random.between(500, 4_000) as usize;
        }
        faults.chaos = Chaos::ALL.into_iter().filter(|_| on(random)).collect();
        if !faults.chaos.is_empty() {
            faults.chaos_ms = 200 << random.below(5);
        }
        faults
    }

    /// Everything that still goes wrong stops.
    pub(crate) fn stop(&mut self) {
        *self = Self::none();
    }
}

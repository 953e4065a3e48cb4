//! What a run measures: latencies, counts, and both second by second.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::stamp::Stamp;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// From the start of the TCP connection to the end of the WebSocket upgrade.
    Connect,
    /// From the upgrade to READY.
    Ready,
    /// One login over HTTP.
    Login,
    /// From the intended time of a send to its ack 1.
    Accept,
    /// From the intended time of a send to its arrival at a device that was connected and ready all the while.
    Delivery,
    /// From the intended time of a send to the sender's knowing that it was delivered (status 3).
    EndToEnd,
    /// From the intended time of a send to its being handed to the connection.
    Lag,
}

impl Timed {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 7] =
        [Self::Connect, Self::Ready, Self::Login, Self::Accept, Self::Delivery, Self::EndToEnd, Self::Lag];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Ready => "ready",
            Self::Login => "login",
            Self::Accept => "accept",
            Self::Delivery => "delivery",
            Self::EndToEnd => "end_to_end",
            Self::Lag => "lag",
        }
    }
}

/// Ten minutes: what is slower counts as that.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Latencies of one kind, in microseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "Vec<(u64, u64)>", from = "Vec<(u64, u64)>")]
pub struct Latency(Histogram<u32>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are good"))
    }
}

/// The numbers of one histogram, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Percentiles {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Latency {
    /// Adds one.
    pub fn record(&mut self, us: u64) {
        self.0.saturating_record(us.max(1));
    }

    /// The largest, in µs; 0 where there is none.
    pub fn max_us(&self) -> u64 {
        self.0.max()
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the bounds are the same");
    }

    /// The numbers for reports.
    pub fn percentiles(&self) -> Percentiles {
        let ms = |us: u64| us as f64 / 1_000.0;
        let at = |quantile| if self.0.is_empty() { 0.0 } else { ms(self.0.value_at_quantile(quantile)) };
        Percentiles {
            count: self.0.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(self.0.max()),
        }
    }
}

/// Values and their counts, for another process.
impl From<Latency> for Vec<(u64, u64)> {
    fn from(latency: Latency) -> Self {
        latency.0.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value().into())).collect()
    }
}

impl From<Vec<(u64, u64)>> for Latency {
    fn from(pairs: Vec<(u64, u64)>) -> Self {
        let mut latency = Self::default();
        for (value, count) in pairs {
            latency.0.saturating_record_n(value, count as u32);
        }
        latency
    }
}

/// What happened in one second of the load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Second {
    /// Sends that were intended in it.
    pub offered: u32,
    /// Accepted in it.
    pub accepted: u32,
    /// Arrived in it, at any device.
    pub delivered: u32,
    /// Refused in it, for now or for good.
    pub refused: u32,
    /// Delivery latencies of what was intended in it.
    delivery: Coarse,
}

impl Second {
    /// Adds another thread's.
    pub fn merge(&mut self, other: &Self) {
        self.offered += other.offered;
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.refused += other.refused;
        self.delivery.merge(&other.delivery);
    }

    /// The 99th percentile of the deliveries of what was intended in it, in ms, within an eighth.
    pub fn delivery_p99_ms(&self) -> f64 {
        self.delivery.quantile_us(0.99) as f64 / 1_000.0
    }
}

/// A histogram of few bytes: eight steps for each power of two.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Coarse(BTreeMap<u16, u32>);

impl Coarse {
    fn record(&mut self, us: u64) {
        *self.0.entry(Self::step(us)).or_default() += 1;
    }

    fn step(us: u64) -> u16 {
        let us = us.max(8);
        let power = us.ilog2();
        (power * 8 + ((us >> (power - 3)) & 7) as u32) as u16
    }

    fn merge(&mut self, other: &Self) {
        for (step, count) in &other.0 {
            *self.0.entry(*step).or_default() += count;
        }
    }

    fn quantile_us(&self, quantile: f64) -> u64 {
        let total: u64 = self.0.values().map(|c| u64::from(*c)).sum();
        let mut left = (total as f64 * quantile).ceil() as u64;
        for (step, count) in &self.0 {
            if left <= u64::from(*count) {
                let (power, eighth) = (step / 8, u64::from(step % 8));
                return (8 + eighth + 1) << (power - 3);
            }
            left -= u64::from(*count);
        }
        0
    }
}

/// Counts of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Sends that were due.
    pub offered: u64,
    /// Sends that were accepted.
    pub accepted: u64,
    /// Sends that ended without having been accepted.
    pub refused: u64,
    /// Sends that were sent again.
    pub resent: u64,
    /// First arrivals, over all devices.
    pub delivered: u64,
    /// Arrivals of what had come before, over all devices.
    pub duplicates: u64,
    /// Arrivals behind a later seq of their conversation.
    pub out_of_order: u64,
    /// Recalls asked for, and confirmed.
    pub recalls: (u64, u64),
    /// Messages of other runs.
    pub foreign: u64,
    /// Statuses that came after a higher one where that may be: the ack 1 of a send that was sent several times, and what
    /// an edge tells that has forgotten the higher one, or never knew it.
    pub late_statuses: u64,
    /// Connections that were opened, and that were lost unasked.
    pub connections: (u64, u64),
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Refusals, for now or for good, by code.
    pub refusals: BTreeMap<i32, u64>,
}

impl Counts {
    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        self.offered += other.offered;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.resent += other.resent;
        self.delivered += other.delivered;
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        self.recalls.0 += other.recalls.0;
        self.recalls.1 += other.recalls.1;
        self.foreign += other.foreign;
        self.late_statuses += other.late_statuses;
        self.connections.0 += other.connections.0;
        self.connections.1 += other.connections.1;
        self.connect_failures += other.connect_failures;
        for (code, count) in &other.refusals {
            *self.refusals.entry(*code).or_default() += count;
        }
    }
}

/// What one thread measured, or all of them together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measures {
    /// Latencies of the whole run by [`Timed`].
    pub total: [Latency; Timed::ALL.len()],
    /// Accept and delivery of what was intended in each phase.
    pub phases: Vec<[Latency; 2]>,
    /// Second by second since the load began.
    pub seconds: Vec<Second>,
    /// Counts.
    pub counts: Counts,
}

/// Seconds that are kept one by one.
const SECONDS_MAX: usize = 24 * 3_600;

impl Measures {
    /// For so many phases.
    pub fn new(phases: usize) -> Self {
        Self { phases: vec![<[Latency; 2]>::default(); phases], ..Self::default() }
    }

    /// Adds one latency to the whole run's.
    pub fn time(&mut self, timed: Timed, us: u64) {
        self.total[timed as usize].record(us);
    }

    /// Adds a latency of what was intended in this phase.
    pub fn time_in_phase(&mut self, timed: Timed, phase: Option<usize>, us: u64) {
        self.time(timed, us);
        let at = usize::from(timed == Timed::Delivery);
        if let Some(phase) = phase.and_then(|p| self.phases.get_mut(p)) {
            phase[at].record(us);
        }
    }

    /// The second of the load in which `at` lies; none before the load.
    pub fn second(&mut self, load_start: Stamp, at: Stamp) -> Option<&mut Second> {
        if !load_start.is_set() || at < load_start {
            return None;
        }
        let second = (at.us_since(load_start) / 1_000_000) as usize;
        if second >= SECONDS_MAX {
            return None;
        }
        if self.seconds.len() <= second {
            self.seconds.resize_with(second + 1, Second::default);
        }
        self.seconds.get_mut(second)
    }

    /// Notes a delivery latency in the second in which it was intended.
    pub fn delivery_in_second(&mut self, load_start: Stamp, intended: Stamp, us: u64) {
        if let Some(second) = self.second(load_start, intended) {
            second.delivery.record(us);
        }
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: &Self) {
        for (mine, others) in self.total.iter_mut().zip(&other.total) {
            mine.merge(others);
        }
        if self.phases.len() < other.phases.len() {
            self.phases.resize_with(other.phases.len(), Default::default);
        }
        for (mine, others) in self.phases.iter_mut().zip(&other.phases) {
            mine[0].merge(&others[0]);
            mine[1].merge(&others[1]);
        }
        if self.seconds.len() < other.seconds.len() {
            self.seconds.resize_with(other.seconds.len(), Second::default);
        }
        for (mine, others) in self.seconds.iter_mut().zip(&other.seconds) {
            mine.merge(others);
        }
        self.counts.merge(&other.counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_histogram_is_within_an_eighth() {
        for us in [8, 9, 100, 1_000, 33_333, 1_000_000, 59_000_000] {
            let mut coarse = Coarse::default();
            coarse.record(us);
            let found = coarse.quantile_us(0.99);
            assert!(found >= us && found <= us + us / 8 + 1, "{us}: {found}");
        }
    }

    #[test]
    fn a_histogram_survives_its_way_to_another_process() {
        let mut latency = Latency::default();
        (1..=1_000).for_each(|us| latency.record(us * 10));
        let json = serde_json::to_string(&latency).expect("JSON");
        let copy: Latency = serde_json::from_str(&json).expect("the same JSON");
        let pairs = Vec::<(u64, u64)>::from;
        assert_eq!(pairs(copy.clone()), pairs(latency));
        assert_eq!(copy.percentiles().count, 1_000);
    }
}

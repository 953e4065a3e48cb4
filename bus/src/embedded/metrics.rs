//! What only the embedded log counts.

use std::sync::LazyLock;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, exponential_buckets};

use crate::metrics::{counters, gauges, histogram, registered};

/// The process' numbers.
pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The metrics of the embedded log.
pub(super) struct Metrics {
    /// Groups written.
    pub(super) commits: IntCounter,
    /// Packs in one group.
    pub(super) group_packs: Histogram,
    /// How long the disk takes to sync.
    pub(super) fsync_seconds: Histogram,
    /// Bytes that not all subscriptions have acknowledged.
    pub(super) backlog_bytes: IntGaugeVec,
    /// Packs that a subscription has not acknowledged.
    pub(super) backlog_packs: IntGaugeVec,
    /// Segments on disk.
    pub(super) segments: IntGauge,
    /// Failures of the disk, by what was tried.
    pub(super) failures: IntCounterVec,
}

impl Metrics {
    fn new() -> Self {
        Self {
            commits: registered(
                IntCounter::new("petrel_bus_commits_total", "Groups of packs written.")
                    .expect("a valid name"),
            ),
            group_packs: histogram(
                "petrel_bus_group_packs",
                "Packs in one group.",
                exponential_buckets(1.0, 2.0, 14),
            ),
            fsync_seconds: histogram(
                "petrel_bus_fsync_seconds",
                "Time that the disk takes to sync a group.",
                exponential_buckets(50e-6, 2.0, 16),
            ),
            backlog_bytes: gauges(
                "petrel_bus_backlog_bytes",
                "Bytes that not all subscriptions have acknowledged.",
                &["topic"],
            ),
            backlog_packs: gauges(
                "petrel_bus_backlog_packs",
                "Packs that a subscription has not acknowledged.",
                &["topic", "subscription"],
            ),
            segments: registered(
                IntGauge::new("petrel_bus_segments", "Segments on disk.").expect("a valid name"),
            ),
            failures: counters("petrel_bus_failures_total", "Failures of the disk.", &["doing"]),
        }
    }
}

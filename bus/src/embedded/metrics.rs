//! What the log counts, in Prometheus' default registry. All logs of a process share the numbers.

use std::sync::LazyLock;

use petrel_protocol::topics::Topic;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, exponential_buckets,
    register,
};

/// The process' numbers.
pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The metrics of the embedded log.
pub(super) struct Metrics {
    /// Packs written, by topic.
    pub(super) packs: [IntCounter; Topic::ALL.len()],
    /// Bytes of those packs.
    pub(super) bytes: [IntCounter; Topic::ALL.len()],
    /// Groups written.
    pub(super) commits: IntCounter,
    /// Packs in one group.
    pub(super) group_packs: Histogram,
    /// How long the disk takes to sync.
    pub(super) fsync_seconds: Histogram,
    /// Packs taken and not receipted.
    pub(super) queue_packs: [IntGauge; Topic::ALL.len()],
    /// Bytes that not all subscriptions have acknowledged.
    pub(super) backlog_bytes: IntGaugeVec,
    /// Packs that a subscription has not acknowledged.
    pub(super) backlog_packs: IntGaugeVec,
    /// Segments on disk.
    pub(super) segments: IntGaugeVec,
    /// Publishes that were refused, by reason.
    refused: IntCounterVec,
    /// Failures of the disk, by what was tried.
    pub(super) failures: IntCounterVec,
}

impl Metrics {
    fn new() -> Self {
        let packs = counters("petrel_bus_packs_total", "Packs written to the embedded log.", &["topic"]);
        let bytes =
            counters("petrel_bus_bytes_total", "Bytes of packs written to the embedded log.", &["topic"]);
        let queue = gauges("petrel_bus_queue_packs", "Packs taken and not yet receipted.", &["topic"]);
        Self {
            packs: Topic::ALL.map(|topic| packs.with_label_values(&[topic.name()])),
            bytes: Topic::ALL.map(|topic| bytes.with_label_values(&[topic.name()])),
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
            queue_packs: Topic::ALL.map(|topic| queue.with_label_values(&[topic.name()])),
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
            segments: gauges("petrel_bus_segments", "Segments on disk.", &["topic"]),
            refused: counters("petrel_bus_refused_total", "Publishes refused.", &["topic", "reason"]),
            failures: counters("petrel_bus_failures_total", "Failures of the disk.", &["doing"]),
        }
    }

    /// Counts a refusal.
    pub(super) fn refuse(&self, topic: Topic, reason: &str) {
        self.refused.with_label_values(&[topic.name(), reason]).inc();
    }
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(collector: C) -> C {
    // A second registration can only come from a second Metrics, of which the static is the only maker.
    register(Box::new(collector.clone())).expect("each name is registered once");
    collector
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(IntCounterVec::new(Opts::new(name, help), labels).expect("a valid name"))
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(IntGaugeVec::new(Opts::new(name, help), labels).expect("a valid name"))
}

fn histogram(name: &str, help: &str, buckets: prometheus::Result<Vec<f64>>) -> Histogram {
    let opts = HistogramOpts::new(name, help).buckets(buckets.expect("valid buckets"));
    registered(Histogram::with_opts(opts).expect("a valid name"))
}

//! What only the log on Pulsar counts.

use std::sync::LazyLock;

use petrel_protocol::topics::Topic;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, exponential_buckets};

use crate::metrics::{counters, registered};

/// The process' numbers.
pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The metrics of the log on Pulsar.
pub(super) struct Metrics {
    /// From taking a pack to its receipt, by topic.
    pub(super) receipt_seconds: HistogramVec,
    /// Packs whose outcome is unknown, by topic.
    pub(super) unknown: IntCounterVec,
    /// Producers that had to be opened again, or failed to be opened, by topic.
    pub(super) producer_failures: IntCounterVec,
    /// Subscriptions that ended or could not be made, by topic.
    pub(super) consumer_failures: IntCounterVec,
    /// Records given to readers, by topic.
    pub(super) records: IntCounterVec,
    /// Records that did not follow on the one before them, by topic.
    pub(super) resumed: IntCounterVec,
    /// Records that came again after they were acknowledged, by topic.
    pub(super) again: IntCounterVec,
}

impl Metrics {
    fn new() -> Self {
        let buckets = exponential_buckets(250e-6, 2.0, 16).expect("valid buckets");
        let opts =
            HistogramOpts::new("petrel_bus_receipt_seconds", "Time from taking a pack to its receipt.");
        let receipts = HistogramVec::new(opts.buckets(buckets), &["topic"]).expect("a valid name");
        let metrics = Self {
            receipt_seconds: registered(receipts),
            unknown: counters("petrel_bus_unknown_total", "Packs whose outcome is unknown.", &["topic"]),
            producer_failures: counters(
                "petrel_bus_producer_failures_total",
                "Producers that got stuck or could not be opened.",
                &["topic"],
            ),
            consumer_failures: counters(
                "petrel_bus_consumer_failures_total",
                "Subscriptions that ended or could not be made.",
                &["topic"],
            ),
            records: counters("petrel_bus_records_total", "Records given to readers.", &["topic"]),
            resumed: counters(
                "petrel_bus_resumed_total",
                "Records that did not follow on the one before them.",
                &["topic"],
            ),
            again: counters(
                "petrel_bus_acknowledged_again_total",
                "Records that came again after they were acknowledged.",
                &["topic"],
            ),
        };
        for topic in Topic::ALL {
            // Shown as zero before the first.
            metrics.unknown.with_label_values(&[topic.name()]);
            metrics.producer_failures.with_label_values(&[topic.name()]);
            metrics.consumer_failures.with_label_values(&[topic.name()]);
        }
        metrics
    }
}

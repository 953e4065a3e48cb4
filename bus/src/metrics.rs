//! What every log counts, in Prometheus' default registry. All logs of a process share the numbers.

use std::sync::LazyLock;

use petrel_protocol::topics::Topic;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, register,
};

use crate::PublishError;

/// The process' numbers.
pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// What both kinds of log count.
pub(crate) struct Metrics {
    /// Packs written, by topic.
    pub(crate) packs: [IntCounter; Topic::ALL.len()],
    /// Bytes of those packs.
    pub(crate) bytes: [IntCounter; Topic::ALL.len()],
    /// Packs taken and not receipted.
    pub(crate) queue_packs: [IntGauge; Topic::ALL.len()],
    /// Publishes that were refused, by reason.
    refused: IntCounterVec,
}

impl Metrics {
    fn new() -> Self {
        let packs = counters("petrel_bus_packs_total", "Packs written to the log.", &["topic"]);
        let bytes = counters("petrel_bus_bytes_total", "Bytes of packs written to the log.", &["topic"]);
        let queue = gauges("petrel_bus_queue_packs", "Packs taken and not yet receipted.", &["topic"]);
        Self {
            packs: Topic::ALL.map(|topic| packs.with_label_values(&[topic.name()])),
            bytes: Topic::ALL.map(|topic| bytes.with_label_values(&[topic.name()])),
            queue_packs: Topic::ALL.map(|topic| queue.with_label_values(&[topic.name()])),
            refused: counters("petrel_bus_refused_total", "Publishes refused.", &["topic", "reason"]),
        }
    }

    /// Counts a refusal.
    pub(crate) fn refuse(&self, topic: Topic, error: PublishError) {
        let reason = match error {
            PublishError::Full => "full",
            PublishError::Unavailable => "unavailable",
            PublishError::Unknown => "unknown",
        };
        self.refused.with_label_values(&[topic.name(), reason]).inc();
    }
}

/// Puts a collector into the registry.
pub(crate) fn registered<C: Collector + Clone + 'static>(collector: C) -> C {
    // A second registration can only come from a second set of metrics, of which a static is the only maker.
    register(Box::new(collector.clone())).expect("each name is registered once");
    collector
}

pub(crate) fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(IntCounterVec::new(Opts::new(name, help), labels).expect("a valid name"))
}

pub(crate) fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(IntGaugeVec::new(Opts::new(name, help), labels).expect("a valid name"))
}

pub(crate) fn histogram(name: &str, help: &str, buckets: prometheus::Result<Vec<f64>>) -> Histogram {
    let opts = HistogramOpts::new(name, help).buckets(buckets.expect("valid buckets"));
    registered(Histogram::with_opts(opts).expect("a valid name"))
}

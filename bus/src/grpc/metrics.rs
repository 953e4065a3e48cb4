//! What the links between processes count.

use std::sync::LazyLock;

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, register_histogram_vec,
    register_int_counter_vec, register_int_gauge_vec,
};

pub(super) struct Metrics {
    /// Messages and the calls in them, by direction: their quotient is how well calls are batched.
    pub(super) messages: IntCounterVec,
    pub(super) calls: IntCounterVec,
    /// By kind of call.
    pub(super) seconds: HistogramVec,
    pub(super) refused: IntCounterVec,
    /// By the peer's address.
    pub(super) outstanding: IntGaugeVec,
    pub(super) is_open: IntGaugeVec,
    pub(super) ends: IntCounterVec,
}

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    messages: counters(
        "petrel_links_messages_total",
        "Messages of calls and of replies between processes, by side and direction.",
        &["direction"],
    ),
    calls: counters(
        "petrel_links_items_total",
        "Calls and replies in those messages, by direction.",
        &["direction"],
    ),
    seconds: register_histogram_vec!(
        HistogramOpts::new(
            "petrel_links_call_seconds",
            "From a call to another process to its answer, by kind; failed calls included."
        )
        .buckets(vec![0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]),
        &["kind"]
    )
    .expect(REGISTERED),
    refused: counters(
        "petrel_links_refused_total",
        "Calls to another process that had no answer of its, by reason.",
        &["reason"],
    ),
    outstanding: gauges(
        "petrel_links_outstanding",
        "Calls to another process that have no answer yet, by its address.",
    ),
    is_open: gauges("petrel_links_open", "Whether the link to another process is open, by its address."),
    ends: counters(
        "petrel_links_ends_total",
        "Links that ended or did not open, by the peer's address.",
        &["peer"],
    ),
});

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register_int_counter_vec!(Opts::new(name, help), labels).expect(REGISTERED)
}

fn gauges(name: &str, help: &str) -> IntGaugeVec {
    register_int_gauge_vec!(Opts::new(name, help), &["peer"]).expect(REGISTERED)
}

const REGISTERED: &str = "each metric is registered once, under a valid name";

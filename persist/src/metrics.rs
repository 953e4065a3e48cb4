//! What persist counts. The names begin with `petrel_persist_`; the texts stand where `/metrics` shows them.

use std::sync::LazyLock;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, register_histogram,
    register_int_counter, register_int_counter_vec, register_int_gauge,
};

pub(crate) struct Metrics {
    pub(crate) events: IntCounter,
    pub(crate) seqs: IntCounter,
    pub(crate) replays: IntCounter,
    pub(crate) lost_replays: IntCounter,
    pub(crate) duplicates: IntCounter,
    pub(crate) refusals: IntCounterVec,
    pub(crate) dead_letters: IntCounter,
    pub(crate) batch_events: Histogram,
    pub(crate) commit_seconds: Histogram,
    pub(crate) sync_seconds: Histogram,
    pub(crate) cursors_seconds: Histogram,
    pub(crate) lag_events: IntGauge,
    pub(crate) heads: IntCounterVec,
    pub(crate) keys_loaded: IntCounter,
    pub(crate) receipts: IntCounter,
    pub(crate) cursors: IntCounter,
    pub(crate) calls: IntCounterVec,
    pub(crate) failures: IntCounter,
}

pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::register);

impl Metrics {
    fn register() -> Self {
        let counter = |name: &str, help: &str| {
            register_int_counter!(format!("petrel_persist_{name}"), help.to_owned()).expect(REGISTERED)
        };
        let counters = |name: &str, help: &str, label: &str| {
            let opts = Opts::new(format!("petrel_persist_{name}"), help);
            register_int_counter_vec!(opts, &[label]).expect(REGISTERED)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let opts = HistogramOpts::new(format!("petrel_persist_{name}"), help).buckets(buckets.to_vec());
            register_histogram!(opts).expect(REGISTERED)
        };
        let seconds = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 1.0];
        let lag_events = register_int_gauge!(
            "petrel_persist_lag_events",
            "Events of uplink that were read and are not acknowledged."
        );
        Self {
            events: counter("events_total", "Events of uplink that were decided about."),
            seqs: counter("seqs_total", "Events that were given a seq."),
            replays: counter(
                "replays_total",
                "Events that had been applied before and were only published again.",
            ),
            lost_replays: counter(
                "lost_replays_total",
                "Replays that could not be published again, since their keys were used again outside the window.",
            ),
            duplicates: counter("duplicates_total", "Events that repeated an earlier one."),
            refusals: counters("refusals_total", "Accepted events that the log refused, by code.", "code"),
            dead_letters: counter(
                "dead_letters_total",
                "Events that could not be read. More than 0 is an alarm.",
            ),
            batch_events: histogram(
                "batch_events",
                "Events in one commit.",
                &[1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0],
            ),
            commit_seconds: histogram("commit_seconds", "Time of one commit to the store.", &seconds),
            sync_seconds: histogram("sync_seconds", "Time of one sync of the store.", &seconds),
            cursors_seconds: histogram(
                "cursors_seconds",
                "Time of one write of cursors, which the reader waits for.",
                &seconds,
            ),
            lag_events: lag_events.expect(REGISTERED),
            heads: counters("heads_total", "Conversations of batches, by where their heads were.", "from"),
            keys_loaded: counter("keys_loaded_total", "Keys that were looked up in the store."),
            receipts: counter("receipts_total", "Receipts that were read."),
            cursors: counter("cursors_total", "Cursors that receipts asked to raise, after gathering."),
            calls: counters("calls_total", "Calls, by kind; refused ones under `full`.", "kind"),
            failures: counter("failures_total", "Effects that failed and were tried again."),
        }
    }
}

const REGISTERED: &str = "each metric is registered once, under a valid name";

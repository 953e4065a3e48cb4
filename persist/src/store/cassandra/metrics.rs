//! What the store on Cassandra counts, beside what persist counts.

use std::sync::LazyLock;

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, register_histogram_vec,
    register_int_counter, register_int_counter_vec, register_int_gauge,
};

pub(super) struct Metrics {
    pub(super) seconds: HistogramVec,
    pub(super) failures: IntCounterVec,
    pub(super) retries: IntCounter,
    pub(super) in_flight: IntGauge,
}

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let seconds = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.0];
    let seconds = HistogramOpts::new(
        "petrel_persist_store_seconds",
        "Time of one request to Cassandra, failed ones included, by statement.",
    )
    .buckets(seconds.to_vec());
    Metrics {
        seconds: register_histogram_vec!(seconds, &["statement"]).expect(REGISTERED),
        failures: register_int_counter_vec!(
            "petrel_persist_store_failures_total",
            "Requests to Cassandra that failed or were not answered in time, by statement.",
            &["statement"]
        )
        .expect(REGISTERED),
        retries: register_int_counter!(
            "petrel_persist_store_retries_total",
            "Writes that were tried again. They are, until they are confirmed."
        )
        .expect(REGISTERED),
        in_flight: register_int_gauge!(
            "petrel_persist_store_in_flight",
            "Requests to Cassandra that are under way."
        )
        .expect(REGISTERED),
    }
});

const REGISTERED: &str = "each metric is registered once, under a valid name";

//! What a router counts, in the process's registry of prometheus.

use std::sync::LazyLock;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, register_histogram,
    register_int_counter, register_int_counter_vec, register_int_gauge, register_int_gauge_vec,
};

/// All of them. One set for each process, whatever the number of routers in it.
pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::register);

pub(crate) struct Metrics {
    pub(crate) rounds: IntCounter,
    pub(crate) events: IntCounter,
    pub(crate) replays: IntCounter,
    pub(crate) deliveries: IntCounterVec,
    pub(crate) failed_batches: IntCounter,
    pub(crate) offline: IntCounter,
    pub(crate) dead_letters: IntCounterVec,
    pub(crate) look_up_users: Histogram,
    pub(crate) retries: IntCounterVec,
    pub(crate) lag_seconds: Histogram,
    pub(crate) claims: IntCounterVec,
    pub(crate) kicks: IntCounterVec,
    pub(crate) routes: IntGauge,
    pub(crate) lease_age_ms: IntGaugeVec,
    pub(crate) leases_refused: IntCounterVec,
    pub(crate) revoked_epochs: IntCounter,
    pub(crate) requests: IntCounterVec,
    pub(crate) refusals: IntCounterVec,
    pub(crate) connections: IntGauge,
    pub(crate) hash_seconds: Histogram,
}

impl Metrics {
    fn register() -> Self {
        Self {
            rounds: counter(
                "petrel_router_rounds_total",
                "Rounds of the fan-out: look-ups of many users at once",
            ),
            events: counter(
                "petrel_router_events_total",
                "Events of stored and receipts that were fanned out",
            ),
            replays: counter(
                "petrel_router_replays_total",
                "Events dropped, since they were pushed and answered before",
            ),
            deliveries: counters(
                "petrel_router_deliveries_total",
                "Deliveries to sessions, by what became of them",
                &["outcome"],
            ),
            failed_batches: counter(
                "petrel_router_failed_batches_total",
                "Batches that an edge did not take",
            ),
            offline: counter(
                "petrel_router_offline_total",
                "Messages stored for users with no device connected",
            ),
            dead_letters: counters(
                "petrel_router_dead_letters_total",
                "Events that nobody can deliver, by fault",
                &["topic", "fault"],
            ),
            look_up_users: histogram(
                "petrel_router_look_up_users",
                "Users in one look-up of routes",
                &[1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0],
            ),
            retries: counters(
                "petrel_router_retries_total",
                "Look-ups and revocations that failed and were made again",
                &["call"],
            ),
            lag_seconds: histogram(
                "petrel_router_lag_seconds",
                "From the edge's stamp of the oldest event in a round to its hand-over to the edges",
                &[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0],
            ),
            claims: counters("petrel_router_claims_total", "Claims of routes, by outcome", &["outcome"]),
            kicks: counters("petrel_router_kicks_total", "Sessions told to end, by reason", &["reason"]),
            routes: gauge(
                "petrel_router_routes",
                "Routes held, those of dead leases included until they are swept",
            ),
            lease_age_ms: register_int_gauge_vec!(
                "petrel_router_lease_age_ms",
                "Since each edge's last renewal",
                &["edge"]
            )
            .expect("named once"),
            leases_refused: counters(
                "petrel_router_leases_refused_total",
                "Leases that edges asked for in vain: the epoch is over, another edge has the id, or has the worker number",
                &["reason"],
            ),
            revoked_epochs: counter(
                "petrel_router_revoked_epochs_total",
                "Edges that did not answer in time",
            ),
            requests: counters(
                "petrel_router_http_requests_total",
                "HTTP requests, by path and status",
                &["path", "status"],
            ),
            refusals: counters("petrel_router_refusals_total", "HTTP requests refused, by code", &["code"]),
            connections: gauge("petrel_router_http_connections", "HTTP connections held"),
            hash_seconds: histogram(
                "petrel_router_password_seconds",
                "From a password's arrival to its hash, waiting included",
                &[0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0],
            ),
        }
    }
}

fn counter(name: &str, help: &str) -> IntCounter {
    register_int_counter!(name, help).expect("named once")
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register_int_counter_vec!(name, help, labels).expect("named once")
}

fn gauge(name: &str, help: &str) -> IntGauge {
    register_int_gauge!(name, help).expect("named once")
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    register_histogram!(HistogramOpts::new(name, help).buckets(buckets.to_vec())).expect("named once")
}

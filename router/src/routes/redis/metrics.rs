//! What is counted about Redis, in the process's registry of prometheus.

use std::sync::LazyLock;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, register_histogram, register_int_counter,
    register_int_counter_vec, register_int_gauge,
};

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::register);

pub(super) struct Metrics {
    pub(super) look_up_seconds: Histogram,
    pub(super) errors: IntCounterVec,
    pub(super) connections: IntCounter,
    pub(super) evicts: IntGauge,
}

impl Metrics {
    fn register() -> Self {
        let look_up = HistogramOpts::new(
            "petrel_router_look_up_seconds",
            "One look-up of routes on Redis that was answered",
        );
        let look_up = look_up.buckets(vec![0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]);
        let errors = register_int_counter_vec!(
            "petrel_router_redis_errors_total",
            "Calls to Redis that failed, by what was wrong",
            &["error"]
        );
        let connections =
            register_int_counter!("petrel_router_redis_connections_total", "Connections made to Redis");
        let evicts = register_int_gauge!(
            "petrel_router_redis_evicts",
            "1 where Redis evicts keys when its memory is full, and so may lose routes: set noeviction"
        );
        Self {
            evicts: evicts.expect("named once"),
            look_up_seconds: register_histogram!(look_up).expect("named once"),
            errors: errors.expect("named once"),
            connections: connections.expect("named once"),
        }
    }
}

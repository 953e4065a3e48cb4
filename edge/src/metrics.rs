//! What an edge counts, by shard where shards differ.

use std::sync::LazyLock;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

/// One shard's counters. They are atomics that no other shard touches.
pub(crate) struct Metrics {
    pub(crate) sessions: IntGauge,
    pub(crate) messages_in: IntCounter,
    pub(crate) packets_out: IntCounter,
    pub(crate) sends: IntCounter,
    pub(crate) accepted: IntCounter,
    pub(crate) not_accepted: IntCounter,
    pub(crate) pushes: IntCounter,
    pub(crate) deliveries_gone: IntCounter,
    pub(crate) syncs: IntCounter,
    pub(crate) dirty: IntCounter,
    pub(crate) slow_readers: IntCounter,
    pub(crate) unstored: IntGauge,
    pub(crate) receipts_dropped: IntCounter,
}

macro_rules! family {
    ($name:ident, $kind:ident, $metric:literal, $help:literal, $($label:literal),+) => {
        static $name: LazyLock<$kind> = LazyLock::new(|| {
            let family = $kind::new(Opts::new($metric, $help), &[$($label),+]).expect("a valid metric");
            prometheus::register(Box::new(family.clone())).expect("registered once");
            family
        });
    };
}

family!(SESSIONS, IntGaugeVec, "petrel_edge_sessions", "Logged-in sessions held.", "shard");
family!(
    UNSTORED,
    IntGaugeVec,
    "petrel_edge_unstored",
    "Accepted sends that did not come back as stored.",
    "shard"
);
family!(
    EVENTS,
    IntCounterVec,
    "petrel_edge_events_total",
    "What happened, by kind and shard.",
    "event",
    "shard"
);
family!(NACKS, IntCounterVec, "petrel_edge_nacks_total", "Refused packets, by code.", "code");
family!(HANDSHAKES, IntCounterVec, "petrel_edge_handshakes_total", "Handshakes, by HTTP status.", "status");
family!(
    CLOSES,
    IntCounterVec,
    "petrel_edge_closes_total",
    "Connections that the edge closed, by close code.",
    "code"
);

impl Metrics {
    pub(crate) fn of_shard(shard: u16) -> Self {
        let label = shard.to_string();
        let event = |name: &str| EVENTS.with_label_values(&[name, &label]);
        Self {
            sessions: SESSIONS.with_label_values(&[&label]),
            unstored: UNSTORED.with_label_values(&[&label]),
            messages_in: event("message_in"),
            packets_out: event("packet_out"),
            sends: event("send"),
            accepted: event("accepted"),
            not_accepted: event("not_accepted"),
            pushes: event("push"),
            deliveries_gone: event("delivery_gone"),
            syncs: event("sync"),
            dirty: event("dirty"),
            slow_readers: event("slow_reader"),
            receipts_dropped: event("receipt_dropped"),
        }
    }

    pub(crate) fn nacks(code: i32, count: u64) {
        NACKS.with_label_values(&[&code.to_string()]).inc_by(count);
    }

    pub(crate) fn handshake(status: u16) {
        HANDSHAKES.with_label_values(&[&status.to_string()]).inc();
    }

    pub(crate) fn close(code: u16) {
        CLOSES.with_label_values(&[&code.to_string()]).inc();
    }
}

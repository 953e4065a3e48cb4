//! The log is not what it was: a subscription is missing, all of it is gone, the client repeats itself.

use std::time::Duration;

use crate::link::{Link, Way};
use crate::process::Process;
use crate::servers::{self, Pulsar};
use crate::stack::{Servers, Stack};
use crate::until;

const SOME: u64 = 20;
/// The position before the first record.
const EARLIEST: &str = r#"{ "ledgerId": -1, "entryId": -1, "partitionIndex": -1 }"#;

/// Calls Pulsar's administration for persist's subscription of each partition of `uplink`.
fn subscriptions(stack: &Stack, method: &str, query: &str, body: &str) {
    for partition in 0..Stack::pairs().len() {
        let topic = format!("persistent/{}/uplink-1-partition-{partition}", stack.namespace());
        let path = format!("{topic}/subscription/persist{query}");
        let (status, body) = servers::pulsar(&stack.servers.admin, method, &path, body);
        assert_eq!(status, 204, "{method} {path}: {body}");
    }
}

#[test]
fn a_topic_without_its_subscription_is_told_and_loses_nothing_once_it_is_mended() {
    let stack = Stack::new();
    let mut all = [stack.persist(1, &[]), stack.router(1, &[]), stack.edge(1, &[])];
    all.iter_mut().for_each(Process::until_ready);
    let [persist, _router, _edge] = &mut all;
    let talks = stack.talks(1, 1);
    talks.go_on(SOME);

    // Under a persist that runs: it does not make the subscription again at the end of the topic, as a client would.
    subscriptions(&stack, "DELETE", "?force=true", "");
    talks.are_accepted(SOME);
    until("persist says that it cannot read", || {
        persist.readiness().is_some_and(|(_, waits_for)| waits_for["pulsar"].is_string())
    });

    // At a start: it is for a person to judge whether records were lost.
    let mut successor = stack.persist(2, &[]);
    assert_eq!(successor.ended(), Some(2));
    let log = successor.log();
    assert!(
        log.contains("has lost its subscription persist") && log.contains("--messageId earliest"),
        "{log}"
    );

    // What the message says is the mend, for both.
    subscriptions(&stack, "PUT", "", EARLIEST);
    talks.go_on(SOME);
    persist.until_ready();
    stack.persist(2, &[]).until_ready();
    stack.stored(1, &talks.end());
}

#[test]
fn a_log_wiped_under_a_store_that_is_not_stops_persist_before_it_writes() {
    let stack = Stack::new();
    let mut all = [stack.persist(1, &[]), stack.router(1, &[]), stack.edge(1, &[])];
    all.iter_mut().for_each(Process::until_ready);
    let talks = stack.talks(1, 1);
    talks.go_on(SOME);
    talks.end();
    all.into_iter().rev().for_each(Process::terminate);

    stack.wipe_log();
    let mut persist = stack.persist(1, &[]);
    assert_eq!(persist.ended(), Some(2));
    let log = persist.log();
    let names = ["of the bus", "restore the bus that belongs to it", &stack.keyspace()];
    assert!(names.iter().all(|name| log.contains(name)), "{log}");
}

#[test]
fn a_log_that_cannot_be_reached_refuses_and_what_its_client_repeats_is_known_for_what_it_is() {
    let shared = Stack::new();
    let pulsar = Pulsar::new();
    let link = Link::start(&pulsar.addr());
    pulsar.start(link.addr());
    let broker = format!("pulsar://{}", link.addr());
    let stack = Stack::on(Servers { broker, admin: pulsar.admin(), ..shared.servers.clone() });
    let mut all = [stack.persist(1, &[]), stack.router(1, &[]), stack.edge(1, &[])];
    all.iter_mut().for_each(Process::until_ready);
    let [persist, _router, edge] = &all;
    let talks = stack.talks(1, 1);
    talks.go_on(SOME);
    for _ in 0..3 {
        // What is under way is in the log, and its receipts get lost with the connection.
        link.hold(Way::Back);
        until("receipts are under way", || link.held_bytes() > 0);
        std::thread::sleep(Duration::from_millis(300));
        link.lose();
        talks.go_on(SOME);
    }
    assert!(persist.metric("petrel_persist_duplicates_total") > 0.0, "the client has repeated itself");
    let nacks = edge.metric("petrel_edge_nacks_total");
    assert!(nacks < 1.0, "{nacks} sends were refused, and so sent again by somebody else");

    // Out of reach for longer: refused, until it is there again.
    link.cut();
    until("sends are refused", || edge.metric("petrel_edge_nacks_total") > 0.0);
    until("persist says what it waits for", || {
        persist.readiness().is_some_and(|(_, waits_for)| waits_for["pulsar"].is_string())
    });
    link.mend();
    talks.go_on(SOME);
    assert_eq!(talks.connects(), 8, "no client lost its connection");
    stack.stored(1, &talks.end());
}

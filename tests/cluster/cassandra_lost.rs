//! Cassandra is out of reach, and later silent, while clients talk.

use crate::link::{Link, Way};
use crate::process::Process;
use crate::stack::Stack;
use crate::until;

const SOME: u64 = 20;

/// What was accepted meanwhile waits in the log; persist says for what it waits, and counts its attempts.
fn waits(persist: &Process) {
    until("persist says what it waits for", || {
        persist.readiness().is_some_and(|(_, waits_for)| waits_for["cassandra"].is_string())
    });
    let log = persist.log();
    assert!(log.contains("persist waits for its store") && log.contains("trying again"), "{log}");
    assert!(persist.metric("petrel_persist_store_failures_total") > 0.0);
}

#[test]
fn cassandra_out_of_reach_and_then_silent_costs_time_alone() {
    let stack = Stack::new();
    let link = Link::start(&stack.servers.cassandra);
    let persist = stack.persist(1, &[("--cassandra-nodes", &link.addr().to_string())]);
    let mut all = [persist, stack.router(1, &[]), stack.edge(1, &[])];
    all.iter_mut().for_each(Process::until_ready);
    let talks = stack.talks(1, 1);
    talks.go_on(SOME);

    link.cut();
    talks.are_accepted(SOME);
    waits(&all[0]);
    link.mend();
    talks.go_on(SOME);
    all.iter_mut().for_each(Process::until_ready);

    // It takes requests and does not answer: what was asked is asked again, and done twice.
    link.hold(Way::Back);
    talks.are_accepted(SOME);
    waits(&all[0]);
    link.mend();
    talks.go_on(SOME);
    all.iter_mut().for_each(Process::until_ready);
    assert_eq!(talks.connects(), 8, "no client lost its connection");
    stack.stored(1, &talks.end());
}

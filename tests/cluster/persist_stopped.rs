//! A persist is stopped in mid-write, replaced, and goes on: its writes reach the store after its successor's.

use crate::link::{Link, Way};
use crate::process::Process;
use crate::servers;
use crate::stack::Stack;
use crate::until;

const SOME: u64 = 20;
/// More than a driver's keepalive: there is a row among what is held.
const ROW_BYTES: usize = 100;

#[test]
fn a_persist_stopped_in_mid_write_replaced_and_continued_writes_nothing_twice() {
    let stack = Stack::new();
    let link = Link::start(&stack.servers.cassandra);
    let persist1 = stack.persist(1, &[("--cassandra-nodes", &link.addr().to_string())]);
    let mut rest = [persist1, stack.router(1, &[]), stack.edge(1, &[])];
    rest.iter_mut().for_each(Process::until_ready);
    let [persist1, mut router, mut edge] = rest;
    let talks = stack.talks(1, 1);
    talks.go_on(SOME);

    link.hold(Way::Out);
    until("writes are under way", || link.held_bytes() > ROW_BYTES);
    persist1.signal("-STOP");
    let mut persist2 = stack.persist(2, &[]);
    persist2.until_ready();
    // The broker takes all partitions from whoever has them; the one that is stopped does not ask for them again.
    let namespace = format!("namespaces/{}/unload", stack.namespace());
    let (status, body) = servers::pulsar(&stack.servers.admin, "PUT", &namespace, "");
    assert_eq!(status, 204, "{body}");
    talks.go_on(SOME);

    // What the first had begun to write comes after what the second has written since.
    link.mend();
    persist1.signal("-CONT");
    talks.go_on(SOME);
    // The first reads on from where the second has come, whatever it remembers.
    persist2.kill();
    let before = persist1.metric("petrel_persist_seqs_total");
    talks.go_on(SOME);
    assert!(persist1.metric("petrel_persist_seqs_total") > before);
    stack.stored(1, &talks.end());
    [&mut router, &mut edge].into_iter().for_each(Process::until_ready);
}

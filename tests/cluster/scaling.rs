//! Processes join and leave while conversations go on.

use petrel_protocol::ids::Device;
use petrel_protocol::packets::MsgType;

use crate::harness::Client;
use crate::process::Process;
use crate::stack::Stack;
use crate::two_edges::{log_in, register};
use crate::until;

/// Messages of each conversation between two changes.
const SOME: u64 = 10;

#[test]
fn processes_join_and_leave_and_order_and_delivery_hold() {
    let stack = Stack::new();
    let mut edges = [1, 2].map(|number| stack.edge(number, &[]));
    let [router1, router2] = [1, 2].map(|number| stack.router(number, &[]));
    let [persist1, persist2] = [1, 2].map(|number| stack.persist(number, &[]));
    let mut kept = [router2, persist2];
    edges.iter_mut().chain(&mut kept).for_each(Process::until_ready);
    let talks = stack.talks(1, 2);
    talks.go_on(SOME);

    let mut persist3 = stack.persist(3, &[]);
    persist3.until_ready();
    until("the third persist has a share", || persist3.metric("petrel_persist_events_total") > 0.0);
    talks.go_on(SOME);
    persist1.terminate();
    talks.go_on(SOME);

    let mut router3 = stack.router(3, &[]);
    router3.until_ready();
    until("the third router has a share", || router3.metric("petrel_router_events_total") > 0.0);
    talks.go_on(SOME);
    router1.terminate();
    talks.go_on(SOME);

    // Nobody is connected to the third edge yet, so the next who logs in is sent there.
    let mut joined = stack.edge(3, &[]);
    joined.until_ready();
    let carl = register(&stack, 2, "carl");
    let mut token = String::new();
    until("the third edge is chosen", || {
        let (given, edge) = log_in(&stack, 3, "carl", Device::Web);
        token = given;
        edge == format!("ws://{}/websocket", stack.edge_addr(3))
    });
    let mut carls = Client::connect(&stack.edge_addr(3), &token, carl).expect("the handshake is taken");
    carls.until(|p| p.r#type() == MsgType::Ready);
    let mut dora = stack.client(1, 2_001, Device::Web);
    dora.send(carl, "welcome");
    let push = carls.until_push();
    assert_eq!(push.content, "welcome");
    carls.ack(&push, 3);
    dora.until_status(3);
    talks.go_on(SOME);

    assert_eq!(talks.connects(), 8, "no client lost its connection");
    stack.stored(3, &talks.end());
    kept.into_iter().chain([persist3, router3, joined]).chain(edges).for_each(Process::terminate);
}

//! The last message of a conversation is lost between router and edge, and no further one shows the gap.

use petrel_protocol::ids::Device;

use crate::link::{Link, Way};
use crate::process::Process;
use crate::stack::Stack;
use crate::until;

/// More than the pings of a link.
const CONTENT_BYTES: usize = 4_000;

#[test]
fn a_push_that_is_dropped_arrives_though_nothing_follows_it() {
    let stack = Stack::new();
    let link = Link::start(&stack.edge_calls_addr(2).to_string());
    let calls_at = link.addr().to_string();
    let edge2 = stack.edge(2, &[("--calls-at", &calls_at)]);
    let mut all = [stack.persist(1, &[]), stack.router(1, &[]), stack.edge(1, &[]), edge2];
    all.iter_mut().for_each(Process::until_ready);
    let [_persist, router, _edge1, _edge2] = &all;
    let (mut ann, mut bob) = (stack.client(1, 1, Device::Web), stack.client(2, 2, Device::Web));
    ann.send(2, "first");
    assert_eq!(bob.until_push().content, "first");

    // Lost with its link, which opens again.
    link.hold(Way::Out);
    ann.send(2, &"x".repeat(CONTENT_BYTES));
    until("the push is under way", || link.held_bytes() > CONTENT_BYTES);
    link.lose();
    assert_eq!(bob.until_push().seq, 2);

    // Lost with a link that stays silent: the edge loses its epoch, and its sessions are synced.
    link.hold(Way::Out);
    ann.send(2, &"y".repeat(CONTENT_BYTES));
    until("the push is under way", || link.held_bytes() > CONTENT_BYTES);
    until("the edge is given up", || router.metric("petrel_router_revoked_epochs_total") > 0.0);
    link.lose();
    assert_eq!(bob.until_push().seq, 3);

    // The answer is lost: pushed once more, and known by its seq.
    link.hold(Way::Back);
    ann.send(2, "last");
    until("the answer is under way", || link.held_bytes() > 0);
    link.lose();
    assert_eq!(bob.until_push().seq, 4);
}

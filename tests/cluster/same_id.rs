//! Edges that come again under an id that was used before, one after another and at once.

use petrel_protocol::ids::Device;
use petrel_protocol::packets::MsgType;

use crate::harness::Client;
use crate::process::Process;
use crate::stack::Stack;

const SOME: u64 = 20;

#[test]
fn an_edge_restarted_under_its_id_owns_no_route_of_its_former_life() {
    let stack = Stack::new();
    let mut all = [stack.persist(1, &[]), stack.router(1, &[]), stack.edge(1, &[]), stack.edge(2, &[])];
    all.iter_mut().for_each(Process::until_ready);
    let [_persist, _router, _edge1, edge2] = all;
    let talks = stack.talks(1, 2);
    talks.go_on(SOME);
    let (mut ann, bob) = (stack.client(1, 1, Device::Web), stack.client(2, 2, Device::Web));

    edge2.kill();
    // Long before the lease of its former life ends. Slots and generations begin anew: others are where Bob was.
    let mut edge2 = stack.edge(2, &[]);
    edge2.until_ready();
    let carls: Vec<_> = (11..20).map(|user| stack.client(2, user, Device::Web)).collect();
    ann.send(2, "for Bob alone");
    ann.until_status(2);
    talks.go_on(SOME);
    for mut carl in carls {
        carl.socket.get_ref().set_nonblocking(true).expect("set");
        assert!(carl.next().is_err(), "nothing came to whoever has Bob's place");
    }
    drop(bob);
    let at = stack.at(2, 2, Device::Web);
    let mut bob = Client::connect(&at.edge, &at.token, at.user).expect("the handshake is taken");
    assert_eq!(bob.until_push().content, "for Bob alone");
    bob.until(|p| p.r#type() == MsgType::Ready);

    // A second one while the first lives: the first ends, and its clients find their messages elsewhere.
    let mut twin = stack.edge(3, &[("--id", "2"), ("--worker", "3")]);
    assert_eq!(edge2.ended(), Some(2));
    assert!(edge2.log().contains("give each edge an `id` of its own"), "{}", edge2.log());
    twin.until_ready();
    ann.send(2, "once more");
    let at = stack.at(3, 2, Device::Web);
    let mut bob = Client::connect(&at.edge, &at.token, at.user).expect("the handshake is taken");
    while bob.until_push().content != "once more" {}
    drop(talks);
}

#[test]
fn an_edge_that_would_give_out_the_message_ids_of_another_waits_until_that_one_has_ended() {
    let stack = Stack::new();
    let mut all = [stack.persist(1, &[]), stack.router(1, &[]), stack.edge(1, &[])];
    all.iter_mut().for_each(Process::until_ready);
    let [_persist, router, edge1] = all;
    let mut edge2 = stack.edge(2, &[("--worker", "1")]);
    edge2.until_it_waits("lease", &["edge 1", "worker 1", "`worker` of its own"]);
    assert!(router.metric("petrel_router_leases_refused_total") > 0.0);
    edge1.kill();
    edge2.until_ready();
    drop(stack.client(2, 1, Device::Web));
}

//! A token key is replaced in the three steps of `deploy/README.md`, while processes run and a client stays connected.

use petrel_protocol::ids::Device;
use petrel_protocol::token::Keys;

use crate::harness::Client;
use crate::harness::talk::At;
use crate::process::{Process, print};
use crate::stack::Stack;
use crate::until;

fn is_taken(at: &At) -> bool {
    Client::connect(&at.edge, &at.token, at.user).is_some()
}

#[test]
fn a_token_key_is_replaced_without_a_restart() {
    let stack = Stack::new();
    let mut all = [stack.persist(1, &[]), stack.router(1, &[]), stack.edge(1, &[])];
    all.iter_mut().for_each(Process::until_ready);
    let [_persist, router, edge] = &all;
    let mut ann = stack.client(1, 1, Device::Web);
    let file = stack.keys().display().to_string();
    let reread = |times: usize| {
        for process in [router, edge] {
            process.signal("-HUP");
            let is_read = || process.log().matches("the token keys were read again").count() >= times;
            until("the keys are read again", is_read);
        }
    };

    let old = stack.at(1, 2, Device::Web);
    let added = print("petrel-router", &["keys", "add", &file]);
    let id = added.split(' ').next().expect("an id").to_owned();
    reread(1);
    print("petrel-router", &["keys", "use", &file, &id]);
    let new = stack.at(1, 2, Device::Web);
    // A shard takes the keys in its own time.
    until("both verify, before routers sign with the new one", || is_taken(&old) && is_taken(&new));
    reread(2);
    print("petrel-router", &["keys", "remove", &file, "k"]);
    reread(3);
    until("the old token is refused", || !is_taken(&old));
    assert!(is_taken(&new));

    // A file that is broken changes nothing.
    std::fs::write(&file, "{").expect("written");
    edge.signal("-HUP");
    until("the edge says why", || edge.log().contains("the token keys stay as they were"));
    assert!(is_taken(&new));
    std::fs::write(&file, Keys::with_new_key("k", [7; 32]).to_json()).expect("written");
    // Nobody is there: a status above 1 may take its place.
    ann.send(1_000, "still here");
    ann.until_status(2);
}

//! Links that end: every call is answered once, and the link comes back.

use petrel_bus::calls::{CallError, PersistCall, Reply, RouterCall, Service};
use petrel_bus::grpc::{Remote, Server, Services};
use petrel_protocol::calls::{Lease, LeaseReply};
use std::sync::{Arc, Mutex};

use crate::support::{
    Answers, Doing, Held, account, all_are, anywhere, find, link, listener, open, runtime, serve, wait_until,
};

const CALLS: u64 = 1_000;

#[test]
fn a_server_that_dies_in_the_middle_leaves_no_call_without_its_one_answer() {
    let (calling, serving) = (runtime(), runtime());
    let held = Held::default();
    let server = serve(&serving, anywhere(), held.hold());
    let (addr, answers) = (server.addr(), Answers::default());
    let remote = open(&calling, addr);
    (0..CALLS).for_each(|call| answers.ask(&*remote, call));
    wait_until("half of them are begun", || held.count() as u64 >= CALLS / 2);
    // As when its process is killed: the sockets close, and nothing is said.
    serving.shutdown_background();
    assert!(all_are(&answers.take(CALLS as usize), CallError::Unavailable));
    wait_until("the link is known to be closed", || !remote.is_open());
    assert_eq!(answers.one(&*remote), Err(CallError::Unavailable), "at once");
    held.answer();
    assert_eq!(answers.count(), 0, "an answer that is too late answers nothing");

    let serving = runtime();
    drop(server);
    let server = serve(&serving, addr, find);
    wait_until("the link opens again", || remote.is_open());
    assert_eq!(answers.one(&*remote), Ok(Some(account("0".to_owned()))));
    drop(server);
}

#[test]
fn a_server_that_stops_answers_what_it_began() {
    let (calling, serving) = (runtime(), runtime());
    let held = Held::default();
    let server = serve(&serving, anywhere(), held.hold());
    let answers = Answers::default();
    let remote = open(&calling, server.addr());
    (0..CALLS).for_each(|call| answers.ask(&*remote, call));
    wait_until("all are begun", || held.count() as u64 == CALLS);
    let stopping = serving.spawn(server.stop());
    held.answer();
    for (expected, (call, answer)) in (0..).zip(answers.take(CALLS as usize)) {
        assert_eq!((call, answer), (expected, Ok(Some(account(expected.to_string())))));
    }
    serving.block_on(stopping).expect("it stops");
    wait_until("the link is known to be closed", || !remote.is_open());
    assert_eq!(answers.one(&*remote), Err(CallError::Unavailable));
}

#[test]
fn a_dropped_link_answers_what_is_under_way() {
    let runtime = runtime();
    let held = Held::default();
    let server = serve(&runtime, anywhere(), held.hold());
    let answers = Answers::default();
    let remote = open(&runtime, server.addr());
    (0..CALLS).for_each(|call| answers.ask(&*remote, call));
    wait_until("all are begun", || held.count() as u64 == CALLS);
    drop(remote);
    assert!(all_are(&answers.take(CALLS as usize), CallError::Unavailable));
    held.answer();
    let other = open(&runtime, server.addr());
    answers.ask(&*other, 0);
    wait_until("the server serves others", || held.count() == 1);
}

#[test]
fn a_call_without_an_answer_ends_at_its_deadline_and_the_link_goes_on() {
    let runtime = runtime();
    let leases: Arc<Mutex<Vec<RouterCall>>> = Arc::default();
    let kept = Arc::clone(&leases);
    let router = move |call| match call {
        call @ RouterCall::Lease(..) => kept.lock().unwrap().push(call),
        other => panic!("not asked for: {other:?}"),
    };
    let services = Services {
        router: Some(Arc::new(Doing(router))),
        persist: Some(Arc::new(Doing(find))),
        ..Services::default()
    };
    let server = Server::start(runtime.handle(), listener(anywhere()), services).expect("a server");
    let remote = open(&runtime, server.addr());
    let (reply, answer) = Reply::channel();
    link::<RouterCall>(&remote).call(RouterCall::Lease(Lease::default(), reply));
    assert_eq!(runtime.block_on(answer), Err(CallError::Unavailable));
    assert_eq!(leases.lock().unwrap().len(), 1, "it was asked");
    for call in std::mem::take(&mut *leases.lock().unwrap()) {
        let RouterCall::Lease(_, reply) = call else { unreachable!("only leases are kept") };
        reply.send(Ok(LeaseReply::default()));
    }
    // Replies keep their order here, so the late one has come when this one has.
    assert_eq!(Answers::default().one(&*remote), Ok(Some(account("0".to_owned()))));
}

#[test]
fn a_service_that_drops_a_call_answers_it() {
    let runtime = runtime();
    let server = serve(&runtime, anywhere(), |call: PersistCall| drop(call));
    let remote = open(&runtime, server.addr());
    assert_eq!(Answers::default().one(&*remote), Err(CallError::Unavailable));
}

#[test]
fn an_address_that_cannot_be_one_is_named() {
    let runtime = runtime();
    for address in ["", "router", "http://127.0.0.1:1", "127.0.0.1:", "127.0.0.1:99999", "a b:1"] {
        let error = Remote::new(runtime.handle(), address).expect_err("refused").to_string();
        assert!(error.contains(&format!("`{address}`")) && error.contains("host:port"), "{error}");
    }
    // Nobody is there yet: the link says so, and waits.
    let nobody = listener(anywhere()).local_addr().expect("bound");
    let remote = Remote::new(runtime.handle(), &nobody.to_string()).expect("an address");
    let answers = Answers::default();
    answers.ask(&remote as &dyn Service<PersistCall>, 0);
    assert!(all_are(&answers.take(1), CallError::Unavailable));
}

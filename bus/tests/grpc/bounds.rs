//! What is more than the bounds allow is refused, never queued without end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use petrel_bus::calls::{CallError, PersistCall, Service};
use petrel_protocol::limits;

use crate::support::{Answers, Held, account, all_are, anywhere, find, open, runtime, serve, wait_until};

#[test]
fn calls_beyond_the_bound_are_refused_as_full() {
    let runtime = runtime();
    let held = Held::default();
    let server = serve(&runtime, anywhere(), held.hold());
    let (remote, answers) = (open(&runtime, server.addr()), Answers::default());
    let most = limits::LINK_CALLS_MAX as u64;
    (0..most).for_each(|call| answers.ask(&*remote, call));
    answers.ask(&*remote, most);
    assert_eq!(answers.take(1), [(most, Err(CallError::Full))]);
    wait_until("all others are begun", || held.count() as u64 == most);
    held.answer();
    for (expected, (call, answer)) in (0..).zip(answers.take(most as usize)) {
        assert_eq!((call, answer), (expected, Ok(Some(account(expected.to_string())))));
    }
    answers.ask(&*remote, 0);
    wait_until("there is room again", || held.count() == 1);
    held.answer();
    assert_eq!(answers.take(1), [(0, Ok(Some(account("0".to_owned()))))]);
}

#[test]
fn a_call_above_a_messages_limit_fails_alone() {
    let runtime = runtime();
    let server = serve(&runtime, anywhere(), find);
    let (remote, answers) = (open(&runtime, server.addr()), Answers::default());
    let name = "n".repeat(limits::LINK_MESSAGE_BYTES_MAX);
    remote.call(PersistCall::FindAccount(name, answers.reply(0)));
    assert!(all_are(&answers.take(1), CallError::Unavailable));
    assert!(remote.is_open());
    // Together they are above the limit many times: they go in several messages, and so do the answers.
    let name = "n".repeat(limits::LINK_MESSAGE_BYTES);
    (0..20).for_each(|call| remote.call(PersistCall::FindAccount(name.clone(), answers.reply(call))));
    for (expected, (call, answer)) in (0..).zip(answers.take(20)) {
        assert_eq!(call, expected);
        assert!(answer == Ok(Some(account(name.clone()))), "whole");
    }
}

#[test]
fn an_answer_above_a_messages_limit_fails_alone() {
    let runtime = runtime();
    let server = serve(&runtime, anywhere(), |call| match call {
        PersistCall::FindAccount(name, reply) if name == "0" => {
            reply.send(Ok(Some(account("n".repeat(limits::LINK_MESSAGE_BYTES_MAX)))));
        }
        other => find(other),
    });
    let (remote, answers) = (open(&runtime, server.addr()), Answers::default());
    answers.ask(&*remote, 0);
    answers.ask(&*remote, 1);
    let expected = [(0, Err(CallError::Unavailable)), (1, Ok(Some(account("1".to_owned()))))];
    assert_eq!(answers.take(2), expected);
}

/// Forwards one connection to `to` until it is told to stop reading.
fn forward(to: SocketAddr, is_stuck: &Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind(anywhere()).expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let is_stuck = Arc::clone(is_stuck);
    std::thread::spawn(move || {
        let (near, _) = listener.accept().expect("a caller");
        let far = TcpStream::connect(to).expect("the server");
        let copy = |mut from: TcpStream, mut to: TcpStream, is_stuck: Arc<AtomicBool>| {
            let mut bytes = [0; 4_096];
            while !is_stuck.load(Ordering::Acquire) {
                let Ok(count @ 1..) = from.read(&mut bytes) else { return };
                if to.write_all(&bytes[..count]).is_err() {
                    return;
                }
            }
            // Open, and silent, for as long as the test may take.
            std::thread::sleep(Duration::from_mins(2));
        };
        let (back_from, back_to) = (far.try_clone().expect("cloned"), near.try_clone().expect("cloned"));
        let back_is_stuck = Arc::clone(&is_stuck);
        std::thread::spawn(move || copy(back_from, back_to, back_is_stuck));
        copy(near, far, is_stuck);
    });
    addr
}

#[test]
fn a_peer_that_stops_reading_costs_bounded_memory_and_then_its_link() {
    let runtime = runtime();
    let server = serve(&runtime, anywhere(), find);
    let is_stuck = Arc::new(AtomicBool::new(false));
    let (remote, answers) = (open(&runtime, forward(server.addr(), &is_stuck)), Answers::default());
    assert_eq!(answers.one(&*remote), Ok(Some(account("0".to_owned()))));
    is_stuck.store(true, Ordering::Release);
    let name = "n".repeat(limits::LINK_MESSAGE_BYTES);
    let mut calls = 0;
    // The first answer can only be a refusal, unless it is one of the last before the peer got stuck.
    while !answers.any_is(CallError::Full) {
        assert!(calls < 1_000, "more than the bound was taken");
        remote.call(PersistCall::FindAccount(name.clone(), answers.reply(calls)));
        calls += 1;
    }
    let taken = calls as usize * limits::LINK_MESSAGE_BYTES;
    assert!(taken <= limits::LINK_QUEUE_BYTES_MAX + 4 * limits::LINK_MESSAGE_BYTES_MAX, "{taken} bytes");
    let ended = answers.take(calls as usize);
    let full = ended.iter().filter(|(_, answer)| *answer == Err(CallError::Full)).count();
    let unavailable = ended.iter().filter(|(_, answer)| *answer == Err(CallError::Unavailable)).count();
    let answered = ended.iter().filter(|(_, answer)| answer.is_ok()).count();
    assert_eq!((ended.len(), full), (calls as usize, 1), "each once");
    assert!(unavailable > answered, "{unavailable} were given up, {answered} answered");
}

//! A service of several processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use petrel_bus::calls::{CallError, PersistCall, Service};
use petrel_bus::grpc::{Pool, Server};
use petrel_protocol::calls::CreateAccount;
use tokio::runtime::Runtime;

use crate::support::{Answers, Held, account, all_are, anywhere, find, runtime, serve, wait_until};

fn pool(runtime: &Runtime, servers: &[&Server]) -> Pool {
    let pool = Pool::new(runtime.handle());
    set(&pool, servers);
    pool
}

fn set(pool: &Pool, servers: &[&Server]) {
    let addresses: Vec<String> = servers.iter().map(|server| server.addr().to_string()).collect();
    pool.set(&addresses).expect("addresses");
    wait_until("all links open", || pool.counts() == (servers.len(), servers.len()));
}

/// A persist that counts its calls and hands them on.
fn counted(
    runtime: &Runtime,
    then: impl Fn(PersistCall) + Send + Sync + 'static,
) -> (Server, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&count);
    let server = serve(runtime, anywhere(), move |call| {
        counting.fetch_add(1, Ordering::AcqRel);
        then(call);
    });
    (server, count)
}

#[test]
fn calls_go_to_all_in_turn() {
    let runtime = runtime();
    let servers = [counted(&runtime, find), counted(&runtime, find), counted(&runtime, find)];
    let pool = pool(&runtime, &[&servers[0].0, &servers[1].0, &servers[2].0]);
    let answers = Answers::default();
    (0..300).for_each(|call| answers.ask(&pool, call));
    assert!(answers.take(300).iter().all(|(_, answer)| answer.is_ok()));
    for (_, count) in &servers {
        assert_eq!(count.load(Ordering::Acquire), 100);
    }
}

#[test]
fn what_one_cannot_answer_another_does_and_the_failed_one_is_passed_over() {
    let runtime = runtime();
    let (ill, asked) = counted(&runtime, |call: PersistCall| drop(call));
    let (well, _) = counted(&runtime, find);
    let pool = pool(&runtime, &[&ill, &well]);
    let answers = Answers::default();
    for call in 0..100 {
        answers.ask(&pool, call);
        assert_eq!(answers.take(1), [(call, Ok(Some(account(call.to_string()))))]);
    }
    assert!(asked.load(Ordering::Acquire) < 50, "it is asked now and then, not each second time");
    set(&pool, &[&ill]);
    answers.ask(&pool, 0);
    assert!(all_are(&answers.take(1), CallError::Unavailable), "nobody else is there, so it is asked");
}

#[test]
fn a_process_that_is_killed_costs_its_calls_a_second_try_and_no_more() {
    const CALLS: u64 = 500;
    let (calling, dying, living) = (runtime(), runtime(), runtime());
    let held = Held::default();
    let (first, _) = counted(&dying, held.hold());
    let (second, _) = counted(&living, find);
    let pool = pool(&calling, &[&first, &second]);
    let answers = Answers::default();
    (0..CALLS).for_each(|call| answers.ask(&pool, call));
    wait_until("the first holds its half", || held.count() as u64 == CALLS / 2);
    dying.shutdown_background();
    for (expected, (call, answer)) in (0..).zip(answers.take(CALLS as usize)) {
        assert_eq!((call, answer), (expected, Ok(Some(account(expected.to_string())))));
    }
    wait_until("the link is known to be closed", || pool.counts() == (2, 1));
    drop(first);
}

#[test]
fn one_that_leaves_the_pool_answers_what_it_has_and_gets_no_more() {
    let runtime = runtime();
    let held = Held::default();
    let (leaving, _) = counted(&runtime, held.hold());
    let (staying, _) = counted(&runtime, find);
    let pool = pool(&runtime, &[&leaving, &staying]);
    let answers = Answers::default();
    (0..10).for_each(|call| answers.ask(&pool, call));
    wait_until("it holds its half", || held.count() == 5);
    set(&pool, &[&staying]);
    (10..20).for_each(|call| answers.ask(&pool, call));
    assert!(answers.take(15).iter().all(|(_, answer)| answer.is_ok()));
    assert_eq!(held.count(), 5);
    held.answer();
    assert!(answers.take(5).iter().all(|(_, answer)| answer.is_ok()));
    assert!(pool.set(&["nowhere"]).is_err(), "named");
    assert_eq!(pool.counts(), (0, 0));
    answers.ask(&pool, 0);
    assert!(all_are(&answers.take(1), CallError::Unavailable));
}

#[test]
fn what_must_not_be_made_twice_is_not() {
    let runtime = runtime();
    let (first, asked_first) = counted(&runtime, |call: PersistCall| drop(call));
    let (second, asked_second) = counted(&runtime, |call: PersistCall| drop(call));
    let pool = pool(&runtime, &[&first, &second]);
    let (reply, answer) = petrel_bus::calls::Reply::channel();
    pool.call(PersistCall::CreateAccount(CreateAccount::default(), reply));
    assert_eq!(runtime.block_on(answer), Err(CallError::Unavailable));
    let asked = asked_first.load(Ordering::Acquire) + asked_second.load(Ordering::Acquire);
    assert_eq!(asked, 1);
}

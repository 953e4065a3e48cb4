//! Redis is cut off, emptied and found again, while clients stay connected.

use crate::link::Link;
use crate::process::Process;
use crate::servers::Redis;
use crate::stack::{Servers, Stack};
use crate::until;

const SOME: u64 = 20;

#[test]
fn redis_cut_and_flushed_under_live_sockets_costs_time_alone() {
    let shared = Stack::new();
    let redis = Redis::start(shared.ip, shared.dir.path());
    let link = Link::start(&redis.addr);
    let stack = Stack::on(Servers { redis: link.addr().to_string(), ..shared.servers.clone() });
    let mut all = vec![stack.persist(1, &[])];
    for number in [1, 2] {
        all.extend([stack.router(number, &[]), stack.edge(number, &[])]);
    }
    all.iter_mut().for_each(Process::until_ready);
    let talks = stack.talks(1, 2);
    talks.go_on(SOME);

    link.cut();
    // Accepted and stored; delivered once somebody knows to whom.
    talks.are_accepted(SOME);
    let router = &all[1];
    until("the routers say what they wait for", || {
        router.readiness().is_some_and(|(_, waits_for)| waits_for["routes"].is_string())
    });
    assert!(router.log().contains("start it, or correct its address"), "{}", router.log());
    redis.command("FLUSHALL");
    link.mend();
    talks.go_on(SOME);
    all.iter_mut().for_each(Process::until_ready);

    // Emptied without a word.
    redis.command("FLUSHALL");
    talks.go_on(SOME);
    assert_eq!(talks.connects(), 8, "no client lost its connection");
    stack.stored(1, &talks.end());
}

#[test]
fn a_redis_that_evicts_keys_is_told_with_the_mend() {
    let shared = Stack::new();
    let redis = Redis::start(shared.ip, shared.dir.path());
    redis.command("CONFIG SET maxmemory-policy allkeys-lru");
    let stack = Stack::on(Servers { redis: redis.addr.clone(), ..shared.servers.clone() });
    let router = stack.router(1, &[]);
    until("the router counts it", || router.metric("petrel_router_redis_evicts") > 0.0);
    assert!(router.log().contains("CONFIG SET maxmemory-policy noeviction"), "{}", router.log());
    redis.command("CONFIG SET maxmemory-policy noeviction");
    until("the router has seen the mend", || router.metric("petrel_router_redis_evicts") < 1.0);
}

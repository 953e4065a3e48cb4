//! Routes are hints that are never somebody else's: claims, leases, compare-and-delete, and what they cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use petrel_protocol::calls::{Announce, Lease, ServiceAt, ServiceKind};
use petrel_protocol::fanout::{Incarnation, Route};
use petrel_protocol::ids::{Address, Device, UserId};
use petrel_protocol::limits;
use petrel_protocol::time::Now;
use petrel_router::routes::{Asserted, Claimant, Claimed, NoLease, Renewal, Routes};

const ANNA: UserId = UserId(1);
const BERT: UserId = UserId(2);

fn at(ms: u64) -> Now {
    Now { mono_ms: 1_000_000 + ms, wall_ms: 0 }
}

fn lease(edge: u32, epoch: u64) -> Lease {
    Lease { edge, epoch, url: format!("ws://edge-{edge}"), sessions_max: 100, ..Default::default() }
}

fn address(edge: u16, epoch: u64, slot: u32) -> Address {
    Address { edge, shard: 3, slot, generation: 9, epoch }
}

/// Routes with edges 1 (epoch 10) and 2 (epoch 20) alive at 0.
fn routes() -> Routes {
    let routes = Routes::memory();
    assert_eq!(routes.lease(at(0), &lease(1, 10)), Renewal::New { replaced: None });
    assert_eq!(routes.lease(at(0), &lease(2, 20)), Renewal::New { replaced: None });
    routes
}

/// A claim of a session that has just connected: what it replaced.
fn claim(
    routes: &Routes,
    now: Now,
    user: UserId,
    device: Device,
    address: Address,
) -> Result<Option<Address>, NoLease> {
    routes.claim(now, &Claimant { user, device, address, age_ms: 0 }).map(|claimed| match claimed {
        Claimed::Taken { replaced } => replaced,
        Claimed::Held => None,
        Claimed::Superseded => panic!("the latest session has the route"),
    })
}

fn found(routes: &Routes, now: Now, user: UserId) -> Vec<(Device, Address)> {
    let mut found: Vec<_> = routes.look_up(now, &[user]).into_iter().map(|r| (r.device, r.address)).collect();
    found.sort_by_key(|(device, _)| *device);
    found
}

#[test]
fn a_claim_answers_with_what_it_replaced() {
    let routes = routes();
    let (first, second) = (address(1, 10, 1), address(2, 20, 1));
    assert_eq!(claim(&routes, at(1), ANNA, Device::Web, first), Ok(None));
    assert_eq!(claim(&routes, at(1), ANNA, Device::Web, first), Ok(None), "held already");
    assert_eq!(claim(&routes, at(1), ANNA, Device::Ios, second), Ok(None), "another device");
    assert_eq!(claim(&routes, at(1), BERT, Device::Web, second), Ok(None), "another user");
    assert_eq!(claim(&routes, at(1), ANNA, Device::Web, second), Ok(Some(first)));
    let other_generation = Address { generation: 10, ..second };
    assert_eq!(claim(&routes, at(1), ANNA, Device::Web, other_generation), Ok(Some(second)));
    assert_eq!(found(&routes, at(1), ANNA), [(Device::Ios, second), (Device::Web, other_generation)]);
    assert_eq!(routes.len(), 3);
}

#[test]
fn a_look_up_of_many_keeps_their_order() {
    let routes = routes();
    for user in 1..=100 {
        claim(&routes, at(1), UserId(user), Device::Web, address(1, 10, user as u32)).unwrap();
    }
    claim(&routes, at(1), UserId(50), Device::Bot, address(2, 20, 5)).unwrap();
    let asked: Vec<UserId> = [7, 1_000, 50, 99].map(UserId).into();
    let answer = routes.look_up(at(1), &asked);
    assert_eq!(answer.iter().map(|r| r.user).collect::<Vec<_>>(), [0, 2, 2, 3]);
    assert_eq!(answer[0], Route { user: 0, device: Device::Web, address: address(1, 10, 7) });
}

#[test]
fn a_release_removes_only_the_very_address() {
    let routes = routes();
    let (old, new) = (address(1, 10, 1), address(2, 20, 1));
    claim(&routes, at(1), ANNA, Device::Web, old).unwrap();
    claim(&routes, at(1), ANNA, Device::Web, new).unwrap();
    for wrong in [
        old,
        Address { generation: 8, ..new },
        Address { slot: 2, ..new },
        Address { shard: 1, ..new },
        Address { epoch: 21, ..new },
        Address { edge: 1, ..new },
    ] {
        assert!(!routes.release(ANNA, Device::Web, wrong), "{wrong:?}");
    }
    assert!(!routes.release(ANNA, Device::Ios, new));
    assert!(!routes.release(BERT, Device::Web, new));
    assert_eq!(found(&routes, at(1), ANNA), [(Device::Web, new)]);
    assert!(routes.release(ANNA, Device::Web, new));
    assert!(!routes.release(ANNA, Device::Web, new));
    assert!(routes.is_empty());
}

#[test]
fn a_lapsed_lease_takes_its_routes_along_and_never_comes_back() {
    let routes = routes();
    claim(&routes, at(1), ANNA, Device::Web, address(1, 10, 1)).unwrap();
    claim(&routes, at(1), ANNA, Device::Ios, address(2, 20, 2)).unwrap();
    assert_eq!(routes.lease(at(limits::LEASE_MS - 1), &lease(2, 20)), Renewal::Held);
    let late = at(limits::LEASE_MS);
    assert_eq!(found(&routes, late, ANNA), [(Device::Ios, address(2, 20, 2))]);
    assert_eq!(claim(&routes, late, BERT, Device::Web, address(1, 10, 3)), Err(NoLease { edge: 1 }));
    assert_eq!(routes.lease(late, &lease(1, 10)), Renewal::Over);
    // Whoever claims over a dead route replaces nobody.
    assert_eq!(claim(&routes, late, ANNA, Device::Web, address(2, 20, 4)), Ok(None));

    assert_eq!(routes.lease(late, &lease(1, 11)), Renewal::New { replaced: None });
    assert_eq!(routes.lease(late, &lease(1, 10)), Renewal::Over, "still over");
    assert!(!routes.is_live(late, Incarnation { edge: 1, epoch: 10 }));
    assert!(routes.is_live(late, Incarnation { edge: 1, epoch: 11 }));
}

#[test]
fn a_new_incarnation_ends_the_one_before() {
    let routes = routes();
    claim(&routes, at(1), ANNA, Device::Web, address(1, 10, 1)).unwrap();
    let before = Incarnation { edge: 1, epoch: 10 };
    assert_eq!(routes.lease(at(2), &lease(1, 11)), Renewal::New { replaced: Some(before) });
    assert!(found(&routes, at(2), ANNA).is_empty());
    assert_eq!(routes.lease(at(3), &lease(1, 10)), Renewal::Over);
    assert_eq!(routes.lease(at(3), &lease(1, 11)), Renewal::Held);
}

#[test]
fn a_revoked_epoch_is_over_at_once() {
    let routes = routes();
    claim(&routes, at(1), ANNA, Device::Web, address(1, 10, 1)).unwrap();
    routes.revoke(at(1), Incarnation { edge: 1, epoch: 10 });
    assert!(found(&routes, at(1), ANNA).is_empty());
    assert_eq!(routes.lease(at(1), &lease(1, 10)), Renewal::Over);
    routes.revoke(at(1), Incarnation { edge: 1, epoch: 77 });
    assert_eq!(
        routes.lease(at(1), &lease(1, 77)),
        Renewal::New { replaced: None },
        "never lived, never revoked"
    );
}

#[test]
fn a_sweep_forgets_the_dead_alone_and_their_place_is_used_again() {
    let routes = routes();
    for user in 1..=1_000 {
        let edge = if user % 2 == 0 { address(2, 20, user as u32) } else { address(1, 10, user as u32) };
        claim(&routes, at(1), UserId(user), Device::Web, edge).unwrap();
    }
    assert_eq!(routes.sweep(at(2), || ()), 0);
    routes.revoke(at(2), Incarnation { edge: 1, epoch: 10 });
    let mut pauses = 0;
    assert_eq!(routes.sweep(at(2), || pauses += 1), 500);
    assert!(pauses > 1, "others get their turn");
    assert_eq!(routes.len(), 500);
    assert_eq!(routes.lease(at(2), &lease(3, 30)), Renewal::New { replaced: None });
    assert!(found(&routes, at(2), UserId(1)).is_empty(), "not edge 3's");
    assert_eq!(found(&routes, at(2), UserId(2)), [(Device::Web, address(2, 20, 2))]);
    assert_eq!(routes.lease(at(2), &lease(1, 10)), Renewal::Over, "remembered beyond the sweep");
}

#[test]
fn leases_are_bounded_and_swept_ones_make_room() {
    let routes = Routes::memory();
    for edge in 0..limits::LEASES_MAX as u32 {
        assert_eq!(routes.lease(at(0), &lease(edge, 1)), Renewal::New { replaced: None });
    }
    assert_eq!(routes.lease(at(0), &lease(60_000, 1)), Renewal::Over);
    assert_eq!(routes.lease(at(0), &lease(1 << 16, 1)), Renewal::Over, "no such edge can be");
    routes.sweep(at(limits::LEASE_MS), || ());
    assert_eq!(routes.lease(at(limits::LEASE_MS), &lease(60_000, 1)), Renewal::New { replaced: None });
}

#[test]
fn of_racing_claims_each_is_replaced_or_superseded() {
    let routes = Arc::new(routes());
    let replaced = Arc::new(AtomicUsize::new(0));
    let racers: Vec<_> = (0..4)
        .map(|racer| {
            let (routes, replaced) = (routes.clone(), replaced.clone());
            thread::spawn(move || {
                for slot in 0..1_000 {
                    let mine = address(1, 10, racer * 1_000 + slot);
                    let me = Claimant { user: ANNA, device: Device::Web, address: mine, age_ms: 0 };
                    let is_end = match routes.claim(at(1), &me).unwrap() {
                        Claimed::Taken { replaced } => replaced.is_some(),
                        Claimed::Superseded => true,
                        Claimed::Held => unreachable!("claimed once"),
                    };
                    replaced.fetch_add(usize::from(is_end), Ordering::Relaxed);
                    // A session that was replaced removes nothing.
                    if slot % 3 == 0 && routes.release(ANNA, Device::Web, mine) {
                        replaced.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for racer in racers {
        racer.join().unwrap();
    }
    let held = found(&routes, at(1), ANNA).len();
    assert!(held <= 1);
    // Every claim's address ended once: replaced, superseded, released, or held still.
    assert_eq!(replaced.load(Ordering::Relaxed) + held, 4_000);
}

#[test]
fn claims_that_race_with_a_sweep_survive_it() {
    let routes = Arc::new(Routes::memory());
    let sweeper = {
        let routes = routes.clone();
        thread::spawn(move || {
            for epoch in 1..200_u64 {
                routes.lease(at(0), &lease(1, epoch));
                for user in 0..50 {
                    let _ = claim(&routes, at(0), UserId(10_000 + user), Device::Web, address(1, epoch, 1));
                }
                routes.revoke(at(0), Incarnation { edge: 1, epoch });
                routes.sweep(at(0), thread::yield_now);
            }
        })
    };
    routes.lease(at(0), &lease(2, 20));
    for user in 1..=5_000 {
        claim(&routes, at(0), UserId(user), Device::Web, address(2, 20, user as u32)).unwrap();
    }
    sweeper.join().unwrap();
    for user in 1..=5_000 {
        assert_eq!(found(&routes, at(0), UserId(user)), [(Device::Web, address(2, 20, user as u32))]);
    }
    assert_eq!(routes.len(), 5_000);
}

#[test]
fn of_two_sessions_the_one_that_connected_later_has_the_route_whoever_claims_last() {
    let routes = routes();
    let (old, new) = (address(2, 20, 1), address(1, 10, 1));
    let session = |address, age_ms| Claimant { user: ANNA, device: Device::Web, address, age_ms };
    assert_eq!(routes.claim(at(1_000), &session(old, 0)), Ok(Claimed::Taken { replaced: None }));
    assert_eq!(routes.claim(at(2_000), &session(new, 0)), Ok(Claimed::Taken { replaced: Some(old) }));
    // The old one's edge took a new epoch, and all its sessions claim again.
    assert_eq!(
        routes.lease(at(2_500), &lease(2, 21)),
        Renewal::New { replaced: Some(Incarnation { edge: 2, epoch: 20 }) }
    );
    let old = Address { epoch: 21, ..old };
    assert_eq!(routes.claim(at(3_000), &session(old, 2_000)), Ok(Claimed::Superseded));
    assert_eq!(routes.assert(at(3_000), &session(old, 2_000)), Ok(Asserted::Superseded));
    assert_eq!(found(&routes, at(3_000), ANNA), [(Device::Web, new)]);
    // The new one's edge, too.
    assert!(matches!(routes.lease(at(3_500), &lease(1, 11)), Renewal::New { replaced: Some(_) }));
    assert_eq!(
        routes.claim(at(4_000), &session(old, 3_000)),
        Ok(Claimed::Taken { replaced: None }),
        "the holder's lease is over"
    );
    let new = Address { epoch: 11, ..new };
    assert_eq!(routes.claim(at(4_000), &session(new, 2_000)), Ok(Claimed::Taken { replaced: Some(old) }));
    assert_eq!(routes.claim(at(4_001), &session(old, 3_001)), Ok(Claimed::Superseded));
    // At the same time, the address decides, in whichever order they come.
    let (low, high) = (address(1, 11, 7), address(1, 11, 8));
    let at_once = |address| Claimant { user: BERT, device: Device::Ios, address, age_ms: 5 };
    assert_eq!(routes.claim(at(4_000), &at_once(high)), Ok(Claimed::Taken { replaced: None }));
    assert_eq!(routes.claim(at(4_000), &at_once(low)), Ok(Claimed::Superseded));
    assert_eq!(routes.claim(at(4_000), &at_once(high)), Ok(Claimed::Held));
}

#[test]
fn an_assertion_takes_nothing() {
    let routes = routes();
    let (one, other) = (address(1, 10, 1), address(2, 20, 1));
    let session = |address, age_ms| Claimant { user: ANNA, device: Device::Web, address, age_ms };
    assert_eq!(routes.assert(at(10), &session(one, 0)), Ok(Asserted::Lost));
    assert!(routes.is_empty());
    claim(&routes, at(10), ANNA, Device::Web, one).unwrap();
    assert_eq!(routes.assert(at(20), &session(one, 10)), Ok(Asserted::Held));
    assert_eq!(routes.assert(at(20), &session(other, 5)), Ok(Asserted::Lost), "it connected later");
    assert_eq!(routes.assert(at(20), &session(other, 15)), Ok(Asserted::Superseded));
    assert_eq!(found(&routes, at(20), ANNA), [(Device::Web, one)]);
    assert_eq!(routes.assert(at(20), &session(address(3, 30, 1), 0)), Err(NoLease { edge: 3 }));
    routes.revoke(at(20), Incarnation { edge: 1, epoch: 10 });
    assert_eq!(routes.assert(at(20), &session(other, 15)), Ok(Asserted::Lost), "the holder's lease is over");
}

#[test]
fn a_lease_that_is_not_known_cannot_be_renewed() {
    let routes = Routes::memory();
    let renewal = Lease { is_renewal: true, ..lease(1, 10) };
    assert_eq!(routes.lease(at(0), &renewal), Renewal::Over, "its routes are lost with it");
    assert!(!routes.is_live(at(0), Incarnation { edge: 1, epoch: 10 }));
    assert_eq!(routes.lease(at(0), &lease(1, 11)), Renewal::New { replaced: None });
    assert_eq!(routes.lease(at(1), &Lease { is_renewal: true, ..lease(1, 11) }), Renewal::Held);
}

#[test]
fn services_are_known_while_they_announce_themselves() {
    let routes = routes();
    let announce = |at_ms, kind: ServiceKind, id, calls: &str| {
        routes.announce(at(at_ms), &Announce { kind: kind.into(), id, calls: calls.to_owned() });
    };
    announce(0, ServiceKind::Router, 2, "127.0.0.1:1");
    announce(1_000, ServiceKind::Router, 1, "127.0.0.1:2");
    announce(2_000, ServiceKind::Persist, 1, "127.0.0.1:3");
    announce(2_000, ServiceKind::Router, 1, "127.0.0.1:4");
    let known = |at_ms| {
        let services = routes.services(at(at_ms)).into_iter();
        services.map(|ServiceAt { kind, id, calls }| (kind, id, calls)).collect::<Vec<_>>()
    };
    let of = |kind: ServiceKind, id, calls: &str| (i32::from(kind), id, calls.to_owned());
    let (router_1, router_2, persist) = (
        of(ServiceKind::Router, 1, "127.0.0.1:4"),
        of(ServiceKind::Router, 2, "127.0.0.1:1"),
        of(ServiceKind::Persist, 1, "127.0.0.1:3"),
    );
    assert_eq!(known(2_000), [router_1.clone(), router_2, persist.clone()]);
    assert_eq!(known(limits::LEASE_MS), [router_1, persist]);
    assert!(known(limits::LEASE_MS + 2_000).is_empty());
}

/// What a million routes hold, as the allocator sees it: the bound is for one user with one device.
#[test]
fn a_route_costs_at_most_64_bytes() {
    let routes = routes();
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
    };
    let claim = |users: std::ops::Range<u64>| {
        for user in users {
            claim(&routes, at(1), UserId(user), Device::Android, address(1, 10, user as u32)).unwrap();
        }
    };
    claim(1..200_000);
    let before = resident();
    claim(200_000..1_000_000);
    let slope = resident().saturating_sub(before) as f64 / 800_000.0;
    assert!(slope <= 64.0, "{slope} bytes a route");
}

//! Routes are hints that are never somebody else's: claims, leases, compare-and-delete, and what they cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use petrel_protocol::calls::Lease;
use petrel_protocol::fanout::{Incarnation, Route};
use petrel_protocol::ids::{Address, Device, UserId};
use petrel_protocol::limits;
use petrel_protocol::time::Now;
use petrel_router::routes::{NoLease, Renewal, Routes};

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

fn found(routes: &Routes, now: Now, user: UserId) -> Vec<(Device, Address)> {
    let mut found: Vec<_> = routes.look_up(now, &[user]).into_iter().map(|r| (r.device, r.address)).collect();
    found.sort_by_key(|(device, _)| *device);
    found
}

#[test]
fn a_claim_answers_with_what_it_replaced() {
    let routes = routes();
    let (first, second) = (address(1, 10, 1), address(2, 20, 1));
    assert_eq!(routes.claim(at(1), ANNA, Device::Web, first), Ok(None));
    assert_eq!(routes.claim(at(1), ANNA, Device::Web, first), Ok(None), "held already");
    assert_eq!(routes.claim(at(1), ANNA, Device::Ios, second), Ok(None), "another device");
    assert_eq!(routes.claim(at(1), BERT, Device::Web, second), Ok(None), "another user");
    assert_eq!(routes.claim(at(1), ANNA, Device::Web, second), Ok(Some(first)));
    let other_generation = Address { generation: 10, ..second };
    assert_eq!(routes.claim(at(1), ANNA, Device::Web, other_generation), Ok(Some(second)));
    assert_eq!(found(&routes, at(1), ANNA), [(Device::Ios, second), (Device::Web, other_generation)]);
    assert_eq!(routes.len(), 3);
}

#[test]
fn a_look_up_of_many_keeps_their_order() {
    let routes = routes();
    for user in 1..=100 {
        routes.claim(at(1), UserId(user), Device::Web, address(1, 10, user as u32)).unwrap();
    }
    routes.claim(at(1), UserId(50), Device::Bot, address(2, 20, 5)).unwrap();
    let asked: Vec<UserId> = [7, 1_000, 50, 99].map(UserId).into();
    let answer = routes.look_up(at(1), &asked);
    assert_eq!(answer.iter().map(|r| r.user).collect::<Vec<_>>(), [0, 2, 2, 3]);
    assert_eq!(answer[0], Route { user: 0, device: Device::Web, address: address(1, 10, 7) });
}

#[test]
fn a_release_removes_only_the_very_address() {
    let routes = routes();
    let (old, new) = (address(1, 10, 1), address(2, 20, 1));
    routes.claim(at(1), ANNA, Device::Web, old).unwrap();
    routes.claim(at(1), ANNA, Device::Web, new).unwrap();
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
    routes.claim(at(1), ANNA, Device::Web, address(1, 10, 1)).unwrap();
    routes.claim(at(1), ANNA, Device::Ios, address(2, 20, 2)).unwrap();
    assert_eq!(routes.lease(at(limits::LEASE_MS - 1), &lease(2, 20)), Renewal::Held);
    let late = at(limits::LEASE_MS);
    assert_eq!(found(&routes, late, ANNA), [(Device::Ios, address(2, 20, 2))]);
    assert_eq!(routes.claim(late, BERT, Device::Web, address(1, 10, 3)), Err(NoLease { edge: 1 }));
    assert_eq!(routes.lease(late, &lease(1, 10)), Renewal::Over);
    // Whoever claims over a dead route replaces nobody.
    assert_eq!(routes.claim(late, ANNA, Device::Web, address(2, 20, 4)), Ok(None));

    assert_eq!(routes.lease(late, &lease(1, 11)), Renewal::New { replaced: None });
    assert_eq!(routes.lease(late, &lease(1, 10)), Renewal::Over, "still over");
    assert!(!routes.is_live(late, Incarnation { edge: 1, epoch: 10 }));
    assert!(routes.is_live(late, Incarnation { edge: 1, epoch: 11 }));
}

#[test]
fn a_new_incarnation_ends_the_one_before() {
    let routes = routes();
    routes.claim(at(1), ANNA, Device::Web, address(1, 10, 1)).unwrap();
    let before = Incarnation { edge: 1, epoch: 10 };
    assert_eq!(routes.lease(at(2), &lease(1, 11)), Renewal::New { replaced: Some(before) });
    assert!(found(&routes, at(2), ANNA).is_empty());
    assert_eq!(routes.lease(at(3), &lease(1, 10)), Renewal::Over);
    assert_eq!(routes.lease(at(3), &lease(1, 11)), Renewal::Held);
}

#[test]
fn a_revoked_epoch_is_over_at_once() {
    let routes = routes();
    routes.claim(at(1), ANNA, Device::Web, address(1, 10, 1)).unwrap();
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
        routes.claim(at(1), UserId(user), Device::Web, edge).unwrap();
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
fn of_racing_claims_each_replaces_the_one_before() {
    let routes = Arc::new(routes());
    let replaced = Arc::new(AtomicUsize::new(0));
    let racers: Vec<_> = (0..4)
        .map(|racer| {
            let (routes, replaced) = (routes.clone(), replaced.clone());
            thread::spawn(move || {
                for slot in 0..1_000 {
                    let mine = address(1, 10, racer * 1_000 + slot);
                    let before = routes.claim(at(1), ANNA, Device::Web, mine).unwrap();
                    replaced.fetch_add(usize::from(before.is_some()), Ordering::Relaxed);
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
    // Every claim's address ended once: replaced, released, or held still.
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
                    let _ = routes.claim(at(0), UserId(10_000 + user), Device::Web, address(1, epoch, 1));
                }
                routes.revoke(at(0), Incarnation { edge: 1, epoch });
                routes.sweep(at(0), thread::yield_now);
            }
        })
    };
    routes.lease(at(0), &lease(2, 20));
    for user in 1..=5_000 {
        routes.claim(at(0), UserId(user), Device::Web, address(2, 20, user as u32)).unwrap();
    }
    sweeper.join().unwrap();
    for user in 1..=5_000 {
        assert_eq!(found(&routes, at(0), UserId(user)), [(Device::Web, address(2, 20, user as u32))]);
    }
    assert_eq!(routes.len(), 5_000);
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
            routes.claim(at(1), UserId(user), Device::Android, address(1, 10, user as u32)).unwrap();
        }
    };
    claim(1..200_000);
    let before = resident();
    claim(200_000..1_000_000);
    let slope = resident().saturating_sub(before) as f64 / 800_000.0;
    assert!(slope <= 64.0, "{slope} bytes a route");
}

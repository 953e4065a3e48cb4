//! What routes owe to edges and to the fan-out, wherever they are kept: claims, leases, compare-and-delete.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use petrel_protocol::calls::{Lease, ServiceKind};
use petrel_protocol::fanout::{Incarnation, Route};
use petrel_protocol::ids::{Address, Device, UserId};
use petrel_protocol::limits;
use petrel_router::routes::{Asserted, Claimed, Refusal, Renewal};

use crate::stack::{ANNA, BERT, Stack, address, lease, renewal};

/// Runs every test of the suite on stacks that `$new` makes.
macro_rules! suite {
    ($new:expr) => {
        crate::suite::suite!($new,
            a_claim_answers_with_what_it_replaced
            a_look_up_of_many_keeps_their_order
            a_release_removes_only_the_very_address
            a_lapsed_lease_takes_its_routes_along_and_never_comes_back
            a_new_incarnation_ends_the_one_before
            a_revoked_epoch_is_over_at_once
            a_lease_that_is_not_known_cannot_be_renewed
            a_lease_tells_where_clients_connect_and_services_call
            of_two_sessions_the_one_that_connected_later_has_the_route_whoever_claims_last
            an_assertion_takes_nothing
            of_racing_claims_each_is_replaced_or_superseded
            services_are_known_while_they_announce_themselves
        );
    };
    ($new:expr, $($test:ident)*) => {
        $(#[test]
        fn $test() {
            let it = $new;
            crate::suite::$test(it.as_ref());
        })*
    };
}
pub(crate) use suite;

pub(crate) fn a_claim_answers_with_what_it_replaced(stack: &Stack) {
    let (first, second) = (address(1, 10, 1), address(2, 20, 1));
    assert_eq!(stack.claim(ANNA, Device::Web, first), Ok(None));
    assert_eq!(stack.claim(ANNA, Device::Web, first), Ok(None), "held already");
    assert_eq!(stack.claim(ANNA, Device::Ios, second), Ok(None), "another device");
    assert_eq!(stack.claim(BERT, Device::Web, second), Ok(None), "another user");
    assert_eq!(stack.claim(ANNA, Device::Web, second), Ok(Some(first)));
    let other_generation = Address { generation: 10, ..second };
    assert_eq!(stack.claim(ANNA, Device::Web, other_generation), Ok(Some(second)));
    assert_eq!(stack.found(ANNA), [(Device::Ios, second), (Device::Web, other_generation)]);
    assert_eq!(stack.found(BERT), [(Device::Web, second)]);
}

pub(crate) fn a_look_up_of_many_keeps_their_order(stack: &Stack) {
    for user in 1..=100 {
        stack.claim(UserId(user), Device::Web, address(1, 10, user as u32)).unwrap();
    }
    stack.claim(UserId(50), Device::Bot, address(2, 20, 5)).unwrap();
    let asked: Vec<UserId> = [7, 1_000, 50, 99].map(UserId).into();
    let answer = stack.look_up(&asked);
    assert_eq!(answer.iter().map(|r| r.user).collect::<Vec<_>>(), [0, 2, 2, 3]);
    assert_eq!(answer[0], Route { user: 0, device: Device::Web, address: address(1, 10, 7) });
    // More than go in one round trip.
    let many: Vec<UserId> = (0..2 * limits::ROUTES_LOOK_UP_MAX as u64 + 50).map(|i| UserId(i + 1)).collect();
    let answer = stack.look_up(&many);
    assert_eq!(answer.len(), 101);
    assert!(answer.is_sorted_by_key(|r| r.user));
    let again: Vec<UserId> = many.iter().rev().copied().collect();
    let last = stack.look_up(&again).pop().unwrap();
    assert_eq!((last.user as usize, last.address.slot), (many.len() - 1, 1));
}

pub(crate) fn a_release_removes_only_the_very_address(stack: &Stack) {
    let (old, new) = (address(1, 10, 1), address(2, 20, 1));
    stack.claim(ANNA, Device::Web, old).unwrap();
    stack.claim(ANNA, Device::Web, new).unwrap();
    for wrong in [
        old,
        Address { generation: 8, ..new },
        Address { slot: 2, ..new },
        Address { shard: 1, ..new },
        Address { epoch: 21, ..new },
        Address { edge: 1, ..new },
    ] {
        assert!(!stack.release(ANNA, Device::Web, wrong), "{wrong:?}");
    }
    assert!(!stack.release(ANNA, Device::Ios, new));
    assert!(!stack.release(BERT, Device::Web, new));
    assert_eq!(stack.found(ANNA), [(Device::Web, new)]);
    assert!(stack.release(ANNA, Device::Web, new));
    assert!(!stack.release(ANNA, Device::Web, new));
    assert!(stack.found(ANNA).is_empty());
}

pub(crate) fn a_lapsed_lease_takes_its_routes_along_and_never_comes_back(stack: &Stack) {
    stack.claim(ANNA, Device::Web, address(1, 10, 1)).unwrap();
    stack.claim(ANNA, Device::Ios, address(2, 20, 2)).unwrap();
    stack.pass(limits::LEASE_MS - 1_000);
    assert_eq!(stack.lease(&renewal(2, 20)), Renewal::Held);
    stack.pass(1_000);
    assert_eq!(stack.found(ANNA), [(Device::Ios, address(2, 20, 2))]);
    assert_eq!(stack.claim(BERT, Device::Web, address(1, 10, 3)), Err(Refusal::NoLease { edge: 1 }));
    assert_eq!(stack.lease(&lease(1, 10)), Renewal::Over);
    // Whoever claims over a dead route replaces nobody.
    assert_eq!(stack.claim(ANNA, Device::Web, address(2, 20, 4)), Ok(None));

    assert_eq!(stack.lease(&lease(1, 11)), Renewal::New { replaced: None });
    assert_eq!(stack.lease(&lease(1, 10)), Renewal::Over, "still over");
    assert!(!stack.is_live(1, 10));
    assert!(stack.is_live(1, 11));
}

pub(crate) fn a_new_incarnation_ends_the_one_before(stack: &Stack) {
    stack.claim(ANNA, Device::Web, address(1, 10, 1)).unwrap();
    let before = Incarnation { edge: 1, epoch: 10 };
    assert_eq!(stack.lease(&lease(1, 11)), Renewal::New { replaced: Some(before) });
    assert!(stack.found(ANNA).is_empty());
    assert_eq!(stack.lease(&renewal(1, 10)), Renewal::Over);
    assert_eq!(stack.lease(&renewal(1, 11)), Renewal::Held);
}

pub(crate) fn a_revoked_epoch_is_over_at_once(stack: &Stack) {
    stack.claim(ANNA, Device::Web, address(1, 10, 1)).unwrap();
    stack.revoke(1, 10);
    assert!(stack.found(ANNA).is_empty());
    assert_eq!(stack.claim(ANNA, Device::Web, address(1, 10, 2)), Err(Refusal::NoLease { edge: 1 }));
    assert_eq!(stack.lease(&renewal(1, 10)), Renewal::Over);
    stack.revoke(1, 77);
    assert_eq!(stack.lease(&lease(1, 77)), Renewal::New { replaced: None }, "never lived, never revoked");
    stack.revoke(1, 10);
    assert!(stack.is_live(1, 77), "an earlier one is over already");
}

pub(crate) fn a_lease_that_is_not_known_cannot_be_renewed(stack: &Stack) {
    assert_eq!(stack.lease(&renewal(5, 50)), Renewal::Over, "its routes are lost with it");
    assert!(!stack.is_live(5, 50));
    assert_eq!(stack.lease(&lease(5, 51)), Renewal::New { replaced: None });
    assert_eq!(stack.lease(&renewal(5, 51)), Renewal::Held);
    assert_eq!(stack.lease(&lease(1 << 16, 1)), Renewal::Over, "no such edge can be");
}

pub(crate) fn a_lease_tells_where_clients_connect_and_services_call(stack: &Stack) {
    let told = Lease {
        url: "wss://edge/1|2".into(),
        calls: "10.0.0.1:7000".into(),
        sessions: 5,
        is_draining: true,
        worker: Some(1_023),
        ..lease(3, 30)
    };
    stack.lease(&told);
    assert_eq!(stack.lease(&told), Renewal::Held);
    let held = stack.routes.leases(stack.now()).into_iter().find(|held| held.incarnation.edge == 3).unwrap();
    assert_eq!((held.url, held.calls, held.worker), (told.url, told.calls, told.worker));
    assert_eq!((held.sessions, held.sessions_max, held.is_draining), (5, 100, true));
}

pub(crate) fn of_two_sessions_the_one_that_connected_later_has_the_route_whoever_claims_last(stack: &Stack) {
    let (old, new) = (address(2, 20, 1), address(1, 10, 1));
    let web = Device::Web;
    assert_eq!(stack.claim_aged(ANNA, web, old, 0), Ok(Claimed::Taken { replaced: None }));
    stack.pass(500);
    assert_eq!(stack.claim_aged(ANNA, web, new, 0), Ok(Claimed::Taken { replaced: Some(old) }));
    // The old one's edge took a new epoch, and all its sessions claim again.
    let before = Incarnation { edge: 2, epoch: 20 };
    assert_eq!(stack.lease(&lease(2, 21)), Renewal::New { replaced: Some(before) });
    let old = Address { epoch: 21, ..old };
    assert_eq!(stack.claim_aged(ANNA, web, old, 500), Ok(Claimed::Superseded));
    assert_eq!(stack.assert(ANNA, web, old, 500), Ok(Asserted::Superseded));
    assert_eq!(stack.found(ANNA), [(web, new)]);
    // The new one's edge, too: until it has claimed again, its route gives way.
    assert!(matches!(stack.lease(&lease(1, 11)), Renewal::New { replaced: Some(_) }));
    assert_eq!(stack.claim_aged(ANNA, web, old, 600), Ok(Claimed::Taken { replaced: None }));
    let new = Address { epoch: 11, ..new };
    assert_eq!(stack.claim_aged(ANNA, web, new, 100), Ok(Claimed::Taken { replaced: Some(old) }));
    assert_eq!(stack.claim_aged(ANNA, web, old, 700), Ok(Claimed::Superseded));
    assert_eq!(stack.found(ANNA), [(web, new)]);
}

pub(crate) fn an_assertion_takes_nothing(stack: &Stack) {
    let (one, other) = (address(1, 10, 1), address(2, 20, 1));
    assert_eq!(stack.assert(ANNA, Device::Web, one, 0), Ok(Asserted::Lost));
    assert!(stack.found(ANNA).is_empty());
    stack.claim_aged(ANNA, Device::Web, one, 5_000).unwrap();
    assert_eq!(stack.assert(ANNA, Device::Web, one, 5_000), Ok(Asserted::Held));
    assert_eq!(stack.assert(ANNA, Device::Web, other, 1_000), Ok(Asserted::Lost), "it connected later");
    assert_eq!(stack.assert(ANNA, Device::Web, other, 9_000), Ok(Asserted::Superseded));
    assert_eq!(stack.found(ANNA), [(Device::Web, one)]);
    let nobody = stack.assert(ANNA, Device::Web, address(3, 30, 1), 0);
    assert_eq!(nobody, Err(Refusal::NoLease { edge: 3 }));
    stack.revoke(1, 10);
    let asserted = stack.assert(ANNA, Device::Web, other, 9_000);
    assert_eq!(asserted, Ok(Asserted::Lost), "the holder's lease is over");
}

pub(crate) fn of_racing_claims_each_is_replaced_or_superseded(stack: &Stack) {
    let ended = AtomicUsize::new(0);
    thread::scope(|scope| {
        for racer in 0..4 {
            let ended = &ended;
            scope.spawn(move || {
                for slot in 0..250 {
                    let mine = address(1, 10, racer * 250 + slot);
                    let is_end = match stack.claim_aged(ANNA, Device::Web, mine, 0).unwrap() {
                        Claimed::Taken { replaced } => replaced.is_some(),
                        Claimed::Superseded => true,
                        Claimed::Held => unreachable!("claimed once"),
                    };
                    ended.fetch_add(usize::from(is_end), Ordering::Relaxed);
                    // A session that was replaced removes nothing.
                    if slot % 3 == 0 && stack.release(ANNA, Device::Web, mine) {
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let held = stack.found(ANNA).len();
    assert!(held <= 1);
    // Every claim's address ended once: replaced, superseded, released, or held still.
    assert_eq!(ended.load(Ordering::Relaxed) + held, 1_000);
}

pub(crate) fn services_are_known_while_they_announce_themselves(stack: &Stack) {
    stack.announce(ServiceKind::Router, 2, "127.0.0.1:1");
    stack.pass(1_000);
    stack.announce(ServiceKind::Router, 1, "127.0.0.1:2");
    stack.announce(ServiceKind::Persist, 1, "127.0.0.1:3");
    stack.announce(ServiceKind::Router, 1, "127.0.0.1:4");
    let of = |kind: ServiceKind, id, calls: &str| (i32::from(kind), id, calls.to_owned());
    let (router_1, router_2, persist) = (
        of(ServiceKind::Router, 1, "127.0.0.1:4"),
        of(ServiceKind::Router, 2, "127.0.0.1:1"),
        of(ServiceKind::Persist, 1, "127.0.0.1:3"),
    );
    assert_eq!(stack.services(), [router_1.clone(), router_2, persist.clone()]);
    stack.pass(limits::LEASE_MS - 500);
    assert_eq!(stack.services(), [router_1, persist]);
    stack.pass(1_000);
    assert!(stack.services().is_empty());
}

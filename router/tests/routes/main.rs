//! Routes in memory: what all routes owe, and what only these can be asked.

mod stack;
mod suite;

use std::sync::Arc;
use std::thread;

use petrel_protocol::calls::Lease;
use petrel_protocol::fanout::Incarnation;
use petrel_protocol::ids::{Device, UserId};
use petrel_protocol::limits;
use petrel_protocol::time::Now;
use petrel_router::routes::{Claimant, Claimed, Memory, Renewal, Routes};

use stack::{ANNA, Stack, address, lease, renewal};

mod both {
    use super::{Routes, Stack};

    crate::suite::suite!(Stack::new(Routes::memory(), false).with_edges());
}

fn at(ms: u64) -> Now {
    Now { mono_ms: 1_000_000 + ms, wall_ms: 0 }
}

fn session(user: UserId, device: Device, address: petrel_protocol::ids::Address, age_ms: u64) -> Claimant {
    Claimant { user, device, address, age_ms }
}

/// Edges 1 (epoch 10) and 2 (epoch 20) are alive at 0.
fn memory() -> Memory {
    let memory = Memory::default();
    assert_eq!(memory.lease(at(0), &lease(1, 10)), Renewal::New { replaced: None });
    assert_eq!(memory.lease(at(0), &lease(2, 20)), Renewal::New { replaced: None });
    memory
}

#[test]
fn of_sessions_that_connected_at_the_same_time_the_address_decides_in_whichever_order_they_claim() {
    let memory = memory();
    let at_once = |slot| session(ANNA, Device::Ios, address(1, 10, slot), 5);
    assert_eq!(memory.claim(at(9), &at_once(8)), Ok(Claimed::Taken { replaced: None }));
    assert_eq!(memory.claim(at(9), &at_once(7)), Ok(Claimed::Superseded));
    assert_eq!(memory.claim(at(9), &at_once(8)), Ok(Claimed::Held));
    let replaced = Some(address(1, 10, 8));
    assert_eq!(memory.claim(at(9), &at_once(9)), Ok(Claimed::Taken { replaced }));
}

#[test]
fn a_sweep_forgets_the_dead_alone_and_their_place_is_used_again() {
    let memory = memory();
    for user in 1..=1_000 {
        let edge = if user % 2 == 0 { address(2, 20, user as u32) } else { address(1, 10, user as u32) };
        memory.claim(at(1), &session(UserId(user), Device::Web, edge, 0)).unwrap();
    }
    assert_eq!(memory.sweep(at(2), || ()), 0);
    memory.revoke(Incarnation { edge: 1, epoch: 10 });
    let mut pauses = 0;
    assert_eq!(memory.sweep(at(2), || pauses += 1), 500);
    assert!(pauses > 1, "others get their turn");
    assert_eq!(memory.len(), 500);
    assert_eq!(memory.lease(at(2), &lease(3, 30)), Renewal::New { replaced: None });
    assert!(memory.look_up(at(2), &[UserId(1)]).is_empty(), "not edge 3's");
    assert_eq!(memory.look_up(at(2), &[UserId(2)])[0].address, address(2, 20, 2));
    assert_eq!(memory.lease(at(2), &lease(1, 10)), Renewal::Over, "remembered beyond the sweep");
}

#[test]
fn leases_are_bounded_and_swept_ones_make_room() {
    let memory = Memory::default();
    for edge in 0..limits::LEASES_MAX as u32 {
        assert_eq!(memory.lease(at(0), &lease(edge, 1)), Renewal::New { replaced: None });
    }
    assert_eq!(memory.lease(at(0), &lease(60_000, 1)), Renewal::Over);
    memory.sweep(at(limits::LEASE_MS), || ());
    assert_eq!(memory.lease(at(limits::LEASE_MS), &lease(60_000, 1)), Renewal::New { replaced: None });
    assert_eq!(memory.lease(at(limits::LEASE_MS), &Lease { ..renewal(1, 1) }), Renewal::Over);
}

#[test]
fn claims_that_race_with_a_sweep_survive_it() {
    let memory = Arc::new(Memory::default());
    let sweeper = {
        let memory = memory.clone();
        thread::spawn(move || {
            for epoch in 1..200_u64 {
                memory.lease(at(0), &lease(1, epoch));
                for user in 0..50 {
                    let its = session(UserId(10_000 + user), Device::Web, address(1, epoch, 1), 0);
                    let _ = memory.claim(at(0), &its);
                }
                memory.revoke(Incarnation { edge: 1, epoch });
                memory.sweep(at(0), thread::yield_now);
            }
        })
    };
    memory.lease(at(0), &lease(2, 20));
    for user in 1..=5_000 {
        let its = session(UserId(user), Device::Web, address(2, 20, user as u32), 0);
        memory.claim(at(0), &its).unwrap();
    }
    sweeper.join().unwrap();
    for user in 1..=5_000 {
        let found = memory.look_up(at(0), &[UserId(user)]);
        assert_eq!(found[0].address, address(2, 20, user as u32));
    }
    assert_eq!(memory.len(), 5_000);
}

/// What a million routes hold, as the allocator sees it: the bound is for one user with one device.
#[test]
fn a_route_costs_at_most_64_bytes() {
    let memory = memory();
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
    };
    let claim = |users: std::ops::Range<u64>| {
        for user in users {
            let its = session(UserId(user), Device::Android, address(1, 10, user as u32), 0);
            memory.claim(at(1), &its).unwrap();
        }
    };
    claim(1..200_000);
    let before = resident();
    claim(200_000..1_000_000);
    let slope = resident().saturating_sub(before) as f64 / 800_000.0;
    assert!(slope <= 64.0, "{slope} bytes a route");
}

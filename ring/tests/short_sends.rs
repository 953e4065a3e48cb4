//! A peer that reads late gets everything, in order, and once.

mod support;

use std::io::Read;
use std::time::{Duration, Instant};

use bytes::Bytes;
use petrel_ring::{Config, SendError};
use support::{PATIENCE, Recorder, listening, pair, pattern, run_beside, run_until, small};

/// More than the kernel's buffers on both sides of a loopback connection together.
const LOTS: usize = 24 << 20;

fn roomy() -> Config {
    Config { egress_bytes_max: 2 * LOTS, ..small() }
}

#[test]
fn the_rest_follows_when_there_is_room() {
    let (mut ring, addr) = listening(roomy());
    let mut recorder = Recorder::default();
    let (mut peer, id) = pair(&mut ring, addr, &mut recorder);
    let bytes = pattern(LOTS);
    ring.send(id, &bytes).expect("within the bound");
    for _ in 0..20 {
        ring.turn(Some(Duration::ZERO), &mut recorder).expect("a turn");
    }
    assert!((1..LOTS).contains(&ring.egress_bytes(id)), "the send was not short: {}", ring.egress_bytes(id));
    assert!(recorder.drained.is_empty());
    let back = run_beside(&mut ring, &mut recorder, || {
        let mut back = vec![0; LOTS];
        peer.read_exact(&mut back).expect("everything comes");
        back
    });
    assert!(back == bytes);
    run_until(&mut ring, &mut recorder, "drained", |recorder| recorder.drained == [id]);
}

#[test]
fn copied_and_shared_pieces_stay_in_order_across_short_sends() {
    let (mut ring, addr) = listening(roomy());
    let mut recorder = Recorder::default();
    let (mut peer, id) = pair(&mut ring, addr, &mut recorder);
    let payloads: Vec<Bytes> =
        [0, 1, 300, 511, 512, 8_191, 8_192, 70_000].map(|len| Bytes::from(pattern(len))).into();
    let mut expected = Vec::new();
    while expected.len() < LOTS {
        for (number, payload) in payloads.iter().enumerate() {
            let head = pattern(number * 7);
            ring.send_parts(id, &head, payload).expect("within the bound");
            expected.extend_from_slice(&head);
            expected.extend_from_slice(payload);
        }
        if expected.len() % 3 == 0 {
            ring.turn(Some(Duration::ZERO), &mut recorder).expect("a turn");
        }
    }
    let back = run_beside(&mut ring, &mut recorder, || {
        let mut back = vec![0; expected.len()];
        peer.read_exact(&mut back).expect("everything comes");
        back
    });
    assert!(back == expected);
    run_until(&mut ring, &mut recorder, "drained", |recorder| !recorder.drained.is_empty());
}

#[test]
fn a_send_beyond_the_bound_is_refused_whole() {
    let (mut ring, addr) = listening(Config { egress_bytes_max: 1_000, ..small() });
    let mut recorder = Recorder::default();
    let (mut peer, id) = pair(&mut ring, addr, &mut recorder);
    ring.send(id, &[1; 600]).expect("within the bound");
    assert_eq!(ring.send(id, &[2; 401]), Err(SendError::Full));
    assert_eq!(ring.send_parts(id, &[2; 1], &Bytes::from(vec![2; 400])), Err(SendError::Full));
    assert_eq!(ring.egress_bytes(id), 600);
    ring.send(id, &[3; 400]).expect("exactly the bound");
    run_until(&mut ring, &mut recorder, "drained", |recorder| recorder.drained == [id]);
    ring.send(id, &[4; 1_000]).expect("there is room again");
    let back = run_beside(&mut ring, &mut recorder, || {
        let mut back = [0; 2_000];
        peer.read_exact(&mut back).expect("everything comes");
        back
    });
    assert_eq!(back[..600], [1; 600]);
    assert_eq!(back[600..1_000], [3; 400]);
    assert_eq!(back[1_000..], [4; 1_000]);
}

#[test]
fn nothing_waits_for_something_else_to_happen() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::default();
    let (mut peer, id) = pair(&mut ring, addr, &mut recorder);
    ring.send(id, b"once").expect("within the bound");
    turns_without_events(&mut ring, &mut recorder, 1);
    assert_eq!(recorder.drained, [id]);
    // More pieces than go into one send.
    let payload = Bytes::from(pattern(9_000));
    for _ in 0..40 {
        ring.send_parts(id, b"head", &payload).expect("within the bound");
    }
    turns_without_events(&mut ring, &mut recorder, 5);
    assert_eq!((recorder.drained.len(), ring.egress_bytes(id)), (2, 0));
    ring.send(id, b"goodbye").expect("within the bound");
    ring.close(id);
    turns_without_events(&mut ring, &mut recorder, 2);
    let mut back = Vec::new();
    peer.read_to_end(&mut back).expect("our end is closed, without any event");
    assert_eq!(back.len(), 4 + 40 * 9_004 + 7);
}

/// Turns that would wait long if they waited for anything.
fn turns_without_events(ring: &mut petrel_ring::Ring, recorder: &mut Recorder, count: u32) {
    let begun = Instant::now();
    for _ in 0..count {
        ring.turn(Some(PATIENCE), recorder).expect("a turn");
    }
    assert!(begun.elapsed() < PATIENCE, "a turn waited for an event that does not come");
}

#[test]
fn everything_of_a_turn_is_one_send() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::default();
    let (_peer, id) = pair(&mut ring, addr, &mut recorder);
    for _ in 0..100 {
        ring.send(id, b"a part").expect("within the bound");
    }
    assert_eq!(ring.egress_bytes(id), 600);
    run_until(&mut ring, &mut recorder, "drained", |recorder| !recorder.drained.is_empty());
    assert_eq!(recorder.drained, [id], "one send drains once");
}

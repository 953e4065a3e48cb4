//! A full table: whoever comes beyond it waits, and is served when a slot is free.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use petrel_ring::{Config, ConnectError};
use support::{PATIENCE, Recorder, listening, pair, run_until, small};

#[test]
fn connections_beyond_the_table_wait_for_a_slot() {
    let (mut ring, addr) = listening(Config { sockets: 4, ..small() });
    let mut recorder = Recorder::echo();
    let mut peers: Vec<_> =
        (0..10).map(|_| TcpStream::connect(addr).expect("the backlog has room")).collect();
    run_until(&mut ring, &mut recorder, "a full table", |recorder| recorder.accepted.len() == 4);
    for _ in 0..20 {
        ring.turn(Some(Duration::from_millis(1)), &mut recorder).expect("a turn");
    }
    assert_eq!((recorder.accepted.len(), ring.len(), ring.capacity()), (4, 4, 4));
    assert!(recorder.accepted.iter().all(|id| id.slot < 4));

    while let Some(mut peer) = (!peers.is_empty()).then(|| peers.remove(0)) {
        peer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        peer.write_all(b"served").expect("connected");
        let echoed = std::thread::spawn(move || {
            let mut back = [0; 6];
            peer.read_exact(&mut back).map(|()| back)
        });
        run_until(&mut ring, &mut recorder, "an echo", |_| echoed.is_finished());
        assert_eq!(&echoed.join().expect("no panic").expect("nobody is lost"), b"served");
    }
    run_until(&mut ring, &mut recorder, "all closed", |recorder| recorder.closed.len() == 10);
    assert!(ring.is_empty());
}

#[test]
fn a_connect_beyond_the_table_is_refused() {
    let (mut server, addr) = listening(small());
    let (mut ring, _) = listening(Config { sockets: 2, ..small() });
    let mut recorder = Recorder::default();
    let first = ring.connect(None, addr).expect("a slot");
    ring.connect(None, addr).expect("another slot");
    assert!(matches!(ring.connect(None, addr), Err(ConnectError::Full)));
    ring.abort(first);
    run_until(&mut ring, &mut recorder, "closed", |recorder| recorder.reason_of(first).is_some());
    // With one slot free, an accept of this ring may have set it aside.
    ring.stop_listening();
    let mut server_side = Recorder::default();
    run_until(&mut ring, &mut recorder, "a slot", |_| {
        server.turn(Some(Duration::ZERO), &mut server_side).expect("a turn");
        true
    });
    for _ in 0..3 {
        ring.turn(Some(Duration::from_millis(1)), &mut recorder).expect("a turn");
    }
    ring.connect(None, addr).expect("the slot that is free again");
}

#[test]
fn a_slot_that_is_used_again_is_another_socket() {
    let (mut ring, addr) = listening(Config { sockets: 1, ..small() });
    let mut recorder = Recorder::default();
    let (peer, first) = pair(&mut ring, addr, &mut recorder);
    let mut next = TcpStream::connect(addr).expect("the backlog has room");
    drop(peer);
    run_until(&mut ring, &mut recorder, "the next one", |recorder| recorder.accepted.len() == 2);
    let second = recorder.accepted[1];
    assert_eq!(first.slot, second.slot);
    assert_ne!(first.generation, second.generation);
    assert!(recorder.reason_of(first).is_some(), "the first is over before the second begins");

    assert!(ring.send(first, b"to nobody").is_err());
    ring.abort(first);
    ring.close(first);
    ring.pause_recv(first);
    assert_eq!(ring.egress_bytes(first), 0);
    next.write_all(b"still here").expect("the old id harms nobody");
    run_until(&mut ring, &mut recorder, "bytes", |recorder| recorder.bytes_of(second) == b"still here");
}

#[test]
fn slots_churn_without_confusion() {
    let (mut ring, addr) = listening(Config { sockets: 3, ..small() });
    let mut recorder = Recorder::echo();
    let clients = std::thread::spawn(move || {
        for round in 0..300_u32 {
            let mut peer = TcpStream::connect(addr).expect("the backlog has room");
            peer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            peer.write_all(&round.to_be_bytes()).expect("connected");
            // Every third leaves while its echo is on the way.
            if round % 3 != 0 {
                let mut back = [0; 4];
                peer.read_exact(&mut back).expect("the echo");
                assert_eq!(u32::from_be_bytes(back), round);
            }
        }
    });
    run_until(&mut ring, &mut recorder, "all clients", |_| clients.is_finished());
    clients.join().expect("every echo was its own");
    run_until(&mut ring, &mut recorder, "all closed", |recorder| recorder.closed.len() == 300);
    let mut ids: Vec<_> = recorder.accepted.iter().map(|id| (id.slot, id.generation)).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 300, "no id was given twice");
}

//! Back-pressure towards one peer, and towards new ones.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use petrel_ring::Config;
use support::{PATIENCE, Recorder, listening, pair, run_until, small};

fn turns(ring: &mut petrel_ring::Ring, recorder: &mut Recorder, count: u32) {
    for _ in 0..count {
        ring.turn(Some(Duration::from_millis(1)), recorder).expect("a turn");
    }
}

#[test]
fn a_paused_socket_receives_nothing_until_it_is_resumed() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::default();
    let (mut peer, id) = pair(&mut ring, addr, &mut recorder);
    ring.pause_recv(id);
    peer.write_all(b"while paused").expect("connected");
    turns(&mut ring, &mut recorder, 20);
    assert_eq!(recorder.bytes_of(id), b"");
    ring.resume_recv(id);
    run_until(&mut ring, &mut recorder, "bytes", |recorder| recorder.bytes_of(id) == b"while paused");
    peer.write_all(b", and after").expect("connected");
    run_until(&mut ring, &mut recorder, "bytes", |recorder| {
        recorder.bytes_of(id) == b"while paused, and after"
    });
}

#[test]
fn a_hot_socket_pauses_too() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::default();
    let (mut peer, id) = pair(&mut ring, addr, &mut recorder);
    for round in 1..=50 {
        peer.write_all(b"x").expect("connected");
        run_until(&mut ring, &mut recorder, "bytes", |recorder| recorder.bytes_of(id).len() == round);
    }
    for round in 1..=5 {
        ring.pause_recv(id);
        turns(&mut ring, &mut recorder, 2);
        peer.write_all(b"yz").expect("connected");
        turns(&mut ring, &mut recorder, 10);
        assert_eq!(recorder.bytes_of(id).len(), 50 + 2 * (round - 1));
        ring.resume_recv(id);
        run_until(&mut ring, &mut recorder, "bytes", |recorder| {
            recorder.bytes_of(id).len() == 50 + 2 * round
        });
    }
    ring.pause_recv(id);
    ring.resume_recv(id);
    peer.write_all(b"!").expect("connected");
    run_until(&mut ring, &mut recorder, "bytes", |recorder| recorder.bytes_of(id).len() == 61);
}

#[test]
fn a_paused_peer_stalls_and_loses_nothing() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::default();
    let (peer, id) = pair(&mut ring, addr, &mut recorder);
    ring.pause_recv(id);
    peer.set_nonblocking(true).expect("an option");
    let mut sent = 0;
    while let Ok(count) = (&peer).write(&[5; 16_384]) {
        sent += count;
    }
    turns(&mut ring, &mut recorder, 5);
    assert_eq!(recorder.receives, 0);
    ring.resume_recv(id);
    run_until(&mut ring, &mut recorder, "all bytes", |recorder| recorder.bytes_of(id).len() == sent);
}

#[test]
fn a_paused_listener_leaves_connections_in_the_backlog() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::echo();
    turns(&mut ring, &mut recorder, 2);
    ring.pause_accept();
    turns(&mut ring, &mut recorder, 2);
    let mut peers: Vec<_> = (0..5).map(|_| TcpStream::connect(addr).expect("the backlog has room")).collect();
    turns(&mut ring, &mut recorder, 10);
    assert!(recorder.accepted.is_empty());
    ring.resume_accept();
    run_until(&mut ring, &mut recorder, "all accepted", |recorder| recorder.accepted.len() == 5);
    for peer in &mut peers {
        peer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        peer.write_all(b"hello").expect("connected");
    }
    run_until(&mut ring, &mut recorder, "all echoes", |recorder| recorder.drained.len() == 5);
    for peer in &mut peers {
        let mut back = [0; 5];
        peer.read_exact(&mut back).expect("the echo");
    }
}

#[test]
fn a_turn_accepts_at_most_its_budget() {
    let (mut ring, addr) = listening(Config { accept_per_turn: 3, ..small() });
    let mut recorder = Recorder::default();
    let _peers: Vec<_> = (0..40).map(|_| TcpStream::connect(addr).expect("the backlog has room")).collect();
    let mut before = 0;
    run_until(&mut ring, &mut recorder, "all accepted", |recorder| {
        let accepted = recorder.accepted.len() - before;
        before = recorder.accepted.len();
        assert!(accepted <= 3, "{accepted} in one turn");
        before == 40
    });
}

#[test]
fn a_ring_that_stopped_listening_keeps_its_sockets() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::echo();
    let (mut peer, _) = pair(&mut ring, addr, &mut recorder);
    ring.stop_listening();
    turns(&mut ring, &mut recorder, 3);
    assert!(TcpStream::connect(addr).is_err(), "nobody listens");
    peer.write_all(b"hello").expect("connected");
    run_until(&mut ring, &mut recorder, "the echo", |recorder| recorder.drained.len() == 1);
    let again = ring.listen("127.0.0.1:0".parse().expect("an address")).expect("a new listener");
    let (_second, _) = pair(&mut ring, again, &mut recorder);
    assert!(ring.listen(addr).is_err(), "one listener at a time");
    assert_eq!(ring.len(), 2);
}

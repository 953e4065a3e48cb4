//! How sockets end: by the peer, by us, by a failure; always told once.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use petrel_ring::{CLOSE_MS_MAX, Closed, Config, SendError};
use support::{PATIENCE, Recorder, listening, pair, pattern, run_beside, run_until, small};

#[test]
fn a_peer_that_leaves_is_closed_by_peer() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::default();
    let (mut peer, id) = pair(&mut ring, addr, &mut recorder);
    peer.write_all(b"last words").expect("connected");
    drop(peer);
    run_until(&mut ring, &mut recorder, "closed", |recorder| !recorder.closed.is_empty());
    assert_eq!(recorder.closed, [(id, Closed::ByPeer)]);
    assert_eq!(recorder.bytes_of(id), b"last words", "what came before the end is delivered");
    assert_eq!(ring.send(id, b"late"), Err(SendError::Gone));
}

#[test]
fn a_half_closed_peer_gets_its_answer() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::echo();
    let (mut peer, id) = pair(&mut ring, addr, &mut recorder);
    let bytes = pattern(300_000);
    let back = run_beside(&mut ring, &mut recorder, || {
        let mut writer = peer.try_clone().expect("a second handle");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&bytes).expect("the ring reads");
                writer.shutdown(Shutdown::Write).expect("connected");
            });
            let mut back = Vec::new();
            peer.read_to_end(&mut back).expect("an orderly end");
            back
        })
    });
    assert!(back == bytes);
    run_until(&mut ring, &mut recorder, "closed", |recorder| recorder.closed == [(id, Closed::ByPeer)]);
}

#[test]
fn a_reset_is_an_error() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::default();
    let (mut peer, id) = pair(&mut ring, addr, &mut recorder);
    ring.send(id, b"never read").expect("within the bound");
    run_until(&mut ring, &mut recorder, "drained", |recorder| !recorder.drained.is_empty());
    let mut first = [0; 1];
    peer.read_exact(&mut first).expect("the bytes are there");
    // A socket that is closed with bytes unread resets its connection.
    drop(peer);
    run_until(&mut ring, &mut recorder, "closed", |recorder| !recorder.closed.is_empty());
    assert_eq!(recorder.closed, [(id, Closed::Error(libc::ECONNRESET))]);
    assert!(ring.is_empty());
}

#[test]
fn a_send_to_a_peer_that_reset_ends_once() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::default();
    let (peer, id) = pair(&mut ring, addr, &mut recorder);
    ring.pause_recv(id);
    ring.send(id, b"never read").expect("within the bound");
    run_until(&mut ring, &mut recorder, "drained", |recorder| !recorder.drained.is_empty());
    let mut one = [0; 1];
    (&peer).read_exact(&mut one).expect("the bytes are there");
    drop(peer);
    // Receiving is paused, so only a send can notice.
    let end = Instant::now() + PATIENCE;
    while recorder.closed.is_empty() {
        assert!(Instant::now() < end, "the reset is not noticed");
        let _ = ring.send(id, b"is anybody there");
        ring.turn(Some(Duration::from_millis(1)), &mut recorder).expect("a turn");
    }
    assert_eq!(recorder.closed, [(id, Closed::Error(libc::ECONNRESET))]);
}

#[test]
fn close_sends_everything_first() {
    let (mut ring, addr) = listening(Config { egress_bytes_max: 16 << 20, ..small() });
    let mut recorder = Recorder::default();
    let (mut peer, id) = pair(&mut ring, addr, &mut recorder);
    let bytes = pattern(12 << 20);
    ring.send(id, &bytes).expect("within the bound");
    ring.close(id);
    assert_eq!(ring.send(id, b"late"), Err(SendError::Gone));
    let back = run_beside(&mut ring, &mut recorder, || {
        let mut back = Vec::new();
        peer.read_to_end(&mut back).expect("an orderly end");
        drop(peer);
        back
    });
    assert!(back == bytes);
    run_until(&mut ring, &mut recorder, "closed", |recorder| recorder.closed == [(id, Closed::ByUs)]);
    assert!(recorder.drained.is_empty(), "a socket that closes is not asked for more");
}

#[test]
fn a_peer_that_still_sends_reads_what_was_sent_before_the_close() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::default();
    let (mut peer, id) = pair(&mut ring, addr, &mut recorder);
    peer.write_all(b"first").expect("connected");
    run_until(&mut ring, &mut recorder, "bytes", |recorder| recorder.bytes_of(id) == b"first");
    ring.send(id, b"goodbye").expect("within the bound");
    ring.close(id);
    let back = run_beside(&mut ring, &mut recorder, || {
        // Unread bytes at a close would reset the connection, and these would be.
        for _ in 0..200 {
            peer.write_all(&[7; 4_096]).expect("nobody resets");
        }
        peer.shutdown(Shutdown::Write).expect("connected");
        let mut back = Vec::new();
        peer.read_to_end(&mut back).expect("an orderly end");
        back
    });
    assert_eq!(back, b"goodbye");
    run_until(&mut ring, &mut recorder, "closed", |recorder| recorder.closed == [(id, Closed::ByUs)]);
    assert_eq!(recorder.bytes_of(id), b"first", "nothing is delivered after a close");
}

#[test]
fn a_close_that_is_not_answered_is_cut() {
    let (mut ring, addr) = listening(Config { egress_bytes_max: 32 << 20, ..small() });
    let mut recorder = Recorder::default();
    let (_silent, first) = pair(&mut ring, addr, &mut recorder);
    let (_deaf, second) = pair(&mut ring, addr, &mut recorder);
    ring.close(first);
    ring.send(second, &pattern(24 << 20)).expect("within the bound");
    ring.close(second);
    let begun = Instant::now();
    run_until(&mut ring, &mut recorder, "both cut", |recorder| recorder.closed.len() == 2);
    // The clock that judges is a few milliseconds coarse.
    assert!(begun.elapsed() + Duration::from_millis(20) >= Duration::from_millis(CLOSE_MS_MAX));
    assert!(recorder.closed.iter().all(|(_, reason)| *reason == Closed::ByUs));
}

#[test]
fn a_close_waits_without_a_turn_limit() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::default();
    let (_silent, id) = pair(&mut ring, addr, &mut recorder);
    ring.close(id);
    while recorder.closed.is_empty() {
        ring.turn(None, &mut recorder).expect("the deadline ends the wait");
    }
    assert_eq!(recorder.closed, [(id, Closed::ByUs)]);
}

#[test]
fn abort_drops_what_is_queued() {
    let (mut ring, addr) = listening(Config { egress_bytes_max: 32 << 20, ..small() });
    let mut recorder = Recorder::default();
    let (mut peer, id) = pair(&mut ring, addr, &mut recorder);
    ring.send(id, &pattern(24 << 20)).expect("within the bound");
    for _ in 0..5 {
        ring.turn(Some(Duration::ZERO), &mut recorder).expect("a turn");
    }
    assert!(ring.egress_bytes(id) > 0);
    ring.abort(id);
    assert_eq!(ring.egress_bytes(id), 0);
    assert_eq!(ring.send(id, b"late"), Err(SendError::Gone));
    run_until(&mut ring, &mut recorder, "closed", |recorder| recorder.closed == [(id, Closed::ByUs)]);
    let mut back = Vec::new();
    let _ = peer.read_to_end(&mut back);
    assert!(back.len() < 24 << 20);
}

#[test]
fn close_then_abort_is_told_once() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::default();
    let (peer, id) = pair(&mut ring, addr, &mut recorder);
    ring.send(id, b"goodbye").expect("within the bound");
    ring.close(id);
    ring.close(id);
    ring.turn(Some(Duration::ZERO), &mut recorder).expect("a turn");
    ring.abort(id);
    ring.abort(id);
    ring.close(id);
    run_until(&mut ring, &mut recorder, "closed", |recorder| recorder.closed == [(id, Closed::ByUs)]);
    drop(peer);
    for _ in 0..5 {
        ring.turn(Some(Duration::from_millis(1)), &mut recorder).expect("a turn");
    }
    assert_eq!(recorder.closed.len(), 1);
}

#[test]
fn a_connection_reset_before_it_is_accepted_does_not_end_accepting() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::default();
    for _ in 0..20 {
        let dead = TcpStream::connect(addr).expect("the backlog has room");
        dead.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        drop(dead);
    }
    let (mut peer, id) = pair(&mut ring, addr, &mut recorder);
    run_until(&mut ring, &mut recorder, "all accepted", |recorder| recorder.accepted.len() == 21);
    peer.write_all(b"alive").expect("connected");
    let last = *recorder.accepted.last().expect("accepted");
    run_until(&mut ring, &mut recorder, "bytes", |recorder| {
        recorder.bytes_of(last) == b"alive" || recorder.bytes_of(id) == b"alive"
    });
}

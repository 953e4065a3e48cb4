//! More is readable than there are buffers, completions or submission entries for.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use petrel_ring::Config;
use support::{Recorder, exchange, listening, pattern, run_beside, run_until, small};

#[test]
fn few_buffers_serve_many_sockets() {
    for buffers in [1, 2, 4] {
        let (mut ring, addr) = listening(Config { buffers, buffer_bytes: 512, ..small() });
        let mut recorder = Recorder::default();
        let bytes = pattern(10_000);
        let mut peers: Vec<_> =
            (0..40).map(|_| TcpStream::connect(addr).expect("the backlog has room")).collect();
        run_until(&mut ring, &mut recorder, "accepted", |recorder| recorder.accepted.len() == 40);
        for peer in &mut peers {
            peer.write_all(&bytes).expect("the kernel has room");
        }
        run_until(&mut ring, &mut recorder, "all bytes", |recorder| {
            recorder.accepted.iter().all(|id| recorder.bytes_of(*id).len() == bytes.len())
        });
        assert!(recorder.accepted.iter().all(|id| recorder.bytes_of(*id) == bytes));
    }
}

#[test]
fn hot_sockets_survive_running_out_of_buffers() {
    let (mut ring, addr) = listening(Config { buffers: 2, buffer_bytes: 256, ..small() });
    let mut recorder = Recorder::echo();
    let all_came_back = run_beside(&mut ring, &mut recorder, || {
        let peers: Vec<_> =
            (0..20).map(|_| TcpStream::connect(addr).expect("the backlog has room")).collect();
        std::thread::scope(|scope| {
            let threads: Vec<_> = peers
                .iter()
                .map(|peer| {
                    scope.spawn(move || {
                        (0..30).all(|round| {
                            let bytes = pattern(1_000 + round);
                            exchange(peer, &bytes) == bytes
                        })
                    })
                })
                .collect();
            threads.into_iter().all(|thread| thread.join().expect("no panic"))
        })
    });
    assert!(all_came_back);
}

#[test]
fn overflowing_queues_lose_nothing() {
    // 8 submissions and 32 completions for 300 sockets that are all readable at once, and all answered in one turn.
    let (mut ring, addr) =
        listening(Config { entries: 8, sockets: 400, buffers: 512, buffer_bytes: 256, ..small() });
    let mut recorder = Recorder::default();
    let mut peers: Vec<_> =
        (0..300).map(|_| TcpStream::connect(addr).expect("the backlog has room")).collect();
    run_until(&mut ring, &mut recorder, "accepted", |recorder| recorder.accepted.len() == 300);
    for round in 1..=6 {
        for peer in &mut peers {
            peer.write_all(b"0123456789").expect("the kernel has room");
        }
        run_until(&mut ring, &mut recorder, "all bytes", |recorder| {
            recorder.accepted.iter().all(|id| recorder.bytes_of(*id).len() == 10 * round)
        });
        let before = recorder.drained.len();
        for id in &recorder.accepted {
            ring.send(*id, b"answer").expect("within the bound");
        }
        run_until(&mut ring, &mut recorder, "all answers", |recorder| recorder.drained.len() == before + 300);
    }
    for (number, peer) in peers.into_iter().enumerate() {
        if number % 2 == 0 {
            drop(peer);
        } else {
            std::mem::forget(peer);
        }
    }
    run_until(&mut ring, &mut recorder, "half of them closed", |recorder| recorder.closed.len() == 150);
    for id in recorder.accepted.clone() {
        ring.abort(id);
    }
    run_until(&mut ring, &mut recorder, "all closed", |recorder| recorder.closed.len() == 300);
    ring.turn(Some(Duration::ZERO), &mut recorder).expect("the ring is fine");
    assert!(ring.is_empty());
}

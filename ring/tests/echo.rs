//! What is sent comes back, whatever its size.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use support::{Recorder, exchange, listening, pair, pattern, run_beside, run_until, small};

#[test]
fn every_size_comes_back() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::echo();
    let (peer, id) = pair(&mut ring, addr, &mut recorder);
    for len in [1, 2, 125, 126, 4_095, 4_096, 4_097, 8_192, 65_535, 65_536, 1_000_000] {
        let bytes = pattern(len);
        let back = run_beside(&mut ring, &mut recorder, || exchange(&peer, &bytes));
        assert!(back == bytes, "{len} bytes differ");
    }
    assert!(recorder.drained.contains(&id));
    assert!(recorder.closed.is_empty());
}

#[test]
fn many_small_messages_make_a_socket_hot_and_stay_in_order() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::echo();
    let (mut peer, _) = pair(&mut ring, addr, &mut recorder);
    run_beside(&mut ring, &mut recorder, || {
        for number in 0..2_000_u32 {
            peer.write_all(&number.to_be_bytes()).expect("the ring reads");
            let mut back = [0; 4];
            peer.read_exact(&mut back).expect("the ring echoes");
            assert_eq!(u32::from_be_bytes(back), number);
        }
    });
}

#[test]
fn one_byte_at_a_time() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::default();
    let (mut peer, id) = pair(&mut ring, addr, &mut recorder);
    peer.set_nodelay(true).expect("an option");
    let bytes = pattern(500);
    run_beside(&mut ring, &mut recorder, || {
        for byte in &bytes {
            peer.write_all(&[*byte]).expect("the ring reads");
        }
    });
    run_until(&mut ring, &mut recorder, "all bytes", |recorder| recorder.bytes_of(id).len() == bytes.len());
    assert_eq!(recorder.bytes_of(id), bytes);
}

#[test]
fn many_sockets_at_once() {
    let (mut ring, addr) = listening(small());
    let mut recorder = Recorder::echo();
    let backs = run_beside(&mut ring, &mut recorder, || {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                std::thread::spawn(move || {
                    let peers: Vec<_> =
                        (0..7).map(|_| TcpStream::connect(addr).expect("the listener is there")).collect();
                    peers.iter().all(|peer| {
                        let bytes = pattern(3_000 + number);
                        exchange(peer, &bytes) == bytes
                    })
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("checks hold")).collect::<Vec<_>>()
    });
    assert_eq!(backs, vec![true; 8]);
    assert_eq!(recorder.accepted.len(), 56);
    run_until(&mut ring, &mut recorder, "all closed", |recorder| recorder.closed.len() == 56);
    assert!(ring.is_empty());
}

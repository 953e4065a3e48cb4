//! A ring that is dropped takes everything with it.

mod support;

use std::io::Read;
use std::time::{Duration, Instant};

use petrel_ring::Config;
use support::{PATIENCE, Recorder, listening, pair, pattern, small};

/// Descriptors of this process. The one that lists them counts in each.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}

// One test in this file, so that no other one opens descriptors meanwhile.
#[test]
fn a_dropped_ring_leaks_no_descriptor_and_ends_its_sockets() {
    let lots = pattern(24 << 20);
    let before = descriptors();
    for _ in 0..20 {
        let (mut ring, addr) = listening(Config { egress_bytes_max: 32 << 20, ..small() });
        let mut recorder = Recorder::default();
        let mut peers: Vec<_> = (0..8).map(|_| pair(&mut ring, addr, &mut recorder)).collect();
        // One that is in the middle of a long send, one that closes, one that is paused.
        ring.send(peers[0].1, &lots).expect("within the bound");
        ring.close(peers[1].1);
        ring.pause_recv(peers[2].1);
        ring.turn(Some(Duration::ZERO), &mut recorder).expect("a turn");
        ring.send(peers[3].1, b"queued").expect("within the bound");
        drop(ring);
        for (peer, _) in &mut peers {
            let mut rest = Vec::new();
            // An end or a reset, but not a timeout.
            if let Err(error) = peer.read_to_end(&mut rest) {
                assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET), "{error}");
            }
        }
    }
    let end = Instant::now() + PATIENCE;
    while descriptors() > before {
        assert!(Instant::now() < end, "{} descriptors are left", descriptors() - before);
        std::thread::yield_now();
    }
}

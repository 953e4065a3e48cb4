//! A shard for tests: it records what it is told and echoes when it is asked to.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use petrel_ring::{Closed, Config, Handler, Ring, SocketId};

/// A condition that is not met by then fails its test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What happened, in order for each kind.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) echoes: bool,
    pub(crate) accepted: Vec<SocketId>,
    pub(crate) connected: Vec<SocketId>,
    pub(crate) received: HashMap<SocketId, Vec<u8>>,
    pub(crate) receives: usize,
    pub(crate) drained: Vec<SocketId>,
    pub(crate) closed: Vec<(SocketId, Closed)>,
    pub(crate) woken: usize,
    pub(crate) turns: usize,
}

impl Recorder {
    pub(crate) fn echo() -> Self {
        Self { echoes: true, ..Self::default() }
    }

    pub(crate) fn bytes_of(&self, id: SocketId) -> &[u8] {
        self.received.get(&id).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn reason_of(&self, id: SocketId) -> Option<Closed> {
        self.closed.iter().find(|(closed, _)| *closed == id).map(|&(_, reason)| reason)
    }
}

impl Handler for Recorder {
    fn accepted(&mut self, _: &mut Ring, id: SocketId) {
        self.accepted.push(id);
    }

    fn connected(&mut self, _: &mut Ring, id: SocketId) {
        self.connected.push(id);
    }

    fn received(&mut self, ring: &mut Ring, id: SocketId, bytes: &mut [u8]) {
        assert!(!bytes.is_empty());
        self.receives += 1;
        if self.echoes {
            ring.send(id, bytes).expect("the peer reads");
        } else {
            self.received.entry(id).or_default().extend_from_slice(bytes);
        }
    }

    fn drained(&mut self, ring: &mut Ring, id: SocketId) {
        assert_eq!(ring.egress_bytes(id), 0);
        self.drained.push(id);
    }

    fn closed(&mut self, _: &mut Ring, id: SocketId, reason: Closed) {
        assert!(self.reason_of(id).is_none(), "{id:?} closed twice");
        self.closed.push((id, reason));
    }

    fn woken(&mut self, _: &mut Ring) {
        self.woken += 1;
    }

    fn turn_ended(&mut self, _: &mut Ring) {
        self.turns += 1;
    }
}

pub(crate) fn small() -> Config {
    Config { sockets: 64, entries: 64, buffers: 16, buffer_bytes: 4096, ..Config::default() }
}

pub(crate) fn listening(config: Config) -> (Ring, SocketAddr) {
    let mut ring = Ring::new(config).expect("a ring");
    let addr = ring.listen("127.0.0.1:0".parse().expect("an address")).expect("a listener");
    (ring, addr)
}

/// Turns the ring until the condition is met.
pub(crate) fn run_until(
    ring: &mut Ring,
    recorder: &mut Recorder,
    what: &str,
    mut is_met: impl FnMut(&mut Recorder) -> bool,
) {
    let end = Instant::now() + PATIENCE;
    while !is_met(recorder) {
        assert!(Instant::now() < end, "not in time: {what}");
        ring.turn(Some(Duration::from_millis(5)), recorder).expect("a turn");
    }
}

/// A peer that connects with the standard library, and the ring's side of it.
pub(crate) fn pair(ring: &mut Ring, addr: SocketAddr, recorder: &mut Recorder) -> (TcpStream, SocketId) {
    let before = recorder.accepted.len();
    let peer = TcpStream::connect(addr).expect("the listener is there");
    peer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    run_until(ring, recorder, "accepted", |recorder| recorder.accepted.len() > before);
    (peer, recorder.accepted[before])
}

/// Runs the ring on this thread until the peer's thread has ended, and gives back what that returned.
pub(crate) fn run_beside<T: Send>(
    ring: &mut Ring,
    recorder: &mut Recorder,
    peer: impl FnOnce() -> T + Send,
) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(peer);
        run_until(ring, recorder, "the peer's end", |_| thread.is_finished());
        thread.join().expect("the peer's checks hold")
    })
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) ^ (i >> 8)) as u8).collect()
}

/// Writes all and reads as much back at the same time.
pub(crate) fn exchange(peer: &TcpStream, bytes: &[u8]) -> Vec<u8> {
    std::thread::scope(|scope| {
        let mut writer = peer.try_clone().expect("a second handle");
        scope.spawn(move || writer.write_all(bytes).expect("the ring reads"));
        let mut back = vec![0; bytes.len()];
        let mut reader = peer;
        reader.read_exact(&mut back).expect("the ring echoes");
        back
    })
}

//! The connecting side.

mod support;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use petrel_ring::{Closed, Config, ConnectError, Handler, Ring, SocketId};
use support::{Recorder, listening, run_until, small};

#[test]
fn two_rings_talk() {
    let (mut listener, addr) = listening(small());
    let mut client = Ring::new(small()).expect("a ring");
    let (mut accepting_side, mut recorder) = (Recorder::echo(), Recorder::default());
    let ids: Vec<_> = (0..10).map(|_| client.connect(None, addr).expect("a slot")).collect();
    for id in &ids {
        client.send(*id, &id.slot.to_be_bytes()).expect("it goes out when the connection stands");
    }
    run_until(&mut client, &mut recorder, "all echoes", |recorder| {
        listener.turn(Some(Duration::from_millis(1)), &mut accepting_side).expect("a turn");
        ids.iter().all(|id| recorder.bytes_of(*id).len() == 4)
    });
    assert!(ids.iter().all(|id| recorder.bytes_of(*id) == id.slot.to_be_bytes()));
    assert_eq!(recorder.connected.len(), 10);
    for id in &ids {
        client.close(*id);
    }
    run_until(&mut client, &mut recorder, "all closed", |recorder| {
        listener.turn(Some(Duration::from_millis(1)), &mut accepting_side).expect("a turn");
        recorder.closed.len() == 10 && accepting_side.closed.len() == 10
    });
    assert!(accepting_side.closed.iter().all(|(_, reason)| *reason == Closed::ByPeer));
    assert!(recorder.closed.iter().all(|(_, reason)| *reason == Closed::ByUs));
}

#[test]
fn the_source_address_is_the_one_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let mut ring = Ring::new(small()).expect("a ring");
    let mut recorder = Recorder::default();
    let from: SocketAddr = "127.4.5.6:0".parse().expect("an address");
    ring.connect(Some(from), addr).expect("a slot");
    run_until(&mut ring, &mut recorder, "connected", |recorder| recorder.connected.len() == 1);
    let (_, peer) = listener.accept().expect("a connection");
    assert_eq!(peer.ip(), from.ip());
    assert_ne!(peer.port(), 0);
    let elsewhere: SocketAddr = "192.0.2.1:0".parse().expect("an address");
    assert!(matches!(ring.connect(Some(elsewhere), addr), Err(ConnectError::Io(_))));
    assert_eq!(ring.len(), 1, "what could not be begun takes no slot");
}

#[test]
fn a_refused_connect_is_closed_with_its_reason() {
    let addr =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
    let mut ring = Ring::new(small()).expect("a ring");
    let mut recorder = Recorder::default();
    let id = ring.connect(None, addr).expect("a slot");
    ring.send(id, b"never sent").expect("nobody knows yet");
    run_until(&mut ring, &mut recorder, "closed", |recorder| !recorder.closed.is_empty());
    assert_eq!(recorder.closed, [(id, Closed::Error(libc::ECONNREFUSED))]);
    assert!(recorder.connected.is_empty());
    assert!(ring.is_empty());
}

#[test]
fn an_aborted_connect_is_closed_once() {
    // Nobody answers here: a listener whose backlog of one is full leaves the handshake open.
    let mut ring = Ring::new(small()).expect("a ring");
    let mut recorder = Recorder::default();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let (first, second) =
        (ring.connect(None, addr).expect("a slot"), ring.connect(None, addr).expect("a slot"));
    ring.abort(first);
    ring.close(second);
    run_until(&mut ring, &mut recorder, "both closed", |recorder| recorder.closed.len() == 2);
    assert!(recorder.closed.iter().all(|(_, reason)| *reason == Closed::ByUs));
    assert!(recorder.connected.is_empty());
    assert!(ring.is_empty());
}

/// Connects again from within `closed`, while the slots of others are closed but not reported.
struct Reconnecting {
    to: SocketAddr,
    begun: Vec<SocketId>,
    live: Vec<SocketId>,
    closed: usize,
}

impl Handler for Reconnecting {
    fn accepted(&mut self, _: &mut Ring, _: SocketId) {}
    fn connected(&mut self, _: &mut Ring, id: SocketId) {
        self.live.push(id);
    }
    fn received(&mut self, _: &mut Ring, _: SocketId, _: &mut [u8]) {}
    fn drained(&mut self, _: &mut Ring, _: SocketId) {}
    fn closed(&mut self, ring: &mut Ring, id: SocketId, _: Closed) {
        self.closed += 1;
        assert!(self.begun.contains(&id));
        self.begun.retain(|begun| *begun != id);
        if let Ok(new) = ring.connect(None, self.to) {
            assert!(
                self.begun.iter().all(|begun| begun.slot != new.slot),
                "a slot before its old socket was over"
            );
            self.begun.push(new);
        }
    }
    fn woken(&mut self, _: &mut Ring) {}
    fn turn_ended(&mut self, _: &mut Ring) {}
}

#[test]
fn a_slot_is_not_used_again_before_its_socket_was_reported_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let to = listener.local_addr().expect("an address");
    let mut ring = Ring::new(Config { sockets: 12, ..small() }).expect("a ring");
    let mut handler = Reconnecting { to, begun: Vec::new(), live: Vec::new(), closed: 0 };
    for _ in 0..12 {
        let id = ring.connect(None, to).expect("a slot");
        handler.begun.push(id);
    }
    for _ in 0..20 {
        for id in std::mem::take(&mut handler.live) {
            ring.abort(id);
        }
        for _ in 0..4 {
            ring.turn(Some(Duration::from_millis(1)), &mut handler).expect("a turn");
        }
        while listener.set_nonblocking(true).is_ok() && listener.accept().is_ok() {}
    }
    assert!(handler.closed >= 100, "only {} closed", handler.closed);
    assert_eq!(ring.len() as usize, handler.begun.len());
}

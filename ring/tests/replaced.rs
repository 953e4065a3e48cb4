//! A handler that replaces the ring within a turn is our own fault: it ends in a panic and never in freed memory.

mod support;

use std::io::Write;

use petrel_ring::{Closed, Handler, Ring, SocketId};
use support::{Recorder, listening, pair, small};

struct Replacing;

impl Handler for Replacing {
    fn accepted(&mut self, _: &mut Ring, _: SocketId) {}
    fn connected(&mut self, _: &mut Ring, _: SocketId) {}
    fn received(&mut self, ring: &mut Ring, _: SocketId, bytes: &mut [u8]) {
        *ring = Ring::new(small()).expect("a ring");
        // The old ring is gone, and its buffer is still here.
        assert_eq!(bytes, b"hello");
        bytes.fill(0);
    }
    fn drained(&mut self, _: &mut Ring, _: SocketId) {}
    fn closed(&mut self, _: &mut Ring, _: SocketId, _: Closed) {}
    fn woken(&mut self, _: &mut Ring) {}
    fn turn_ended(&mut self, _: &mut Ring) {}
}

#[test]
#[should_panic(expected = "the ring was replaced within its own turn")]
fn a_replaced_ring_is_noticed() {
    let (mut ring, addr) = listening(small());
    let (mut peer, _) = pair(&mut ring, addr, &mut Recorder::default());
    peer.write_all(b"hello").expect("connected");
    loop {
        ring.turn(None, &mut Replacing).expect("a turn");
    }
}

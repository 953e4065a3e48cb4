//! Wakers on other threads.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use petrel_ring::{Closed, Handler, Ring, SocketId};
use support::{PATIENCE, Recorder, small};

#[test]
fn a_wake_ends_a_wait_without_limit() {
    let mut ring = Ring::new(small()).expect("a ring");
    let mut recorder = Recorder::default();
    let waker = ring.waker();
    let thread = std::thread::spawn(move || waker.wake());
    while recorder.woken == 0 {
        ring.turn(None, &mut recorder).expect("a turn");
    }
    thread.join().expect("no panic");
    assert_eq!(recorder.woken, 1);
}

#[test]
fn wakes_before_a_turn_are_one() {
    let mut ring = Ring::new(small()).expect("a ring");
    let mut recorder = Recorder::default();
    let waker = ring.waker();
    for _ in 0..1_000 {
        waker.clone().wake();
    }
    ring.turn(None, &mut recorder).expect("a turn");
    assert_eq!(recorder.woken, 1);
    ring.turn(Some(Duration::from_millis(1)), &mut recorder).expect("a turn");
    assert_eq!(recorder.woken, 1);
}

/// Adds up what others have sent, whenever it is woken.
struct Adder<'a> {
    sent: &'a AtomicU64,
    seen: u64,
}

impl Handler for Adder<'_> {
    fn accepted(&mut self, _: &mut Ring, _: SocketId) {}
    fn connected(&mut self, _: &mut Ring, _: SocketId) {}
    fn received(&mut self, _: &mut Ring, _: SocketId, _: &mut [u8]) {}
    fn drained(&mut self, _: &mut Ring, _: SocketId) {}
    fn closed(&mut self, _: &mut Ring, _: SocketId, _: Closed) {}
    fn woken(&mut self, _: &mut Ring) {
        self.seen += self.sent.swap(0, Ordering::Relaxed);
    }
    fn turn_ended(&mut self, _: &mut Ring) {}
}

#[test]
fn no_wake_is_lost() {
    const THREADS: u64 = 4;
    const EACH: u64 = 50_000;
    let mut ring = Ring::new(small()).expect("a ring");
    let sent = AtomicU64::new(0);
    let mut adder = Adder { sent: &sent, seen: 0 };
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let waker = ring.waker();
            let sent = &sent;
            scope.spawn(move || {
                for round in 0..EACH {
                    sent.fetch_add(1, Ordering::Relaxed);
                    waker.wake();
                    if round % 1_000 == number {
                        std::thread::sleep(Duration::from_micros(50));
                    }
                }
            });
        }
        // A wake that is lost leaves something unseen while the ring waits without limit; this ends the wait then.
        let end = Instant::now() + PATIENCE;
        while adder.seen < THREADS * EACH {
            assert!(Instant::now() < end, "{} of {} seen", adder.seen, THREADS * EACH);
            let before = adder.seen;
            let begun = Instant::now();
            ring.turn(Some(PATIENCE), &mut adder).expect("a turn");
            assert!(adder.seen > before || begun.elapsed() < PATIENCE, "a wake was lost");
        }
    });
}

#[test]
fn a_waker_may_outlive_its_ring() {
    let ring = Ring::new(small()).expect("a ring");
    let waker = ring.waker();
    drop(ring);
    waker.wake();
    waker.wake();
}

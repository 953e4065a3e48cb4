//! The steady path allocates nothing.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};

use bytes::Bytes;
use petrel_ring::{Closed, Handler, Ring, SocketId};
use support::{Recorder, listening, pair, small};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is the system allocator's; counting touches only a thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.dealloc(memory, layout) };
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Echoes, with a shared payload behind it.
struct Echo {
    payload: Bytes,
    echoes: u32,
}

impl Handler for Echo {
    const WANTS_DRAINED: bool = false;

    fn accepted(&mut self, _: &mut Ring, _: SocketId) {}
    fn connected(&mut self, _: &mut Ring, _: SocketId) {}
    fn received(&mut self, ring: &mut Ring, id: SocketId, bytes: &mut [u8]) {
        ring.send(id, bytes).expect("within the bound");
        ring.send_parts(id, b"head", &self.payload).expect("within the bound");
        self.echoes += 1;
    }
    fn drained(&mut self, _: &mut Ring, _: SocketId) {}
    fn closed(&mut self, _: &mut Ring, _: SocketId, _: Closed) {}
    fn woken(&mut self, _: &mut Ring) {}
    fn turn_ended(&mut self, _: &mut Ring) {}
}

#[test]
fn an_echo_allocates_nothing() {
    for payload_bytes in [100, 10_000] {
        let (mut ring, addr) = listening(small());
        let mut recorder = Recorder::default();
        let (mut peer, _) = pair(&mut ring, addr, &mut recorder);
        let mut echo = Echo { payload: Bytes::from(vec![7; payload_bytes]), echoes: 0 };
        let back_bytes = 64 + 4 + payload_bytes;
        let client = std::thread::spawn(move || {
            let mut back = vec![0; back_bytes];
            for _ in 0..1_000 {
                peer.write_all(&[1; 64]).expect("connected");
                peer.read_exact(&mut back).expect("the echo");
            }
        });
        while echo.echoes < 100 {
            ring.turn(None, &mut echo).expect("a turn");
        }
        let before = ALLOCATIONS.with(Cell::get);
        while echo.echoes < 900 {
            ring.turn(None, &mut echo).expect("a turn");
        }
        assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0, "with a payload of {payload_bytes} bytes");
        while echo.echoes < 1_000 {
            ring.turn(None, &mut echo).expect("a turn");
        }
        ring.turn(Some(std::time::Duration::ZERO), &mut echo).expect("a turn");
        client.join().expect("every echo came");
    }
}

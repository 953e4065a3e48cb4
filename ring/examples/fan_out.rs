//! From which size on a payload that goes to many sockets is better shared than copied.
//!
//! `fan_out [SUBSCRIBERS] [ROUNDS]` sends payloads of several sizes to all subscribers, copied by `send` and shared by
//! `send_parts` (with and without a head of its own), in turn, and prints the median CPU time of the ring's thread for
//! each message. The subscribers are read by another thread.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use petrel_ring::{Closed, Config, Handler, Ring, SocketId};

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("a number"));
    let (subscribers, rounds) = (args.next().unwrap_or(500), args.next().unwrap_or(30));
    let mut ring = Ring::new(Config { egress_bytes_max: 8 << 20, ..Config::default() }).expect("a ring");
    let addr = ring.listen("127.0.0.1:0".parse().expect("an address")).expect("a listener");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| read_all(addr, subscribers, &is_over));
        let mut hub = Hub::default();
        while hub.sockets.len() < subscribers {
            ring.turn(None, &mut hub).expect("a turn");
        }
        println!("bytes: copied, shared alone, shared behind a head; µs of CPU a message");
        for bytes in [128, 256, 512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 64 << 10] {
            let payload = Bytes::from(vec![7; bytes]);
            let mut spent = [const { Vec::new() }; 3];
            for _ in 0..rounds {
                for (way, spent) in spent.iter_mut().enumerate() {
                    spent.push(broadcast(&mut ring, &mut hub, &payload, way));
                }
            }
            let median = |mut spent: Vec<f64>| {
                spent.sort_by(f64::total_cmp);
                spent[spent.len() / 2]
            };
            let [copied, alone, behind] = spent.map(median);
            println!("{bytes:6}: {copied:6.2} {alone:6.2} {behind:6.2}");
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// One message to all, until the kernel has it: microseconds of CPU for each.
fn broadcast(ring: &mut Ring, hub: &mut Hub, payload: &Bytes, way: usize) -> f64 {
    hub.drained = 0;
    let before = thread_cpu();
    for &id in &hub.sockets {
        match way {
            0 => ring.send(id, payload),
            1 => ring.send_parts(id, &[], payload),
            _ => ring.send_parts(id, &[1; 10], payload),
        }
        .expect("the subscribers read");
    }
    while hub.drained < hub.sockets.len() {
        ring.turn(None, hub).expect("a turn");
    }
    thread_cpu().saturating_sub(before).as_secs_f64() * 1e6 / hub.sockets.len() as f64
}

#[derive(Default)]
struct Hub {
    sockets: Vec<SocketId>,
    drained: usize,
}

impl Handler for Hub {
    fn accepted(&mut self, _: &mut Ring, id: SocketId) {
        self.sockets.push(id);
    }
    fn connected(&mut self, _: &mut Ring, _: SocketId) {}
    fn received(&mut self, _: &mut Ring, _: SocketId, _: &mut [u8]) {}
    fn drained(&mut self, _: &mut Ring, _: SocketId) {
        self.drained += 1;
    }
    fn closed(&mut self, _: &mut Ring, _: SocketId, _: Closed) {}
    fn woken(&mut self, _: &mut Ring) {}
    fn turn_ended(&mut self, _: &mut Ring) {}
}

fn read_all(addr: SocketAddr, subscribers: usize, is_over: &AtomicBool) {
    let mut sockets: Vec<TcpStream> = (0..subscribers)
        .map(|_| {
            let socket = TcpStream::connect(addr).expect("the ring listens");
            socket.set_nonblocking(true).expect("an option");
            socket
        })
        .collect();
    let mut buffer = vec![0; 256 << 10];
    while !is_over.load(Ordering::Relaxed) {
        for socket in &mut sockets {
            while socket.read(&mut buffer).is_ok_and(|count| count > 0) {}
        }
    }
}

fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec of ours that the call fills.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

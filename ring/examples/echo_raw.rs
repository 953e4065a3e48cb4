//! What the ring costs beside a plain epoll loop: a raw TCP echo on each, in turn, under the same client.
//!
//! `echo_raw compare [CONNECTIONS] [BYTES] [ROUNDS] [SECONDS] [RATE]` starts each server on the first core and the client
//! on the second, and prints the server's CPU for each message. `RATE` is messages a second over all connections; 0 is
//! as fast as the answers come. `echo_raw ring ADDR` and `echo_raw epoll ADDR` are the servers alone.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use petrel_ring::{Closed, Config, Handler, Ring, SocketId};

const USAGE: &str =
    "echo_raw compare [CONNECTIONS] [BYTES] [ROUNDS] [SECONDS] [RATE] | ring ADDR | epoll ADDR";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |index: usize, default: u64| args.get(index).map_or(default, |arg| arg.parse().expect(USAGE));
    match args.first().map(String::as_str) {
        Some("ring") => serve_ring(args[1].parse().expect(USAGE)),
        Some("epoll") => serve_epoll(args[1].parse().expect(USAGE)),
        Some("compare") => {
            let load = Load {
                connections: number(1, 500) as usize,
                bytes: number(2, 64) as usize,
                time: Duration::from_secs(number(4, 2)),
                rate: number(5, 0),
            };
            compare(&load, number(3, 5));
        }
        _ => eprintln!("{USAGE}"),
    }
}

struct Echo;

impl Handler for Echo {
    const WANTS_DRAINED: bool = false;

    fn accepted(&mut self, _: &mut Ring, _: SocketId) {}
    fn connected(&mut self, _: &mut Ring, _: SocketId) {}
    fn received(&mut self, ring: &mut Ring, id: SocketId, bytes: &mut [u8]) {
        if ring.send(id, bytes).is_err() {
            ring.abort(id);
        }
    }
    fn drained(&mut self, _: &mut Ring, _: SocketId) {}
    fn closed(&mut self, _: &mut Ring, _: SocketId, _: Closed) {}
    fn woken(&mut self, _: &mut Ring) {}
    fn turn_ended(&mut self, _: &mut Ring) {}
}

fn serve_ring(addr: SocketAddr) {
    pin(0);
    let wait_us_max = std::env::var("WAIT_US").map_or(50, |us| us.parse().expect("microseconds"));
    let mut ring = Ring::new(Config { wait_us_max, ..Config::default() }).expect("a ring");
    println!("{}", ring.listen(addr).expect("a listener"));
    loop {
        ring.turn(None, &mut Echo).expect("a turn");
    }
}

fn serve_epoll(addr: SocketAddr) {
    pin(0);
    let listener = TcpListener::bind(addr).expect("a listener");
    listener.set_nonblocking(true).expect("an option");
    println!("{}", listener.local_addr().expect("an address"));
    let mut epoll = Epoll::new();
    epoll.add(listener.as_raw_fd());
    let mut sockets: Vec<Option<(TcpStream, Vec<u8>)>> = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        for fd in epoll.wait(-1) {
            if fd == listener.as_raw_fd() {
                while let Ok((socket, _)) = listener.accept() {
                    socket.set_nonblocking(true).expect("an option");
                    socket.set_nodelay(true).expect("an option");
                    let fd = socket.as_raw_fd();
                    epoll.add(fd);
                    sockets.resize_with(sockets.len().max(fd as usize + 1), || None);
                    sockets[fd as usize] = Some((socket, Vec::new()));
                }
            } else if let Some((socket, rest)) = &mut sockets[fd as usize]
                && !echo(socket, rest, &mut buffer)
            {
                sockets[fd as usize] = None;
            }
        }
    }
}

/// Reads once and writes it back; false when the socket is over. What does not fit is written by the next call.
fn echo(mut socket: &TcpStream, rest: &mut Vec<u8>, buffer: &mut [u8]) -> bool {
    match socket.read(buffer) {
        Ok(0) => false,
        Ok(count) if rest.is_empty() => match socket.write(&buffer[..count]) {
            Ok(written) => {
                rest.extend_from_slice(&buffer[written..count]);
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        },
        Ok(count) => {
            rest.extend_from_slice(&buffer[..count]);
            if let Ok(written) = socket.write(rest) {
                rest.drain(..written);
            }
            true
        }
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

struct Load {
    connections: usize,
    bytes: usize,
    time: Duration,
    rate: u64,
}

struct Measured {
    per_second: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
}

fn compare(load: &Load, rounds: u64) {
    println!(
        "{} connections, {} bytes, {} rounds of {:?}, {}",
        load.connections,
        load.bytes,
        rounds,
        load.time,
        if load.rate == 0 { "closed loop".to_owned() } else { format!("{} messages/s", load.rate) },
    );
    pin(1);
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (engine, measured) in ["ring", "epoll"].into_iter().zip(&mut all) {
            measured.push(measure(engine, load));
        }
    }
    let median = |measured: &[Measured], of: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = measured.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    for (engine, measured) in ["ring", "epoll"].into_iter().zip(&all) {
        println!(
            "{engine:6} {:9.0} messages/s {:7.3} µs of CPU a message, p50 {:7.1} µs, p99 {:7.1} µs",
            median(measured, |m| m.per_second),
            median(measured, |m| m.cpu_us),
            median(measured, |m| m.p50_us),
            median(measured, |m| m.p99_us),
        );
    }
    let mut ratios: Vec<f64> =
        all[0].iter().zip(&all[1]).map(|(ring, epoll)| ring.cpu_us / epoll.cpu_us).collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "CPU ring / epoll: {:.3} (from {:.3} to {:.3})",
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1]
    );
}

fn measure(engine: &str, load: &Load) -> Measured {
    let (mut server, addr) = start(engine);
    let mut sockets: Vec<TcpStream> = (0..load.connections)
        .map(|_| {
            let socket = TcpStream::connect(addr).expect("the server listens");
            socket.set_nodelay(true).expect("an option");
            socket.set_nonblocking(true).expect("an option");
            socket
        })
        .collect();
    let mut client = Client::new(&sockets, load);
    client.run(&mut sockets, Duration::from_millis(300));
    let (before, begun) = (cpu(&server), Instant::now());
    let messages = client.run(&mut sockets, load.time);
    let (spent, took) = (cpu(&server).saturating_sub(before), begun.elapsed());
    drop(sockets);
    server.kill().expect("it is ours");
    server.wait().expect("it is ours");
    client.latencies.sort_unstable();
    let latency = |share: f64| {
        let index = (client.latencies.len() as f64 * share) as usize;
        client.latencies.get(index).map_or(0.0, |ns| *ns as f64 / 1_000.0)
    };
    Measured {
        per_second: messages as f64 / took.as_secs_f64(),
        cpu_us: spent.as_secs_f64() * 1e6 / messages as f64,
        p50_us: latency(0.5),
        p99_us: latency(0.99),
    }
}

/// Many connections, each with at most one message on the way.
struct Client {
    epoll: Epoll,
    message: Vec<u8>,
    rate: u64,
    idle: VecDeque<usize>,
    flights: Vec<Option<(Instant, usize, usize)>>,
    index_of: Vec<usize>,
    latencies: Vec<u64>,
}

impl Client {
    fn new(sockets: &[TcpStream], load: &Load) -> Self {
        let epoll = Epoll::new();
        let mut index_of = vec![usize::MAX; 70_000];
        for (index, socket) in sockets.iter().enumerate() {
            epoll.add(socket.as_raw_fd());
            index_of[socket.as_raw_fd() as usize] = index;
        }
        Self {
            epoll,
            message: vec![7; load.bytes],
            rate: load.rate,
            idle: (0..sockets.len()).collect(),
            flights: vec![None; sockets.len()],
            index_of,
            latencies: Vec::new(),
        }
    }

    /// Returns how many messages came back.
    fn run(&mut self, sockets: &mut [TcpStream], time: Duration) -> u64 {
        self.latencies.clear();
        let begun = Instant::now();
        let (mut sent, mut back) = (0_u64, 0);
        let mut buffer = vec![0; 256 << 10];
        while begun.elapsed() < time {
            let due = if self.rate == 0 {
                u64::MAX
            } else {
                (begun.elapsed().as_secs_f64() * self.rate as f64) as u64
            };
            while sent < due
                && let Some(index) = self.idle.pop_front()
            {
                self.flights[index] = Some((Instant::now(), 0, 0));
                self.write(index, &mut sockets[index]);
                sent += 1;
            }
            let patience = if self.rate == 0 { 100 } else { 0 };
            for fd in self.epoll.wait(patience) {
                let index = self.index_of[fd as usize];
                self.write(index, &mut sockets[index]);
                let Ok(count) = sockets[index].read(&mut buffer) else { continue };
                assert!(count > 0, "the server closed");
                let Some((since, _, read)) = &mut self.flights[index] else { panic!("an answer to nothing") };
                *read += count;
                if *read == self.message.len() {
                    self.latencies.push(since.elapsed().as_nanos() as u64);
                    self.flights[index] = None;
                    self.idle.push_back(index);
                    back += 1;
                }
            }
        }
        back
    }

    fn write(&mut self, index: usize, socket: &mut TcpStream) {
        let Some((_, written, _)) = &mut self.flights[index] else { return };
        while *written < self.message.len() {
            match socket.write(&self.message[*written..]) {
                Ok(count) => *written += count,
                Err(_) => return,
            }
        }
    }
}

fn start(engine: &str) -> (Child, SocketAddr) {
    let program = std::env::current_exe().expect("this program");
    let mut server = Command::new(program)
        .args([engine, "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts again");
    let mut line = String::new();
    let out = server.stdout.as_mut().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("an address");
    (server, line.trim().parse().expect("an address"))
}

/// Time on a core, user and system.
fn cpu(server: &Child) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{}/schedstat", server.id())).expect("the server runs");
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds"))
}

fn pin(core: usize) {
    // SAFETY: a cpu_set_t is a bit mask, for which all zeroes is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `core` is far below the mask's size.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` is a mask of the size that is passed. Where the core does not exist, nothing is pinned.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
}

struct Epoll {
    fd: RawFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    fn new() -> Self {
        // SAFETY: the call takes no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 1_024] }
    }

    fn add(&self, fd: RawFd) {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
        // SAFETY: `event` outlives the call.
        let result = unsafe { libc::epoll_ctl(self.fd, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    fn wait(&mut self, milliseconds: i32) -> Vec<RawFd> {
        let room = self.events.len() as i32;
        // SAFETY: the kernel writes at most `room` events into the vector, which has so many.
        let count = unsafe { libc::epoll_wait(self.fd, self.events.as_mut_ptr(), room, milliseconds) };
        self.events[..count.max(0) as usize].iter().map(|event| event.u64 as RawFd).collect()
    }
}

//! The client of the comparison: many WebSockets on one thread and one epoll, and nothing that the servers use.
//!
//! Every byte that comes back is compared with what was sent, so a server that is fast because it is wrong does not count.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use petrel_protocol::websocket::upgrade::{client_request, parse_response};
use petrel_protocol::websocket::{Opcode, encode_frame};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// Connections that are opened at a time; it stays below every server's backlog.
const OPENED_AT_ONCE: usize = 100;
/// Events taken from epoll at a time.
const EVENTS_MAX: usize = 1_024;
/// A server that says nothing for this long while answers are due has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest latency that is told apart, nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Any key will do, but for zero, with which unmasking would be nothing.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What is sent, and what is to come back for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) payload_bytes: usize,
    /// Messages that come back for each one.
    pub(crate) answers: u32,
}

/// Many connections, each with at most one message on the way.
pub(crate) struct Client {
    addr: SocketAddr,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    /// When the last answers came.
    heard: Instant,
    connections: Vec<Connection>,
    idle: VecDeque<u32>,
    request: Vec<u8>,
    answer: Vec<u8>,
    buffer: Vec<u8>,
    latencies: Histogram<u64>,
}

/// What a connection does once its answer is there.
#[derive(Clone, Copy)]
enum Then {
    Send,
    Rest,
}

struct Connection {
    socket: TcpStream,
    /// When the message on the way was sent, or should have been.
    since: Instant,
    written: usize,
    read: usize,
    waits_for_room: bool,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr, shape: Shape) -> io::Result<Self> {
        let payload: Vec<u8> = (0..shape.payload_bytes).map(|at| (at * 31 % 251) as u8).collect();
        let (mut request, mut answer) = (Vec::new(), Vec::new());
        encode_frame(&mut request, Opcode::Binary, &payload, Some(MASK));
        for _ in 0..shape.answers {
            encode_frame(&mut answer, Opcode::Binary, &payload, None);
        }
        let latencies = Histogram::new_with_max(LATENCY_NS_MAX, 3).map_err(io::Error::other)?;
        Ok(Self {
            addr,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_MAX),
            connections: Vec::new(),
            idle: VecDeque::new(),
            request,
            answer,
            buffer: vec![0; 64 << 10],
            latencies,
            heard: Instant::now(),
        })
    }

    /// Opens connections until there are so many.
    pub(crate) fn open(&mut self, count: usize) -> io::Result<()> {
        while self.connections.len() < count {
            let batch = (count - self.connections.len()).min(OPENED_AT_ONCE);
            let opened: Vec<TcpStream> =
                (0..batch).map(|_| begin_upgrade(self.addr)).collect::<io::Result<_>>()?;
            for socket in opened {
                end_upgrade(&socket)?;
                socket.set_nonblocking(true)?;
                let number = self.connections.len();
                let data = epoll::EventData::new_u64(number as u64);
                epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)?;
                self.idle.push_back(number as u32);
                let since = Instant::now();
                self.connections.push(Connection {
                    socket,
                    since,
                    written: 0,
                    read: 0,
                    waits_for_room: false,
                });
            }
        }
        Ok(())
    }

    /// Sends on every connection as soon as its answer is there. Returns how many answers came.
    pub(crate) fn closed_loop(&mut self, time: Duration) -> io::Result<u64> {
        let begun = self.begin();
        let mut answers = 0;
        while begun.elapsed() < time {
            while let Some(number) = self.idle.pop_front() {
                self.send(number, Instant::now())?;
            }
            answers += self.take_answers(Then::Send)?;
        }
        Ok(answers)
    }

    /// Sends at times that are fixed beforehand, on whichever connection has waited longest; a latency counts from that
    /// time.
    pub(crate) fn fixed_rate(&mut self, per_second: u64, time: Duration) -> io::Result<u64> {
        let begun = self.begin();
        let (mut sent, mut answers) = (0_u64, 0);
        while begun.elapsed() < time {
            let due = (begun.elapsed().as_secs_f64() * per_second as f64) as u64;
            while sent < due
                && let Some(number) = self.idle.pop_front()
            {
                sent += 1;
                self.send(number, begun + Duration::from_secs_f64(sent as f64 / per_second as f64))?;
            }
            answers += self.take_answers(Then::Rest)?;
        }
        Ok(answers)
    }

    /// The first connection sends, and when everybody has it, again. Returns how many messages came to anybody.
    pub(crate) fn broadcasts(&mut self, time: Duration) -> io::Result<u64> {
        let begun = self.begin();
        let mut answers = 0;
        while begun.elapsed() < time {
            let since = Instant::now();
            for connection in &mut self.connections {
                connection.since = since;
            }
            self.idle.clear();
            self.write(0)?;
            while self.idle.len() < self.connections.len() {
                answers += self.take_answers(Then::Rest)?;
            }
        }
        Ok(answers)
    }

    fn begin(&mut self) -> Instant {
        self.heard = Instant::now();
        self.heard
    }

    /// Waits for every answer that is due.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        while self.idle.len() < self.connections.len() {
            self.take_answers(Then::Rest)?;
        }
        Ok(())
    }

    /// The latencies since the last call.
    pub(crate) fn take_latencies(&mut self) -> Histogram<u64> {
        let empty = Histogram::new_from(&self.latencies);
        std::mem::replace(&mut self.latencies, empty)
    }

    fn send(&mut self, number: u32, since: Instant) -> io::Result<()> {
        self.connections[number as usize].since = since;
        self.write(number as usize)
    }

    fn write(&mut self, number: usize) -> io::Result<()> {
        let connection = &mut self.connections[number];
        let data = epoll::EventData::new_u64(number as u64);
        while connection.written < self.request.len() {
            match connection.socket.write(&self.request[connection.written..]) {
                Ok(count) => connection.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !connection.waits_for_room {
                        connection.waits_for_room = true;
                        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT;
                        epoll::modify(&self.epoll, &connection.socket, data, flags)?;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if connection.waits_for_room {
            connection.waits_for_room = false;
            epoll::modify(&self.epoll, &connection.socket, data, epoll::EventFlags::IN)?;
        }
        Ok(())
    }

    /// Takes what is there, and never sleeps: to wake this client would cost the server that answers it, on one machine, and
    /// the client a delay of its own. Returns how many answers are complete.
    fn take_answers(&mut self, then: Then) -> io::Result<u64> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        if epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&Timespec::default()))? > 0 {
            self.heard = Instant::now();
        } else if self.heard.elapsed() > PATIENCE {
            return Err(io::Error::new(ErrorKind::TimedOut, "the server owes answers and is silent"));
        }
        let mut answers = 0;
        for event in &events {
            let (number, flags) = (event.data.u64() as usize, event.flags);
            if flags.contains(epoll::EventFlags::OUT) {
                self.write(number)?;
            }
            if flags.contains(epoll::EventFlags::IN) && self.read(number)? {
                answers += 1;
                match then {
                    Then::Send => self.send(number as u32, Instant::now())?,
                    Then::Rest => self.idle.push_back(number as u32),
                }
            }
        }
        self.events = events;
        Ok(answers)
    }

    /// Reads once; true when an answer is complete.
    fn read(&mut self, number: usize) -> io::Result<bool> {
        let connection = &mut self.connections[number];
        let count = match connection.socket.read(&mut self.buffer) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed a connection")),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let expected = self.answer.get(connection.read..connection.read + count);
        if expected != Some(&self.buffer[..count]) {
            return Err(io::Error::new(ErrorKind::InvalidData, "an answer is not what was sent"));
        }
        connection.read += count;
        if connection.read < self.answer.len() {
            return Ok(false);
        }
        (connection.read, connection.written) = (0, 0);
        // Saturates: what is longer than the histogram's range is counted as its end.
        self.latencies.saturating_record(connection.since.elapsed().as_nanos() as u64);
        Ok(true)
    }
}

fn begin_upgrade(addr: SocketAddr) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(addr)?;
    socket.set_nodelay(true)?;
    // Reset at the end, so that rounds with many connections do not use up the ports.
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    client_request(&mut request, &addr.to_string(), "/", [7; 16], None);
    socket.write_all(&request)?;
    Ok(socket)
}

fn end_upgrade(mut socket: &TcpStream) -> io::Result<()> {
    let mut response = Vec::new();
    let mut buffer = [0; 1_024];
    loop {
        let count = socket.read(&mut buffer)?;
        response.extend_from_slice(&buffer[..count]);
        match parse_response(&response, [7; 16]) {
            Ok(Some(len)) if len == response.len() => return Ok(()),
            Ok(None) if count > 0 => {}
            Ok(_) => return Err(io::Error::new(ErrorKind::InvalidData, "no answer to the upgrade")),
            Err(fault) => return Err(io::Error::new(ErrorKind::InvalidData, fault)),
        }
    }
}

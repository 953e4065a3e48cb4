//! The echo on Petrel's own engine.

use std::io;

use bytes::Bytes;
use clap::Parser;
use petrel_engines::{Echo, Options, Piece, send_frame};
use petrel_protocol::websocket::{Config, Opcode};
use petrel_ring::{Closed, Handler, Ring, SocketId};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(clap::Parser)]
#[command(about = "A WebSocket echo on petrel-ring")]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Send each message to every connection instead of back.
    #[arg(long)]
    broadcast: bool,
    /// Answer each message so many times.
    #[arg(long, default_value_t = 1)]
    answers: u32,
    /// Longest wait for a batch while busy, microseconds.
    #[arg(long, default_value_t = petrel_ring::Config::default().wait_us_max)]
    wait_us_max: u32,
    /// Connections at most.
    #[arg(long, default_value_t = petrel_ring::Config::default().sockets)]
    sockets: u32,
    /// Entries of the submission queue.
    #[arg(long, default_value_t = petrel_ring::Config::default().entries)]
    entries: u32,
    /// Receive buffers at most.
    #[arg(long, default_value_t = petrel_ring::Config::default().buffers)]
    buffers: u16,
    /// Bytes of each of them.
    #[arg(long, default_value_t = petrel_ring::Config::default().buffer_bytes)]
    buffer_bytes: u32,
}

fn main() -> io::Result<()> {
    // As Petrel does; also, a huge page would hide what a connection takes.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let arguments = Arguments::parse();
    let options = arguments.options;
    let egress_bytes_max = (2 * options.message_bytes_max).max(1 << 20);
    let mut ring = Ring::new(petrel_ring::Config {
        wait_us_max: arguments.wait_us_max,
        sockets: arguments.sockets,
        entries: arguments.entries,
        buffers: arguments.buffers,
        buffer_bytes: arguments.buffer_bytes,
        egress_bytes_max,
        ..petrel_ring::Config::default()
    })?;
    println!("{}", ring.listen(options.listen)?);
    let mut server = Server {
        websocket: Echo::config(&options),
        // Pages that are never used take no memory, and a table that grows leaves its old places behind.
        connections: Vec::with_capacity(arguments.sockets as usize),
        is_broadcast: arguments.broadcast,
        answers: arguments.answers,
        frames: Vec::new(),
    };
    loop {
        ring.turn(None, &mut server)?;
    }
}

struct Server {
    websocket: Config,
    /// By slot: the socket that has it, and its state.
    connections: Vec<(Option<SocketId>, Echo)>,
    is_broadcast: bool,
    answers: u32,
    /// Frames that the current read sends to everybody.
    frames: Vec<Bytes>,
}

impl Server {
    fn broadcast(&mut self, ring: &mut Ring) {
        for frame in self.frames.drain(..) {
            for &id in self.connections.iter().filter_map(|(id, _)| id.as_ref()) {
                if ring.send_parts(id, b"", &frame).is_err() {
                    ring.abort(id);
                }
            }
        }
    }
}

impl Handler for Server {
    const WANTS_DRAINED: bool = false;

    fn accepted(&mut self, _: &mut Ring, id: SocketId) {
        let slot = id.slot as usize;
        if slot >= self.connections.len() {
            self.connections.resize_with(slot + 1, Default::default);
        }
        self.connections[slot] = (Some(id), Echo::default());
    }

    fn connected(&mut self, _: &mut Ring, _: SocketId) {}

    fn received(&mut self, ring: &mut Ring, id: SocketId, bytes: &mut [u8]) {
        let (_, echo) = &mut self.connections[id.slot as usize];
        let mut is_full = false;
        let (answers, is_broadcast, frames) = (self.answers, self.is_broadcast, &mut self.frames);
        let read = echo.read_with(&self.websocket, bytes, &mut |piece| match piece {
            Piece::Message(opcode, payload) if is_broadcast => frames.push(frame(opcode, payload)),
            Piece::Message(opcode, payload) => {
                for _ in 0..answers {
                    send_frame(&mut |bytes| is_full |= ring.send(id, bytes).is_err(), opcode, payload);
                }
            }
            Piece::Raw(bytes) => is_full |= ring.send(id, bytes).is_err(),
        });
        if !self.frames.is_empty() {
            self.broadcast(ring);
        }
        if is_full {
            ring.abort(id);
        } else if read.is_err() {
            ring.close(id);
        }
    }

    fn drained(&mut self, _: &mut Ring, _: SocketId) {}

    fn closed(&mut self, _: &mut Ring, id: SocketId, _: Closed) {
        self.connections[id.slot as usize] = (None, Echo::default());
    }

    fn woken(&mut self, _: &mut Ring) {}
    fn turn_ended(&mut self, _: &mut Ring) {}
}

/// A frame as it goes to everybody, encoded once.
fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    send_frame(&mut |bytes| frame.extend_from_slice(bytes), opcode, payload);
    Bytes::from(frame)
}

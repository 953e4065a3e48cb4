//! A device's connection: opened, read, written, ended, opened again.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use petrel_protocol::client::Input;
use petrel_protocol::codes::close;
use petrel_protocol::limits;
use petrel_protocol::websocket::{Config, Decoder, Event, Opcode, Role, close_payload, encode_frame};
use petrel_simulation::history::What;

use super::{Device, Link, Slot, Station};
use crate::measure::Timed;
use crate::plan::Stage;
use crate::socket::{self, Opened};

/// The largest message that is taken from the edge: a sync reply has many rows.
const WEBSOCKET: Config =
    Config { role: Role::Client, message_bytes_max: limits::EGRESS_BYTES_MAX, take_text: false };
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 4 << 10;
/// After a failure: this long, doubled with each further one, up to the largest.
const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Keeps a device connected whenever it is wanted. Ends with the runtime.
pub(super) async fn run(station: Rc<Station>, d: usize) {
    loop {
        station.wait(d, Slot::Online, |device| device.is_wanted.then_some(())).await;
        station.pace(d).await;
        if !station.inner.borrow().devices[d].is_wanted {
            continue;
        }
        match station.open(d).await {
            Ok(opened) => serve(&station, d, opened).await,
            Err(e) => station.failed(d, &e),
        }
    }
}

impl Station {
    /// Waits for this device's turn to connect: the ramp's rate holds for every connection.
    async fn pace(&self, d: usize) {
        let at = {
            let now = self.plan.clock.stamp();
            let mut inner = self.inner.borrow_mut();
            let interval = f64::from(self.plan.threads) / self.plan.scenario.ramp_per_s;
            let at = now.max(inner.next_connect).max(inner.devices[d].hold_until);
            inner.next_connect = now.max(inner.next_connect).after(Duration::from_secs_f64(interval));
            at
        };
        let wait = self.plan.clock.until(at);
        if !wait.is_zero() {
            monoio::time::sleep(wait).await;
        }
    }

    async fn open(&self, d: usize) -> Result<Opened, socket::OpenError> {
        let plan = &self.plan;
        let (number, nonce) = {
            let mut inner = self.inner.borrow_mut();
            let nonce = [inner.random.bits().to_be_bytes(), inner.random.bits().to_be_bytes()];
            inner.record(d, What::Connecting);
            (inner.devices[d].number, nonce)
        };
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&nonce[0]);
        bytes[8..].copy_from_slice(&nonce[1]);
        let devices = plan.scenario.devices;
        let token = plan.accounts.token(number / devices, number % devices, devices);
        let place = plan.first_connection + number;
        // Users in turn, all devices of one at the same: two users who write to each other are mostly at two edges.
        let edge = &plan.edges[(number / devices) as usize % plan.edges.len()];
        let source = socket::source_of(edge.address, place, plan.scenario.connections_per_source);
        let started = plan.clock.stamp();
        let opened = monoio::time::timeout(OPEN_TIMEOUT, socket::open(edge, source, &token, bytes)).await;
        let opened = opened.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        let now = plan.clock.stamp();
        let mut inner = self.inner.borrow_mut();
        inner.measures.time(Timed::Connect, now.us_since(started));
        inner.measures.counts.connections.0 += 1;
        let is_resync = inner.stage >= Stage::Resync;
        let device = &mut inner.devices[d];
        device.resync_connects += u32::from(is_resync);
        device.link = Link::Up;
        device.failures = 0;
        device.upgraded_at = now;
        inner.record(d, What::Connected);
        inner.handle(d, Input::Connected);
        Ok(opened)
    }

    fn failed(&self, d: usize, error: &socket::OpenError) {
        let now = self.plan.clock.stamp();
        let mut inner = self.inner.borrow_mut();
        inner.measures.counts.connect_failures += 1;
        inner.last_failure = Some(error.to_string());
        let spread = 1.0 + inner.random.unit();
        let device = &mut inner.devices[d];
        let wait = BACKOFF.saturating_mul(1 << device.failures.min(10)).min(BACKOFF_MAX);
        device.failures += 1;
        device.hold_until = now.after(wait.mul_f64(spread));
    }

    fn down(&self, d: usize) {
        let mut inner = self.inner.borrow_mut();
        let was_asked = inner.devices[d].link != Link::Up || inner.stage == Stage::End;
        inner.measures.counts.connections.1 += u64::from(!was_asked);
        inner.record(d, What::Disconnected);
        inner.handle(d, Input::Disconnected);
        let device = &mut inner.devices[d];
        device.link = Link::Down;
        device.egress.clear();
        device.ring(Slot::Egress);
        device.ring(Slot::WriteAbort);
    }
}

/// Reads until the connection ends, however it does.
async fn serve(station: &Rc<Station>, d: usize, opened: Opened) {
    let (mut read, write) = opened.stream.into_split();
    let writer = monoio::spawn(write_all(Rc::clone(station), d, write));
    let mut decoder = Decoder::new();
    let mut bytes = opened.early;
    let mut goes_on = feed(station, d, &mut decoder, &mut bytes);
    bytes = Vec::with_capacity(READ_BYTES);
    while goes_on {
        let (len, filled) = monoio::select! {
            received = read.read(bytes) => received,
            () = station.wait_abort(d, Slot::ReadAbort) => break,
        };
        bytes = filled;
        match len {
            Ok(0) | Err(_) => break,
            Ok(_) => goes_on = feed(station, d, &mut decoder, &mut bytes),
        }
    }
    station.down(d);
    writer.await;
}

impl Station {
    async fn wait_abort(&self, d: usize, slot: Slot) {
        self.wait(d, slot, |device| matches!(device.link, Link::Aborting | Link::Down).then_some(())).await;
    }
}

/// Gives the machine what a read brought. Returns whether the connection goes on.
fn feed(station: &Station, d: usize, decoder: &mut Decoder, bytes: &mut [u8]) -> bool {
    let mut inner = station.inner.borrow_mut();
    let mut is_closed = false;
    let mut on_event = |event: Event<'_>| {
        match event {
            Event::Binary(packet) => inner.handle(d, Input::Packet(packet)),
            Event::Ping(payload) => inner.handle(d, Input::Ping(payload)),
            Event::Pong(_) => inner.handle(d, Input::Pong),
            Event::Text(_) => inner.nonsense(d, "a text message".to_owned()),
            Event::Close(code, reason) => {
                inner.closed_by_edge(d, code, reason);
                is_closed = true;
            }
        }
        ControlFlow::Continue(())
    };
    let fed = decoder.feed(&WEBSOCKET, bytes, &mut on_event);
    match fed {
        Ok(ControlFlow::Continue(())) => !is_closed,
        Ok(ControlFlow::Break(())) => false,
        Err(fault) => {
            inner.nonsense(d, format!("not WebSocket: {fault}"));
            false
        }
    }
}

async fn write_all<W: AsyncWriteRent>(station: Rc<Station>, d: usize, mut write: W) {
    loop {
        let (bytes, is_last) = match station.wait(d, Slot::Egress, take_egress).await {
            Egress::Bytes(bytes) => (bytes, false),
            Egress::Last(bytes) => (bytes, true),
            Egress::Gone => return,
        };
        let (result, bytes) = monoio::select! {
            written = write.write_all(bytes) => written,
            () = station.wait_abort(d, Slot::WriteAbort) => return,
        };
        if result.is_err() {
            let now = station.plan.clock.stamp();
            station.inner.borrow_mut().devices[d].hang_up(now, false);
            return;
        }
        if is_last {
            // A connection that cannot be shut down is gone already.
            let _ = write.shutdown().await;
            return;
        }
        station.inner.borrow_mut().devices[d].give_back(bytes);
    }
}

/// What is to be written.
enum Egress {
    Bytes(Vec<u8>),
    Last(Vec<u8>),
    /// There is nobody to write to.
    Gone,
}

fn take_egress(device: &mut Device) -> Option<Egress> {
    match device.link {
        Link::Down | Link::Aborting => Some(Egress::Gone),
        Link::Closing => {
            let payload = close_payload(close::NORMAL, "");
            encode_frame(&mut device.egress, Opcode::Close, &payload, Some([7; 4]));
            Some(Egress::Last(std::mem::take(&mut device.egress)))
        }
        Link::Up if device.egress.is_empty() => None,
        Link::Up => {
            let spare = std::mem::take(&mut device.spare);
            Some(Egress::Bytes(std::mem::replace(&mut device.egress, spare)))
        }
    }
}

impl Device {
    /// Keeps an emptied buffer for its memory, unless one burst made it large.
    fn give_back(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() <= READ_BYTES {
            bytes.clear();
            self.spare = bytes;
        }
    }
}

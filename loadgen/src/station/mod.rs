//! One thread of the generator: its devices, their connections, and what they learn.
//!
//! Everything here runs on one monoio runtime. A device has two tasks, one that reads and one that writes; whatever the
//! turn of a loop brought for a connection goes out in one write.

mod connection;
mod control;
mod learn;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use petrel_protocol::client::{Client, Outputs};
use petrel_simulation::history::What;

use crate::history::Recorder;
use crate::measure::Measures;
use crate::plan::{Board, Plan, Stage};
use crate::random::Random;
use crate::records::Records;
use crate::stamp::Stamp;

/// What a thread leaves behind.
#[derive(Debug)]
pub struct Report {
    /// For the judgement.
    pub records: Records,
    /// What it measured.
    pub measures: Measures,
    /// Its devices that did not come through the final sync.
    pub unsynced: Vec<u32>,
    /// Why the last attempt to connect failed, where one did.
    pub last_failure: Option<String>,
    /// Why its part of the history is not whole, where it is not.
    pub unwritten: Option<std::io::Error>,
}

/// Runs thread `number` until the board says that it is over.
pub fn run(number: u32, plan: Arc<Plan>, board: Arc<Board>) -> std::io::Result<Report> {
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(RING_ENTRIES)
        .enable_timer()
        .build()?;
    let recorder = plan.history.as_ref().map(|history| Recorder::create(history, number)).transpose()?;
    let station = Rc::new(Station::new(number, plan, board));
    station.inner.borrow_mut().begin_history(recorder);
    runtime.block_on(control::run(Rc::clone(&station)));
    let mut inner = station.inner.borrow_mut();
    let unsynced = inner.devices.iter().filter(|d| !d.is_synced()).map(|d| d.number).collect();
    let records = std::mem::take(&mut inner.records);
    let measures = std::mem::take(&mut inner.measures);
    let last_failure = inner.last_failure.take();
    let unwritten = inner.end_history();
    drop(inner);
    Ok(Report { records, measures, unsynced, last_failure, unwritten })
}

/// Submissions that the ring takes at once; more only means one more call.
const RING_ENTRIES: u32 = 4_096;

/// One thread.
pub(crate) struct Station {
    number: u32,
    plan: Arc<Plan>,
    board: Arc<Board>,
    inner: RefCell<Inner>,
}

/// What the tasks of the thread share; borrowed for the time of one input.
struct Inner {
    number: u32,
    plan: Arc<Plan>,
    devices: Vec<Device>,
    records: Records,
    measures: Measures,
    random: Random,
    out: Outputs,
    load_start: Stamp,
    stage: Stage,
    /// Transmissions so far, resends included.
    transmissions: u32,
    last_news: Stamp,
    /// The next connection is not opened before this.
    next_connect: Stamp,
    /// Closed loop: devices that may send one more.
    turns: Vec<usize>,
    is_load_over: bool,
    sender: Option<Waker>,
    /// The content being written, kept for its memory.
    content: String,
    /// Why the last attempt to connect failed.
    last_failure: Option<String>,
    /// Where what happens is written down, if it is.
    recorder: Option<Recorder>,
}

/// One device and its connection.
struct Device {
    /// Among all devices: user × devices + device.
    number: u32,
    /// The user's place.
    user: u32,
    client: Client,
    link: Link,
    /// Whether it is to be online.
    is_wanted: bool,
    /// Connections opened since the final sync began.
    resync_connects: u32,
    /// Whether one of these got ready.
    has_resynced: bool,
    /// Not connected again before this.
    hold_until: Stamp,
    failures: u32,
    upgraded_at: Stamp,
    ready_at: Stamp,
    closing_at: Stamp,
    /// Statuses that it was told.
    told: u32,
    /// Frames to write.
    egress: Vec<u8>,
    /// An emptied buffer, kept for its memory.
    spare: Vec<u8>,
    /// Own messages whose recall was asked for: the server's id and the message's index.
    recalling: Vec<(u64, u32)>,
    wakers: [Option<Waker>; 4],
}

/// Where a device's connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Up,
    /// What is to be written is written, then a close; the server's end is waited for.
    Closing,
    /// Dropped as it is.
    Aborting,
}

/// What a task of a device waits for.
#[derive(Clone, Copy)]
enum Slot {
    Online,
    Egress,
    ReadAbort,
    WriteAbort,
}

impl Device {
    fn new(number: u32, plan: &Plan) -> Self {
        let user = number / plan.scenario.devices;
        Self {
            number,
            user,
            client: Client::new(plan.accounts.users[user as usize], Arc::clone(&plan.client)),
            link: Link::Down,
            is_wanted: true,
            resync_connects: 0,
            has_resynced: false,
            hold_until: Stamp::NEVER,
            failures: 0,
            upgraded_at: Stamp::NEVER,
            told: 0,
            ready_at: Stamp::NEVER,
            closing_at: Stamp::NEVER,
            egress: Vec::new(),
            spare: Vec::new(),
            recalling: Vec::new(),
            wakers: Default::default(),
        }
    }

    fn ring(&mut self, slot: Slot) {
        if let Some(waker) = self.wakers[slot as usize].take() {
            waker.wake();
        }
    }

    /// Ends the connection, politely or not.
    fn hang_up(&mut self, now: Stamp, is_polite: bool) {
        if self.link == Link::Up {
            self.link = if is_polite { Link::Closing } else { Link::Aborting };
            self.closing_at = now;
            self.ring(Slot::Egress);
        }
        if !is_polite && self.link == Link::Closing {
            self.link = Link::Aborting;
        }
        if self.link == Link::Aborting {
            self.ring(Slot::ReadAbort);
            self.ring(Slot::WriteAbort);
            self.ring(Slot::Egress);
        }
    }

    /// Its name in a history.
    fn name(&self, plan: &Plan) -> petrel_simulation::history::Device {
        let place = self.number % plan.scenario.devices;
        let kind = petrel_protocol::ids::Device::ALL[place as usize] as u8;
        petrel_simulation::history::Device { user: self.client.user().0, kind }
    }

    fn is_synced(&self) -> bool {
        self.has_resynced && self.client.gaps() == 0 && self.client.pending() == 0
    }
}

impl Inner {
    fn begin_history(&mut self, recorder: Option<Recorder>) {
        self.recorder = recorder;
        if let Some(recorder) = &mut self.recorder {
            let at = self.plan.clock.stamp();
            for device in &self.devices {
                recorder.opened(at, device.name(&self.plan), &self.plan.client);
            }
        }
    }

    /// Writes down what happened to a device, where that is wanted.
    fn record(&mut self, d: usize, what: What) {
        if let Some(recorder) = &mut self.recorder {
            recorder.write(self.plan.clock.stamp(), self.devices[d].name(&self.plan), what);
        }
    }

    /// Whoever came through the final sync rests.
    fn end_history(&mut self) -> Option<std::io::Error> {
        let mut recorder = self.recorder.take()?;
        let at = self.plan.clock.stamp();
        for device in self.devices.iter().filter(|d| d.is_synced()) {
            recorder.write(at, device.name(&self.plan), What::Rested);
        }
        recorder.finish().err()
    }
}

impl Station {
    fn new(number: u32, plan: Arc<Plan>, board: Arc<Board>) -> Self {
        let scenario = &plan.scenario;
        let users = (0..scenario.users).filter(|user| user % plan.threads == number);
        let devices = users.flat_map(|user| user * scenario.devices..(user + 1) * scenario.devices);
        let inner = Inner {
            number,
            devices: devices.map(|device| Device::new(device, &plan)).collect(),
            records: Records::default(),
            measures: Measures::new(plan.phases().len()),
            random: Random::new(scenario.seed.wrapping_mul(0x1_0001).wrapping_add(u64::from(number))),
            out: Outputs::default(),
            load_start: Stamp::NEVER,
            stage: Stage::Ramp,
            transmissions: 0,
            last_news: Stamp::NEVER,
            next_connect: Stamp::NEVER,
            turns: Vec::new(),
            is_load_over: false,
            sender: None,
            content: String::new(),
            last_failure: None,
            recorder: None,
            plan: Arc::clone(&plan),
        };
        Self { number, plan, board, inner: RefCell::new(inner) }
    }

    /// Waits until `ready` finds something at device `d`; it is asked again each time that `slot` is rung.
    async fn wait<T>(&self, d: usize, slot: Slot, mut ready: impl FnMut(&mut Device) -> Option<T>) -> T {
        std::future::poll_fn(|cx| {
            let device = &mut self.inner.borrow_mut().devices[d];
            if let Some(found) = ready(device) {
                return Poll::Ready(found);
            }
            device.wakers[slot as usize] = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

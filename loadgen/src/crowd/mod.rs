//! A crowd: very many clients that mostly do nothing, for the least memory and CPU that a client can have.
//!
//! They run on the connecting side of `ring`, whose sockets are direct descriptors and do not count as open files: one
//! process holds a million. Each section is a thread with a ring and one source address. A crowd does not judge what it is
//! told (the runs on monoio do); it counts, and it takes times.

mod member;
mod section;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use petrel_protocol::ids::Device;
use petrel_ring::Waker;

use crate::accounts::Minter;
use crate::measure::Latency;
use crate::stamp::Clock;
use crate::url::Target;
use section::{Command, Section};

/// Connections of one source address: its ephemeral ports end at 28,000, and the search for a free one gets slow long
/// before.
pub const PER_SOURCE_MAX: u32 = 12_000;

/// Who a crowd is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to connect.
    pub target: Target,
    /// Makes the tokens of Petrel's users; none: the server is a plain WebSocket echo, and a client is ready when it is
    /// upgraded.
    pub minter: Option<Arc<Minter>>,
    /// The first client's user id; the others follow.
    pub first_user: u64,
    /// On which device type they log in.
    pub device: Device,
    /// Clients at most.
    pub clients: u32,
    /// Threads, each with its ring; 0: as many as the source addresses need.
    pub sections: u32,
    /// The second number of the sources' addresses, 127.N.x.y: crowds that live at the same time have different ones.
    pub network: u8,
    /// Clients of one section that connect or log in at the same time, at most.
    pub opening_max: u32,
}

/// What happened so far, of all sections together.
#[derive(Debug, Default)]
pub struct Counts {
    /// Clients that are logged in and brought up to date.
    pub ready: AtomicU32,
    /// Connections that hold a slot, those included that are on their way in or out.
    pub sockets: AtomicU32,
    /// Connections that ended before they were ready. Each is tried again.
    pub failed: AtomicU32,
    /// Ready clients whose connection ended though nobody asked for it. They stay away.
    pub dropped: AtomicU32,
    /// Pings of the server that were answered.
    pub pings: AtomicU64,
    /// Messages that were accepted.
    pub accepted: AtomicU64,
    /// Messages that were refused.
    pub refused: AtomicU64,
    /// Messages that arrived.
    pub arrived: AtomicU64,
}

/// What the sections and their owner share.
#[derive(Debug)]
struct Shared {
    config: Config,
    sections: u32,
    clock: Clock,
    counts: Counts,
    times: Mutex<Times>,
}

/// Latencies since they were last taken.
#[derive(Debug, Default)]
pub struct Times {
    /// From the start of a TCP connection to READY (of an echo: to the upgrade).
    pub login: Latency,
    /// From the intended time of a send to its ack 1.
    pub accept: Latency,
    /// From the intended time of a send to its arrival.
    pub delivery: Latency,
    /// The last thing that went wrong.
    pub last_fault: Option<String>,
}

impl Shared {
    fn times(&self, change: impl FnOnce(&mut Times)) {
        change(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn fault(&self, text: String) {
        self.times(|times| times.last_fault = Some(text));
    }

    /// How many of the first `clients` clients are this section's.
    fn share(&self, section: u32, clients: u32) -> u32 {
        clients / self.sections + u32::from(section < clients % self.sections)
    }
}

/// A running crowd. Dropped, it disconnects at once.
pub struct Crowd {
    shared: Arc<Shared>,
    sections: Vec<(mpsc::Sender<Command>, Waker)>,
    threads: Vec<JoinHandle<()>>,
    wanted: u32,
}

impl Crowd {
    /// Starts the threads; nobody is connected yet.
    pub fn start(config: Config) -> std::io::Result<Self> {
        let needed = config.clients.div_ceil(PER_SOURCE_MAX).max(1);
        let sections = config.sections.max(needed);
        let shared = Arc::new(Shared {
            config,
            sections,
            clock: Clock::start(),
            counts: Counts::default(),
            times: Mutex::default(),
        });
        let mut crowd = Self { shared, sections: Vec::new(), threads: Vec::new(), wanted: 0 };
        let (tell, told) = mpsc::channel();
        for number in 0..sections {
            let (shared, tell) = (Arc::clone(&crowd.shared), tell.clone());
            let (commands, receiver) = mpsc::channel();
            let name = format!("crowd-{number}");
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                match Section::new(number, Arc::clone(&shared), receiver) {
                    Ok((section, ring)) => {
                        // The owner waits for this.
                        let _ = tell.send(Ok((number, (commands, ring.waker()))));
                        if let Err(error) = section.run(ring) {
                            shared.fault(format!("a ring of the generator failed: {error}"));
                        }
                    }
                    Err(error) => drop(tell.send(Err(error))),
                }
            })?;
            crowd.threads.push(thread);
        }
        let mut started = (0..sections)
            .map(|_| told.recv().unwrap_or_else(|_| Err(std::io::Error::other("a thread ended"))))
            .collect::<std::io::Result<Vec<_>>>()?;
        started.sort_unstable_by_key(|(number, _)| *number);
        crowd.sections = started.into_iter().map(|(_, section)| section).collect();
        Ok(crowd)
    }

    /// What happened so far.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// How many are ready.
    pub fn ready(&self) -> u32 {
        self.shared.counts.ready.load(Ordering::Acquire)
    }

    /// Takes the latencies since the last call.
    pub fn take_times(&self) -> Times {
        std::mem::take(&mut self.shared.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on the first `clients` clients are to be connected, and no others. Those who are to go close at once.
    pub fn want(&mut self, clients: u32) {
        self.wanted = clients.min(self.shared.config.clients);
        for number in 0..self.sections.len() as u32 {
            let share = self.shared.share(number, self.wanted);
            self.tell(number, Command::Want(share));
        }
    }

    /// Connects up to `clients`, or disconnects down to them, at most `per_s` a second; then waits until all are ready, or
    /// gone. `each` is called now and then with how many are ready. Returns false where nothing changed for `patience`
    /// before that.
    pub fn go_to(&mut self, clients: u32, per_s: f64, patience: Duration, mut each: impl FnMut(u32)) -> bool {
        const STEP: Duration = Duration::from_millis(20);
        let (from, started) = (self.wanted, Instant::now());
        loop {
            let steps = (started.elapsed().as_secs_f64() * per_s) as u32;
            let next = if clients >= from {
                from.saturating_add(steps).min(clients)
            } else {
                from.saturating_sub(steps).max(clients)
            };
            if next != self.wanted {
                self.want(next);
            }
            if next == clients {
                break;
            }
            each(self.ready());
            std::thread::sleep(STEP);
        }
        let is_there = |s: &Self| {
            let missing = s.shared.counts.dropped.load(Ordering::Acquire);
            let sockets = s.shared.counts.sockets.load(Ordering::Acquire);
            s.ready() + missing >= clients && sockets <= clients
        };
        let mut last = (self.ready(), Instant::now());
        while !is_there(self) {
            if self.ready() != last.0 {
                last = (self.ready(), Instant::now());
            } else if last.1.elapsed() > patience {
                return false;
            }
            each(self.ready());
            std::thread::sleep(STEP);
        }
        true
    }

    /// Sends a message from one client to another. `at` is when it was meant to be sent: latencies count from there.
    pub fn send(&self, from: u32, to: u32, at: Duration) {
        let sections = self.shared.sections;
        let command = Command::Send {
            number: from / sections,
            to: self.shared.config.first_user + u64::from(to),
            at_us: at.as_micros() as u64,
        };
        self.tell(from % sections, command);
    }

    /// The time by the crowd's clock, as [`Self::send`] takes it.
    pub fn elapsed(&self) -> Duration {
        self.shared.clock.elapsed()
    }

    fn tell(&self, section: u32, command: Command) {
        let (commands, waker) = &self.sections[section as usize];
        // A section that ended has said why.
        let _ = commands.send(command);
        waker.wake();
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for number in 0..self.sections.len() as u32 {
            self.tell(number, Command::End);
        }
        for thread in self.threads.drain(..) {
            // A panic there was printed where it happened.
            let _ = thread.join();
        }
    }
}

/// The source address of a section towards a server on this machine; the system's choice towards any other.
fn source_of(config: &Config, section: u32) -> Option<Ipv4Addr> {
    let [_, _, high, low] = section.to_be_bytes();
    let is_here = config.target.address.ip().is_loopback() && config.target.address.is_ipv4();
    is_here.then(|| Ipv4Addr::new(127, config.network, high, low.wrapping_add(1)))
}

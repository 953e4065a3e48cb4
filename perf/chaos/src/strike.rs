//! The faults of a run: which, when, on whom, from one seed.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::disk::Disk;
use crate::process::Running;
use crate::proxy::Link;
use crate::stack::{Strike, Trouble};

/// Whatever was struck is whole again within this, or it is stuck.
pub(crate) const RECOVERY_MAX: Duration = Duration::from_mins(1);
/// A filled disk is looked after this often: what writes to it may also free some.
const FILL_EVERY: Duration = Duration::from_millis(20);

/// One fault that was made.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// When it began, in microseconds since 1970.
    pub(crate) at_us: u64,
    /// When everything was ready again.
    pub(crate) whole_us: u64,
    /// Of the victim: edge, broker, link, …
    pub(crate) kind: String,
    pub(crate) what: &'static str,
    pub(crate) victim: String,
}

/// All that can be struck.
pub(crate) struct Targets<'a> {
    pub(crate) processes: Vec<Running<'a>>,
    pub(crate) links: Vec<(&'a crate::stack::Link, Arc<Link>)>,
    pub(crate) disk: Option<Disk>,
}

#[derive(Clone, Copy, Debug)]
enum Choice {
    Process(usize, Strike),
    Link(usize, Trouble),
    Disk,
}

impl Choice {
    fn name(self) -> &'static str {
        match self {
            Self::Process(_, Strike::Kill) => "kill",
            Self::Process(_, Strike::Stop) => "stop",
            Self::Process(_, Strike::Restart) => "restart",
            Self::Link(_, Trouble::Cut) => "cut",
            Self::Link(_, Trouble::Snap) => "snap",
            Self::Link(_, Trouble::Delay) => "delay",
            Self::Link(_, Trouble::Hold) => "hold",
            Self::Disk => "fill",
        }
    }
}

/// Draws the faults.
pub(crate) struct Chaos {
    pub(crate) random: Random,
    /// Only these kinds of faults; all where it is empty.
    pub(crate) only: Vec<String>,
    /// Only these victims, by name or kind; all where it is empty.
    pub(crate) victims: Vec<String>,
}

impl Chaos {
    pub(crate) fn pause(&mut self, mean_ms: u64) {
        std::thread::sleep(self.random.between(mean_ms / 2, mean_ms * 3 / 2));
    }

    /// Strikes once, and waits until everything is whole again. An error: something is stuck.
    pub(crate) fn strike(&mut self, targets: &mut Targets<'_>) -> Result<Fault, String> {
        let choices = self.choices(targets);
        if choices.is_empty() {
            return Err("nothing of the stack may be struck: see --only and --victims".to_owned());
        }
        let choice = choices[self.random.below(choices.len() as u64) as usize];
        if let Some(ended) = targets.processes.iter_mut().find_map(|p| p.has_ended().then_some(p.process)) {
            return Err(format!("{} ended by itself", ended.name));
        }
        let at_us = now_us();
        let (kind, victim) = match choice {
            Choice::Process(index, strike) => {
                let running = &mut targets.processes[index];
                self.strike_process(running, strike)?;
                (running.process.kind.clone(), running.process.name.clone())
            }
            Choice::Link(index, trouble) => {
                let (its, link) = &targets.links[index];
                self.strike_link(link, trouble);
                ("link".to_owned(), its.name.clone())
            }
            Choice::Disk => {
                let disk = targets.disk.as_ref().expect("chosen where there is one");
                let until = std::time::Instant::now() + self.random.between(500, 6_000);
                while std::time::Instant::now() < until {
                    disk.fill()?;
                    std::thread::sleep(FILL_EVERY);
                }
                disk.empty()?;
                ("disk".to_owned(), "disk".to_owned())
            }
        };
        for running in &mut targets.processes {
            running.ready(RECOVERY_MAX)?;
        }
        Ok(Fault { at_us, whole_us: now_us(), kind, what: choice.name(), victim })
    }

    fn choices(&self, targets: &Targets<'_>) -> Vec<Choice> {
        let mut choices = Vec::new();
        let is_victim = |name: &str, kind: &str| {
            self.victims.is_empty() || self.victims.iter().any(|it| it == name || it == kind)
        };
        for (index, running) in targets.processes.iter().enumerate() {
            if is_victim(&running.process.name, &running.process.kind) {
                choices.extend(running.process.faults.iter().map(|strike| Choice::Process(index, *strike)));
            }
        }
        for (index, (its, _)) in targets.links.iter().enumerate() {
            if is_victim(&its.name, "link") {
                choices.extend(its.faults.iter().map(|trouble| Choice::Link(index, *trouble)));
            }
        }
        if targets.disk.is_some() && is_victim("disk", "disk") {
            choices.extend([Choice::Disk; 2]);
        }
        choices.retain(|choice| self.only.is_empty() || self.only.iter().any(|it| it == choice.name()));
        choices
    }

    fn strike_process(&mut self, running: &mut Running<'_>, strike: Strike) -> Result<(), String> {
        match strike {
            Strike::Kill => {
                running.signal("-KILL")?;
                running.ended(RECOVERY_MAX)?;
                running.start_again()
            }
            Strike::Stop => {
                running.signal("-STOP")?;
                std::thread::sleep(self.random.between(200, 8_000));
                running.signal("-CONT")
            }
            Strike::Restart => {
                running.signal("-TERM")?;
                running.ended(RECOVERY_MAX)?;
                running.start_again()
            }
        }
    }

    fn strike_link(&mut self, link: &Link, trouble: Trouble) {
        match trouble {
            Trouble::Snap => return link.snap(self.random.bits()),
            Trouble::Cut => link.cut(),
            Trouble::Delay => link.delay(20 + self.random.below(500)),
            Trouble::Hold => link.hold(),
        }
        std::thread::sleep(self.random.between(200, 5_000));
        link.mend();
    }
}

pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

/// SplitMix64: the seed is the run's plan, as far as processes keep their pace.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.bits() % n.max(1)
    }

    fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(from_ms + self.below(to_ms - from_ms))
    }
}

//! What all threads of a run share: what is to be done, who is who, and how far everybody is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use petrel_protocol::client;
use petrel_protocol::ids::UserId;
use petrel_protocol::map::Map;

use crate::accounts::Accounts;
use crate::content::Contents;
use crate::scenario::{Pairs, Phase, Scenario};
use crate::stamp::{Clock, Stamp};
use crate::url::Target;

/// What is to be done. The same for all threads.
#[derive(Debug)]
pub struct Plan {
    /// The scenario.
    pub scenario: Scenario,
    /// Where clients connect, in turn; never empty.
    pub edges: Vec<Target>,
    /// Users and tokens.
    pub accounts: Accounts,
    /// The places of the users.
    pub places: Map<UserId, u32>,
    /// Whether all conversations begin in this run.
    pub starts_at_one: bool,
    /// The run's clock.
    pub clock: Clock,
    /// Ids and contents.
    pub contents: Contents,
    /// Threads that share the users.
    pub threads: u32,
    /// The number of the first connection among those of all processes: source addresses are chosen by it.
    pub first_connection: u32,
    /// Where what happens is written down, if it is.
    pub history: Option<std::path::PathBuf>,
    /// How each client behaves.
    pub client: Arc<client::Config>,
    phases: Vec<Phase>,
}

impl Plan {
    /// A plan for the users of `accounts`.
    pub fn new(
        scenario: Scenario,
        edges: Vec<Target>,
        accounts: Accounts,
        starts_at_one: bool,
        nonce: u32,
        threads: u32,
    ) -> Self {
        let places = accounts.users.iter().zip(0..).map(|(user, place)| (*user, place)).collect();
        let client = client::Config {
            starts_at_one,
            pipeline: scenario.pipeline,
            refusals_max: scenario.refusals_max,
            backs_off: scenario.backs_off,
            answer_ms: (scenario.answer_s * 1_000.0) as u64,
            // The records judge the statuses; the machine's memory is for routing seqs to conversations.
            own_max: 256,
            ..client::Config::default()
        };
        Self {
            edges,
            accounts,
            places,
            starts_at_one,
            clock: Clock::start(),
            contents: Contents::new(nonce, scenario.payload_max()),
            threads,
            first_connection: 0,
            history: None,
            client: Arc::new(client),
            phases: scenario.schedule(),
            scenario,
        }
    }

    /// The phases of the load.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// The phase in which `at` lies, for a load that began at `load_start`.
    pub fn phase_at(&self, load_start: Stamp, at: Stamp) -> Option<usize> {
        if !load_start.is_set() || at < load_start {
            return None;
        }
        let mut left = at.us_since(load_start) as f64 / 1e6;
        for (i, phase) in self.phases.iter().enumerate() {
            if left < phase.duration_s {
                return Some(i);
            }
            left -= phase.duration_s;
        }
        None
    }

    /// How long the load lasts, where its time is bounded.
    pub fn load_s(&self) -> f64 {
        self.phases.iter().map(|p| p.duration_s).sum()
    }

    /// Whom `sender` writes to; `random` is a draw below the number of users less one.
    pub fn partner(&self, sender: u32, random: impl FnOnce(u64) -> u64) -> u32 {
        match self.scenario.pairs {
            Pairs::Fixed => sender ^ 1,
            Pairs::Random => {
                let other = random(self.accounts.users.len() as u64 - 1) as u32;
                other + u32::from(other >= sender)
            }
        }
    }
}

/// A step of a run. Everybody is in the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Everybody connects for the first time.
    Ramp,
    /// Messages are sent; some are offline.
    Load,
    /// Nothing new is sent; what was sent gets its answer.
    Drain,
    /// Everybody comes back.
    Gather,
    /// Everybody connects once more and is brought up to what is stored: the final sync.
    Resync,
    /// Everybody connects yet again: nothing that was acknowledged may come.
    Again,
    /// Everybody goes.
    End,
}

const STAGES: [Stage; 7] =
    [Stage::Ramp, Stage::Load, Stage::Drain, Stage::Gather, Stage::Resync, Stage::Again, Stage::End];

/// How far everybody is. Written by one side, read by the other, never waited for.
#[derive(Debug)]
pub struct Board {
    stage: AtomicU8,
    load_start: AtomicU32,
    /// By thread.
    pub gauges: Vec<Gauges>,
}

/// How far one thread is.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Gauges {
    pub devices: AtomicU32,
    pub connected: AtomicU32,
    pub ready: AtomicU32,
    /// Devices that are to be online now.
    pub wanted: AtomicU32,
    /// Devices that are through the final sync.
    pub synced: AtomicU32,
    pub pending: AtomicU32,
    pub gaps: AtomicU32,
    pub offered: AtomicU64,
    pub accepted: AtomicU64,
    pub refused: AtomicU64,
    pub delivered: AtomicU64,
    pub last_news: AtomicU32,
    /// The slowest delivery so far, in µs.
    pub slowest_us: AtomicU32,
    pub is_load_over: AtomicBool,
    /// The stage that the thread has entered, as a number.
    pub stage: AtomicU8,
}

/// A load that was refused for long may have deliveries of a minute, counted from the intended time; a run need not go on for
/// as long after it.
pub const PATIENCE_MAX: Duration = Duration::from_secs(15);

impl Board {
    /// For so many threads.
    pub fn new(threads: u32) -> Self {
        Self {
            stage: AtomicU8::new(Stage::Ramp as u8),
            load_start: AtomicU32::new(0),
            gauges: (0..threads).map(|_| Gauges::default()).collect(),
        }
    }

    /// The stage that everybody is to be in.
    pub fn stage(&self) -> Stage {
        STAGES[usize::from(self.stage.load(Ordering::Acquire))]
    }

    /// Moves everybody on.
    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// When the load began.
    pub fn load_start(&self) -> Stamp {
        Stamp(self.load_start.load(Ordering::Acquire))
    }

    /// Begins the load at this moment.
    pub fn start_load(&self, at: Stamp) {
        self.load_start.store(at.0, Ordering::Release);
        self.enter(Stage::Load);
    }

    /// The sum of a gauge over the threads.
    pub fn sum(&self, gauge: impl Fn(&Gauges) -> u64) -> u64 {
        self.gauges.iter().map(gauge).sum()
    }

    /// Whether every thread has entered this stage.
    pub fn all_in(&self, stage: Stage) -> bool {
        self.gauges.iter().all(|g| g.stage.load(Ordering::Acquire) == stage as u8)
    }

    /// How long nothing must have come before a step after the load is over: as long as the slowest delivery has taken,
    /// since the server may hold something back for as long again that nobody waits for (a recall, a status). Between
    /// `least` and [`PATIENCE_MAX`].
    pub fn patience(&self, least: Duration) -> Duration {
        let slowest = self.gauges.iter().map(|g| g.slowest_us.load(Ordering::Acquire)).max().unwrap_or(0);
        Duration::from_micros(slowest.into()).min(PATIENCE_MAX).max(least)
    }

    /// Whether everybody that is to be online is ready, nothing waits for an answer or an earlier seq, and nothing new
    /// has come for `quiet`.
    pub fn is_quiet(&self, now: Stamp, quiet: Duration) -> bool {
        let quiet_us = quiet.as_micros() as u64;
        self.gauges.iter().all(|g| {
            g.ready.load(Ordering::Acquire) == g.wanted.load(Ordering::Acquire)
                && g.pending.load(Ordering::Acquire) == 0
                && g.gaps.load(Ordering::Acquire) == 0
                && now.us_since(Stamp(g.last_news.load(Ordering::Acquire))) >= quiet_us
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a server that took ten seconds for a message, a second without news says nothing: a recall that nobody waits for
    /// was seen by one device, and not yet by another.
    #[test]
    fn silence_counts_once_it_outlasts_the_slowest_delivery() {
        let board = Board::new(2);
        let least = Duration::from_secs(1);
        assert_eq!(board.patience(least), least, "nothing was slow");
        board.gauges[0].slowest_us.store(2_000, Ordering::Release);
        board.gauges[1].slowest_us.store(10_600_000, Ordering::Release);
        assert_eq!(board.patience(least), Duration::from_millis(10_600), "of all threads");
        board.gauges[0].slowest_us.store(70_000_000, Ordering::Release);
        assert_eq!(board.patience(least), PATIENCE_MAX);
        assert_eq!(board.patience(PATIENCE_MAX * 2), PATIENCE_MAX * 2, "what the scenario asks for");
    }
}

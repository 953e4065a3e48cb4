//! The threads of one process through the steps of a run.

use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use crate::measure::Measures;
use crate::plan::{Board, Plan, Stage};
use crate::stamp::Stamp;
use crate::station;
use crate::verify::{Facts, Judgement};

/// What a run gave.
#[derive(Debug)]
pub struct Outcome {
    /// Latencies and counts.
    pub measures: Measures,
    /// What is wrong, if anything.
    pub judgement: Judgement,
    /// How long the load lasted.
    pub load: Duration,
}

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CrewError {
    /// A thread has no ring.
    #[error("a thread cannot begin (io_uring, or its part of the history): {0}")]
    Ring(std::io::Error),
    /// What happened is not all written down.
    #[error("cannot write the history: {0}")]
    History(std::io::Error),
    /// Not everybody could connect in time.
    #[error(
        "{ready} of {devices} devices were ready {waited_s} s after the ramp's end; last failure: {last}"
    )]
    Ramp {
        /// Devices that were.
        ready: u64,
        /// Devices in all.
        devices: u64,
        /// How long was waited beyond the ramp.
        waited_s: u64,
        /// The last thing that failed.
        last: String,
    },
}

/// What happens around the steps of a run: progress, measurements of the server.
pub trait Watch {
    /// Everybody is connected; the load begins when this returns.
    fn load_begins(&mut self) {}
    /// The load is over.
    fn load_ends(&mut self) {}
    /// A moment passed.
    fn tick(&mut self, _board: &Board, _plan: &Plan) {}
}

/// Watches nothing.
#[derive(Debug)]
pub struct Unwatched;

impl Watch for Unwatched {}

/// Runs a plan to its end.
pub fn run(plan: &Arc<Plan>, watch: &mut impl Watch) -> Result<Outcome, CrewError> {
    let board = Arc::new(Board::new(plan.threads));
    let threads: Vec<_> = (0..plan.threads)
        .map(|number| {
            let (plan, board) = (Arc::clone(plan), Arc::clone(&board));
            std::thread::spawn(move || station::run(number, plan, board))
        })
        .collect();
    let mut steps = Steps { plan, board: &board, watch, load: Duration::ZERO };
    let is_ramped = steps.run();
    let load = steps.load;
    board.enter(Stage::End);
    let (mut records, mut measures) = (Vec::new(), Measures::new(plan.phases().len()));
    let (mut unsynced, mut last_failure) = (Vec::new(), None);
    for thread in threads {
        let report = thread.join().expect("a thread of the generator panicked").map_err(CrewError::Ring)?;
        measures.merge(&report.measures);
        records.push(report.records);
        unsynced.extend(report.unsynced);
        last_failure = last_failure.or(report.last_failure);
        report.unwritten.map_or(Ok(()), |e| Err(CrewError::History(e)))?;
    }
    if let Some(history) = &plan.history {
        crate::history::merge(history, plan.threads).map_err(CrewError::History)?;
    }
    if let Err((ready, devices)) = is_ramped {
        let last = last_failure.unwrap_or_else(|| "none; READY did not come".to_owned());
        return Err(CrewError::Ramp { ready, devices, waited_s: plan.scenario.settle_s as u64, last });
    }
    measures.total[crate::measure::Timed::Login as usize].merge(&plan.accounts.logins);
    let mut facts =
        Facts::new(plan.accounts.users.clone(), plan.scenario.devices, plan.starts_at_one, records);
    facts.unsynced = unsynced;
    Ok(Outcome { measures, judgement: facts.judge(), load })
}

struct Steps<'a, W> {
    plan: &'a Plan,
    board: &'a Board,
    watch: &'a mut W,
    load: Duration,
}

const LOOK: Duration = Duration::from_millis(50);

impl<W: Watch> Steps<'_, W> {
    fn run(&mut self) -> Result<(), (u64, u64)> {
        let settle = Duration::from_secs_f64(self.plan.scenario.settle_s);
        let devices = u64::from(self.plan.scenario.connections());
        let ramp = Duration::from_secs_f64(devices as f64 / self.plan.scenario.ramp_per_s);
        let ready = |board: &Board| board.sum(|g| g.ready.load(Acquire).into());
        if !self.until(ramp + settle, |s| ready(s.board) == devices) {
            return Err((ready(self.board), devices));
        }
        self.watch.load_begins();
        // An open loop's times begin when every thread is there; a closed loop begins as each of them comes.
        let is_open = self.plan.phases()[0].rate > 0.0;
        let start = self.plan.clock.stamp().after(if is_open { LOOK } else { Duration::ZERO });
        self.board.start_load(start);
        self.until(Duration::MAX, |s| s.board.gauges.iter().all(|g| g.is_load_over.load(Acquire)));
        self.load = Duration::from_micros(self.plan.clock.stamp().us_since(start));
        self.watch.load_ends();

        self.step(Stage::Drain);
        self.until(settle, |s| s.board.sum(|g| g.pending.load(Acquire).into()) == 0);
        let quiet = self.board.patience(Duration::from_millis(self.plan.scenario.quiet_ms));
        self.step(Stage::Gather);
        self.until(settle + ramp, |s| s.board.is_quiet(s.now(), quiet));
        let is_synced = |s: &Self| {
            s.board.sum(|g| g.synced.load(Acquire).into()) == devices && s.board.is_quiet(s.now(), quiet)
        };
        self.step(Stage::Resync);
        let has_synced = self.until(settle + ramp, is_synced);
        // Who did not come through the final sync must be seen as that.
        if has_synced && self.plan.scenario.forgotten_s > 0.0 {
            self.until(Duration::from_secs_f64(self.plan.scenario.forgotten_s), |_| false);
            self.step(Stage::Again);
            self.until(settle + ramp, is_synced);
        }
        Ok(())
    }

    fn now(&self) -> Stamp {
        self.plan.clock.stamp()
    }

    fn step(&mut self, stage: Stage) {
        self.board.enter(stage);
        self.until(Duration::from_secs(5), |s| s.board.all_in(stage));
    }

    /// Waits for a condition, for a bounded time. Returns whether it came true.
    fn until(&mut self, bound: Duration, is_true: impl Fn(&Self) -> bool) -> bool {
        let started = std::time::Instant::now();
        loop {
            if is_true(self) {
                return true;
            }
            if started.elapsed() >= bound {
                return false;
            }
            std::thread::sleep(LOOK);
            self.watch.tick(self.board, self.plan);
        }
    }
}

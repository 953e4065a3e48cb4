//! The command `idle`: what one idle, logged-in connection costs the server in memory.
//!
//! Memory is read at several numbers of connections; the slope up to the last of them is the cost of one, free of whatever
//! the server holds anyway. An allocator may hold a few megabytes of an earlier burst at one step and not at the next, so
//! the slope from each earlier step is taken and the largest counts.

use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use crate::host::{self, Server};
use crate::plan::{Board, Plan, Stage};
use crate::run::{self, Options, RunError};
use crate::scenario::Scenario;
use crate::station;
use crate::url::Target;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Idle {
    /// Numbers of connections, rising, at which memory is read.
    pub steps: Vec<u32>,
    /// The first user's id; 0: fresh ones.
    pub first_user: u64,
    /// Connections opened a second.
    pub ramp_per_s: f64,
    /// Connections from one source address.
    pub connections_per_source: u32,
    /// How long the server is left alone before its memory is read.
    pub settle: Duration,
}

/// Memory at one number of connections.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Step {
    /// Connections.
    pub connections: u32,
    /// The server's resident memory.
    pub resident_bytes: u64,
}

/// The result.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Slope {
    /// By the number of connections.
    pub steps: Vec<Step>,
    /// From an earlier step to the last: the largest.
    pub bytes_per_connection: f64,
    /// The machine's kernel.
    pub kernel: String,
}

/// A first step has this part of the connections of the first that was asked for.
const WARM_UP: u32 = 5;

/// For this long, so many a second connect anew before memory is read.
const STIR: Duration = Duration::from_secs(5);
const STIRRED_PER_S: f64 = 100.0;

/// Measures.
pub fn measure(idle: &Idle, options: &Options) -> Result<Slope, RunError> {
    let most = idle.steps.last().copied().unwrap_or_default();
    if !idle.steps.is_sorted_by(|a, b| a < b) || idle.steps.len() < 2 {
        return Err(RunError::Steps);
    }
    let scenario = Scenario {
        users: most,
        first_user: idle.first_user,
        ramp_per_s: idle.ramp_per_s,
        connections_per_source: idle.connections_per_source,
        churn_per_s: STIRRED_PER_S,
        window: 0,
        ..Scenario::default()
    };
    run::check_files(most)?;
    let (plan, _) = run::plan(scenario, options)?;
    let http = options.http.as_ref().map(|url| Target::parse(url, "http://")).transpose()?;
    let server = Server::find(http, plan.edge.address);
    let plan = Arc::new(plan);
    let board = Arc::new(Board::new(plan.threads));
    board.limit(0);
    let threads: Vec<_> = (0..plan.threads)
        .map(|number| {
            let (plan, board) = (Arc::clone(&plan), Arc::clone(&board));
            std::thread::spawn(move || station::run(number, plan, board))
        })
        .collect();
    let numbers = std::iter::once(idle.steps[0] / WARM_UP).chain(idle.steps.iter().copied());
    let steps: Result<Vec<Step>, RunError> =
        numbers.map(|step| read_at(step, idle, &plan, &board, &server)).collect();
    board.enter(Stage::End);
    for thread in threads {
        thread.join().expect("a thread of the generator panicked").map_err(crate::crew::CrewError::Ring)?;
    }
    let steps = steps?;
    let (earlier, last) = steps.split_at(steps.len() - 1);
    let slopes = earlier.iter().map(|step| {
        let growth = last[0].resident_bytes as f64 - step.resident_bytes as f64;
        growth / f64::from(last[0].connections - step.connections)
    });
    let bytes_per_connection = slopes.fold(f64::NEG_INFINITY, f64::max);
    Ok(Slope { steps, bytes_per_connection, kernel: host::kernel() })
}

fn read_at(step: u32, idle: &Idle, plan: &Plan, board: &Board, server: &Server) -> Result<Step, RunError> {
    board.limit(step);
    let ready = || board.sum(|g| g.ready.load(Acquire).into());
    let bound = Duration::from_secs_f64(f64::from(step) / plan.scenario.ramp_per_s + plan.scenario.settle_s);
    let started = Instant::now();
    while ready() < u64::from(step) {
        if started.elapsed() > bound {
            return Err(RunError::Ramp(ready(), step));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // A few come and go, since an allocator gives back what a burst took only while it is used.
    board.start_load(plan.clock.stamp());
    std::thread::sleep(STIR);
    board.enter(Stage::Ramp);
    std::thread::sleep(idle.settle);
    if ready() != u64::from(step) {
        return Err(RunError::Ramp(ready(), step));
    }
    let usage = server.usage().ok_or(RunError::NoMemory)?;
    Ok(Step { connections: step, resident_bytes: usage.resident_bytes })
}

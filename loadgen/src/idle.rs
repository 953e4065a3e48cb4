//! The command `idle`: what one idle, logged-in connection costs the server in memory.
//!
//! Memory is read at several numbers of connections; the slope between the first and the last is the cost of one, free
//! of whatever the server holds anyway.

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
    /// Between the first and the last step.
    pub bytes_per_connection: f64,
    /// The machine's kernel.
    pub kernel: String,
}

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
    let steps: Result<Vec<Step>, RunError> =
        idle.steps.iter().map(|step| read_at(*step, idle, &plan, &board, &server)).collect();
    board.enter(Stage::End);
    for thread in threads {
        thread.join().expect("a thread of the generator panicked").map_err(crate::crew::CrewError::Ring)?;
    }
    let steps = steps?;
    let (first, last) = (steps[0], steps[steps.len() - 1]);
    let growth = last.resident_bytes as f64 - first.resident_bytes as f64;
    let bytes_per_connection = growth / f64::from(last.connections - first.connections);
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
    std::thread::sleep(idle.settle);
    if ready() != u64::from(step) {
        return Err(RunError::Ramp(ready(), step));
    }
    let usage = server.usage().ok_or(RunError::NoMemory)?;
    Ok(Step { connections: step, resident_bytes: usage.resident_bytes })
}

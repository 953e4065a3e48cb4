//! The command `run`: a scenario against a server, from its file to its report.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::{SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::accounts::{Accounts, AccountsError};
use crate::crew::{self, CrewError, Watch};
use crate::host::{self, Server, Usage};
use crate::plan::{Board, Plan, Stage};
use crate::processes::{Processes, Used};
use crate::report::{Report, Seen};
use crate::scenario::{Scenario, ScenarioError};
use crate::url::{Target, UrlError};
use crate::workers::{self, WorkerError};

/// Where the server is and what the run may use.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Options {
    /// The server's HTTP URL.
    pub http: Option<String>,
    /// The edges' WebSocket URLs, with commas between them, instead of the one that a login names.
    pub edge: Option<String>,
    /// The server's data folder, for the key that tokens are minted with.
    pub data: Option<PathBuf>,
    /// Instead of the scenario's seed.
    pub seed: Option<u64>,
    /// Threads; 0: one for each core.
    pub threads: u32,
    /// Processes; 0: as many as the connections need.
    pub workers: u32,
    /// Where what happens is written down; one process only.
    pub history: Option<PathBuf>,
    /// Processes whose CPU is reported by name.
    pub processes: Processes,
    /// Whether to show progress on a terminal.
    pub shows_progress: bool,
    /// Of a worker: the number of its first connection among those of all.
    pub first_connection: u32,
    /// Of a worker: whether its users are fresh, whatever their ids.
    pub has_fresh_users: bool,
}

/// The edge of a server on its defaults.
pub const EDGE_DEFAULT: &str = "ws://127.0.0.1:10001/websocket";

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The scenario is not good.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A URL is not good.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Nobody can log in.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// The run could not be made.
    #[error(transparent)]
    Crew(#[from] CrewError),
    /// Neither way to log in was given.
    #[error("give --http URL to register accounts, or --data DIR to mint tokens with the server's key")]
    NoLogin,
    /// More connections than this process may have.
    #[error("{0} connections are more than the {1} files that may be open: raise `ulimit -n`, or use fewer")]
    TooMany(u32, u64),
    /// Each process would have a history of its own.
    #[error(
        "a history is of one process, and so many connections take {0}: use fewer users, or leave out --history"
    )]
    HistoryOfMany(u32),
    /// What was before is unknown to the judge.
    #[error("a history begins with its conversations: leave out first_user, or leave out --history")]
    HistoryOfOld,
    /// A history cannot be judged.
    #[error(transparent)]
    Check(#[from] crate::check::CheckError),
    /// A worker process failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// A report cannot be read back.
    #[error("{0}: give files that `run --json FILE` has written")]
    Report(std::io::Error),
    /// Nothing to take a slope of.
    #[error("give a rising range of connections, and at least three readings")]
    Steps,
    /// Connections of a crowd were not all there.
    #[error("{ready} of {wanted} connections were ready in time; last fault: {last}")]
    Crowd {
        /// Those that were.
        ready: u32,
        /// Those that should have been.
        wanted: u32,
        /// The last thing that went wrong.
        last: String,
    },
    /// A crowd has no rings.
    #[error("io_uring is not to be had: {0}")]
    Ring(std::io::Error),
    /// The server's memory is unknown.
    #[error("the server's memory cannot be read: give its --http URL, or run on its machine with its rights")]
    NoMemory,
    /// A process that is to be observed is not there.
    #[error("no process {1} runs here, which should be {0}: give the ids of processes that run")]
    NoProcess(String, u32),
    /// The report cannot be written.
    #[error("cannot write {0}: {1}")]
    Unwritable(String, std::io::Error),
}

/// Files that a process has open besides its connections.
const FILES_BESIDES: u64 = 200;

/// Runs the scenario in a file.
pub fn run_file(path: &Path, options: &Options) -> Result<Report, RunError> {
    run(Scenario::read(path)?, options)
}

/// Runs a scenario.
pub fn run(mut scenario: Scenario, options: &Options) -> Result<Report, RunError> {
    scenario.seed = options.seed.unwrap_or(scenario.seed);
    if let Some(missing) = options.processes.missing() {
        return Err(RunError::NoProcess(missing.name.clone(), missing.pid));
    }
    let workers = match options.workers {
        0 => workers_needed(scenario.connections()),
        workers => workers,
    };
    if workers > 1 {
        if options.history.is_some() {
            return Err(RunError::HistoryOfMany(workers));
        }
        return workers::run(scenario, options, workers);
    }
    let (plan, edge) = plan(scenario, options)?;
    let plan = Arc::new(plan);
    let http = options.http.as_ref().map(|url| Target::parse(url, "http://")).transpose()?;
    let mut view = View::new(http, plan.edges[0].address, options);
    let outcome = crew::run(&plan, &mut view)?;
    view.bar.finish_and_clear();
    let seen = Seen {
        began_ms: plan.clock.began_ms(),
        load_s: outcome.load.as_secs_f64(),
        server: view.server.used(),
        generator: view.generator.used(),
        processes: view.processes_used,
    };
    Ok(Report::new(plan.scenario.clone(), &edge, &outcome.measures, outcome.judgement, &seen))
}

/// Processes that so many connections take.
fn workers_needed(connections: u32) -> u32 {
    let each = host::open_files_max().saturating_sub(FILES_BESIDES).max(1);
    u64::from(connections).div_ceil(each) as u32
}

/// Whether this process may have so many connections.
pub fn check_files(connections: u32) -> Result<(), RunError> {
    let files = host::open_files_max();
    if u64::from(connections) + FILES_BESIDES > files {
        return Err(RunError::TooMany(connections, files));
    }
    Ok(())
}

/// Brings users, tokens and addresses together. Returns the edge's URL too.
pub fn plan(scenario: Scenario, options: &Options) -> Result<(Plan, String), RunError> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Runs of one second are told apart by their process.
    let nonce = (since_1970.as_secs() as u32).rotate_left(12) ^ std::process::id().wrapping_mul(0x9e37_79b9);
    let http = options.http.as_ref().map(|url| Target::parse(url, "http://")).transpose()?;
    check_files(scenario.connections())?;
    let has_fresh_users = scenario.first_user == 0 || options.has_fresh_users;
    let accounts = match (&options.data, &http) {
        (Some(data), _) => Accounts::minted(data, first_user(&scenario), scenario.users)?,
        (None, Some(http)) => {
            let prefix = format!("load-{}-{nonce:08x}", since_1970.as_secs());
            Accounts::registered(http, &prefix, scenario.users, scenario.devices)?
        }
        (None, None) => return Err(RunError::NoLogin),
    };
    let named = accounts.edge.clone().filter(|edge| !edge.is_empty());
    let edge = options.edge.clone().or(named).unwrap_or_else(|| EDGE_DEFAULT.to_owned());
    let edges = Target::parse_all(&edge, "ws://")?;
    let starts_at_one = has_fresh_users || options.data.is_none();
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let threads = if options.threads == 0 { cores } else { options.threads };
    let threads = threads.min(scenario.users);
    let mut plan = Plan::new(scenario, edges, accounts, starts_at_one, nonce, threads);
    plan.first_connection = options.first_connection;
    plan.history.clone_from(&options.history);
    if plan.history.is_some() && !plan.starts_at_one {
        return Err(RunError::HistoryOfOld);
    }
    Ok((plan, edge))
}

/// The first user's id: the scenario's, else one that no earlier run used. A million ids for each millisecond overlap only
/// with a run of that many users a millisecond earlier.
pub(crate) fn first_user(scenario: &Scenario) -> u64 {
    const MS_2020: u64 = 1_577_836_800_000;
    if scenario.first_user != 0 {
        return scenario.first_user;
    }
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since_1970.as_millis() as u64).saturating_sub(MS_2020) << 20
}

/// Usage before and after the load.
#[derive(Debug, Default)]
struct Span {
    before: Option<Usage>,
    after: Option<Usage>,
}

impl Span {
    fn used(&self) -> Option<Usage> {
        Some(self.after?.since(&self.before?))
    }
}

struct View {
    http: Option<Target>,
    edge: SocketAddr,
    observed: Server,
    server: Span,
    generator: Span,
    processes: Processes,
    processes_before: Vec<Option<Usage>>,
    processes_used: Vec<Used>,
    bar: ProgressBar,
}

impl View {
    fn new(http: Option<Target>, edge: SocketAddr, options: &Options) -> Self {
        let bar = if options.shows_progress && std::io::stderr().is_terminal() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(
            ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}").expect("a good template"),
        );
        let observed = Server::find(http.clone(), edge);
        Self {
            http,
            edge,
            observed,
            server: Span::default(),
            generator: Span::default(),
            processes: options.processes.clone(),
            processes_before: Vec::new(),
            processes_used: Vec::new(),
            bar,
        }
    }
}

impl Watch for View {
    fn load_begins(&mut self) {
        self.processes_before = self.processes.usages();
        self.server.before = self.observed.usage();
        self.generator.before = host::usage_of(std::process::id());
    }

    fn load_ends(&mut self) {
        // A server that was started again in between has forgotten what it used before.
        let now = Server::find(self.http.clone(), self.edge);
        self.server.after = now.usage().filter(|_| now.pid() == self.observed.pid());
        self.generator.after = host::usage_of(std::process::id());
        self.processes_used = self.processes.used_since(&self.processes_before);
    }

    fn tick(&mut self, board: &Board, plan: &Plan) {
        if self.bar.is_hidden() {
            return;
        }
        let stage = match board.stage() {
            Stage::Ramp => "connecting",
            Stage::Load => "load",
            Stage::Drain => "waiting for answers",
            Stage::Gather => "everybody comes back",
            Stage::Resync => "final sync",
            Stage::Again => "nothing may come again",
            Stage::End => "closing",
        };
        let connections = plan.scenario.connections();
        self.bar.set_message(format!(
            "{stage}: {} of {connections} ready; {} offered, {} accepted, {} refused, {} arrived, {} pending",
            board.sum(|g| g.ready.load(Acquire).into()),
            board.sum(|g| g.offered.load(Acquire)),
            board.sum(|g| g.accepted.load(Acquire)),
            board.sum(|g| g.refused.load(Acquire)),
            board.sum(|g| g.delivered.load(Acquire)),
            board.sum(|g| g.pending.load(Acquire).into()),
        ));
        self.bar.tick();
    }
}

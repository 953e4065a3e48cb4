//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use petrel_protocol::ids::Device;

use crate::chat::{self, Chat};
use crate::check::{self, Judged};
use crate::idle::{self, Idle};
use crate::million::{self, Hold};
use crate::processes::{Named, Processes};
use crate::run::{self, Options, RunError};
use crate::storm::{self, Storm};
use crate::table;
use crate::workers;

/// Many clients that measure Petrel and prove that nothing was lost.
#[derive(Debug, Parser)]
#[command(name = "petrel-loadgen", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a scenario and judges it. Exit code 0: clean; 1: a violation; 2: it could not be run; 3: the generator lagged,
    /// so that its numbers mean nothing.
    Run(Run),
    /// Judges a history that a run wrote, by the judge of the simulation. Exit code 0: nothing is wrong; 1: a violation, with
    /// the story of its message; 2: it cannot be read.
    Check(CheckArgs),
    /// Measures what an idle, logged-in connection costs the server in memory: the least-squares slope of many readings.
    /// Exit code 1: above --bytes-max.
    Idle(IdleArgs),
    /// Holds very many connections at once, sends messages between some, watches the heartbeats, and closes them in stages.
    /// Exit code 1: something is not as it should be.
    Hold(HoldArgs),
    /// Everybody reconnects at once, again and again, while others go on talking. Without --data it only connects, to any
    /// WebSocket server. Exit code 1: somebody was refused or dropped, or a message did not arrive.
    Storm(StormArgs),
    /// Prints reports that were written with --json as tables in markdown.
    Table(TableArgs),
    /// Chats by hand: lines that are typed are sent; /read, /recall and /quit are commands.
    Chat(ChatArgs),
    /// A part of a run that takes several processes.
    #[command(hide = true)]
    Worker,
}

/// Where the server is.
#[derive(Debug, Args)]
struct Place {
    /// The server's HTTP URL: to log in, and for its metrics.
    #[arg(long, value_name = "URL")]
    http: Option<String>,
    /// The server's data folder: tokens are minted with its key instead of logging in.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The edge's WebSocket URL, instead of the one that a login names. Several with commas between them: clients are spread
    /// over them in turn, so that the two users of a pair are at different ones.
    #[arg(long, value_name = "URL,URL")]
    edge: Option<String>,
}

#[derive(Debug, Args)]
struct Run {
    /// The scenario, see perf/scenarios/README.md.
    scenario: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Writes the whole report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes down what every device did and saw, for `check`.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// A process of the server: its CPU is reported by this name, and its share of all. May be given again.
    #[arg(long, value_name = "NAME=PID")]
    server: Vec<Named>,
    /// The same for a process that the server stands on: a broker, a database.
    #[arg(long, value_name = "NAME=PID")]
    backend: Vec<Named>,
    /// Instead of the scenario's seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads; one for each core where it is not given.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    threads: u32,
    /// Processes; as many as the connections need where it is not given.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    workers: u32,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The history.
    history: PathBuf,
}

#[derive(Debug, Args)]
struct IdleArgs {
    /// Connections at the first reading.
    #[arg(long, default_value_t = 5_000)]
    from: u32,
    /// Connections at the last.
    #[arg(long, default_value_t = 15_000)]
    connections: u32,
    /// Readings.
    #[arg(long, default_value_t = 21)]
    readings: u32,
    /// The first user's id.
    #[arg(long, default_value_t = CROWD_FIRST_USER)]
    first_user: u64,
    /// Connections opened a second.
    #[arg(long, default_value_t = 2_000.0)]
    ramp: f64,
    /// Seconds that the server is left alone before its memory is read.
    #[arg(long, default_value_t = 1.0)]
    settle: f64,
    /// Bytes a connection above which the exit code is 1.
    #[arg(long, default_value_t = 256.0)]
    bytes_max: f64,
    #[command(flatten)]
    place: Place,
    /// Writes the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct HoldArgs {
    /// Connections.
    #[arg(long, default_value_t = 1_000_000)]
    connections: u32,
    /// The first user's id.
    #[arg(long, default_value_t = CROWD_FIRST_USER)]
    first_user: u64,
    /// Connections opened a second, at most.
    #[arg(long, default_value_t = 1e6)]
    ramp: f64,
    /// Messages a second between two clients drawn at random, while all are held.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Seconds of them.
    #[arg(long, default_value_t = 20.0)]
    messages: f64,
    /// Seconds for which the heartbeats are watched.
    #[arg(long, default_value_t = 30.0)]
    quiet: f64,
    /// Connections closed a second, at most.
    #[arg(long, default_value_t = 25_000.0)]
    leave: f64,
    /// Resident memory of the server above which the exit code is 1, MB.
    #[arg(long, default_value_t = 400)]
    resident_mb_max: u64,
    /// 99th percentile of the delivery above which the exit code is 1, ms.
    #[arg(long, default_value_t = 20.0)]
    delivery_p99_ms_max: f64,
    #[command(flatten)]
    place: Place,
    /// Writes the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct StormArgs {
    /// Clients that reconnect.
    #[arg(long, default_value_t = 15_000)]
    connections: u32,
    /// How often all of them do.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Clients that talk all the while.
    #[arg(long, default_value_t = 400)]
    live: u32,
    /// Messages a second among them.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Seconds of them before the storm.
    #[arg(long, default_value_t = 5.0)]
    before: f64,
    /// The first user's id.
    #[arg(long, default_value_t = CROWD_FIRST_USER)]
    first_user: u64,
    /// Connects under way at a time in each thread of the generator; all of them where it is not given.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    at_once: u32,
    #[command(flatten)]
    place: Place,
    /// Writes the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Crowds may use the same users again: nothing of a user's past matters to them.
const CROWD_FIRST_USER: u64 = 1_000_000_000;

#[derive(Debug, Args)]
struct TableArgs {
    /// The reports; each is named by its file.
    #[arg(required = true, value_name = "JSON")]
    reports: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct ChatArgs {
    /// Who you are: a user id with --data, else a name, which is registered if it is new.
    #[arg(long = "as", value_name = "U")]
    user: String,
    /// The other's user id.
    #[arg(long, value_name = "V")]
    to: u64,
    /// The password of a name.
    #[arg(long, env = "PETREL_PASSWORD")]
    password: Option<String>,
    /// The device type: android, ios, mini-program, web, desktop or bot.
    #[arg(long, default_value = "desktop", value_parser = parse_device)]
    device: Device,
    #[command(flatten)]
    place: Place,
}

fn parse_device(name: &str) -> Result<Device, String> {
    Device::from_name(name).ok_or_else(|| "give android, ios, mini-program, web, desktop or bot".to_owned())
}

/// Exit code where nothing could be run.
const UNUSABLE: u8 = 2;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match cli.command {
        Command::Run(command) => run_command(&command),
        Command::Check(command) => check_command(&command),
        Command::Idle(command) => idle_command(&command),
        Command::Hold(command) => hold_command(&command),
        Command::Storm(command) => storm_command(&command),
        Command::Table(command) => table::table(&command.reports).map_err(RunError::Report).map(|text| {
            print!("{text}");
            0
        }),
        Command::Chat(command) => chat_command(&command),
        Command::Worker => workers::serve().map(|()| 0),
    };
    match code {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("petrel-loadgen: {e}");
            ExitCode::from(UNUSABLE)
        }
    }
}

impl Place {
    fn options(&self) -> Options {
        Options {
            http: self.http.clone(),
            edge: self.edge.clone(),
            data: self.data.clone(),
            ..Options::default()
        }
    }
}

fn run_command(command: &Run) -> Result<u8, RunError> {
    let options = Options {
        seed: command.seed,
        threads: command.threads,
        workers: command.workers,
        history: command.history.clone(),
        processes: Processes { servers: command.server.clone(), backends: command.backend.clone() },
        shows_progress: true,
        ..command.place.options()
    };
    let report = run::run_file(&command.scenario, &options)?;
    for history in &report.judgement.histories {
        eprintln!("{history}");
    }
    print!("{}", report.summary());
    if let Some(path) = &command.json {
        write_json(path, &report)?;
    }
    Ok(report.verdict.exit_code())
}

fn check_command(command: &CheckArgs) -> Result<u8, RunError> {
    match check::check(&command.history)? {
        Judged::Good(verdict) => {
            println!("no violation: {verdict:?}");
            Ok(0)
        }
        Judged::Bad(violation, story) => {
            println!("VIOLATION of {violation}\n{story}");
            Ok(1)
        }
    }
}

fn idle_command(command: &IdleArgs) -> Result<u8, RunError> {
    let what = Idle {
        from: command.from,
        to: command.connections,
        readings: command.readings,
        first_user: command.first_user,
        ramp_per_s: command.ramp,
        settle: Duration::from_secs_f64(command.settle),
    };
    let report = idle::measure(&what, &command.place.options())?;
    for reading in &report.readings {
        println!(
            "{:>8} connections: {:>8.3} MB resident, {:>8.3} MB private",
            reading.connections,
            reading.resident_bytes as f64 / 1e6,
            reading.private_bytes as f64 / 1e6
        );
    }
    let (resident, private) = (report.resident, report.private);
    println!(
        "{:.0} ± {:.0} bytes a connection resident, {:.0} ± {:.0} private (least squares, standard error)",
        resident.bytes, resident.error, private.bytes, private.error
    );
    if let Some(path) = &command.json {
        write_json(path, &report)?;
    }
    Ok(u8::from(resident.bytes + 2.0 * resident.error > command.bytes_max))
}

fn hold_command(command: &HoldArgs) -> Result<u8, RunError> {
    let what = Hold {
        connections: command.connections,
        first_user: command.first_user,
        ramp_per_s: command.ramp,
        rate: command.rate,
        messages: Duration::from_secs_f64(command.messages),
        quiet: Duration::from_secs_f64(command.quiet),
        leave_per_s: command.leave,
        resident_bytes_max: command.resident_mb_max * 1_000_000,
        delivery_p99_ms_max: command.delivery_p99_ms_max,
    };
    let report = million::run(&what, &command.place.options(), |text| eprintln!("{text}"))?;
    print!("{}", report.summary());
    if let Some(path) = &command.json {
        write_json(path, &report)?;
    }
    Ok(u8::from(!report.faults.is_empty()))
}

fn storm_command(command: &StormArgs) -> Result<u8, RunError> {
    let what = Storm {
        connections: command.connections,
        rounds: command.rounds,
        live: command.live,
        rate: command.rate,
        before: Duration::from_secs_f64(command.before),
        first_user: command.first_user,
        opening_max: command.at_once,
    };
    let report = storm::run(&what, &command.place.options())?;
    print!("{}", report.summary());
    if let Some(path) = &command.json {
        write_json(path, &report)?;
    }
    Ok(u8::from(!report.is_clean()))
}

fn chat_command(command: &ChatArgs) -> Result<u8, RunError> {
    let who = Chat {
        user: command.user.clone(),
        password: command.password.clone(),
        to: command.to,
        device: command.device,
    };
    chat::run(&who, &command.place.options())?;
    Ok(0)
}

fn write_json(path: &PathBuf, report: &impl serde::Serialize) -> Result<(), RunError> {
    let json = serde_json::to_string_pretty(report).expect("a report is JSON");
    std::fs::write(path, json + "\n").map_err(|e| RunError::Unwritable(path.display().to_string(), e))
}

//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::report::Report;
use crate::run::{self, Options, RunError};

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
    /// The edge's WebSocket URL, instead of the one that a login names.
    #[arg(long, value_name = "URL")]
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
    /// Instead of the scenario's seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads; one for each core where it is not given.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    threads: u32,
}

/// Exit code where nothing could be run.
const UNUSABLE: u8 = 2;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match cli.command {
        Command::Run(command) => run_command(&command),
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

fn write_json(path: &PathBuf, report: &Report) -> Result<(), RunError> {
    let json = serde_json::to_string_pretty(report).expect("a report is JSON");
    std::fs::write(path, json + "\n").map_err(|e| RunError::Unwritable(path.display().to_string(), e))
}

//! Runs seeds of the simulated world: one with its trace, or many on all cores.

mod checkpoint;
mod many;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use petrel_simulation::world::{Mutation, Plan, Report, Swarm, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulates all of Petrel: each seed is a run with its own faults, judged by what its devices saw.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    /// Replays this seed and prints what happened.
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Runs the seeds from the first up to and without the last, on all cores.
    #[arg(long, value_name = "FROM..TO", value_parser = many::parse_range)]
    seeds: Option<std::ops::Range<u64>>,
    /// With --seed: what to print of a good run. Of a bad one, the message concerned is always shown.
    #[arg(long, value_enum, default_value_t = Show::Message)]
    trace: Show,
    /// Writes the history of --seed to this file.
    #[arg(long, value_name = "FILE", requires = "seed")]
    history: Option<std::path::PathBuf>,
    /// Makes this mistake on purpose; `list` names them all.
    #[arg(long, value_name = "NAME")]
    mutation: Option<String>,
    /// Runs without any fault.
    #[arg(long)]
    calm: bool,
    /// Threads for --seeds; all cores where it is not given.
    #[arg(long)]
    threads: Option<usize>,
    /// With --seeds: prints how often each fault struck and each state was reached; fails where one never was.
    #[arg(long, requires = "seeds")]
    coverage: bool,
    /// With --seeds: keeps in this file how far it has come, and goes on from there.
    #[arg(long, value_name = "FILE", requires = "seeds")]
    checkpoint: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Show {
    /// What happened to the message concerned.
    Message,
    /// Everything.
    All,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.mutation.as_deref() == Some("list") {
        for mutation in Mutation::ALL {
            say(&format!("{}\n", mutation.name()));
        }
        return ExitCode::SUCCESS;
    }
    let mutation = match arguments.mutation.as_deref().map(|name| (name, Mutation::from_name(name))) {
        None => None,
        Some((_, Some(mutation))) => Some(mutation),
        Some((name, None)) => {
            eprintln!("there is no mutation {name:?}: --mutation list names them");
            return ExitCode::from(2);
        }
    };
    let swarm = if arguments.calm { Swarm::CALM } else { Swarm::Drawn };
    let plan = Plan { seed: 0, mutation, swarm, is_traced: false };
    match (arguments.seed, &arguments.seeds) {
        (Some(seed), _) => one(&Plan { seed, is_traced: true, ..plan }, &arguments),
        (None, Some(seeds)) => {
            let many = many::Many {
                seeds: seeds.clone(),
                plan,
                threads: arguments.threads,
                shows_coverage: arguments.coverage,
                checkpoint: arguments.checkpoint.as_deref(),
            };
            many.run()
        }
        (None, None) => {
            eprintln!("give --seed SEED or --seeds FROM..TO");
            ExitCode::from(2)
        }
    }
}

/// Replays one seed.
fn one(plan: &Plan, arguments: &Arguments) -> ExitCode {
    let report = run(plan);
    if let Some(file) = &arguments.history
        && let Err(e) = std::fs::write(file, report.history.to_string())
    {
        eprintln!("cannot write {}: {e}", file.display());
        return ExitCode::from(2);
    }
    let trace = report.trace.as_ref().expect("asked for");
    if arguments.trace == Show::All {
        say(&trace.all());
    }
    let Ok(verdict) = &report.verdict else {
        say(&complaint(plan, &report));
        return ExitCode::FAILURE;
    };
    say(&format!("seed {}: good. {verdict:?}\n", plan.seed));
    say(&format!("{} events in {} virtual ms\n", report.events, report.virtual_ms));
    ExitCode::SUCCESS
}

/// Prints this. A reader that has seen enough (`head`) is no mistake, so what it does not take is dropped.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// What is wrong, the command that replays it, and what happened to the message concerned: one screen.
fn complaint(plan: &Plan, report: &Report) -> String {
    let Err(failure) = &report.verdict else { return String::new() };
    let mutation = plan.mutation.map_or(String::new(), |m| format!(" --mutation {}", m.name()));
    let calm = if plan.swarm == Swarm::CALM { " --calm" } else { "" };
    let trace = report.trace.as_ref().map_or(String::new(), |trace| trace.of(failure.about));
    format!(
        "seed {seed} breaks {failure}\n  cargo run --release -p petrel-simulation -- --seed {seed}{mutation}{calm}\n{trace}",
        seed = plan.seed,
    )
}

//! Runs a verified load on real processes while they are killed, stopped and restarted, their links are cut, held and
//! delayed and their disk is filled, all from one seed; then says what came of it. Linux, loopback.

mod disk;
mod logs;
mod process;
mod proxy;
mod report;
mod stack;
mod strike;
mod waits;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Parser;

use disk::Disk;
use process::Running;
use proxy::Link;
use report::Outcome;
use stack::Stack;
use strike::{Chaos, RECOVERY_MAX, Random, Targets};

/// The load goes on for so long after the last fault, so that its end is calm.
const CALM_S: u64 = 15;
/// The load ends by itself within this of the last fault, or it is stuck.
const LOAD_MAX: Duration = Duration::from_mins(5);
/// The servers, and the schema on them, are there within this.
const START_MAX: Duration = Duration::from_mins(3);

/// Strikes real processes under a verified load. Exit code 0: nothing was lost, doubled or out of order, and nothing is
/// stuck; 1: something is wrong; 2: it could not be run.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// What to run, see perf/chaos/stacks.
    #[arg(long, default_value = "perf/chaos/stacks/one.toml")]
    stack: PathBuf,
    /// Decides what is struck when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long things are struck, seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Mean time from the end of a fault to the next, milliseconds.
    #[arg(long, default_value_t = 3_000)]
    every_ms: u64,
    /// Only these faults, with commas between them: kill, stop, restart, cut, snap, delay, hold, fill.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these victims, by their names or kinds, with commas between them.
    #[arg(long, value_delimiter = ',')]
    victims: Vec<String>,
    /// Leaves out the disk of its own, which takes a mount, and so the fault `fill`.
    #[arg(long)]
    no_disk: bool,
    /// Where Petrel's programs are.
    #[arg(long, default_value = "target/release")]
    bin: PathBuf,
    /// Writes the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Keeps data and logs here instead of a folder that is removed after a good run.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Instead of a run: brings the reports of runs that were written with --json together.
    #[arg(long, num_args = 1.., value_name = "JSON", conflicts_with_all = ["json", "dir"])]
    table: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("petrel-chaos: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    if !arguments.table.is_empty() {
        return report::table(&arguments.table).map(|()| ExitCode::SUCCESS);
    }
    let temporary = tempfile::Builder::new().prefix("petrel-chaos-").tempdir().map_err(|e| e.to_string())?;
    let dir = arguments.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let values = BTreeMap::from([
        ("bin".to_owned(), arguments.bin.display().to_string()),
        ("dir".to_owned(), dir.display().to_string()),
        ("seed".to_owned(), arguments.seed.to_string()),
        ("run".to_owned(), format!("chaos{}x{}", arguments.seed, std::process::id())),
        ("load_s".to_owned(), (arguments.seconds + CALM_S).to_string()),
    ]);
    let mut stack = Stack::read(&arguments.stack, &values)?;
    if arguments.no_disk {
        stack.disk = None;
    }
    if stack.disk.is_some()
        && let Some(code) = disk::in_own_namespace()
    {
        return code;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let done = start(&stack, &dir, &runtime).and_then(|mut targets| {
        let outcome = strike_all(arguments, &stack, &mut targets, &dir)?;
        report::report(arguments, &outcome, &dir)?;
        Ok(outcome.wrong.is_empty())
    });
    if done == Ok(true) {
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.dir.is_none() {
        println!("data and logs: {}", temporary.keep().display());
    }
    done.map(|_| ExitCode::FAILURE)
}

fn start<'a>(
    stack: &'a Stack,
    dir: &'a Path,
    runtime: &tokio::runtime::Runtime,
) -> Result<Targets<'a>, String> {
    let disk = stack.disk.as_ref().map(Disk::mount).transpose()?;
    let scenario = dir.join("scenario.toml");
    let text = toml::to_string(&stack.scenario).map_err(|e| format!("the scenario: {e}"))?;
    std::fs::write(&scenario, text).map_err(|e| format!("{}: {e}", scenario.display()))?;
    for command in &stack.before {
        process::run(command, &stack.env, &dir.join("before.log"))?;
    }
    let mut targets = Targets { processes: Vec::new(), links: Vec::new(), disk };
    for link in &stack.link {
        let started = runtime.block_on(Link::start(&link.listen, &link.to));
        targets.links.push((link, started.map_err(|e| format!("{} on {}: {e}", link.name, link.listen))?));
    }
    for process in &stack.process {
        targets.processes.push(Running::start(stack, process, dir)?);
    }
    for running in &mut targets.processes {
        running.ready(START_MAX)?;
    }
    Ok(targets)
}

/// Strikes for as long as is asked for, and waits for the end of the load.
fn strike_all(
    arguments: &Arguments,
    stack: &Stack,
    targets: &mut Targets<'_>,
    dir: &Path,
) -> Result<Outcome, String> {
    let mut load = process::spawn(&stack.load, &stack.env, &dir.join("load.log"))?;
    let mut chaos = Chaos {
        random: Random(arguments.seed),
        only: arguments.only.clone(),
        victims: arguments.victims.clone(),
    };
    let mut outcome = Outcome::default();
    // Before everybody is connected there is nothing to lose.
    while !has_begun(dir) && load.try_wait().map_err(|e| e.to_string())?.is_none() {
        std::thread::sleep(Duration::from_millis(100));
    }
    let began = Instant::now();
    let until = began + Duration::from_secs(arguments.seconds);
    loop {
        chaos.pause(arguments.every_ms);
        if Instant::now() >= until {
            break;
        }
        if load.try_wait().map_err(|e| e.to_string())?.is_some() {
            outcome.wrong.push("the load ended before the faults did: see load.log".to_owned());
            break;
        }
        match chaos.strike(targets) {
            Ok(fault) => {
                let (at, took) = (began.elapsed().as_secs_f64(), (fault.whole_us - fault.at_us) / 1_000);
                println!("{at:7.1} s  {} {}, whole after {took} ms", fault.what, fault.victim);
                outcome.faults.push(fault);
            }
            Err(text) => {
                outcome.wrong.push(text);
                break;
            }
        }
    }
    let code = load_ended(&mut load)?;
    if code != Some(0) {
        outcome.wrong.push(format!("the load's exit code is {code:?}: see load.log"));
    }
    for running in &mut targets.processes {
        outcome.wrong.extend(running.ready(RECOVERY_MAX).err());
    }
    targets.processes.iter().for_each(Running::keep_metrics);
    let judged =
        Command::new(arguments.bin.join("petrel-loadgen")).arg("check").arg(dir.join("history")).output();
    match judged {
        Ok(judged) if judged.status.success() => {}
        Ok(judged) => {
            let said = [judged.stdout, judged.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
            outcome.wrong.push(format!("the history is not good: {}", said.join("")));
        }
        Err(e) => return Err(format!("petrel-loadgen check: {e}")),
    }
    let logs: Vec<PathBuf> = targets.processes.iter().filter_map(Running::log).collect();
    outcome.judge_waits(dir, &logs)?;
    Ok(outcome)
}

/// Whether the load sends already, as the parts of its history tell.
fn has_begun(dir: &Path) -> bool {
    let parts = (0..).map(|part| dir.join(format!("history.{part}"))).take_while(|part| part.exists());
    parts
        .filter_map(|part| std::fs::read(part).ok())
        .any(|part| part.windows(6).any(|word| word == b" send "))
}

/// Its exit code; none where it was killed, which it is where it does not end.
fn load_ended(load: &mut Child) -> Result<Option<i32>, String> {
    let until = Instant::now() + LOAD_MAX;
    while Instant::now() < until {
        if let Some(status) = load.try_wait().map_err(|e| e.to_string())? {
            return Ok(status.code());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    load.kill().map_err(|e| e.to_string())?;
    load.wait().map(|status| status.code()).map_err(|e| e.to_string())
}

//! Runs a verified load on real processes while they are killed, stopped and restarted, and their links are cut and
//! delayed, all from one seed; then says what came of it. Linux, loopback.

mod process;
mod proxy;
mod stack;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;

use process::Running;
use proxy::Link;
use stack::{Stack, Strike};

/// Whatever was struck is ready again within this, or it is stuck.
const RECOVERY_MAX: Duration = Duration::from_mins(1);
/// The load ends by itself within this of the last fault, or it is stuck.
const LOAD_MAX: Duration = Duration::from_mins(5);

/// Strikes real processes under a verified load. Exit code 0: nothing was lost, doubled or out of order, and nothing is
/// stuck; 1: something is wrong; 2: it could not be run.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// What to run, see perf/chaos/stacks.
    #[arg(long)]
    stack: PathBuf,
    /// Decides what is struck when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long things are struck, seconds; the load should last longer.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Mean time between two faults, milliseconds.
    #[arg(long, default_value_t = 4_000)]
    every_ms: u64,
    /// Where Petrel's programs are.
    #[arg(long, default_value = "target/release")]
    bin: PathBuf,
    /// Writes the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Keeps data and logs here instead of a folder that is removed after a good run.
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("petrel-chaos: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    let temporary = tempfile::Builder::new().prefix("petrel-chaos-").tempdir().map_err(|e| e.to_string())?;
    let dir = arguments.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let values = BTreeMap::from([
        ("bin".to_owned(), arguments.bin.display().to_string()),
        ("dir".to_owned(), dir.display().to_string()),
        ("seed".to_owned(), arguments.seed.to_string()),
    ]);
    let stack = Stack::read(&arguments.stack, values)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let mut links = Vec::new();
    for link in &stack.link {
        let started = runtime.block_on(Link::start(&link.listen, &link.to));
        links.push((
            link.name.clone(),
            started.map_err(|e| format!("{} on {}: {e}", link.name, link.listen))?,
        ));
    }
    let mut processes = Vec::new();
    for process in &stack.process {
        let mut running = Running::start(process, &dir)?;
        running.ready(RECOVERY_MAX)?;
        processes.push(running);
    }
    let mut load = start_load(&stack.load, &dir)?;
    let mut struck = Struck { random: Random(arguments.seed), began: Instant::now(), faults: Vec::new() };
    let until = struck.began + Duration::from_secs(arguments.seconds);
    let mut wrong = Vec::new();
    while Instant::now() < until && wrong.is_empty() {
        struck.pause(arguments.every_ms);
        if load.try_wait().map_err(|e| e.to_string())?.is_some() {
            wrong.push("the load ended before the faults did: make it longer".to_owned());
            break;
        }
        wrong.extend(struck.strike(&mut processes, &links).err());
    }
    let verdict = load_ended(&mut load)?;
    if verdict != Some(0) {
        wrong.push(format!("the load's exit code is {verdict:?}: see load.log"));
    }
    for running in &mut processes {
        wrong.extend(running.ready(RECOVERY_MAX).err());
    }
    report(arguments, &stack, &struck, &wrong, &dir)?;
    if !wrong.is_empty() && arguments.dir.is_none() {
        println!("data and logs: {}", temporary.keep().display());
    }
    Ok(wrong.is_empty())
}

fn start_load(command: &[String], dir: &Path) -> Result<Child, String> {
    let log = std::fs::File::create(dir.join("load.log")).map_err(|e| e.to_string())?;
    let output = log.try_clone().map_err(|e| e.to_string())?;
    let [program, arguments @ ..] = command else { return Err("the stack has no load".to_owned()) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(log);
    command.spawn().map_err(|e| format!("the load cannot be started ({program}): {e}"))
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

/// One fault that was made, and how long its victim was not ready for it.
struct Fault {
    at: Duration,
    kind: String,
    what: &'static str,
    victim: String,
    lasted: Duration,
}

struct Struck {
    random: Random,
    began: Instant,
    faults: Vec<Fault>,
}

impl Struck {
    fn pause(&mut self, mean_ms: u64) {
        let ms = mean_ms / 2 + self.random.below(mean_ms);
        std::thread::sleep(Duration::from_millis(ms));
    }

    /// Strikes one process or link, and waits until it is whole again. An error: it is stuck.
    fn strike(&mut self, processes: &mut [Running<'_>], links: &[(String, Arc<Link>)]) -> Result<(), String> {
        let victims: Vec<(usize, Strike)> = (0..)
            .zip(processes.iter())
            .flat_map(|(index, running)| running.process.faults.iter().map(move |strike| (index, *strike)))
            .collect();
        let chosen = self.random.below((victims.len() + 2 * links.len()) as u64) as usize;
        let began = Instant::now();
        let (kind, what, victim) = if let Some((index, strike)) = victims.get(chosen) {
            let running = &mut processes[*index];
            if running.has_ended() {
                return Err(format!("{} ended by itself", running.process.name));
            }
            let what = self.strike_process(running, *strike)?;
            running.ready(RECOVERY_MAX)?;
            (running.process.kind.clone(), what, running.process.name.clone())
        } else {
            let (name, link) = &links[(chosen - victims.len()) / 2];
            let what = if (chosen - victims.len()).is_multiple_of(2) { "cut" } else { "delay" };
            if what == "cut" {
                link.cut();
            } else {
                link.delay(20 + self.random.below(500));
            }
            std::thread::sleep(Duration::from_millis(200 + self.random.below(3_000)));
            link.mend();
            ("link".to_owned(), what, name.clone())
        };
        let fault = Fault { at: began - self.began, kind, what, victim, lasted: began.elapsed() };
        println!(
            "{:7.1} s  {} {} for {} ms",
            fault.at.as_secs_f64(),
            fault.what,
            fault.victim,
            fault.lasted.as_millis()
        );
        self.faults.push(fault);
        Ok(())
    }

    fn strike_process(&mut self, running: &mut Running<'_>, strike: Strike) -> Result<&'static str, String> {
        Ok(match strike {
            Strike::Kill => {
                running.signal("-KILL")?;
                running.ended(RECOVERY_MAX)?;
                running.start_again()?;
                "kill"
            }
            Strike::Stop => {
                running.signal("-STOP")?;
                std::thread::sleep(Duration::from_millis(200 + self.random.below(8_000)));
                running.signal("-CONT")?;
                "stop"
            }
            Strike::Restart => {
                running.signal("-TERM")?;
                running.ended(RECOVERY_MAX)?;
                running.start_again()?;
                "restart"
            }
        })
    }
}

/// A table for people, and JSON for programs. The time is that for which a victim was not ready: what its clients waited
/// at least; the load's own report has what they waited at most.
fn report(
    arguments: &Arguments,
    stack: &Stack,
    struck: &Struck,
    wrong: &[String],
    dir: &Path,
) -> Result<(), String> {
    let mut by_kind: BTreeMap<(&str, &str), (usize, Duration)> = BTreeMap::new();
    for fault in &struck.faults {
        let (count, longest) = by_kind.entry((&fault.kind, fault.what)).or_default();
        *count += 1;
        *longest = fault.lasted.max(*longest);
    }
    let verdict = if wrong.is_empty() { "good" } else { "WRONG" };
    println!("\n| kind | fault | times | longest not ready |\n| --- | --- | --- | --- |");
    for ((kind, what), (count, longest)) in &by_kind {
        println!("| {kind} | {what} | {count} | {} ms |", longest.as_millis());
    }
    println!("\nseed {}: {} faults, {verdict}", arguments.seed, struck.faults.len());
    for text in wrong {
        println!("  {text}");
    }
    let Some(path) = &arguments.json else { return Ok(()) };
    let faults: Vec<_> = struck
        .faults
        .iter()
        .map(|f| {
            json!({ "at_ms": f.at.as_millis() as u64, "kind": f.kind, "fault": f.what, "victim": f.victim,
                "not_ready_ms": f.lasted.as_millis() as u64 })
        })
        .collect();
    let load =
        std::fs::read(dir.join("load.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let report = json!({
        "stack": arguments.stack.display().to_string(),
        "seed": arguments.seed,
        "seconds": arguments.seconds,
        "processes": stack.process.iter().map(|p| &p.name).collect::<Vec<_>>(),
        "is_good": wrong.is_empty(),
        "wrong": wrong,
        "faults": faults,
        "load": load.unwrap_or(serde_json::Value::Null),
    });
    std::fs::write(path, format!("{report:#}\n")).map_err(|e| format!("{}: {e}", path.display()))
}

/// SplitMix64: the seed is the run's plan, as far as processes keep their pace.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % n.max(1)
    }
}

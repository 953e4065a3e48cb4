//! A run in several processes, where one may not have enough open files: each is this program again, with a part of the
//! users, who write to each other only. They connect, wait for each other, and are judged each by itself; what they
//! measured is put together.
//!
//! Parent and worker talk in lines of JSON over the worker's standard input and output.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::crew::{self, Watch};
use crate::host::{self, Server, Usage};
use crate::measure::Measures;
use crate::processes::Processes;
use crate::report::{Report, Seen};
use crate::run::{self, EDGE_DEFAULT, Options, RunError};
use crate::scenario::{Pairs, Scenario};
use crate::url::Target;
use crate::verify::Judgement;

/// Why the workers gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// It cannot be started, or has ended.
    #[error("a worker process failed: {0}")]
    Process(#[from] std::io::Error),
    /// It said something else than it should.
    #[error("a worker process said what nobody understands: {0}")]
    Nonsense(#[from] serde_json::Error),
    /// It could not run its part.
    #[error("{0}")]
    Failed(String),
    /// It said something at the wrong time.
    #[error("a worker process lost its place")]
    OutOfStep,
}

#[derive(Debug, Serialize, Deserialize)]
struct Job {
    scenario: Scenario,
    options: Options,
}

#[derive(Debug, Serialize, Deserialize)]
enum News {
    /// Everybody is connected.
    Ramped,
    /// The load is over.
    Loaded,
    Failed(String),
    Result(Box<Part>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Part {
    measures: Measures,
    judgement: Judgement,
    load_s: f64,
    used: Option<Usage>,
}

/// Runs a scenario in `count` processes.
pub fn run(scenario: Scenario, options: &Options, count: u32) -> Result<Report, RunError> {
    let edge = options.edge.clone().unwrap_or_else(|| EDGE_DEFAULT.to_owned());
    let http = options.http.as_ref().map(|url| Target::parse(url, "http://")).transpose()?;
    let server = Server::find(http, Target::parse_all(&edge, "ws://")?[0].address);
    let jobs = split(&scenario, options, count);
    let mut workers: Vec<Worker> = jobs.iter().map(Worker::start).collect::<Result<_, _>>()?;
    for worker in &mut workers {
        worker.expect(|news| matches!(news, News::Ramped))?;
    }
    let before = server.usage();
    let processes_before = options.processes.usages();
    for worker in &mut workers {
        worker.go_on()?;
    }
    for worker in &mut workers {
        worker.expect(|news| matches!(news, News::Loaded))?;
    }
    let server_used = server.usage().zip(before).map(|(after, before)| after.since(&before));
    let mut measures = Measures::new(scenario.schedule().len());
    let mut judgement = Judgement::default();
    let processes = options.processes.used_since(&processes_before);
    let mut seen = Seen { server: server_used, processes, ..Seen::default() };
    for worker in workers {
        let part = worker.finish()?;
        measures.merge(&part.measures);
        judgement.merge(part.judgement);
        seen.load_s = seen.load_s.max(part.load_s);
        if let Some(used) = part.used {
            let sum = seen.generator.get_or_insert_default();
            sum.user_s += used.user_s;
            sum.system_s += used.system_s;
            sum.resident_bytes += used.resident_bytes;
        }
    }
    Ok(Report::new(scenario, &edge, &measures, judgement, &seen))
}

/// The parts of a run: users in blocks, everything else in proportion.
fn split(scenario: &Scenario, options: &Options, count: u32) -> Vec<Job> {
    // Fixed pairs stay together.
    let block = if scenario.pairs == Pairs::Fixed { 2 } else { 1 };
    let blocks = scenario.users / block;
    let first_user = run::first_user(scenario);
    let count = count.min(blocks / 2).max(1);
    (0..count)
        .map(|i| {
            let from = u64::from(blocks) * u64::from(i) / u64::from(count) * u64::from(block);
            let to = u64::from(blocks) * u64::from(i + 1) / u64::from(count) * u64::from(block);
            let share = (to - from) as f64 / f64::from(scenario.users);
            let messages = |users: u64| scenario.messages * users / u64::from(scenario.users);
            let mut part = scenario.clone();
            part.users = (to - from) as u32;
            part.first_user = first_user + from;
            part.messages = messages(to) - messages(from);
            part.rate *= share;
            part.churn_per_s *= share;
            part.ramp_per_s = (part.ramp_per_s * share).max(1.0);
            part.phases.iter_mut().for_each(|phase| phase.rate *= share);
            part.seed = scenario.seed.wrapping_mul(31).wrapping_add(i.into());
            let options = Options {
                threads: if options.threads == 0 { 1 } else { options.threads },
                workers: 1,
                seed: None,
                shows_progress: false,
                processes: Processes::default(),
                first_connection: from as u32 * scenario.devices,
                has_fresh_users: scenario.first_user == 0,
                ..options.clone()
            };
            Job { scenario: part, options }
        })
        .collect()
}

#[derive(Debug)]
struct Worker {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Worker {
    fn start(job: &Job) -> Result<Self, WorkerError> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let to = child.stdin.take().expect("it is piped");
        let from = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut worker = Self { child, to, from };
        say(&mut worker.to, job)?;
        Ok(worker)
    }

    fn expect(&mut self, is_it: impl Fn(&News) -> bool) -> Result<(), WorkerError> {
        match hear(&mut self.from)? {
            News::Failed(text) => Err(WorkerError::Failed(text)),
            news if is_it(&news) => Ok(()),
            _ => Err(WorkerError::OutOfStep),
        }
    }

    fn go_on(&mut self) -> Result<(), WorkerError> {
        say(&mut self.to, &())
    }

    fn finish(mut self) -> Result<Part, WorkerError> {
        let news = hear(&mut self.from)?;
        self.child.wait()?;
        match news {
            News::Result(part) => Ok(*part),
            News::Failed(text) => Err(WorkerError::Failed(text)),
            News::Ramped | News::Loaded => Err(WorkerError::OutOfStep),
        }
    }
}

/// The worker's side: one job, then the end.
pub fn serve() -> Result<(), RunError> {
    let job: Job = hear(&mut std::io::stdin().lock())?;
    let news = match work(job) {
        Ok(part) => News::Result(Box::new(part)),
        Err(e) => News::Failed(e.to_string()),
    };
    Ok(say(&mut std::io::stdout().lock(), &news)?)
}

fn work(job: Job) -> Result<Part, RunError> {
    let (plan, _) = run::plan(job.scenario, &job.options)?;
    let mut steps = Reported::default();
    let outcome = crew::run(&Arc::new(plan), &mut steps)?;
    let used = steps.after.zip(steps.before).map(|(after, before)| after.since(&before));
    Ok(Part {
        measures: outcome.measures,
        judgement: outcome.judgement,
        load_s: outcome.load.as_secs_f64(),
        used,
    })
}

/// Tells the parent of the steps, and waits for the others before the load.
#[derive(Debug, Default)]
struct Reported {
    before: Option<Usage>,
    after: Option<Usage>,
}

impl Watch for Reported {
    fn load_begins(&mut self) {
        // A parent that is gone has no use for the result; the load is harmless.
        let _ = say(&mut std::io::stdout().lock(), &News::Ramped);
        let _: Result<(), WorkerError> = hear(&mut std::io::stdin().lock());
        self.before = host::usage_of(std::process::id());
    }

    fn load_ends(&mut self) {
        self.after = host::usage_of(std::process::id());
        let _ = say(&mut std::io::stdout().lock(), &News::Loaded);
    }
}

fn say(to: &mut impl Write, what: &impl Serialize) -> Result<(), WorkerError> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    to.write_all(&line)?;
    Ok(to.flush()?)
}

fn hear<T: DeserializeOwned>(from: &mut impl BufRead) -> Result<T, WorkerError> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok(serde_json::from_str(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_whole() {
        let whole = Scenario {
            users: 1_001,
            devices: 2,
            messages: 100_003,
            rate: 900.0,
            first_user: 50,
            ..Scenario::default()
        };
        let jobs = split(&whole, &Options::default(), 3);
        assert_eq!(jobs.iter().map(|j| j.scenario.users).sum::<u32>(), 1_001);
        assert_eq!(jobs.iter().map(|j| j.scenario.messages).sum::<u64>(), 100_003);
        assert!((jobs.iter().map(|j| j.scenario.rate).sum::<f64>() - 900.0).abs() < 1e-6);
        for pair in jobs.windows(2) {
            let (one, next) = (&pair[0], &pair[1]);
            assert_eq!(one.scenario.first_user + u64::from(one.scenario.users), next.scenario.first_user);
            let connections = one.scenario.users * 2;
            assert_eq!(one.options.first_connection + connections, next.options.first_connection);
        }
        let fixed = Scenario { pairs: Pairs::Fixed, users: 10, ..Scenario::default() };
        assert!(split(&fixed, &Options::default(), 3).iter().all(|j| j.scenario.users % 2 == 0));
    }
}

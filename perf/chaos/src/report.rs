//! What came of a run: the verdict on the waits, a table for people, JSON for programs and for tables of many runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;

use crate::Arguments;
use crate::logs;
use crate::strike::Fault;
use crate::waits::{Longest, Seen, Waits};

/// A wait that outlasts its fault by this much is a stall. Its cause is in some log, or clients were told by refusals.
const STALL_US: u64 = 5_000_000;
/// A client waits no longer than this once everything is whole again, or it was forgotten.
const FORGOTTEN_US: u64 = 30_000_000;

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) faults: Vec<Fault>,
    /// What clients saw of each fault.
    seen: Vec<Seen>,
    calm: Seen,
    /// What the logs say of each fault that stalled clients.
    causes: Vec<Option<String>>,
    pub(crate) wrong: Vec<String>,
    load: Option<Load>,
}

/// What is read of the load's own report.
#[derive(Debug, Deserialize)]
struct Load {
    began_ms: u64,
    counts: Counts,
    judgement: Judgement,
}

#[derive(Debug, Deserialize)]
struct Counts {
    accepted: u64,
}

#[derive(Debug, Deserialize)]
struct Judgement {
    violations: BTreeMap<String, u64>,
}

impl Outcome {
    /// Reads the history: how long clients waited, whether any was forgotten, and whether the logs say why.
    pub(crate) fn judge_waits(&mut self, dir: &Path, logs: &[PathBuf]) -> Result<(), String> {
        // A load that could not be run, or was killed, has left neither: that is said already.
        let Ok(report) = std::fs::read(dir.join("load.json")) else { return Ok(()) };
        let load: Load = serde_json::from_slice(&report).map_err(|e| format!("load.json: {e}"))?;
        let began_us = load.began_ms * 1_000;
        let starts: Vec<u64> = self.faults.iter().map(|fault| fault.at_us.saturating_sub(began_us)).collect();
        let mut waits = Waits::new(&starts);
        let history = dir.join("history");
        let file = File::open(&history).map_err(|e| format!("{}: {e}", history.display()))?;
        waits.read(BufReader::new(file))?;
        (self.seen, self.calm) = (waits.seen, waits.calm);
        let lines = logs::causes(logs)?;
        let next_us = self.faults.iter().skip(1).map(|next| next.at_us).chain([u64::MAX]);
        for ((fault, seen), next_us) in self.faults.iter().zip(&self.seen).zip(next_us) {
            let longest = if seen.accept.us > seen.delivery.us { seen.accept } else { seen.delivery };
            let stalled_until = fault.at_us + longest.us;
            let cause = logs::first_within(&lines, fault.at_us, stalled_until + 1_000_000);
            self.causes.push(cause.map(str::to_owned));
            let name = format!("{} {}", fault.what, fault.victim);
            // One that lasts until after the next fault is judged there.
            let is_judged = stalled_until < next_us;
            let is_stall = is_judged && stalled_until >= fault.whole_us + STALL_US;
            if is_stall && cause.is_none() && seen.refusals == 0 {
                self.wrong.push(format!("{name} stalled {}, and nothing says why", text_of(longest)));
            }
            if is_judged && stalled_until > fault.whole_us + FORGOTTEN_US {
                self.wrong.push(format!("{name} stalled {}, long after all was ready", text_of(longest)));
            }
        }
        if self.calm.accept.us.max(self.calm.delivery.us) > FORGOTTEN_US {
            self.wrong.push(format!("before any fault: {}", text_of(self.calm.delivery)));
        }
        self.load = Some(load);
        Ok(())
    }
}

fn text_of(longest: Longest) -> String {
    let whose = longest.whose.map_or_else(String::new, |(device, id)| format!("{device} for message {id}, "));
    format!("{whose}{} ms", longest.us / 1_000)
}

/// One row of the table: a kind of fault on a kind of victim.
#[derive(Debug, Default)]
struct Row {
    times: u64,
    whole_ms: u64,
    accept_ms: u64,
    delivery_ms: u64,
}

const HEAD: &str = "| struck | fault | times | longest until all was ready | longest wait for an accept | longest wait for a \
                    delivery |\n| --- | --- | --- | --- | --- | --- |";

fn print_rows(rows: &BTreeMap<(String, String), Row>) {
    println!("\n{HEAD}");
    for ((kind, what), row) in rows {
        let Row { times, whole_ms, accept_ms, delivery_ms } = row;
        println!("| {kind} | {what} | {times} | {whole_ms} ms | {accept_ms} ms | {delivery_ms} ms |");
    }
}

/// A table for people, and JSON for programs.
pub(crate) fn report(arguments: &Arguments, outcome: &Outcome, dir: &Path) -> Result<(), String> {
    let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
    let nothing = Seen::default();
    let mut faults = Vec::new();
    for (index, fault) in outcome.faults.iter().enumerate() {
        let seen = outcome.seen.get(index).unwrap_or(&nothing);
        let row = rows.entry((fault.kind.clone(), fault.what.to_owned())).or_default();
        let whole_ms = (fault.whole_us - fault.at_us) / 1_000;
        row.times += 1;
        row.whole_ms = row.whole_ms.max(whole_ms);
        row.accept_ms = row.accept_ms.max(seen.accept.us / 1_000);
        row.delivery_ms = row.delivery_ms.max(seen.delivery.us / 1_000);
        faults.push(json!({
            "at_ms": fault.at_us / 1_000, "kind": fault.kind, "fault": fault.what, "victim": fault.victim,
            "whole_ms": whole_ms, "accept_ms": seen.accept.us / 1_000, "delivery_ms": seen.delivery.us / 1_000,
            "accept_of": text_of(seen.accept), "delivery_of": text_of(seen.delivery),
            "refusals": seen.refusals, "disconnects": seen.disconnects,
            "cause": outcome.causes.get(index),
        }));
    }
    print_rows(&rows);
    let accepted = outcome.load.as_ref().map_or(0, |load| load.counts.accepted);
    let verdict = if outcome.wrong.is_empty() { "good" } else { "WRONG" };
    println!("\nseed {}: {} faults, {accepted} accepted, {verdict}", arguments.seed, outcome.faults.len());
    for text in &outcome.wrong {
        println!("  {text}");
    }
    let Some(path) = &arguments.json else { return Ok(()) };
    let load: serde_json::Value = std::fs::read(dir.join("load.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let report = json!({
        "stack": arguments.stack.display().to_string(),
        "seed": arguments.seed,
        "seconds": arguments.seconds,
        "accepted": accepted,
        "violations": outcome.load.as_ref().map(|load| &load.judgement.violations),
        "wrong": outcome.wrong,
        "faults": faults,
        "commit": load.get("commit"),
        "counts": load.get("counts"),
        "latencies_ms": load.get("latencies_ms"),
    });
    std::fs::write(path, format!("{report:#}\n")).map_err(|e| format!("{}: {e}", path.display()))
}

/// What is read back of a report.
#[derive(Debug, Deserialize)]
struct Written {
    stack: String,
    accepted: u64,
    wrong: Vec<String>,
    faults: Vec<WrittenFault>,
    commit: Option<String>,
}

#[derive(Debug, Deserialize)]
struct WrittenFault {
    kind: String,
    fault: String,
    whole_ms: u64,
    accept_ms: u64,
    delivery_ms: u64,
}

/// Prints the table of many runs.
pub(crate) fn table(paths: &[PathBuf]) -> Result<(), String> {
    let (mut rows, mut good, mut accepted) = (BTreeMap::<(String, String), Row>::new(), 0, 0);
    let (mut stacks, mut commits) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
    for path in paths {
        let text = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let run: Written = serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        good += u64::from(run.wrong.is_empty());
        accepted += run.accepted;
        *stacks.entry(run.stack).or_default() += 1;
        *commits.entry(run.commit.unwrap_or_else(|| "unknown".to_owned())).or_default() += 1;
        for fault in run.faults {
            let row = rows.entry((fault.kind, fault.fault)).or_default();
            row.times += 1;
            row.whole_ms = row.whole_ms.max(fault.whole_ms);
            row.accept_ms = row.accept_ms.max(fault.accept_ms);
            row.delivery_ms = row.delivery_ms.max(fault.delivery_ms);
        }
    }
    println!(
        "{} runs, {good} good, {accepted} messages accepted; by stack {stacks:?}, by commit {commits:?}",
        paths.len()
    );
    print_rows(&rows);
    Ok(())
}

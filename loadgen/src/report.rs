//! What a run is reported as: JSON for machines, one screen for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::host::Usage;
use crate::measure::{Counts, Measures, Percentiles, Timed};
use crate::processes::{self, Part, ProcessCost, Used};
use crate::scenario::Scenario;
use crate::verify::Judgement;

/// A run's result.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What the run was worth.
    pub verdict: Verdict,
    /// Why it is invalid, where it is.
    pub invalid: Option<String>,
    /// The commit of the sources that the generator was built from.
    pub commit: String,
    /// The machine's kernel.
    pub kernel: String,
    /// Cores of the machine.
    pub cores: usize,
    /// Seconds since 1970 when it ended.
    pub ended_at_s: u64,
    /// Milliseconds since 1970 when its clock began, by which its history tells the time; 0 of several processes.
    pub began_ms: u64,
    /// What was run.
    pub scenario: Scenario,
    /// Where clients connected.
    pub edge: String,
    /// Seconds of load.
    pub load_s: f64,
    /// Accepted messages a second of load.
    pub accepted_per_s: f64,
    /// Arrivals a second of load, over all devices.
    pub delivered_per_s: f64,
    /// By the name of what was timed, in ms.
    pub latencies_ms: BTreeMap<&'static str, Percentiles>,
    /// Phase by phase.
    pub phases: Vec<PhaseReport>,
    /// Counts of the whole run.
    pub counts: Counts,
    /// What the server used during the load, where that is known.
    pub server: Option<Cost>,
    /// What the generator used during the load.
    pub generator: Option<Cost>,
    /// What each process that was named used during the load, and the generator; none where none was named.
    pub processes: Vec<ProcessCost>,
    /// The judgement.
    pub judgement: Judgement,
    /// Second by second.
    pub seconds: Vec<SecondReport>,
}

/// What a run was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is wrong.
    Clean,
    /// Something is wrong with the server.
    Violated,
    /// The generator was too slow for its numbers to mean anything; nothing else is wrong.
    Invalid,
}

impl Verdict {
    /// The process's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Violated => 1,
            Self::Invalid => 3,
        }
    }
}

/// A phase of the load.
#[derive(Debug, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// Offered a second, as the scenario says.
    pub rate: f64,
    /// Accepted a second, over its time.
    pub accepted_per_s: f64,
    /// Arrivals a second, over its time.
    pub delivered_per_s: f64,
    /// Refusals a second, over its time.
    pub refused_per_s: f64,
    /// Accept, of what was intended in it.
    pub accept_ms: Percentiles,
    /// Delivery, of what was intended in it.
    pub delivery_ms: Percentiles,
    /// Seconds from its beginning until its last second that was not normal; 0 where all were. After an overload it is
    /// the time of recovery.
    pub abnormal_s: f64,
}

/// A second of the load.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SecondReport {
    pub offered: u32,
    pub accepted: u32,
    pub delivered: u32,
    pub refused: u32,
    pub delivery_p99_ms: f64,
}

/// What a process used during the load.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// CPU seconds and memory.
    #[serde(flatten)]
    pub usage: Usage,
    /// User-space CPU microseconds for each accepted message.
    pub user_us_per_message: f64,
    /// Kernel CPU microseconds for each accepted message.
    pub system_us_per_message: f64,
}

impl Cost {
    /// Of so many messages.
    pub fn new(usage: Usage, messages: u64) -> Self {
        let per_message = |s: f64| if messages == 0 { 0.0 } else { s * 1e6 / messages as f64 };
        Self {
            user_us_per_message: per_message(usage.user_s),
            system_us_per_message: per_message(usage.system_s),
            usage,
        }
    }
}

/// What was seen around a run.
#[derive(Debug, Default)]
pub struct Seen {
    /// Milliseconds since 1970 when the run's clock began, where it has one.
    pub began_ms: u64,
    /// Seconds of load.
    pub load_s: f64,
    /// What the server used during the load.
    pub server: Option<Usage>,
    /// What the generator used during the load.
    pub generator: Option<Usage>,
    /// What the processes that were named used during the load.
    pub processes: Vec<Used>,
}

impl Seen {
    fn processes(&self, messages: u64) -> Vec<ProcessCost> {
        if self.processes.is_empty() {
            return Vec::new();
        }
        let generator = Used { name: "generator".to_owned(), part: Part::Generator, usage: self.generator };
        let all: Vec<_> = self.processes.iter().cloned().chain([generator]).collect();
        processes::costs(&all, messages)
    }
}

impl Report {
    /// Puts a run's result together.
    pub fn new(
        scenario: Scenario,
        edge: &str,
        measures: &Measures,
        judgement: Judgement,
        seen: &Seen,
    ) -> Self {
        let invalid = lag_fault(&scenario, measures);
        let verdict = match (judgement.is_clean(), &invalid) {
            (false, _) => Verdict::Violated,
            (true, Some(_)) => Verdict::Invalid,
            (true, None) => Verdict::Clean,
        };
        let counts = measures.counts.clone();
        let per_s = |count: u64| if seen.load_s > 0.0 { count as f64 / seen.load_s } else { 0.0 };
        Self {
            verdict,
            invalid,
            commit: commit(),
            kernel: crate::host::kernel(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            ended_at_s: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs(),
            began_ms: seen.began_ms,
            edge: edge.to_owned(),
            load_s: seen.load_s,
            accepted_per_s: per_s(counts.accepted),
            delivered_per_s: per_s(counts.delivered),
            latencies_ms: Timed::ALL
                .iter()
                .map(|timed| (timed.name(), measures.total[*timed as usize].percentiles()))
                .collect(),
            phases: phases(&scenario, measures, seen.load_s),
            server: seen.server.map(|usage| Cost::new(usage, counts.accepted)),
            generator: seen.generator.map(|usage| Cost::new(usage, counts.accepted)),
            processes: seen.processes(counts.accepted),
            seconds: measures
                .seconds
                .iter()
                .map(|s| SecondReport {
                    offered: s.offered,
                    accepted: s.accepted,
                    delivered: s.delivered,
                    refused: s.refused,
                    delivery_p99_ms: s.delivery_p99_ms(),
                })
                .collect(),
            counts,
            judgement,
            scenario,
        }
    }

    /// One screen for people.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        self.write_summary(&mut text).expect("a String grows");
        text
    }

    fn write_summary(&self, text: &mut String) -> std::fmt::Result {
        let counts = &self.counts;
        writeln!(
            text,
            "load {:.1} s: {} offered, {} accepted ({:.0}/s), {} refused; {} arrivals ({:.0}/s)",
            self.load_s,
            counts.offered,
            counts.accepted,
            self.accepted_per_s,
            counts.refused,
            counts.delivered,
            self.delivered_per_s,
        )?;
        writeln!(
            text,
            "\n{:<12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "ms", "count", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for timed in Timed::ALL {
            row(text, timed.name(), &self.latencies_ms[timed.name()])?;
        }
        self.write_phases(text)?;
        processes::write_lines(text, &self.processes)?;
        self.write_costs(text)?;
        writeln!(
            text,
            "raw: {} duplicates, {} out of order, {} resent, {} late statuses; recalls {}/{}",
            counts.duplicates,
            counts.out_of_order,
            counts.resent,
            counts.late_statuses,
            counts.recalls.1,
            counts.recalls.0,
        )?;
        writeln!(
            text,
            "connections: {} opened, {} lost, {} failed attempts",
            counts.connections.0, counts.connections.1, counts.connect_failures
        )?;
        if !counts.refusals.is_empty() {
            let list: Vec<String> = counts.refusals.iter().map(|(code, n)| format!("{code}: {n}")).collect();
            writeln!(text, "refusals by code: {}", list.join(", "))?;
        }
        let j = &self.judgement;
        writeln!(
            text,
            "verified: {} messages, {} arrivals, {} conversations",
            j.messages, j.arrivals, j.conversations
        )?;
        for (kind, count) in &j.violations {
            writeln!(text, "VIOLATION: {}: {count}", kind.text())?;
        }
        if let Some(reason) = &self.invalid {
            writeln!(text, "INVALID: {reason}")?;
        }
        match self.verdict {
            Verdict::Clean => writeln!(text, "no violation"),
            Verdict::Violated | Verdict::Invalid => Ok(()),
        }
    }

    /// How each phase went, where there are several.
    fn write_phases(&self, text: &mut String) -> std::fmt::Result {
        if self.phases.len() <= 1 {
            return Ok(());
        }
        writeln!(
            text,
            "\n{:<12} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10} {:>9}",
            "phase", "offered/s", "accept/s", "deliver/s", "refuse/s", "accept p99", "deliv. p99", "abnormal"
        )?;
        for p in &self.phases {
            writeln!(
                text,
                "{:<12} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>10.2} {:>10.2} {:>7.0} s",
                p.name,
                p.rate,
                p.accepted_per_s,
                p.delivered_per_s,
                p.refused_per_s,
                p.accept_ms.p99,
                p.delivery_ms.p99,
                p.abnormal_s,
            )?;
        }
        Ok(())
    }

    /// What a message cost the server and the generator, where it is known.
    fn write_costs(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text)?;
        for (name, cost) in [("server", &self.server), ("generator", &self.generator)] {
            if let Some(cost) = cost {
                writeln!(
                    text,
                    "{name:<9} {:.1} µs of CPU a message ({:.1} user, {:.1} system), {:.1} MB resident",
                    cost.user_us_per_message + cost.system_us_per_message,
                    cost.user_us_per_message,
                    cost.system_us_per_message,
                    cost.usage.resident_bytes as f64 / 1e6,
                )?;
            }
        }
        Ok(())
    }
}

fn row(text: &mut String, name: &str, p: &Percentiles) -> std::fmt::Result {
    if p.count == 0 {
        return Ok(());
    }
    writeln!(
        text,
        "{name:<12} {:>9} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
        p.count, p.p50, p.p90, p.p99, p.p999, p.max
    )
}

/// A generator that did not keep its own times has measured itself.
fn lag_fault(scenario: &Scenario, measures: &Measures) -> Option<String> {
    let lag = measures.total[Timed::Lag as usize].percentiles();
    let (p99_max, max_max) = (scenario.lag_p99_ms_max, scenario.lag_max_ms_max);
    let is_open = !scenario.phases.is_empty() || scenario.rate > 0.0;
    if !is_open {
        return None;
    }
    if lag.p99 > p99_max {
        return Some(format!(
            "the generator lagged {:.2} ms at the 99th percentile, above {p99_max} ms",
            lag.p99
        ));
    }
    (lag.max > max_max).then(|| format!("the generator lagged up to {:.2} ms, above {max_max} ms", lag.max))
}

fn phases(scenario: &Scenario, measures: &Measures, load_s: f64) -> Vec<PhaseReport> {
    let mut start_s = 0.0;
    let mut reports = Vec::new();
    for (phase, latencies) in scenario.schedule().iter().zip(&measures.phases) {
        let duration_s = phase.duration_s.min(load_s);
        let first = (start_s as usize).min(measures.seconds.len());
        let last = ((start_s + duration_s).round() as usize).clamp(first, measures.seconds.len());
        let seconds = &measures.seconds[first..last];
        let per_s = |of: fn(&crate::measure::Second) -> u32| {
            seconds.iter().map(|s| u64::from(of(s))).sum::<u64>() as f64 / duration_s.max(1e-9)
        };
        let is_abnormal =
            |s: &crate::measure::Second| s.refused > 0 || s.delivery_p99_ms() > scenario.normal_p99_ms;
        reports.push(PhaseReport {
            name: phase.name.clone(),
            rate: phase.rate,
            accepted_per_s: per_s(|s| s.accepted),
            delivered_per_s: per_s(|s| s.delivered),
            refused_per_s: per_s(|s| s.refused),
            accept_ms: latencies[0].percentiles(),
            delivery_ms: latencies[1].percentiles(),
            abnormal_s: seconds.iter().rposition(is_abnormal).map_or(0.0, |at| at as f64 + 1.0),
        });
        start_s += phase.duration_s;
    }
    reports
}

/// From the environment, where the build or the caller says it; else from the working copy's own record.
fn commit() -> String {
    if let Ok(commit) = std::env::var("PETREL_COMMIT") {
        return commit;
    }
    let git = std::process::Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    match git {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

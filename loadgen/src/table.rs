//! Several reports as tables in markdown: one line a run, one a phase where a run had several, and
//! one a process where processes were named.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::measure::Percentiles;
use crate::processes::{self, ProcessCost};
use crate::report::{Cost, PhaseReport, Verdict};

/// What a table needs of a report.
#[derive(Debug, Deserialize)]
struct Run {
    #[serde(skip)]
    name: String,
    verdict: Verdict,
    commit: String,
    kernel: String,
    cores: usize,
    load_s: f64,
    accepted_per_s: f64,
    latencies_ms: BTreeMap<String, Percentiles>,
    phases: Vec<PhaseReport>,
    counts: Counts,
    server: Option<Cost>,
    generator: Option<Cost>,
    /// Reports of older versions name none.
    #[serde(default)]
    processes: Vec<ProcessCost>,
    judgement: Judgement,
}

#[derive(Debug, Deserialize)]
struct Counts {
    offered: u64,
    accepted: u64,
    refusals: BTreeMap<i32, u64>,
}

#[derive(Debug, Deserialize)]
struct Judgement {
    arrivals: u64,
    violations: BTreeMap<String, u64>,
}

/// The tables of these reports, each named by its file.
pub fn table(reports: &[PathBuf]) -> io::Result<String> {
    let runs = reports.iter().map(|path| read(path)).collect::<io::Result<Vec<_>>>()?;
    let mut text = String::new();
    write(&mut text, &runs).expect("a String grows");
    Ok(text)
}

fn read(path: &Path) -> io::Result<Run> {
    let named = |error: String| io::Error::other(format!("{}: {error}", path.display()));
    let bytes = fs::read(path).map_err(|error| named(error.to_string()))?;
    let run: Run = serde_json::from_slice(&bytes).map_err(|error| named(error.to_string()))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Run { name, ..run })
}

fn write(text: &mut String, runs: &[Run]) -> std::fmt::Result {
    if let Some(run) = runs.first() {
        writeln!(text, "Commit {}, {}, {} cores.\n", run.commit, run.kernel, run.cores)?;
    }
    text.push_str(
        "| scenario | offered/s | accepted/s | accepted | arrived | refusals | violations | accept ms p50 / p99 / p99.9 | \
         delivery ms p50 / p99 / p99.9 | ready ms p99 | lag ms p99 | server µs a message (user + system) | generator µs \
         | |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for run in runs {
        let of = |name: &str| run.latencies_ms.get(name).copied().unwrap_or_default();
        let (accept, delivery) = (of("accept"), of("delivery"));
        let verdict = match run.verdict {
            Verdict::Clean => "clean",
            Verdict::Violated => "VIOLATED",
            Verdict::Invalid => "INVALID: the generator lagged",
        };
        writeln!(
            text,
            "| {} | {:.0} | {:.0} | {} | {} | {} | {} | {:.2} / {:.1} / {:.1} | {:.2} / {:.1} / {:.1} | {:.0} | {:.1} | {} | {} | {verdict} |",
            run.name,
            run.counts.offered as f64 / run.load_s.max(1e-9),
            run.accepted_per_s,
            run.counts.accepted,
            run.judgement.arrivals,
            run.counts.refusals.values().sum::<u64>(),
            run.judgement.violations.values().sum::<u64>(),
            accept.p50,
            accept.p99,
            accept.p999,
            delivery.p50,
            delivery.p99,
            delivery.p999,
            of("ready").p99,
            of("lag").p99,
            cost(run.server.as_ref()),
            cost(run.generator.as_ref()),
        )?;
    }
    for run in runs.iter().filter(|run| run.phases.len() > 1) {
        writeln!(
            text,
            "\n| phase of {} | offered/s | accepted/s | arrived/s | refused/s | accept ms p99 | delivery ms p50 / p99 | \
             back to normal after s |\n| --- | --- | --- | --- | --- | --- | --- | --- |",
            run.name
        )?;
        for phase in &run.phases {
            writeln!(
                text,
                "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} / {:.1} | {:.0} |",
                phase.name,
                phase.rate,
                phase.accepted_per_s,
                phase.delivered_per_s,
                phase.refused_per_s,
                phase.accept_ms.p99,
                phase.delivery_ms.p50,
                phase.delivery_ms.p99,
                phase.abnormal_s,
            )?;
        }
    }
    for run in runs {
        processes::write_table(text, &run.name, &run.processes)?;
    }
    Ok(())
}

fn cost(cost: Option<&Cost>) -> String {
    cost.map_or_else(
        || "unknown".to_owned(),
        |cost| {
            let (user, system) = (cost.user_us_per_message, cost.system_us_per_message);
            format!("{:.0} ({user:.0} + {system:.0})", user + system)
        },
    )
}

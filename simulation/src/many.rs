//! Many seeds on all cores, with progress and a summary.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use petrel_simulation::world::{Plan, run};

/// Failures that are replayed and shown whole; the others are only named.
const SHOWN_MAX: usize = 3;
/// Failures after which it is enough.
const FAILURES_MAX: usize = 100;

pub(crate) fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("two numbers with .. between them, as 0..1000")?;
    let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text:?}: {e}"));
    let range = number(from)?..number(to)?;
    if range.is_empty() {
        Err("the range is empty: the first number must be the smaller one".into())
    } else {
        Ok(range)
    }
}

/// Runs them all; fails where one does.
pub(crate) fn run_all(seeds: Range<u64>, plan: &Plan, threads: Option<usize>) -> ExitCode {
    let threads =
        threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let count = seeds.end - seeds.start;
    let bar = ProgressBar::new(count);
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left{msg}");
    bar.set_style(style.expect("a valid template"));
    bar.enable_steady_tick(Duration::from_millis(500));
    let started = Instant::now();
    let (next, events, virtual_ms) = (AtomicU64::new(seeds.start), AtomicU64::new(0), AtomicU64::new(0));
    let failures: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let failed = failures.lock().expect("no thread panics with it").len();
        if seed >= seeds.end || failed >= FAILURES_MAX {
            return;
        }
        let report = run(&Plan { seed, ..*plan });
        events.fetch_add(report.events, Ordering::Relaxed);
        virtual_ms.fetch_add(report.virtual_ms, Ordering::Relaxed);
        bar.inc(1);
        if let Err(failure) = report.verdict {
            let mut failures = failures.lock().expect("no thread panics with it");
            failures.push((seed, failure.to_string()));
            bar.set_message(format!(", {} bad", failures.len()));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let run_count = bar.position();
    bar.finish_and_clear();
    let mut failures = failures.into_inner().expect("no thread panics with it");
    failures.sort_unstable();
    for (seed, _) in failures.iter().take(SHOWN_MAX) {
        let plan = Plan { seed: *seed, is_traced: true, ..*plan };
        println!("{}", crate::complaint(&plan, &run(&plan)));
    }
    for (seed, failure) in failures.iter().skip(SHOWN_MAX) {
        println!("seed {seed} breaks {failure}");
    }
    let seconds = started.elapsed().as_secs_f64();
    let events = events.into_inner();
    println!(
        "{run_count} seeds, {} violations, {events} events, {:.0} virtual hours, {seconds:.1} s on {threads} threads: {:.0} seeds/s, {:.0} events/s",
        failures.len(),
        virtual_ms.into_inner() as f64 / 3.6e6,
        run_count as f64 / seconds,
        events as f64 / seconds,
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

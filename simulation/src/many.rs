//! Many seeds on all cores, with progress and a summary.

use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use petrel_simulation::world::{Met, Plan, run};

use crate::checkpoint::Tally;

/// Failures that are replayed and shown whole; the others are only named.
const SHOWN_MAX: usize = 3;
/// Failures after which it is enough.
const FAILURES_MAX: usize = 100;
/// Seeds between two checkpoints.
const CHUNK: u64 = 2_000;

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

/// What to run, and what to tell of it.
pub(crate) struct Many<'a> {
    pub(crate) seeds: Range<u64>,
    pub(crate) plan: Plan,
    pub(crate) threads: Option<usize>,
    pub(crate) shows_coverage: bool,
    pub(crate) checkpoint: Option<&'a Path>,
}

impl Many<'_> {
    /// Runs them all; fails where one does.
    pub(crate) fn run(&self) -> ExitCode {
        match self.tally() {
            Ok(tally) => self.tell(tally),
            Err(text) => {
                eprintln!("petrel-simulation: {text}");
                ExitCode::from(2)
            }
        }
    }

    fn tally(&self) -> Result<Tally, String> {
        let Range { start, end } = self.seeds;
        let mut tally = self.checkpoint.map_or(Ok(Tally::default()), |path| Tally::load(path, start))?;
        let bar = ProgressBar::new(end - start);
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left{msg}");
        bar.set_style(style.expect("a valid template"));
        bar.set_position(tally.seeds);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(500));
        while start + tally.seeds < end && tally.failures.len() < FAILURES_MAX {
            let from = start + tally.seeds;
            // Without a checkpoint there is nothing to wait for between.
            let to = if self.checkpoint.is_some() { end.min(from + CHUNK) } else { end };
            self.chunk(from..to, &mut tally, &bar);
            if let Some(path) = self.checkpoint {
                tally.save(path, start)?;
            }
        }
        bar.finish_and_clear();
        Ok(tally)
    }

    fn chunk(&self, seeds: Range<u64>, tally: &mut Tally, bar: &ProgressBar) {
        let started = Instant::now();
        let next = AtomicU64::new(seeds.start);
        let shared = Mutex::new(std::mem::take(tally));
        let work = || {
            let mut mine = Tally::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end || mine.failures.len() >= FAILURES_MAX {
                    break;
                }
                let report = run(&Plan { seed, ..self.plan });
                mine.seeds += 1;
                mine.events += report.events;
                mine.virtual_ms += report.virtual_ms;
                mine.coverage.add(&report.coverage);
                bar.inc(1);
                if let Err(failure) = report.verdict {
                    mine.failures.push((seed, failure.to_string()));
                    bar.set_message(format!(", seed {seed} is bad"));
                }
            }
            let mut all = shared.lock().expect("no thread panics with it");
            all.seeds += mine.seeds;
            all.events += mine.events;
            all.virtual_ms += mine.virtual_ms;
            all.coverage.add(&mine.coverage);
            all.failures.append(&mut mine.failures);
        };
        std::thread::scope(|scope| {
            for _ in 0..self.thread_count() {
                scope.spawn(work);
            }
        });
        *tally = shared.into_inner().expect("no thread panics with it");
        tally.seconds += started.elapsed().as_secs_f64();
        tally.failures.sort_unstable();
    }

    fn thread_count(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    }

    fn tell(&self, tally: Tally) -> ExitCode {
        let Tally { seeds, events, virtual_ms, seconds, coverage, failures } = tally;
        for (seed, _) in failures.iter().take(SHOWN_MAX) {
            let plan = Plan { seed: *seed, is_traced: true, ..self.plan };
            println!("{}", crate::complaint(&plan, &run(&plan)));
        }
        for (seed, failure) in failures.iter().skip(SHOWN_MAX) {
            println!("seed {seed} breaks {failure}");
        }
        if self.shows_coverage {
            print!("{}", coverage.table(seeds));
        }
        println!(
            "{seeds} seeds, {} violations, {events} events, {:.0} virtual hours, {seconds:.1} s on {} threads: {:.0} seeds/s, {:.0} events/s",
            failures.len(),
            virtual_ms as f64 / 3.6e6,
            self.thread_count(),
            seeds as f64 / seconds,
            events as f64 / seconds,
        );
        let missing: Vec<_> = coverage.missing().map(Met::text).collect();
        if self.shows_coverage && !missing.is_empty() {
            println!("never met: {}", missing.join("; "));
            return ExitCode::FAILURE;
        }
        if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

//! A few hundred seeds with every test run; many more by `just sim-many`.

use std::sync::Mutex;

use petrel_simulation::world::{Coverage, Met, Plan, Report, Swarm, run};

fn good(plan: &Plan) -> Report {
    let report = run(plan);
    if let Err(failure) = &report.verdict {
        let traced = run(&Plan { is_traced: true, ..*plan });
        let trace = traced.trace.map_or(String::new(), |trace| trace.of(failure.about));
        panic!("seed {} breaks {failure}; replay it with `just sim {}`\n{trace}", plan.seed, plan.seed);
    }
    report
}

#[test]
fn nothing_is_broken_where_nothing_goes_wrong() {
    let events: u64 =
        (0..40).map(|seed| good(&Plan { seed, swarm: Swarm::CALM, ..Plan::default() }).events).sum();
    assert!(events > 10_000, "the clients did something: {events} events");
}

#[test]
fn nothing_is_broken_by_faults_and_each_strikes() {
    let coverage = Mutex::new(Coverage::default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let coverage = &coverage;
            scope.spawn(move || {
                for seed in (thread..300).step_by(threads as usize) {
                    let report = good(&Plan { seed, ..Plan::default() });
                    coverage.lock().expect("no thread panics with it").add(&report.coverage);
                }
            });
        }
    });
    let coverage = coverage.into_inner().expect("no thread panics with it");
    let missing: Vec<_> = coverage.missing().map(Met::text).collect();
    assert!(missing.is_empty(), "never met: {missing:?}\n{}", coverage.table(300));
}

#[test]
fn a_seed_is_a_run() {
    for seed in [3, 4] {
        let plan = Plan { seed, is_traced: true, ..Plan::default() };
        let (one, other) = (run(&plan), run(&plan));
        assert_eq!(one.events, other.events);
        assert_eq!(one.history, other.history);
        assert_eq!(one.trace.map(|t| t.all()), other.trace.map(|t| t.all()));
        // Tracing changes nothing, and a history that was written down is judged like the one in memory.
        let untraced = run(&Plan { is_traced: false, ..plan });
        assert_eq!(one.history, untraced.history);
        let read: petrel_simulation::history::History =
            one.history.to_string().parse().expect("its own format");
        assert_eq!(petrel_simulation::check(&read).ok(), one.verdict.ok());
    }
}

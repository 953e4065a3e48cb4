//! The checkers notice every deliberate mistake within a bounded number of seeds.

use petrel_simulation::world::{Mutation, Plan, run};

/// Seeds in which each mistake must be noticed at least once.
const SEEDS_MAX: u64 = 600;

/// Those that only the scenarios of `rules` are about: that a refusal is told live is no promise where edges fail, and
/// few drawn seeds lose power, or a reader, at the one moment that matters.
const FOCUSED: [Mutation; 3] =
    [Mutation::DropRefusals, Mutation::AnswerBeforeRecovery, Mutation::AckRedelivered];

#[test]
fn every_mutation_is_noticed() {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let missed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let missed = &missed;
            scope.spawn(move || {
                let mutations = Mutation::ALL.into_iter().filter(|m| !FOCUSED.contains(m));
                for mutation in mutations.skip(thread).step_by(threads) {
                    let is_noticed = |seed: &u64| {
                        run(&Plan { seed: *seed, mutation: Some(mutation), ..Plan::default() })
                            .verdict
                            .is_err()
                    };
                    match (0..SEEDS_MAX).find(is_noticed) {
                        Some(seed) => println!("{}: noticed by seed {seed}", mutation.name()),
                        None => missed.lock().expect("no thread panics with it").push(mutation.name()),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("no thread panics with it");
    assert!(missed.is_empty(), "not noticed within {SEEDS_MAX} seeds: {missed:?}");
}

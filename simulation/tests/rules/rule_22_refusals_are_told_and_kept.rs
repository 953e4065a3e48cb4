//! Rule 22. A refusal after acceptance is told and kept.
//!
//! What the log refuses (here: a message id that belongs to somebody else) was accepted before. Its sender is told status
//! −1, nobody ever sees it, and a resend is refused again. Live, that is no promise where edges or routers fail, so it is
//! judged where only readers do.

use std::collections::BTreeMap;

use petrel_simulation::history::{Device, History, Id, What};
use petrel_simulation::world::{Plan, Swarm, run};

use super::{Fault, Met, Mutation, Scenario};

const FAULTS: &[Fault] = &[Fault::BorrowedIds, Fault::PersistKilled, Fault::StoreTimeout];

#[test]
fn refusals_are_told_and_kept() {
    Scenario { faults: FAULTS, meets: &[Met::RefusedByLog, Met::Replay], broken_by: &[] }.judge();
    let told = |mutation| {
        let plan = |seed| Plan { seed, mutation, swarm: Swarm::Only(FAULTS), ..Plan::default() };
        let runs = (0..20).map(|seed| refusals(&run(&plan(seed)).history));
        runs.fold((0_usize, 0_usize), |(told, untold), (t, u)| (told + t, untold + u))
    };
    let (told_count, untold) = told(None);
    assert!(told_count > 20, "refusals happen: {told_count}");
    assert_eq!(untold, 0, "every sender that was there is told");
    let (_, untold) = told(Some(Mutation::DropRefusals));
    assert!(untold > 20, "the mistake is noticed: {untold}");
}

/// Contested sends that were accepted, seen by nobody, and whose sender stayed connected: how many were told, and not.
fn refusals(history: &History) -> (usize, usize) {
    let mut contested: BTreeMap<Id, (Device, bool, bool)> = BTreeMap::new();
    for entry in &history.entries {
        match entry.what {
            What::Contested { id } => {
                contested.insert(id, (entry.device, false, false));
            }
            What::Accepted { id } => {
                if let Some((_, is_accepted, _)) = contested.get_mut(&id) {
                    *is_accepted = true;
                }
            }
            What::Status { id, status: -1 } => {
                if let Some((_, _, is_told)) = contested.get_mut(&id) {
                    *is_told = true;
                }
            }
            // What is told to a connection that is gone is lost with it; and what was seen was not refused.
            What::Disconnected => {
                contested.retain(|_, (device, _, is_told)| *device != entry.device || *is_told);
            }
            What::Arrived { id, .. } => {
                contested.remove(&id);
            }
            _ => {}
        }
    }
    let of = |was_told: bool| {
        contested.values().filter(|(_, is_accepted, is_told)| *is_accepted && *is_told == was_told).count()
    };
    (of(true), of(false))
}

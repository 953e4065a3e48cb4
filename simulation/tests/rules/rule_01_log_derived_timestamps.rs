//! Rule 1. A write carries the log's time, not a clock's.
//!
//! Every row, key and head is written under the number of events that its conversation has applied, and each of its
//! columns is a function of the log's prefix. Else a stalled write of a reader that was replaced lands after its
//! successor's newer one, and seqs are given twice.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn log_derived_timestamps() {
    let scenario = Scenario {
        faults: &[Fault::PersistReplaced, Fault::PersistReturned, Fault::StoreTimeout, Fault::Crash],
        meets: &[Met::ZombieWrote, Met::StoreTimeoutLate, Met::PersistReturned],
        broken_by: &[Mutation::LastWriteWins],
    };
    scenario.judge();
}

//! Rule 21. Keys belong to their sender.
//!
//! Two users may choose the same client id; a message id belongs to its first writer, and another's use of it is
//! refused.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn keys_belong_to_their_sender() {
    let scenario = Scenario {
        faults: &[Fault::BorrowedIds],
        meets: &[Met::RefusedByLog, Met::BorrowedId],
        broken_by: &[Mutation::KeysWithoutSender],
    };
    scenario.judge();
}

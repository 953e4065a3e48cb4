//! Rule 12. A lapsed lease forces a new epoch.
//!
//! The edge then claims all its routes again and marks every session dirty. Besides, sessions ask for their routes from
//! time to time: one that was lost is claimed, one that another session has is given up.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn a_lapsed_lease_forces_a_new_epoch() {
    let scenario = Scenario {
        faults: &[Fault::EdgeIsolated, Fault::RoutesLost, Fault::RoutesDropped],
        meets: &[Met::NewEpoch, Met::RoutesLost, Met::RouteDropped],
        broken_by: &[Mutation::KeepOldRoutes, Mutation::AssertionTakes],
    };
    scenario.judge();
}

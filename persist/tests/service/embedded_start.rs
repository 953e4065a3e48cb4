//! Starting on a folder.

use petrel_persist::Persist;

use crate::place::Place;
use crate::world::{World, config};

#[test]
fn a_store_in_use_is_left_alone() {
    let place = Place::new();
    let world = World::start(&place);
    let error = Persist::start(config(&place), world.bus.clone()).unwrap_err().to_string();
    assert!(error.contains("in use by another process"), "{error}");
    world.stop();
}

//! Starting and stopping.

use petrel_bus::Bus;
use petrel_bus::calls::{CallError, PersistCall, Reply};
use petrel_persist::Persist;

use crate::place::Place;
use crate::world::{PARTITIONS, config};

#[test]
fn calls_after_the_stop_are_answered() {
    let place = Place::new();
    let bus = Bus::embedded(&place.path().join("bus"), PARTITIONS).unwrap();
    let persist = Persist::start(config(&place), bus.clone()).unwrap();
    let link = persist.link();
    persist.stop();
    let (reply, answer) = Reply::channel();
    link.call(PersistCall::FindAccount("one".into(), reply));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(answer).unwrap_err(), CallError::Unavailable);
    bus.close();
}

#[test]
fn a_partition_that_is_not_there_is_an_error() {
    let place = Place::new();
    let bus = Bus::embedded(&place.path().join("bus"), PARTITIONS).unwrap();
    let mut config = config(&place);
    config.partitions = vec![9];
    let started = Persist::start(config, bus.clone());
    let error = started.and_then(|persist| persist.wait_started()).unwrap_err().to_string();
    assert!(error.contains("partition 9 does not exist"), "{error}");
    bus.close();
}

//! Accounts.

use petrel_bus::calls::{CallError, PersistCall};
use petrel_protocol::calls::{Account, CreateAccount};

use crate::place::Place;
use crate::world::World;

fn create(world: &World, username: &str) -> Result<Account, CallError> {
    let request = CreateAccount { username: username.into(), password_hash: "hash".into(), time_ms: 5 };
    world.call(|reply| PersistCall::CreateAccount(request, reply))
}

fn find(world: &World, username: &str) -> Option<Account> {
    world.call(|reply| PersistCall::FindAccount(username.into(), reply)).unwrap()
}

#[test]
fn a_name_is_taken_once_and_ids_differ() {
    let place = Place::new();
    let world = World::start(&place);
    let (one, other) = (create(&world, "one").unwrap(), create(&world, "other").unwrap());
    assert_ne!(one.user, other.user);
    assert_eq!(create(&world, "one").unwrap_err(), CallError::Taken);
    assert_eq!(find(&world, "one"), Some(one));
    assert_eq!(find(&world, "nobody"), None);
    assert_eq!(find(&world, ""), None);
    world.stop();
}

#[test]
fn accounts_and_revocations_outlive_the_process() {
    let place = Place::new();
    let world = World::start(&place);
    let one = create(&world, "one").unwrap();
    let revoke = |world: &World, user| world.call(|reply| PersistCall::RevokeTokens(user, reply)).unwrap();
    assert_eq!((revoke(&world, one.user), revoke(&world, one.user), revoke(&world, 7)), (1, 2, 1));
    world.stop();
    let world = World::start(&place);
    let found = find(&world, "one").unwrap();
    assert_eq!((found.user, found.token_version), (one.user, 2));
    assert!(create(&world, "two").unwrap().user > one.user, "ids go on above those given before");
    world.stop();
}

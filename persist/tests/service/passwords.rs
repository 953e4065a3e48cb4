//! A Cassandra that asks for passwords, and lets a role do only what it was granted.

use std::time::{Duration, Instant};

use petrel_bus::Bus;
use petrel_persist::{Persist, Status};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

use crate::outages::{turn, until};
use crate::place::Place;
use crate::server::Server;
use crate::world::{PARTITIONS, World, config, content, send};

const SETTINGS: &str = "authenticator: PasswordAuthenticator\nauthorizer: CassandraAuthorizer\n\
                        role_manager: CassandraRoleManager\n";

/// A session of the role that every such server begins with, once the server has made it.
async fn administrator(node: &str) -> Session {
    let until = Instant::now() + Duration::from_mins(1);
    loop {
        match SessionBuilder::new().known_node(node).user("cassandra", "cassandra").build().await {
            Ok(session) => return session,
            Err(error) => assert!(Instant::now() < until, "the administrator logs in: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn administer(node: &str, statements: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let session = administrator(node).await;
        for statement in statements {
            session.query_unpaged(statement.as_str(), ()).await.unwrap();
        }
    });
}

/// It waits, since the password may be put right on the server; and says why, without the password.
fn is_refused(place: &Place) {
    let bus = Bus::embedded(&place.path().join("bus"), PARTITIONS).unwrap();
    let persist = Persist::start(config(place), bus.clone()).unwrap();
    let says = |text: &str| persist.status().to_string().contains(text);
    until("it says why", || says("uthentic") || says("credentials"));
    assert!(matches!(persist.status(), Status::Waiting { part: "store", .. }));
    assert!(!says("wrong password"), "{}", persist.status());
    persist.stop();
    bus.close();
}

#[test]
fn a_role_of_one_keyspace_is_enough_and_a_wrong_password_is_told() {
    let _turn = turn();
    let server = Server::with(SETTINGS);
    server.start();
    let mut place = Place::at(server.node());
    let keyspace = place.keyspace().to_owned();
    administer(
        &server.node(),
        &[
            "CREATE ROLE petrel WITH PASSWORD = 'right' AND LOGIN = true".to_owned(),
            format!(
                "CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy', \
                 'replication_factor': 1}}"
            ),
            format!("GRANT ALL PERMISSIONS ON KEYSPACE {keyspace} TO petrel"),
        ],
    );
    is_refused(&place);
    place.login("petrel", "wrong password");
    is_refused(&place);
    place.login("petrel", "right");
    let world = World::start(&place);
    world.uplink((1..=5).map(|id| send(1, 2, id)).collect());
    until("they are stored", || {
        world.sync(2, 1, 100).first().is_some_and(|(_, seqs, _)| *seqs == [1, 2, 3, 4, 5])
    });
    world.stop();
    // The tables are there.
    let mut world = World::start(&place);
    world.uplink(vec![send(1, 2, 6)]);
    let event = world.stored_until(|events| events.iter().any(|event| event.seq == 6)).pop().unwrap();
    assert_eq!(content(&event), "message 6");
    world.stop();
}

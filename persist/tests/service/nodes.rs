//! Three nodes of Cassandra, every row on each, and two of them make a quorum.

use petrel_persist::Status;

use crate::outages::{HALVES, SENDS, accept, each_is_there_once_and_in_order, is_waiting, turn, until};
use crate::place::Place;
use crate::server::Server;
use crate::world::World;

/// How many rows of the conversation with this user are given back; none where a read is not answered in time.
fn count(world: &World, peer: u64) -> Option<usize> {
    let synced = world.try_sync(peer, 1, 100).ok()?;
    Some(synced.iter().map(|(_, seqs, _)| seqs.len()).sum())
}

/// Twenty in a row, which ask each node.
fn are_read(world: &World) -> bool {
    (0..20).all(|_| count(world, 2).is_some())
}

#[test]
fn one_node_of_three_is_not_missed_and_two_are_waited_for() {
    let _turn = turn();
    let servers = Server::three();
    servers.iter().for_each(Server::start);
    let place = Place::on(servers.iter().map(Server::node).collect(), 3);
    let mut world = World::start(&place);
    accept(&world, HALVES[0].clone());
    until("it begins to store", || [2, 3].iter().all(|&peer| count(&world, peer) > Some(0)));
    // A node learns in its first seconds for how long to wait for another one. From then on one that stands still, or is
    // dead and not yet known as such, keeps no read from being answered in time.
    servers[2].pause();
    until("reads are answered while it stands still", || are_read(&world));
    servers[2].kill();
    until("reads are answered when it is dead", || are_read(&world));
    let half = SENDS as usize / 2;
    until("all is stored without the third", || [2, 3].iter().all(|&peer| count(&world, peer) == Some(half)));
    until("it is ready", || world.persist.as_ref().unwrap().status() == Status::Ready);
    servers[1].kill();
    accept(&world, HALVES[1].clone());
    until("it says that it waits", || is_waiting(&world));
    servers[1].start();
    until("reads are answered again", || are_read(&world));
    each_is_there_once_and_in_order(&mut world);
    until("it is ready again", || world.persist.as_ref().unwrap().status() == Status::Ready);
    // The third has missed the second half, and the first, which has all, is lost: the second makes up for it.
    servers[2].start();
    servers[0].kill();
    world.stop();
    let world = World::start(&place);
    let all = Some(SENDS as usize);
    until("all is given back", || [2, 3].iter().all(|&peer| count(&world, peer) == all));
    world.stop();
}

//! Every server is absent at the start, each for another process: they wait, say for what, and go on by themselves.

use petrel_protocol::ids::Device;

use crate::link::Link;
use crate::process::Process;
use crate::stack::Stack;
use crate::until;

/// A link that is cut from the start.
fn away(to: &str) -> Link {
    let link = Link::start(to);
    link.cut();
    link
}

#[test]
fn servers_that_are_absent_at_the_start_are_named_and_waited_for() {
    let stack = Stack::new();
    let servers = stack.servers.clone();
    let redis = away(&servers.redis);
    let cassandra = away(&servers.cassandra);
    let broker = away(servers.broker.trim_start_matches("pulsar://"));
    let admin = away(servers.admin.trim_start_matches("http://"));
    let links = [&redis, &cassandra, &broker, &admin];

    let [broker_url, admin_url] = [format!("pulsar://{}", broker.addr()), format!("http://{}", admin.addr())];
    let pulsar = [("--pulsar-broker", &*broker_url), ("--pulsar-admin", &*admin_url)];
    let mut router_without_redis = stack.router(1, &[("--redis-urls", &format!("redis://{}", redis.addr()))]);
    let mut router_without_pulsar = stack.router(2, &pulsar);
    let mut persist_without_cassandra =
        stack.persist(1, &[("--cassandra-nodes", &cassandra.addr().to_string())]);
    let mut persist_without_pulsar = stack.persist(2, &pulsar);
    let mut edge_without_redis = stack.edge(1, &[]);

    router_without_redis.until_it_waits("routes", &["Redis"]);
    router_without_pulsar.until_it_waits("pulsar", &[&admin.addr().to_string(), "start"]);
    persist_without_cassandra.until_it_waits("cassandra", &[&cassandra.addr().to_string(), "start"]);
    persist_without_pulsar.until_it_waits("pulsar", &[&admin.addr().to_string(), "start"]);
    edge_without_redis.until_it_waits("lease", &["no router"]);
    // They try again, with pauses.
    let tried = [&redis, &cassandra, &admin];
    until("each is tried again", || tried.iter().all(|link| link.attempts() >= 4));
    for link in tried {
        assert!(link.attempts() < 1_000, "{} attempts", link.attempts());
    }

    for link in links {
        link.mend();
    }
    let mut all = [
        router_without_redis,
        router_without_pulsar,
        persist_without_cassandra,
        persist_without_pulsar,
        edge_without_redis,
    ];
    all.iter_mut().for_each(Process::until_ready);
    let (mut ann, mut bob) = (stack.client(1, 1, Device::Web), stack.client(1, 2, Device::Web));
    ann.send(2, "at last");
    assert_eq!(bob.until_push().content, "at last");
}

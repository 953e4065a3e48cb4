//! The other kinds of Redis: a real Cluster of three masters, and a master that Sentinels look after.

use std::time::Duration;

use petrel_protocol::ids::{Device, UserId};
use petrel_router::routes::redis::Config;
use petrel_router::routes::{Refusal, Renewal, Routes};

use crate::faults::eventually;
use crate::server::{Server, free_port};
use crate::stack::{ANNA, Stack, address, lease, renewal};

fn stack(urls: Vec<String>) -> Stack {
    Stack::new(Routes::redis(&Config { urls, prefix: "p:".to_owned() }).unwrap(), true)
}

fn cluster() -> Vec<Server> {
    let nodes: Vec<_> = (0..3)
        .map(|n| {
            let node = Server::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]);
            let (first, last) = (n * 5_461, if n == 2 { 16_383 } else { (n + 1) * 5_461 - 1 });
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).unwrap();
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]).unwrap();
            node
        })
        .collect();
    for node in &nodes[1..] {
        node.command(&["CLUSTER", "MEET", "127.0.0.1", &nodes[0].port.to_string()]).unwrap();
    }
    for node in &nodes {
        eventually("the cluster is whole", || {
            let info = node.text(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        });
    }
    nodes
}

#[test]
fn a_cluster_keeps_the_routes_of_users_on_all_its_masters() {
    let mut nodes = cluster();
    let stack = stack(nodes.iter().map(|n| format!("redis+cluster://127.0.0.1:{}", n.port)).collect());
    eventually("it is ready", || stack.routes.is_ready());
    assert_eq!(stack.lease(&lease(1, 10)), Renewal::New { replaced: None });
    let users: Vec<UserId> = (1..=300).map(UserId).collect();
    for user in &users {
        assert_eq!(stack.claim(*user, Device::Web, address(1, 10, user.0 as u32)), Ok(None));
        assert_eq!(stack.claim(*user, Device::Ios, address(1, 10, 1_000 + user.0 as u32)), Ok(None));
    }
    let found = stack.look_up(&users);
    assert_eq!(found.len(), 600);
    assert!(found.is_sorted_by_key(|r| r.user));
    for node in &nodes {
        let keys = node.text(&["DBSIZE"]);
        assert_ne!(keys, "int(0)", "every master has some");
    }
    // Without one of the masters nobody is taken for offline; with it back, empty, its users' sessions claim again.
    nodes[1].kill();
    assert_eq!(stack.wait(stack.routes.look_up(stack.now(), &users)), Err(Refusal::Unavailable));
    nodes[1].restart();
    eventually("it recovers", || stack.wait(stack.routes.look_up(stack.now(), &users)).is_ok());
}

#[test]
fn a_masters_sentinels_lead_to_its_successor() {
    let mut master = Server::start(&[]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let dir = tempfile::tempdir().unwrap();
    let sentinels: Vec<_> = (0..3)
        .map(|n| {
            let config = dir.path().join(format!("{n}.conf"));
            let text = format!(
                "sentinel monitor petrel 127.0.0.1 {} 2\nsentinel down-after-milliseconds petrel 1000\n\
                 sentinel failover-timeout petrel 5000\n",
                master.port
            );
            std::fs::write(&config, text).unwrap();
            Server::start_on(free_port(), &[config.to_str().unwrap(), "--sentinel"])
        })
        .collect();
    let stack =
        stack(sentinels.iter().map(|s| format!("redis+sentinel://127.0.0.1:{}/petrel", s.port)).collect());
    eventually("it is ready", || stack.routes.is_ready());
    assert_eq!(stack.lease(&lease(1, 10)), Renewal::New { replaced: None });
    stack.claim(ANNA, Device::Web, address(1, 10, 1)).unwrap();
    for sentinel in &sentinels {
        eventually("the Sentinels know each other and the replica", || {
            let text = sentinel.text(&["INFO", "sentinel"]);
            text.contains("slaves=1,sentinels=3")
        });
    }
    eventually("the replica is in step", || {
        replica.text(&["INFO", "replication"]).contains("master_link_status:up")
    });
    master.kill();
    // Other writes than these may be lost with the master; so the successor renews none of its leases.
    eventually("the successor takes over", || {
        std::thread::sleep(Duration::from_millis(100));
        stack.wait(stack.routes.lease(stack.now(), &renewal(1, 10))) == Ok(Renewal::Over)
    });
    assert_eq!(stack.lease(&lease(1, 11)), Renewal::New { replaced: None });
    assert_eq!(stack.claim(ANNA, Device::Web, address(1, 11, 1)), Ok(None));
    assert!(replica.text(&["INFO", "replication"]).contains("role:master"));
}

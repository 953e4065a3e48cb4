//! A Redis that asks for a password, and whose user may do only what `deploy/README.md` says that Petrel needs.

use petrel_router::routes::redis::Config;
use petrel_router::routes::{Refusal, Renewal, Routes};

use crate::faults::eventually;
use crate::server::{Server, free_port};
use crate::stack::{Stack, lease};

/// What `deploy/README.md` says.
const RIGHTS: [&str; 6] = ["~p:*", "+@all", "-@admin", "-@dangerous", "+info", "on"];

fn routes(server: &Server, password: &str) -> Routes {
    let url = server.url().replace("redis://", &format!("redis://petrel:{password}@"));
    Routes::redis(&Config { urls: vec![url], prefix: "p:".to_owned() }).unwrap()
}

fn allow(server: &Server, rules: &[&str]) {
    server.command(&[&["ACL", "SETUSER", "petrel"], rules].concat()).unwrap();
}

struct Restricted {
    stack: Stack,
    /// It ends with this.
    _server: Server,
}

impl Restricted {
    fn new() -> Self {
        let server = Server::start(&[]);
        allow(&server, &[&["reset", ">right"], &RIGHTS[..]].concat());
        Self { stack: Stack::new(routes(&server, "right"), true).with_edges(), _server: server }
    }
}

impl AsRef<Stack> for Restricted {
    fn as_ref(&self) -> &Stack {
        &self.stack
    }
}

mod with_few_rights {
    crate::suite::suite!(super::Restricted::new());
}

#[test]
fn what_is_wrong_with_the_user_is_put_right_on_the_server() {
    let server = Server::start(&[]);
    let stack = Stack::new(routes(&server, "right"), true);
    let try_lease = || stack.wait(stack.routes.lease(stack.now(), &lease(1, 10)));
    // There is no such user; it has another password; it may not ask for what a lease rests on.
    assert_eq!(try_lease(), Err(Refusal::Unavailable));
    allow(&server, &[&["reset", ">other"], &RIGHTS[..]].concat());
    assert_eq!(try_lease(), Err(Refusal::Unavailable));
    allow(&server, &["resetpass", ">right", "-info"]);
    assert_eq!(try_lease(), Err(Refusal::Unavailable));
    allow(&server, &["+info"]);
    assert_eq!(try_lease(), Ok(Renewal::New { replaced: None }));
    eventually("it is ready", || stack.routes.is_ready());
}

#[test]
fn the_password_in_a_sentinels_address_is_the_masters() {
    let master = Server::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("sentinel.conf");
    let text =
        format!("sentinel monitor petrel 127.0.0.1 {} 1\nsentinel auth-pass petrel secret\n", master.port);
    std::fs::write(&config, text).unwrap();
    master.command(&["CONFIG", "SET", "requirepass", "secret"]).unwrap();
    let sentinel = Server::start_on(free_port(), &[config.to_str().unwrap(), "--sentinel"]);
    takes_a_lease_with_the_password("redis+sentinel", &format!("{}/petrel", sentinel.port));
}

#[test]
fn the_password_in_a_clusters_address_is_that_of_all_nodes() {
    let node = Server::start(&["--cluster-enabled", "yes"]);
    node.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).unwrap();
    node.command(&["CONFIG", "SET", "requirepass", "secret"]).unwrap();
    takes_a_lease_with_the_password("redis+cluster", &node.port.to_string());
}

fn takes_a_lease_with_the_password(scheme: &str, at: &str) {
    let with = |password: &str| {
        let urls = vec![format!("{scheme}://{password}127.0.0.1:{at}")];
        Stack::new(Routes::redis(&Config { urls, prefix: "p:".to_owned() }).unwrap(), true)
    };
    let try_lease = |stack: &Stack| stack.wait(stack.routes.lease(stack.now(), &lease(1, 10)));
    let stack = with(":secret@");
    eventually("a lease is taken", || try_lease(&stack) == Ok(Renewal::New { replaced: None }));
    for wrong in ["", ":other@"] {
        assert_eq!(try_lease(&with(wrong)), Err(Refusal::Unavailable), "'{wrong}'");
    }
}

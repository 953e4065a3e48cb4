//! A Redis that asks for a password, and whose user may do only what `deploy/README.md` says that Petrel needs.

use petrel_router::routes::redis::Config;
use petrel_router::routes::{Refusal, Renewal, Routes};

use crate::faults::eventually;
use crate::server::Server;
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

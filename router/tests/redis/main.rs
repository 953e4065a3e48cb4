//! Routes on a real Redis: what all routes owe, and what must hold when Redis fails. Needs `redis-server` for the servers
//! that the tests break, and one at PETREL_TEST_REDIS (`deploy/local/up redis`) for the rest.

mod faults;
mod kinds;
mod rights;
mod server;
#[path = "../routes/stack.rs"]
mod stack;
#[path = "../routes/suite.rs"]
mod suite;

use petrel_router::routes::Routes;
use petrel_router::routes::redis::Config;

use server::Server;
use stack::Stack;

/// A prefix that no other test has.
fn prefix() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    format!("petrel-test-{:016x}:", u64::from_ne_bytes(bytes))
}

/// On the shared server, whose keys under the prefix are removed at the end.
struct Shared {
    stack: Stack,
    url: String,
    prefix: String,
}

impl Shared {
    fn new() -> Self {
        let url = std::env::var("PETREL_TEST_REDIS").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
        assert!(Server::is_up(&url), "there is no Redis at {url}: deploy/local/up redis starts one");
        let prefix = prefix();
        let config = Config { urls: vec![url.clone()], prefix: prefix.clone() };
        let stack = Stack::new(Routes::redis(&config).unwrap(), true).with_edges();
        Self { stack, url, prefix }
    }
}

impl AsRef<Stack> for Shared {
    fn as_ref(&self) -> &Stack {
        &self.stack
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        server::remove_keys(&self.url, &self.prefix);
    }
}

mod both {
    crate::suite::suite!(super::Shared::new());
}

//! A folder for the log and a keyspace for the store.

use std::path::Path;

use petrel_persist::StoreConfig;
use petrel_persist::cassandra::{Config, Replication};
use scylla::client::session_builder::SessionBuilder;
use tempfile::TempDir;

pub(crate) struct Place {
    dir: TempDir,
    config: Config,
}

impl Place {
    pub(crate) fn new() -> Self {
        let node = std::env::var("PETREL_TEST_CASSANDRA").unwrap_or_else(|_| "127.0.0.1:9042".into());
        std::net::TcpStream::connect(&node).unwrap_or_else(|error| {
            panic!("no Cassandra at {node} ({error}): start it with deploy/local/up")
        });
        Self::at(node)
    }

    /// On this server, which need not run yet.
    pub(crate) fn at(node: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let random = dir.path().file_name().unwrap().to_str().unwrap().bytes();
        let random: Vec<_> = random.map(|byte| format!("{byte:02x}")).collect();
        let mut config = Config::new(vec![node], format!("petrel_test_{}", random.concat()));
        config.replication = Replication::Everywhere(1);
        Self { dir, config }
    }

    /// With this name and password.
    pub(crate) fn login(&mut self, user: &str, password: &str) {
        self.config.credentials = Some((user.to_owned(), password.to_owned()));
    }

    pub(crate) fn keyspace(&self) -> &str {
        &self.config.keyspace
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn store(&self) -> StoreConfig {
        StoreConfig::Cassandra(self.config.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Config { nodes, keyspace, .. } = &self.config;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // A server of the test's own may be gone.
            let Ok(session) = SessionBuilder::new().known_nodes(nodes).build().await else { return };
            session.query_unpaged(format!("DROP KEYSPACE IF EXISTS {keyspace}"), ()).await.unwrap();
        });
    }
}

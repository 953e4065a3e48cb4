//! A folder for the log and a keyspace for the store.

use std::path::Path;

use petrel_persist::StoreConfig;
use petrel_persist::cassandra::{Config, Replication};
use scylla::client::session_builder::SessionBuilder;
use tempfile::TempDir;

pub(crate) struct Place {
    dir: TempDir,
    config: Config,
    /// On a server of others, which does not end with the test.
    is_shared: bool,
}

impl Place {
    pub(crate) fn new() -> Self {
        let node = std::env::var("PETREL_TEST_CASSANDRA").unwrap_or_else(|_| "127.0.0.1:9042".into());
        std::net::TcpStream::connect(&node).unwrap_or_else(|error| {
            panic!("no Cassandra at {node} ({error}): start it with deploy/local/up")
        });
        let mut place = Self::at(node);
        place.is_shared = true;
        place
    }

    /// On this server of the test's own, which need not run yet.
    pub(crate) fn at(node: String) -> Self {
        Self::on(vec![node], 1)
    }

    /// On these nodes of the test's own, each row on so many.
    pub(crate) fn on(nodes: Vec<String>, replicas: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let random = dir.path().file_name().unwrap().to_str().unwrap().bytes();
        let random: Vec<_> = random.map(|byte| format!("{byte:02x}")).collect();
        let mut config = Config::new(nodes, format!("petrel_test_{}", random.concat()));
        config.replication = Replication::Everywhere(replicas);
        Self { dir, config, is_shared: false }
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
        if !self.is_shared {
            return;
        }
        let Config { nodes, keyspace, .. } = &self.config;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session = SessionBuilder::new().known_nodes(nodes).build().await.unwrap();
            session.query_unpaged(format!("DROP KEYSPACE IF EXISTS {keyspace}"), ()).await.unwrap();
        });
    }
}

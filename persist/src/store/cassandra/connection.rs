//! The session of the driver: how it is made, that somebody looks whether it works, and that it is made anew where it does
//! not.

use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::NewSessionError;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::FallthroughRetryPolicy;

use super::Client;
use super::bundles::Replicas;
use super::config::Config;

/// The part of persist that waits while no server answers. After the store itself where parts are told one at a time.
const SERVER: &str = "store's server";

/// How often the server is asked for a sign of life, on an idle connection and by a read.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A connection that gives none for so long is closed.
const SILENT_MAX: Duration = Duration::from_secs(5);
/// Looks in a row that have failed when the session is made anew. The driver's own tries to connect come up to 10 s apart
/// when a server was away for a while, and cannot be told otherwise.
const RENEW_AFTER: u32 = 2;

/// The session that is in use.
pub(super) struct Connection {
    config: Config,
    session: RwLock<Arc<Session>>,
}

impl Connection {
    pub(super) fn new(config: Config, session: Session) -> Self {
        Self { config, session: RwLock::new(Arc::new(session)) }
    }

    pub(super) fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where partitions are now.
    pub(super) fn replicas(&self) -> Replicas {
        Replicas::new(self.session().get_cluster_state(), &self.config.keyspace)
    }

    /// Statements prepared on another session stay valid: a server that does not know one is told it by the driver.
    async fn renew(&self) {
        if let Ok(session) = connect(&self.config).await {
            *self.session.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(session);
        }
    }
}

/// Looks from time to time whether the server answers, so that an idle persist says so too.
pub(super) async fn watch(client: Weak<Client>) {
    let mut failures = 0;
    loop {
        tokio::time::sleep(if failures == 0 { LOOK_EVERY } else { LOOK_EVERY / 2 }).await;
        // The last handle is gone: nobody asks any more.
        let Some(client) = client.upgrade() else { return };
        match client.row::<(i64,)>(&client.statements.select_mark, (0,)).await {
            Ok(_) => {
                failures = 0;
                client.health.works(SERVER);
            }
            Err(error) => {
                failures += 1;
                let nodes = client.connection.config.nodes.join(", ");
                client.health.waits(
                    SERVER,
                    format!("Cassandra at {nodes} does not answer: {error}; start or mend it"),
                );
                if failures >= RENEW_AFTER {
                    client.connection.renew().await;
                }
            }
        }
    }
}

pub(super) async fn connect(config: &Config) -> Result<Session, NewSessionError> {
    let balancing = DefaultPolicy::builder().token_aware(true);
    let balancing = match &config.datacenter {
        Some(datacenter) => balancing.prefer_datacenter(datacenter.clone()),
        None => balancing,
    };
    let profile = ExecutionProfile::builder()
        .consistency(config.consistency.of_driver())
        .serial_consistency(Some(config.consistency.serial()))
        .request_timeout(Some(config.request_timeout))
        .load_balancing_policy(balancing.build())
        // What is tried again, and for how long, is decided here.
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.nodes)
        .default_execution_profile_handle(profile.into_handle())
        .connection_timeout(config.request_timeout)
        .keepalive_interval(LOOK_EVERY)
        .keepalive_timeout(SILENT_MAX)
        // What sending to a replica takes: how the keyspace is replicated, and no columns.
        .keyspaces_to_fetch([&config.keyspace])
        .fetch_full_schema_metadata(false)
        .tcp_nodelay(true);
    if let Some((user, password)) = &config.credentials {
        builder = builder.user(user, password);
    }
    builder.build().await
}

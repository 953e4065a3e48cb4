//! The store on Apache Cassandra: what one table of the embedded store is, is one table here ([`schema`]).
//!
//! Calls block their thread; the driver runs on a thread of its own, and one call has many requests in flight. Two
//! processes may write the same rows at the same time: write timestamps make the later event of the log win, whoever
//! writes it last ([`statements`]).

mod accounts;
mod bundles;
pub mod config;
mod connection;
mod metrics;
mod read;
mod schema;
mod statements;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use petrel_protocol::limits;
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use tokio::runtime::{Builder, Runtime};

use self::config::Config;
use self::connection::Connection;
use self::metrics::METRICS;
use self::schema::Failure;
use self::statements::{Statement, Statements};
use super::{Belongs, StoreError};
use crate::StartError;
use crate::status::{Health, STORE, Stopping};

/// A handle on the keyspace.
#[derive(Clone)]
pub(crate) struct Cassandra {
    client: Arc<Client>,
    runtime: Arc<DriverRuntime>,
}

/// What a request needs.
struct Client {
    connection: Connection,
    statements: Statements,
    health: Health,
    stopping: Stopping,
}

/// The driver's thread. It is never waited for: the last handle may be dropped on a thread that must not block.
struct DriverRuntime(Option<Runtime>);

impl Drop for DriverRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The longest pause between two tries.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);

impl Cassandra {
    /// Connects, and creates or migrates the keyspace. Waits for as long as that may help; `None`: stopped meanwhile.
    pub(super) fn open(
        config: &Config,
        belongs: &Belongs,
        health: &Health,
        stopping: &Stopping,
    ) -> Result<Option<Self>, StartError> {
        config.check()?;
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("persist-store").enable_all().build();
        let runtime =
            runtime.map_err(|e| StartError(format!("persist cannot start the store's thread: {e}")))?;
        let mut pause = Duration::from_millis(50);
        loop {
            match runtime.block_on(Client::open(config, belongs, health, stopping)) {
                Ok(client) => {
                    let client = Arc::new(client);
                    runtime.spawn(connection::watch(Arc::downgrade(&client)));
                    return Ok(Some(Self { client, runtime: Arc::new(DriverRuntime(Some(runtime))) }));
                }
                Err(Failure::Fatal(error)) => return Err(error),
                Err(Failure::Wait(why)) => health.waits(
                    STORE,
                    format!(
                        "Cassandra at {} cannot be used: {why}; start it, or correct its address, its user or that one's \
                         password; trying again",
                        config.nodes.join(", ")
                    ),
                ),
            }
            std::thread::sleep(pause);
            if stopping.is_begun() {
                return Ok(None);
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Blocks until the driver's thread has run this to its end.
    fn wait<T, F>(&self, run: impl FnOnce(Arc<Client>) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (sender, receiver) = sync_channel(1);
        let future = run(Arc::clone(&self.client));
        let runtime = self.runtime.0.as_ref().expect("it is there until the last handle is dropped");
        runtime.spawn(async move {
            // The one who waits is blocked in the next line.
            let _ = sender.send(future.await);
        });
        receiver.recv().expect("a task of the store ends")
    }
}

impl Client {
    async fn open(
        config: &Config,
        belongs: &Belongs,
        health: &Health,
        stopping: &Stopping,
    ) -> Result<Self, Failure> {
        let session = connection::connect(config).await?;
        schema::prepare(&session, config, belongs).await?;
        let statements = Statements::prepare(&session, &config.keyspace).await?;
        let connection = Connection::new(config.clone(), session);
        Ok(Self { connection, statements, health: health.clone(), stopping: stopping.clone() })
    }

    /// One request, tried once.
    async fn execute(
        &self,
        statement: &Statement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, StoreError> {
        let session = self.connection.session();
        self.measured(statement, session.execute_unpaged(&statement.prepared, values)).await
    }

    async fn measured<T, E: fmt::Display>(
        &self,
        statement: &Statement,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError> {
        let _in_flight = InFlight::begin();
        let timer = statement.seconds.start_timer();
        let outcome = request.await;
        timer.observe_duration();
        outcome.map_err(|error| {
            statement.failures.inc();
            StoreError::Request { statement: statement.name, why: error.to_string() }
        })
    }
}

/// Counts a request that is under way, for as long as this lives.
struct InFlight;

impl InFlight {
    fn begin() -> Self {
        METRICS.in_flight.inc();
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        METRICS.in_flight.dec();
    }
}

const _: () = assert!(
    limits::STORE_WRITES_IN_FLIGHT + limits::PERSIST_CALL_THREADS * limits::STORE_READS_IN_FLIGHT < 1 << 14,
    "a connection numbers its requests by 15 bits"
);

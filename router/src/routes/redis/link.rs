//! The connection to one server, to the master that Sentinels name, or to a Cluster: made again when it breaks, with a
//! bound on the time of every call.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use petrel_protocol::limits;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo, Pipeline, RedisError, RedisResult,
    ServerErrorKind, Value,
};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::ConfigError;
use super::metrics::METRICS;
use super::scripts::Call;

/// A server that is out of reach is complained about this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Link {
    servers: Arc<Servers>,
    /// Where connections live, whoever asks for one.
    runtime: Handle,
    state: Mutex<State>,
    complained: StdMutex<Option<Instant>>,
}

enum Servers {
    One(Box<Client>),
    Sentinels(Box<Mutex<SentinelClient>>),
    Cluster(Box<ClusterClient>),
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// Counts up with each connection, so that one failure is not taken for that of its successor.
    number: u64,
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    /// A link to these addresses; none is connected to yet.
    pub(super) fn new(urls: &[String], runtime: Handle) -> Result<Self, ConfigError> {
        Ok(Self {
            servers: Arc::new(Servers::new(urls)?),
            runtime,
            state: Mutex::default(),
            complained: StdMutex::default(),
        })
    }

    /// Runs a script.
    pub(super) async fn call(&self, call: &Call) -> RedisResult<Value> {
        match self.command(&call.command(false)).await {
            Err(e) if is_unknown_script(&e) => self.command(&call.command(true)).await,
            result => result,
        }
    }

    /// Runs one command.
    pub(super) async fn command(&self, command: &Cmd) -> RedisResult<Value> {
        self.with(async |connection| match connection {
            Connection::One(c) => c.req_packed_command(command).await?.extract_error(),
            Connection::Cluster(c) => c.req_packed_command(command).await?.extract_error(),
        })
        .await
    }

    /// Runs commands in one round trip, and a script after them (on a Cluster in two, since they are on many servers).
    pub(super) async fn commands_then(
        &self,
        commands: Vec<Cmd>,
        call: &Call,
    ) -> RedisResult<(Vec<Value>, Value)> {
        let is_again = match self.try_commands_then(&commands, &call.command(false)).await {
            Err(e) if is_unknown_script(&e) => true,
            result => return result,
        };
        self.try_commands_then(&commands, &call.command(is_again)).await
    }

    async fn try_commands_then(&self, commands: &[Cmd], last: &Cmd) -> RedisResult<(Vec<Value>, Value)> {
        self.with(async |connection| match connection {
            Connection::One(c) => {
                let mut pipeline = Pipeline::with_capacity(commands.len() + 1);
                for command in commands {
                    pipeline.add_command(command.clone());
                }
                pipeline.add_command(last.clone());
                let mut values = c.req_packed_commands(&pipeline, 0, commands.len() + 1).await?;
                let values_last = values.pop().unwrap_or(Value::Nil).extract_error()?;
                Ok((values.into_iter().map(Value::extract_error).collect::<RedisResult<_>>()?, values_last))
            }
            Connection::Cluster(c) => {
                let mut tasks = Vec::with_capacity(commands.len());
                for command in commands {
                    let (command, mut c) = (command.clone(), c.clone());
                    tasks.push(tokio::spawn(async move { c.req_packed_command(&command).await }));
                }
                let mut values = Vec::with_capacity(commands.len());
                for task in tasks {
                    values.push(task.await.map_err(std::io::Error::other)??.extract_error()?);
                }
                Ok((values, c.req_packed_command(last).await?.extract_error()?))
            }
        })
        .await
    }

    async fn with<T>(&self, run: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>) -> RedisResult<T> {
        let mut number = None;
        let work = async {
            let (its, mut connection) = self.connection().await?;
            number = Some(its);
            run(&mut connection).await
        };
        let result = match tokio::time::timeout(Duration::from_millis(limits::ROUTES_CALL_MS_MAX), work).await
        {
            Ok(result) => result,
            Err(_) => Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
        };
        match &result {
            Ok(_) => self.recovered(),
            Err(e) if is_unknown_script(e) => {}
            Err(e) => {
                if let Some(number) = number.filter(|_| is_broken(e)) {
                    self.drop_connection(number).await;
                }
                self.complain(e);
            }
        }
        result
    }

    async fn connection(&self) -> RedisResult<(u64, Connection)> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok((state.number, connection.clone()));
        }
        let servers = Arc::clone(&self.servers);
        let connecting = self.runtime.spawn(async move { servers.connect().await });
        let connection = connecting.await.map_err(std::io::Error::other)??;
        METRICS.connections.inc();
        state.number += 1;
        state.connection = Some(connection.clone());
        Ok((state.number, connection))
    }

    async fn drop_connection(&self, number: u64) {
        let mut state = self.state.lock().await;
        if state.number == number {
            state.connection = None;
        }
    }

    fn recovered(&self) {
        if self.complained.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("Redis answers again");
        }
    }

    fn complain(&self, error: &RedisError) {
        METRICS.errors.with_label_values(&[kind_of(error)]).inc();
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            *complained = Some(Instant::now());
            tracing::warn!("Redis does not do what is asked ({error}): {}", mend_of(error));
        }
    }
}

impl Servers {
    fn new(urls: &[String]) -> Result<Self, ConfigError> {
        let with = |scheme: &str| urls.iter().all(|url| url.starts_with(scheme));
        let wrong = |e: &RedisError| ConfigError::Url(e.to_string());
        if urls.len() == 1 && (with("redis://") || with("rediss://")) {
            return Ok(Self::One(Box::new(Client::open(urls[0].as_str()).map_err(|e| wrong(&e))?)));
        }
        if !urls.is_empty() && with("redis+cluster://") {
            let nodes = urls.iter().map(|url| url.replacen("redis+cluster", "redis", 1));
            let client = ClusterClientBuilder::new(nodes)
                .connection_timeout(Duration::from_millis(limits::ROUTES_CALL_MS_MAX / 2))
                .response_timeout(Duration::from_millis(limits::ROUTES_CALL_MS_MAX / 2))
                // What may have been done is not silently done again; redirections are followed all the same.
                .retries(3)
                .build();
            return Ok(Self::Cluster(Box::new(client.map_err(|e| wrong(&e))?)));
        }
        if !urls.is_empty() && with("redis+sentinel://") {
            return Self::sentinels(urls);
        }
        Err(ConfigError::Schemes)
    }

    /// `redis+sentinel://[user:password@]host:port/service`: each names a Sentinel; the credentials are the master's.
    fn sentinels(urls: &[String]) -> Result<Self, ConfigError> {
        let wrong = |e: RedisError| ConfigError::Url(e.to_string());
        let mut service = None;
        let mut addresses = Vec::new();
        let mut master = None;
        for url in urls {
            let plain = url.replacen("redis+sentinel", "redis", 1);
            let (address, name) =
                plain.rsplit_once('/').filter(|(_, name)| !name.is_empty()).ok_or_else(|| {
                    ConfigError::Url(format!("{url} does not end with /SERVICE, as the Sentinels name it"))
                })?;
            if service.get_or_insert_with(|| name.to_owned()) != name {
                return Err(ConfigError::Url(format!("{url} names another service than the others")));
            }
            let info = address.into_connection_info().map_err(wrong)?;
            addresses.push(info.addr().clone());
            master.get_or_insert_with(|| info.redis_settings().clone());
        }
        let node =
            SentinelNodeConnectionInfo::default().set_redis_connection_info(master.expect("one at least"));
        let client = SentinelClient::build(
            addresses,
            service.expect("one at least"),
            Some(node),
            SentinelServerType::Master,
        );
        Ok(Self::Sentinels(Box::new(Mutex::new(client.map_err(wrong)?))))
    }

    async fn connect(&self) -> RedisResult<Connection> {
        let time = Some(Duration::from_millis(limits::ROUTES_CALL_MS_MAX / 2));
        let config = AsyncConnectionConfig::new().set_connection_timeout(time).set_response_timeout(time);
        Ok(match self {
            Self::One(client) => {
                Connection::One(client.get_multiplexed_async_connection_with_config(&config).await?)
            }
            Self::Sentinels(client) => {
                Connection::One(client.lock().await.get_async_connection_with_config(&config).await?)
            }
            Self::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
        })
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether another connection may do better: it is gone, silent, or no longer one to a master.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_unrecoverable_error()
        || matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}

fn is_full(error: &RedisError) -> bool {
    error.code() == Some("OOM")
}

/// Whether the name or the password is wrong, or the user may not do what is asked.
fn is_forbidden(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "NOPERM" | "WRONGPASS"))
        // What a script may not do is told as an error of the script.
        || error.to_string().contains("ACL failure")
}

fn kind_of(error: &RedisError) -> &'static str {
    if is_full(error) {
        "out_of_memory"
    } else if is_forbidden(error) {
        "forbidden"
    } else if error.is_timeout() {
        "timeout"
    } else if error.is_io_error() {
        "connection"
    } else {
        "refused"
    }
}

fn mend_of(error: &RedisError) -> &'static str {
    if is_full(error) {
        "raise its maxmemory, or remove what else it holds; until then no session gets a route, and those that have one go on"
    } else if is_forbidden(error) {
        "correct the user and the password in its URL, or give that user the rights that deploy/README.md names; until then \
         sessions wait and deliveries are held, and nothing that was accepted is lost"
    } else if is_broken(error) {
        "start it, or correct its address; until then sessions wait and deliveries are held, and nothing that was accepted is lost"
    } else {
        "Petrel needs a master, version 7 or later, that takes scripts and HGETALL"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a server answers it.
    fn answered(line: &str) -> RedisError {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap().extract_error().unwrap_err()
    }

    #[test]
    fn who_may_not_is_told_to_mend_the_rights() {
        for line in [
            "NOAUTH Authentication required.",
            "NOPERM User petrel has no permissions to run the 'get' command",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "ERR ACL failure in script: User petrel has no permissions to run the 'info' command",
        ] {
            let error = answered(line);
            assert_eq!(kind_of(&error), "forbidden", "{line}");
            assert!(mend_of(&error).contains("the rights"), "{line}");
        }
        let full = answered("OOM command not allowed when used memory > 'maxmemory'.");
        assert_eq!(kind_of(&full), "out_of_memory");
        assert_eq!(kind_of(&answered("ERR unknown command 'HGETALL'")), "refused");
    }
}

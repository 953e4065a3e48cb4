//! What the services share about the log and about each other, in their configuration and at their start.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use petrel_bus::Bus;
use petrel_bus::calls::{Link, Reply, RouterCall};
use petrel_bus::grpc::Pool;
use petrel_bus::pulsar::{Config, Token};
use petrel_protocol::calls::Announce;
use petrel_protocol::limits;
use serde::Deserialize;

use crate::Daemon;

/// The table `[pulsar]`, which is documented in each service's file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the documented files say what each key means")]
pub struct Pulsar {
    pub broker: String,
    pub admin: String,
    pub tenant: String,
    pub namespace: String,
    pub partitions: u16,
    pub generation: u32,
    pub token_file: PathBuf,
}

impl Daemon {
    /// Opens the log, under this process's name. None: told to end before the brokers answered.
    pub fn open_bus(&self, pulsar: &Pulsar, name: String) -> Result<Option<Bus>, String> {
        let Pulsar { broker, admin, tenant, namespace, partitions, .. } = pulsar;
        let mut config = Config::new(broker, admin, tenant, namespace, *partitions);
        config.generation = pulsar.generation;
        config.name = name;
        config.token = secret(&pulsar.token_file)?.map(Token);
        let health = config.health.clone();
        self.readiness().probe(move || health.problem().map(|problem| ("pulsar", problem)));
        let opened = self.wait_for("bus", &format!("the log on {broker} is opened"), Bus::pulsar(config));
        opened.transpose().map_err(|e| e.to_string())
    }

    /// Waits until somebody of `pool` can be reached. None: told to end before.
    pub fn wait_for_routers(&self, pool: &Pool, addresses: &[String]) -> Option<()> {
        let why = format!("none of the routers at {} can be reached", addresses.join(", "));
        self.wait_for("router", &why, async {
            while pool.counts().1 == 0 {
                tokio::time::sleep(Duration::from_millis(limits::LINK_BACKOFF_MS_MIN)).await;
            }
        })
    }

    /// Says to `routers`, as long as the service works, that it lives and where it is called.
    pub fn announce(&self, routers: Link<RouterCall>, announce: Announce) {
        let stopping = self.stopped();
        self.runtime().spawn(async move {
            let mut every = tokio::time::interval(Duration::from_millis(limits::LEASE_RENEW_MS));
            while !*stopping.borrow() {
                every.tick().await;
                routers.call(RouterCall::Announce(announce.clone(), Reply::ignored()));
            }
        });
    }
}

/// Listens for calls; the listener, and where others reach it.
pub fn listen_for_calls(calls: SocketAddr, calls_at: &str) -> Result<(TcpListener, String), String> {
    if calls_at.is_empty() && calls.ip().is_unspecified() {
        return Err(format!(
            "calls = {calls} is all addresses: say in `calls_at` at which one others reach it"
        ));
    }
    let listener = TcpListener::bind(calls).map_err(|e| {
        format!("cannot listen for calls at {calls}: {e}; free the port, or choose another with --calls")
    })?;
    let bound = listener.local_addr().map_err(|e| format!("cannot listen for calls: {e}"))?;
    Ok((listener, if calls_at.is_empty() { bound.to_string() } else { calls_at.to_owned() }))
}

/// What stands in the file of a secret, where one is named.
pub fn secret(file: &Path) -> Result<Option<String>, String> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(file).map_err(|e| {
        format!("cannot read the secret in {}: {e}; correct the path, or its owner", file.display())
    })?;
    Ok(Some(text.trim().to_owned()))
}

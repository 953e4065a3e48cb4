//! `petrel-persist`: persist as a service of its own, on Pulsar and Cassandra, called by edges and routers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use petrel_bus::grpc::{Pool, Server, Services};
use petrel_daemon::Daemon;
use petrel_daemon::bus::{Pulsar, listen_for_calls, secret};
use petrel_daemon::config::Documented;
use petrel_persist::cassandra::{self, Consistency, Replication};
use petrel_persist::{Persist, Status, StoreConfig};
use petrel_protocol::calls::{Announce, ServiceKind};
use serde::Deserialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often the store's state is looked at while it is opened.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What persist is told: `deploy/config/persist.toml` says what each key means.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    id: u16,
    calls: SocketAddr,
    calls_at: String,
    health: SocketAddr,
    routers: Vec<String>,
    cassandra: Cassandra,
    pulsar: Pulsar,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cassandra {
    nodes: Vec<String>,
    keyspace: String,
    replicas: u32,
    datacenter: String,
    consistency: String,
    request_ms: u64,
    user: String,
    password_file: PathBuf,
}

fn main() -> ExitCode {
    let about = "Orders, stores and gives back messages: one of Petrel's services";
    let documented =
        Documented::new("petrel-persist", about, include_str!("../../deploy/config/persist.toml"));
    let told = documented.command().get_matches();
    petrel_daemon::run(&documented, &told, |config: &Config| config.health, serve)
}

#[expect(clippy::needless_pass_by_value, reason = "a service owns its configuration")]
fn serve(config: Config, daemon: &Daemon) -> Result<(), String> {
    if !(1..=1_023).contains(&config.id) {
        return Err(format!("id = {}: give 1 to 1023, unique among the persists", config.id));
    }
    let store = StoreConfig::Cassandra(config.cassandra.store()?);
    let (listener, calls_at) = listen_for_calls(config.calls, &config.calls_at)?;
    let routers = Pool::new(daemon.runtime());
    routers.set(&config.routers).map_err(|e| format!("routers: {e}"))?;
    let Some(bus) = daemon.open_bus(&config.pulsar, format!("persist-{}", config.id))? else { return Ok(()) };
    let partitions = (0..bus.partitions()).collect();
    let persist_config = petrel_persist::Config { store, partitions, worker: config.id };
    let persist = Persist::start(persist_config, bus.clone()).map_err(|e| e.to_string())?;
    let why = format!("the store on {} is opened", config.cassandra.nodes.join(", "));
    let opened = daemon.wait_for("cassandra", &why, async {
        loop {
            match persist.status() {
                Status::Ready => return Ok(()),
                Status::Failed(why) => return Err(why),
                Status::Waiting { why, .. } => daemon.readiness().waits_for("cassandra", why),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    let Some(()) = opened.transpose()? else {
        persist.stop();
        bus.close();
        return Ok(());
    };
    let services = Services { persist: Some(persist.link()), ..Services::default() };
    let server = Server::start(daemon.runtime(), listener, services)
        .map_err(|e| format!("cannot serve calls: {e}; check the limits on descriptors"))?;
    let kind = ServiceKind::Persist.into();
    daemon.announce(Arc::new(routers), Announce { kind, id: config.id.into(), calls: calls_at });
    daemon.serve(|| {
        match persist.status() {
            Status::Ready => daemon.readiness().has("cassandra"),
            other => daemon.readiness().waits_for("cassandra", other.to_string()),
        }
        persist.is_turning()
    });
    daemon.block_on(server.stop());
    persist.stop();
    bus.close();
    Ok(())
}

impl Cassandra {
    /// The same for the library, where it can be meant.
    fn store(&self) -> Result<cassandra::Config, String> {
        let all = [Consistency::LocalQuorum, Consistency::Quorum, Consistency::All, Consistency::One];
        let consistency = all.into_iter().find(|it| it.name() == self.consistency).ok_or_else(|| {
            format!("cassandra.consistency = {}: give LOCAL_QUORUM, QUORUM, ALL or ONE", self.consistency)
        })?;
        let mut config = cassandra::Config::new(self.nodes.clone(), self.keyspace.clone());
        config.replication = Replication::Everywhere(self.replicas);
        config.datacenter = Some(self.datacenter.clone()).filter(|name| !name.is_empty());
        config.consistency = consistency;
        config.request_timeout = Duration::from_millis(self.request_ms);
        if !self.user.is_empty() {
            let password = secret(&self.password_file)?;
            let password = password.ok_or("cassandra.user is given: give cassandra.password_file too")?;
            config.credentials = Some((self.user.clone(), password));
        }
        Ok(config)
    }
}

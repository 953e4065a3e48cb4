//! `petrel-edge`: the edge as a service of its own, on Pulsar, with routers and persists in other processes.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use petrel_bus::Bus;
use petrel_bus::calls::{EdgeCall, Link, PersistCall, RouterCall};
use petrel_bus::grpc::{Discovery, Pool, Server, Services};
use petrel_daemon::bus::{Pulsar, listen_for_calls};
use petrel_daemon::config::Documented;
use petrel_daemon::{Daemon, keys};
use petrel_edge::{Edge, RingConfig, StartError};
use petrel_protocol::{limits, session, token};
use serde::Deserialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the edge is told: `deploy/config/edge.toml` says what each key means.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    id: u16,
    worker: String,
    listen: SocketAddr,
    url: String,
    calls: SocketAddr,
    calls_at: String,
    health: SocketAddr,
    routers: Vec<String>,
    keys: PathBuf,
    state: PathBuf,
    shards: u16,
    sockets_per_shard: u32,
    ping_after_s: u64,
    evict_after_s: u64,
    pulsar: Pulsar,
}

fn main() -> ExitCode {
    // Every shard's allocator would hold huge pages that it does not fill: megabytes a thread. A kernel that does not know
    // the setting has none to turn off.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let about = "Holds the WebSockets of clients: one of Petrel's services";
    let documented = Documented::new("petrel-edge", about, include_str!("../../deploy/config/edge.toml"));
    let told = documented.command().get_matches();
    petrel_daemon::run(&documented, &told, |config: &Config| config.health, serve)
}

#[expect(clippy::needless_pass_by_value, reason = "a service owns its configuration")]
fn serve(config: Config, daemon: &Daemon) -> Result<(), String> {
    let keys_file = config.keys.clone();
    let keys = Arc::new(keys::read(&keys_file)?);
    let (listener, calls_at) = listen_for_calls(config.calls, &config.calls_at)?;
    let edge_config = config.edge(calls_at)?;
    let (routers, persists) = (Pool::new(daemon.runtime()), Pool::new(daemon.runtime()));
    let discovery = Discovery::new(config.routers.clone(), routers.clone(), persists.clone())
        .map_err(|e| format!("routers: {e}"))?;
    let Some(bus) = daemon.open_bus(&config.pulsar, format!("edge-{}", config.id))? else { return Ok(()) };
    let Some(()) = daemon.wait_for_routers(&routers, &config.routers) else { return Ok(()) };
    for (part, pool) in [("router", routers), ("persist", persists.clone())] {
        daemon.readiness().probe(move || {
            let (known, open) = pool.counts();
            (open == 0).then(|| (part, format!("none of {known} can be reached")))
        });
    }
    let starting = Starting {
        config: edge_config,
        bus: bus.clone(),
        persist: Arc::new(persists),
        router: Arc::new(discovery),
        keys,
        listener,
    };
    let Some((edge, server)) = starting.start(daemon)? else { return Ok(()) };
    daemon.reread_keys(keys_file, edge.on_new_keys());
    tracing::info!("clients connect at {}", edge.url());
    daemon.serve(|| {
        if edge.conflict().is_some() {
            daemon.stop();
        }
        edge.is_turning()
    });
    let conflict = edge.conflict();
    edge.drain();
    daemon.block_on(server.stop());
    bus.close();
    conflict.map_or(Ok(()), |conflict| Err(conflict.to_string()))
}

impl Config {
    /// The same for the library, where it can be meant.
    fn edge(&self, calls: String) -> Result<petrel_edge::Config, String> {
        let worker = match self.worker.as_str() {
            "" => self.id,
            text => text.parse().map_err(|_| format!("worker = {text}: give 0 to 1023, or nothing"))?,
        };
        if worker > 1_023 {
            return Err(format!("worker = {worker}: give 0 to 1023, unique among the edges"));
        }
        if self.id == 0 || self.shards > 1_024 || !(16..=1 << 20).contains(&self.sockets_per_shard) {
            return Err("id is 1 to 65535, shards at most 1024, sockets_per_shard 16 to 1048576".to_owned());
        }
        if self.ping_after_s == 0 || self.evict_after_s <= self.ping_after_s {
            return Err("evict_after_s must be above ping_after_s, and that above 0".to_owned());
        }
        std::fs::create_dir_all(&self.state).map_err(|e| {
            format!("cannot create {}: {e}; choose another folder with --state", self.state.display())
        })?;
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u16);
        Ok(petrel_edge::Config {
            listen: self.listen,
            url: Some(self.url.clone()).filter(|url| !url.is_empty()),
            calls,
            edge: self.id,
            worker,
            ids_file: self.state.join("ids"),
            shards: if self.shards == 0 { cores } else { self.shards },
            ring: RingConfig { sockets: self.sockets_per_shard, ..RingConfig::default() },
            session: session::Config {
                ping_after_ms: self.ping_after_s * 1_000,
                evict_after_ms: self.evict_after_s * 1_000,
                ..session::Config::default()
            },
        })
    }
}

/// What an edge starts from.
struct Starting {
    config: petrel_edge::Config,
    bus: Bus,
    persist: Link<PersistCall>,
    router: Link<RouterCall>,
    keys: Arc<token::Keys>,
    listener: TcpListener,
}

impl Starting {
    /// Starts the edge as soon as a router takes its lease. None: told to end before.
    fn start(self, daemon: &Daemon) -> Result<Option<(Edge, Server)>, String> {
        let Self { config, bus, persist, router, keys, listener } = self;
        let again = Duration::from_millis(limits::LEASE_RENEW_MS / 4);
        loop {
            let mut server = None;
            let serve = |link: Link<EdgeCall>| {
                let services = Services { edge: Some(link), ..Services::default() };
                Server::start(daemon.runtime(), listener.try_clone()?, services)
            };
            let edge = Edge::start(&config, &bus, &persist, &router, &keys, |_, link| {
                server = Some(serve(link));
            });
            match (edge, server) {
                (Ok(edge), Some(Ok(server))) => return Ok(Some((edge, server))),
                (_, Some(Err(e))) => {
                    return Err(format!("cannot serve calls: {e}; check the limits on descriptors"));
                }
                (Err(e @ (StartError::Lease | StartError::Conflict(_))), _) => {
                    let why = match e {
                        // That one may be about to end: its lease lives on for a while.
                        StartError::Conflict(conflict) => conflict.to_string(),
                        // Its Redis may be away: the log of the router says so.
                        _ => "no router takes this edge's lease yet".to_owned(),
                    };
                    let wait = async { tokio::time::sleep(again).await };
                    let waited = daemon.wait_for("lease", &why, wait);
                    if waited.is_none() {
                        return Ok(None);
                    }
                }
                (Err(e), _) => return Err(e.to_string()),
                (Ok(_), None) => unreachable!("an edge that started was attached"),
            }
        }
    }
}

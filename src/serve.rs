//! Starting and stopping the services of one process.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use petrel_bus::Bus;
use petrel_edge::Edge;
use petrel_persist::Persist;
use petrel_router::Router;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, Serve};
use crate::data::DataFolder;

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(flags: &Serve) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,fjall=warn,lsm_tree=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let config = Config::of(flags)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|e| format!("cannot start the signal handling: {e}"))?;
    // The signals are caught before anything is started, so that an early one stops in order too.
    let (mut terminate, mut interrupt) = runtime
        .block_on(async {
            Ok::<_, std::io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
        })
        .map_err(|e| format!("cannot catch signals: {e}"))?;
    let services = Services::start(&config)?;
    say_where(&config, &services);
    runtime.block_on(async {
        tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
    });
    tracing::info!("stopping: no new connections, clients are told, what is under way settles");
    services.stop();
    tracing::info!("stopped");
    Ok(())
}

/// Prints where to connect. Nobody has to read it.
fn say_where(config: &Config, services: &Services) {
    let (edge, http) = (services.edge.url(), services.router.http_addr());
    let data = config.data.display();
    let text = format!("Petrel is up.\n  clients   {edge}\n  HTTP      http://{http}\n  data      {data}\n");
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

struct Services {
    bus: Bus,
    persist: Persist,
    router: Router,
    edge: Edge,
}

impl Services {
    fn start(config: &Config) -> Result<Self, String> {
        let data = DataFolder::open(&config.data)?;
        let keys = Arc::new(data.keys()?);
        let bus = Bus::embedded(&data.path("bus"), config.partitions).map_err(|e| e.to_string())?;
        let persist_config = petrel_persist::Config {
            store: petrel_persist::StoreConfig::Embedded(data.path("store")),
            partitions: (0..config.partitions).collect(),
            worker: 0,
        };
        let persist = Persist::start(persist_config, bus.clone()).map_err(|e| e.to_string())?;
        let router_config = petrel_router::Config {
            token_ttl: Duration::from_secs(config.token_minutes * 60),
            ..petrel_router::Config::new(config.http)
        };
        let router = Router::start(router_config, bus.clone(), persist.link(), Arc::clone(&keys))
            .map_err(|e| e.to_string())?;
        let edge_config = petrel_edge::Config {
            listen: config.listen,
            url: config.url.clone(),
            calls: String::new(),
            edge: 1,
            worker: 1,
            ids_file: data.path("edge-ids"),
            shards: config.shards,
            ring: petrel_edge::RingConfig { sockets: config.sockets_per_shard, ..Default::default() },
            session: petrel_protocol::session::Config {
                ping_after_ms: config.ping_after_s * 1_000,
                evict_after_ms: config.evict_after_s * 1_000,
                ..Default::default()
            },
        };
        let (persist_link, router_link) = (persist.link(), router.link());
        let edge = Edge::start(&edge_config, &bus, &persist_link, &router_link, &keys, |id, link| {
            router.attach_edge(id, link);
        })
        .map_err(|e| e.to_string())?;
        Ok(Self { bus, persist, router, edge })
    }

    /// In the opposite order: who asks stops before who answers.
    fn stop(self) {
        self.edge.drain();
        self.router.stop();
        self.persist.stop();
        self.bus.close();
    }
}

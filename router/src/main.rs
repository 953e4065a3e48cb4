//! `petrel-router`: the router as a service of its own, on Pulsar and Redis, with edges and persists in other processes.
//! It also makes and changes the file of token keys.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, FromArgMatches};
use petrel_bus::calls::{EdgeCall, Link};
use petrel_bus::grpc::{Pool, Remote, Server, Services};
use petrel_daemon::bus::{Pulsar, listen_for_calls};
use petrel_daemon::config::Documented;
use petrel_daemon::keys::{self, KeysCommand};
use petrel_daemon::{BAD_START, Daemon};
use petrel_protocol::calls::{Announce, ServiceAt, ServiceKind};
use petrel_router::{Router, RoutesConfig, routes};
use serde::Deserialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the router is told: `deploy/config/router.toml` says what each key means.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    id: u16,
    http: SocketAddr,
    calls: SocketAddr,
    calls_at: String,
    health: SocketAddr,
    keys: PathBuf,
    token_minutes: u64,
    refresh_days: u64,
    redis: Redis,
    pulsar: Pulsar,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Redis {
    urls: Vec<String>,
    prefix: String,
}

fn main() -> ExitCode {
    let about = "The front door, the routes and the fan-out: one of Petrel's services";
    let documented = Documented::new("petrel-router", about, include_str!("../../deploy/config/router.toml"));
    let keys = clap::Command::new("keys").about("Makes and changes the file of token keys");
    let told = documented.command().subcommand(KeysCommand::augment_args(keys)).get_matches();
    let Some(("keys", told)) = told.subcommand() else {
        return petrel_daemon::run(&documented, &told, |config: &Config| config.health, serve);
    };
    let done = KeysCommand::from_arg_matches(told).map_err(|e| e.to_string());
    match done.and_then(|command| keys::carry_out(&command)) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("petrel-router: {text}");
            ExitCode::from(BAD_START)
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a service owns its configuration")]
fn serve(config: Config, daemon: &Daemon) -> Result<(), String> {
    if config.id == 0 || config.token_minutes == 0 || config.refresh_days == 0 {
        return Err("id, token_minutes and refresh_days must be above 0".to_owned());
    }
    let keys = Arc::new(keys::read(&config.keys)?);
    let (listener, calls_at) = listen_for_calls(config.calls, &config.calls_at)?;
    let Some(bus) = daemon.open_bus(&config.pulsar, format!("router-{}", config.id))? else { return Ok(()) };
    let persists = Pool::new(daemon.runtime());
    let router_config = petrel_router::Config {
        token_ttl: Duration::from_mins(config.token_minutes),
        refresh_ttl: Duration::from_hours(24 * config.refresh_days),
        routes: RoutesConfig::Redis(routes::redis::Config {
            urls: config.redis.urls.clone(),
            prefix: config.redis.prefix.clone(),
        }),
        ..petrel_router::Config::new(config.http)
    };
    let router = Router::start(router_config, bus.clone(), Arc::new(persists.clone()), keys);
    let router = router.map_err(|e| e.to_string())?;
    let runtime = daemon.runtime().clone();
    let edge =
        move |calls: &str| Remote::new(&runtime, calls).ok().map(|remote| Arc::new(remote) as Link<EdgeCall>);
    let known = persists.clone();
    router.connect(edge, move |services| learn(&known, services));
    let services = Services { router: Some(router.link()), ..Services::default() };
    let server = Server::start(daemon.runtime(), listener, services)
        .map_err(|e| format!("cannot serve calls: {e}; check the limits on descriptors"))?;
    daemon.reread_keys(config.keys.clone(), router.on_new_keys());
    let kind = ServiceKind::Router.into();
    daemon.announce(router.link(), Announce { kind, id: config.id.into(), calls: calls_at });
    daemon.readiness().probe(move || {
        let (known, open) = persists.counts();
        (open == 0).then(|| ("persist", format!("none of {known} can be reached")))
    });
    let readiness = daemon.readiness().clone();
    tracing::info!("clients register and log in at http://{}", router.http_addr());
    daemon.serve(|| {
        match router.missing() {
            Some(why) => readiness.waits_for("routes", why),
            None => readiness.has("routes"),
        }
        router.is_turning()
    });
    daemon.block_on(server.stop());
    router.stop();
    bus.close();
    Ok(())
}

/// Calls the persists that live. Where nobody has announced himself yet, the ones that were known are called further.
fn learn(persists: &Pool, services: &[ServiceAt]) {
    let of_persists = services.iter().filter(|at| at.kind() == ServiceKind::Persist);
    let calls: Vec<&str> = of_persists.map(|at| at.calls.as_str()).collect();
    if calls.is_empty() {
        return;
    }
    if let Err(e) = persists.set(&calls) {
        tracing::error!("a persist announced itself wrongly: {e}; correct `calls_at` in its configuration");
    }
}

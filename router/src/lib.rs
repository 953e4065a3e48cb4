//! Who gets a message and where they are connected: the accounts' front door (HTTP), the routes and the edges' leases, and
//! the fan-out of what was stored to the edges.
//!
//! [`Router`] runs all of it on threads of its own: one that drives [`petrel_protocol::fanout`], and a small runtime for
//! HTTP. Calls of edges ([`RouterCall`]) are answered on the caller's thread, or on the one that talks to Redis.

mod clock;
mod driver;
mod http;
mod metrics;
pub mod routes;
mod service;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use petrel_bus::Bus;
use petrel_bus::calls::{EdgeCall, Link, PersistCall, RouterCall};
use petrel_protocol::calls::ServiceAt;
use petrel_protocol::limits;
use petrel_protocol::token::Keys;

use driver::Driver;
use http::{App, Server};
use routes::Routes;
use service::{Calls, Directory, Others};

pub use http::PasswordCost;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use http::fuzzing;

/// How a router runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where HTTP is served. Port 0 takes a free one.
    pub http: SocketAddr,
    /// How long a token is good.
    pub token_ttl: Duration,
    /// How long a refresh token is good.
    pub refresh_ttl: Duration,
    /// What a password's hash costs.
    pub password_cost: PasswordCost,
    /// Where the routes are kept.
    pub routes: RoutesConfig,
    /// A request's head that is not complete after this long, or an idle connection, is closed.
    pub head_timeout: Duration,
    /// A request's body that is not complete after this long is refused.
    pub body_timeout: Duration,
}

/// Where the routes are kept.
#[derive(Clone, Debug, Default)]
pub enum RoutesConfig {
    /// In this process: one router, for all edges.
    #[default]
    Memory,
    /// On Redis, for any number of routers.
    #[cfg(feature = "redis")]
    Redis(routes::redis::Config),
}

impl Config {
    /// The defaults, with HTTP served at `http`.
    pub fn new(http: SocketAddr) -> Self {
        Self {
            http,
            token_ttl: Duration::from_hours(24),
            refresh_ttl: Duration::from_hours(30 * 24),
            password_cost: PasswordCost::default(),
            routes: RoutesConfig::Memory,
            head_timeout: Duration::from_millis(limits::HTTP_HEAD_MS_MAX),
            body_timeout: Duration::from_millis(limits::HTTP_BODY_MS_MAX),
        }
    }
}

/// Why a router did not start. The text names what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP address cannot be listened on.
    #[error("HTTP cannot listen on {address} (port {}): {source}; free the port, or choose another with --http", address.port())]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The log cannot be read, or a thread cannot be started.
    #[error("the fan-out cannot start: {0}; restart Petrel, and check its data folder and its limits")]
    Fanout(String),
    /// A thread cannot be started.
    #[error("HTTP cannot start: {0}; check the limits on threads and descriptors")]
    Http(io::Error),
    /// The routes cannot be kept where they are configured.
    #[cfg(feature = "redis")]
    #[error("the routes cannot be kept: {0}")]
    Routes(#[from] routes::redis::ConfigError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}; check that getrandom works here")]
    Random(String),
}

/// A running router.
pub struct Router {
    directory: Arc<Directory>,
    driver: Driver,
    server: Server,
    app: Arc<App>,
}

impl Router {
    /// Listens for HTTP, subscribes to the log and starts the threads.
    ///
    /// # Panics
    /// Where [`Config::password_cost`] is below what argon2 can do.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a service owns its configuration and its handle on the bus"
    )]
    pub fn start(
        config: Config,
        bus: Bus,
        persist: Link<PersistCall>,
        keys: Arc<Keys>,
    ) -> Result<Self, StartError> {
        let listener = TcpListener::bind(config.http)
            .map_err(|source| StartError::Listen { address: config.http, source })?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|e| StartError::Random(e.to_string()))?;
        let routes = match &config.routes {
            RoutesConfig::Memory => Routes::memory(),
            #[cfg(feature = "redis")]
            RoutesConfig::Redis(redis) => Routes::redis(redis)?,
        };
        let directory = Arc::new(Directory::new(routes));
        let driver = Driver::start(&bus, directory.clone()).map_err(|e| StartError::Fanout(e.to_string()))?;
        let app = Arc::new(App {
            directory: directory.clone(),
            persist,
            fanout: driver.mail(),
            tokens: http::Tokens::new(keys, config.token_ttl, config.refresh_ttl),
            passwords: http::Passwords::new(config.password_cost),
            attempts: http::Attempts::new(u64::from_ne_bytes(seed)),
            body_timeout: config.body_timeout,
        });
        let sweep = tend(directory.clone());
        match Server::start(listener, http::routes(app.clone()), config.head_timeout, sweep) {
            Ok(server) => Ok(Self { directory, driver, server, app }),
            Err(e) => {
                driver.stop();
                Err(StartError::Http(e))
            }
        }
    }

    /// A handle for the edges' calls.
    pub fn link(&self) -> Link<RouterCall> {
        Arc::new(Calls(self.directory.clone()))
    }

    /// Names the handle on which the edge of this id is called. Before its first lease: what cannot be delivered for
    /// a while costs an edge its epoch.
    pub fn attach_edge(&self, edge: u16, link: Link<EdgeCall>) {
        self.directory.attach(edge, link);
    }

    /// Edges in other processes are called on the links that `connect` makes of their addresses (host:port): attached and
    /// detached as their leases come and go. `learn` is told again and again which routers and persists live.
    ///
    /// # Panics
    /// Where it is called twice.
    pub fn connect(
        &self,
        connect: impl Fn(&str) -> Option<Link<EdgeCall>> + Send + Sync + 'static,
        learn: impl Fn(&[ServiceAt]) + Send + Sync + 'static,
    ) {
        self.directory.set_others(Others { connect: Box::new(connect), learn: Box::new(learn) });
    }

    /// What is to be called with new token keys: they sign and verify from then on.
    pub fn on_new_keys(&self) -> impl Fn(Arc<Keys>) + Send + 'static + use<> {
        let app = self.app.clone();
        move |keys| app.tokens.use_keys(keys)
    }

    /// Whether the fan-out has gone round since this was asked before.
    pub fn is_turning(&self) -> bool {
        self.driver.is_turning()
    }

    /// What it lacks, for `/readyz`: the fan-out, the routes, or an edge.
    pub fn missing(&self) -> Option<&'static str> {
        if !self.driver.mail().is_running() {
            return Some("the fan-out does not read every partition");
        }
        if !self.directory.routes.is_ready() {
            return Some("Redis does not answer: no route can be asked for");
        }
        let leases = self.directory.routes.leases(self.directory.clock.now());
        leases.iter().all(|held| held.is_draining).then_some("no edge has a lease")
    }

    /// Where HTTP is served, with the port that was taken.
    pub fn http_addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Finishes what is under way (bounded in time), acknowledges it, and joins the threads.
    pub fn stop(self) {
        self.server.stop();
        self.driver.stop();
    }
}

/// Attaches and detaches edges, and forgets the routes of dead ones, bit by bit.
async fn tend(directory: Arc<Directory>) {
    let follow_every = Duration::from_millis(limits::LEASE_FOLLOW_MS);
    for turn in 1.. {
        tokio::time::sleep(follow_every).await;
        directory.follow();
        if turn % (limits::LEASE_MS / limits::LEASE_FOLLOW_MS) != 0 {
            continue;
        }
        let now = directory.clock.now();
        // What fails is made again by the next.
        if let Ok(removed @ 1..) = directory.routes.sweep(now, std::thread::yield_now).await {
            tracing::info!("{removed} routes of edges that are gone were forgotten");
        }
    }
}

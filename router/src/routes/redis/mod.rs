//! Routes, leases and shared limits on Redis, for any number of routers.
//!
//! Redis is never a source of truth: all of it may be lost at any time. Leases that are renewed and not found are refused,
//! so every edge of an emptied Redis takes a new epoch, and its sessions claim again and are synced. Until then a look-up
//! finds nobody, which is safe: no route appears but by a claim of a session that shows no pushes yet.

mod link;
mod metrics;
mod policy;
mod scripts;
mod snapshot;
mod values;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use petrel_protocol::calls::{Announce, Lease, ServiceAt};
use petrel_protocol::fanout::{Incarnation, Route};
use petrel_protocol::ids::{Address, Device, UserId};
use petrel_protocol::limits;
use redis::{RedisResult, Value};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::{Answer, Asserted, Claimant, Claimed, Held, Refusal, Renewal, precedence};
use link::Link;
use metrics::METRICS;
use policy::Policy;
use snapshot::Snapshot;
use values::Keys;

/// Leases and services are read this often where no look-up reads them.
const REFRESH_MS: u64 = 1_000;
/// How Redis is configured is looked at this often, in rounds of that.
const POLICY_ROUNDS: u64 = 10;
/// Without an answer for so long, Redis is not ready.
const SILENT_MS_MAX: u64 = 3 * REFRESH_MS;
/// A claim that races with others for one route gives up after this many rounds, and is tried again by its session.
const CLAIM_ROUNDS_MAX: usize = 4;
/// Members that lapsed this long ago are forgotten: until then, none of their epochs is taken for a new one.
const MEMBER_MS: u64 = 10 * limits::LEASE_MS;

/// Where Redis is, and what Petrel's keys are called there.
#[derive(Clone, Debug)]
pub struct Config {
    /// One server: `redis://[user:password@]host:port[/db]`. The Sentinels of a master: a
    /// `redis+sentinel://[user:password@]host:port/service` for each. Nodes of a Cluster:
    /// a `redis+cluster://[user:password@]host:port` for each, one at least.
    pub urls: Vec<String>,
    /// What every key begins with, so that several deployments can share a server. No braces: they would put all keys
    /// into one slot of a Cluster.
    pub prefix: String,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An address cannot be read.
    #[error("the address of Redis cannot be used: {0}")]
    Url(String),
    /// Several kinds of addresses, or none.
    #[error(
        "the addresses of Redis must be one redis:// URL, or all redis+sentinel:// or redis+cluster:// ones"
    )]
    Schemes,
    /// A prefix with braces.
    #[error(
        "the prefix {0:?} of Redis keys has braces, which would put all keys into one slot: leave them out"
    )]
    Prefix(String),
    /// No thread.
    #[error("a thread cannot be started: {0}")]
    Thread(String),
}

/// See the module.
pub struct Redis {
    inner: Arc<Inner>,
    /// Taken at the end.
    runtime: Option<Runtime>,
}

struct Inner {
    link: Link,
    keys: Keys,
    snapshot: Mutex<Snapshot>,
    /// Claims, assertions and releases under way.
    calls: Semaphore,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("prefix", &self.inner.keys.prefix()).finish_non_exhaustive()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Calls that are under way end without an answer, which says that there is none.
        self.runtime.take().expect("taken once").shutdown_background();
    }
}

impl Redis {
    /// Starts a thread that talks to Redis. It need not be there yet: until it is, calls are refused and look-ups fail.
    pub fn start(config: &Config) -> Result<Self, ConfigError> {
        if config.prefix.contains(['{', '}']) {
            return Err(ConfigError::Prefix(config.prefix.clone()));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("petrel-routes")
            .enable_all()
            .build()
            .map_err(|e| ConfigError::Thread(e.to_string()))?;
        let inner = Arc::new(Inner {
            link: Link::new(&config.urls, runtime.handle().clone())?,
            keys: Keys::new(&config.prefix),
            snapshot: Mutex::default(),
            calls: Semaphore::new(limits::ROUTES_CALLS_MAX),
        });
        let refreshed = Arc::downgrade(&inner);
        runtime.spawn(async move {
            let mut policy = Policy::default();
            let mut rounds = 0..;
            while let Some(inner) = refreshed.upgrade() {
                // What fails was complained about, and is tried again.
                let has_answered = inner.members().await.is_ok();
                if has_answered && rounds.next().is_some_and(|round: u64| round.is_multiple_of(POLICY_ROUNDS))
                {
                    policy.look(&inner.link).await;
                }
                drop(inner);
                tokio::time::sleep(Duration::from_millis(REFRESH_MS)).await;
            }
        });
        Ok(Self { inner, runtime: Some(runtime) })
    }

    /// Runs work on the thread that talks to Redis.
    pub(super) fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.as_ref().expect("it runs").spawn(work);
    }

    /// Whether Redis answered lately.
    pub(super) fn is_ready(&self) -> bool {
        self.inner.snapshot().age().is_some_and(|age| age < Duration::from_millis(SILENT_MS_MAX))
    }

    pub(super) async fn lease(&self, lease: &Lease) -> Result<Renewal, Refusal> {
        let Ok(edge) = u16::try_from(lease.edge) else { return Ok(Renewal::Over) };
        let call = scripts::LEASE
            .on(&self.inner.keys.members)
            .with(values::lease_field(edge))
            .with(lease.epoch)
            .with(u64::from(lease.is_renewal))
            .with(values::lease_rest(lease))
            .with(limits::LEASE_MS)
            .with(limits::LEASES_MAX as u64)
            .with(lease.worker.map_or_else(String::new, |worker| format!("-{worker}")));
        let (became, replaced): (String, String) = read(self.inner.link.call(&call).await)?;
        self.inner.members().await?;
        Ok(match became.as_str() {
            "held" => Renewal::Held,
            "new" => {
                let replaced = replaced.parse().ok().map(|epoch| Incarnation { edge, epoch });
                Renewal::New { replaced }
            }
            _ => Renewal::Over,
        })
    }

    pub(super) async fn revoke(&self, incarnation: Incarnation) -> Result<(), Refusal> {
        let field = values::lease_field(incarnation.edge);
        let call = scripts::REVOKE.on(&self.inner.keys.members).with(field).with(incarnation.epoch);
        read::<u64>(self.inner.link.call(&call).await)?;
        self.inner.members().await.map(drop)
    }

    pub(super) fn is_live(&self, incarnation: Incarnation) -> bool {
        self.inner.snapshot().is_live(incarnation)
    }

    pub(super) fn leases(&self) -> Vec<Held> {
        self.inner.snapshot().leases()
    }

    pub(super) async fn claim(&self, claimant: &Claimant) -> Result<Answer<Claimed>, Refusal> {
        let inner = &self.inner;
        let _place = inner.place()?;
        inner.check_lease(claimant).await?;
        let mut giving_way = String::new();
        for _ in 0..CLAIM_ROUNDS_MAX {
            let call = inner.on_route(&scripts::CLAIM, claimant).with(giving_way.as_str());
            let (token_version, (became, held)) =
                inner.ask_route::<(String, String)>(claimant, &call).await?;
            let outcome = match became.as_str() {
                "held" => Claimed::Held,
                "taken" if held.is_empty() => Claimed::Taken { replaced: None },
                _ => match (became.as_str(), inner.holder(&held).await?) {
                    ("taken", holder) => Claimed::Taken { replaced: holder.map(|(_, address)| address) },
                    (_, Some(_)) => Claimed::Superseded,
                    (_, None) => {
                        giving_way = held;
                        continue;
                    }
                },
            };
            return Ok(Answer { outcome, token_version });
        }
        Err(Refusal::Unavailable)
    }

    pub(super) async fn assert(&self, claimant: &Claimant) -> Result<Answer<Asserted>, Refusal> {
        let inner = &self.inner;
        let _place = inner.place()?;
        inner.check_lease(claimant).await?;
        let call = inner.on_route(&scripts::ASSERT, claimant);
        let (token_version, (held, connected_ms)) = inner.ask_route::<(String, u64)>(claimant, &call).await?;
        let address = claimant.address;
        let is_mine = values::read_route(&held).is_some_and(|(_, holder)| holder == address);
        let outcome = if is_mine {
            Asserted::Held
        } else {
            match inner.holder(&held).await? {
                Some((since_ms, holder))
                    if precedence(since_ms, holder) > precedence(connected_ms, address) =>
                {
                    Asserted::Superseded
                }
                _ => Asserted::Lost,
            }
        };
        Ok(Answer { outcome, token_version })
    }

    pub(super) async fn release(
        &self,
        user: UserId,
        device: Device,
        address: Address,
    ) -> Result<bool, Refusal> {
        let _place = self.inner.place()?;
        let call = scripts::RELEASE
            .on(&self.inner.keys.routes(user))
            .with(device as u64)
            .with(values::write_address(address));
        read(self.inner.link.call(&call).await)
    }

    /// The valid routes, by one round trip. The leases are read after the routes: a claim is made under a lease that
    /// lives, so one that is not there is over, and none that is new is taken for dead.
    pub(super) async fn look_up(&self, users: &[UserId]) -> Result<Vec<Route>, Refusal> {
        let mut routes = Vec::with_capacity(users.len());
        for (part, users) in (0..).zip(users.chunks(limits::ROUTES_LOOK_UP_MAX)) {
            self.look_up_part(part * limits::ROUTES_LOOK_UP_MAX as u32, users, &mut routes).await?;
        }
        Ok(routes)
    }

    async fn look_up_part(
        &self,
        first: u32,
        users: &[UserId],
        routes: &mut Vec<Route>,
    ) -> Result<(), Refusal> {
        let began = Instant::now();
        let commands = users.iter().map(|user| {
            let mut command = redis::cmd("HGETALL");
            command.arg(self.inner.keys.routes(*user));
            command
        });
        let (found, snapshot) = self.inner.commands_then_members(commands.collect()).await?;
        for (user, value) in (first..).zip(found) {
            for (device, value) in read::<Vec<(u32, String)>>(Ok(value))? {
                let Some((device, (_, address))) =
                    Device::from_number(device).zip(values::read_route(&value))
                else {
                    continue;
                };
                if snapshot.is_live(address.incarnation()) {
                    routes.push(Route { user, device, address });
                }
            }
        }
        METRICS.look_up_seconds.observe(began.elapsed().as_secs_f64());
        Ok(())
    }

    pub(super) async fn announce(&self, announce: &Announce) -> Result<(), Refusal> {
        let call = scripts::ANNOUNCE
            .on(&self.inner.keys.members)
            .with(values::service_field(announce.kind, announce.id))
            .with(announce.calls.as_str())
            .with((limits::LEASES_MAX + limits::SERVICES_MAX) as u64);
        let is_noted: bool = read(self.inner.link.call(&call).await)?;
        if !is_noted {
            tracing::warn!(
                "too many services are known: the one at {} is not noted; stop those that are not needed",
                announce.calls
            );
        }
        Ok(())
    }

    pub(super) fn services(&self) -> Vec<ServiceAt> {
        self.inner.snapshot().services()
    }

    /// Forgets the leases and services that lapsed long ago. Routes go by themselves.
    pub(super) async fn sweep(&self) -> Result<(), Refusal> {
        let call = scripts::FORGET.on(&self.inner.keys.members).with(MEMBER_MS);
        read::<u64>(self.inner.link.call(&call).await).map(drop)
    }

    /// The version below which this user's tokens are revoked, where one was noted.
    pub(crate) async fn version(&self, user: UserId) -> Result<u32, Refusal> {
        let mut command = redis::cmd("GET");
        command.arg(self.inner.keys.version(user));
        read::<Option<u32>>(self.inner.link.command(&command).await).map(Option::unwrap_or_default)
    }

    /// Notes it, for as long as a token of an earlier one may be in time.
    pub(crate) async fn set_version(&self, user: UserId, version: u32, ttl: Duration) -> Result<(), Refusal> {
        let mut command = redis::cmd("SET");
        command.arg(self.inner.keys.version(user)).arg(version).arg("EX").arg(ttl.as_secs().max(1));
        read::<Value>(self.inner.link.command(&command).await).map(drop)
    }

    /// Counts a login before it is tried; where there were too many, how long to wait, ms.
    pub(crate) async fn begin_try(&self, username: &str) -> Result<Result<(), u64>, Refusal> {
        let call = scripts::TRY
            .on(&self.inner.keys.tries(username))
            .with(limits::LOGIN_FAILURES_MS)
            .with(u64::from(limits::LOGIN_FAILURES_MAX));
        let wait_ms: u64 = read(self.inner.link.call(&call).await)?;
        Ok(if wait_ms == 0 { Ok(()) } else { Err(wait_ms) })
    }

    /// What became of it: the account starts afresh, or the try could not be made.
    pub(crate) async fn end_try(&self, username: &str, was_right: bool) -> Result<(), Refusal> {
        let mut command = redis::cmd(if was_right { "DEL" } else { "DECR" });
        command.arg(self.inner.keys.tries(username));
        read::<Value>(self.inner.link.command(&command).await).map(drop)
    }

    /// Uses a refresh token up; whether it was good until now.
    pub(crate) async fn use_up(
        &self,
        (user, device): (UserId, Device),
        issued_at_s: u64,
        earliest_s: u64,
        ttl: Duration,
    ) -> Result<bool, Refusal> {
        let call = scripts::USE_UP
            .on(&self.inner.keys.used_up(user, device as u8))
            .with(issued_at_s)
            .with(earliest_s)
            .with(ttl.as_millis().max(1) as u64);
        read(self.inner.link.call(&call).await)
    }
}

impl Inner {
    fn snapshot(&self) -> std::sync::MutexGuard<'_, Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among the calls under way; refused where there is none.
    fn place(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Refusal> {
        self.calls.try_acquire().map_err(|_| Refusal::Busy)
    }

    fn on_route(&self, script: &'static scripts::Source, claimant: &Claimant) -> scripts::Call {
        let Claimant { user, device, address, age_ms } = *claimant;
        script
            .on(&self.keys.routes(user))
            .with(device as u64)
            .with(values::write_address(address))
            .with(age_ms)
            .with(limits::ROUTE_MS)
    }

    async fn members(&self) -> Result<Snapshot, Refusal> {
        Ok(self.commands_then_members(Vec::new()).await?.1)
    }

    /// Runs commands, and reads the members after them.
    async fn commands_then_members(
        &self,
        commands: Vec<redis::Cmd>,
    ) -> Result<(Vec<Value>, Snapshot), Refusal> {
        let asked = Instant::now();
        let read_members = scripts::MEMBERS.on(&self.keys.members);
        let result = self.link.commands_then(commands, &read_members).await;
        let (values, members) = result.map_err(|_| Refusal::Unavailable)?;
        let (now_ms, fields): (u64, Vec<(String, String)>) = read(Ok(members))?;
        let snapshot = Snapshot::read(asked, now_ms, &fields);
        self.snapshot().renew(&snapshot);
        Ok((values, snapshot))
    }

    /// Refuses a claim whose edge has no lease. Only what was read says so: after that, a lease that ends is noticed by
    /// its edge, whose sessions claim again then.
    async fn check_lease(&self, claimant: &Claimant) -> Result<(), Refusal> {
        let incarnation = claimant.address.incarnation();
        let is_live = self.snapshot().is_live(incarnation) || self.members().await?.is_live(incarnation);
        if is_live { Ok(()) } else { Err(Refusal::NoLease { edge: incarnation.edge }) }
    }

    /// The token version that is noted for the claimant's user, and what a script says about the route.
    async fn ask_route<T: redis::FromRedisValue>(
        &self,
        claimant: &Claimant,
        call: &scripts::Call,
    ) -> Result<(u32, T), Refusal> {
        let mut version = redis::cmd("GET");
        version.arg(self.keys.version(claimant.user));
        let answers = self.link.commands_then(vec![version], call).await;
        let (mut versions, value) = answers.map_err(|_| Refusal::Unavailable)?;
        let version: Option<u32> = read(Ok(versions.pop().unwrap_or(Value::Nil)))?;
        Ok((version.unwrap_or_default(), read(Ok(value))?))
    }

    /// Who has a route, by its value, where that one's lease lives: since when it is connected, and its address.
    async fn holder(&self, value: &str) -> Result<Option<(u64, Address)>, Refusal> {
        let Some((since_ms, address)) = values::read_route(value) else { return Ok(None) };
        let is_live = self.members().await?.is_live(address.incarnation());
        Ok(is_live.then_some((since_ms, address)))
    }
}

/// An answer of the expected form. What else comes is complained about where it was asked.
fn read<T: redis::FromRedisValue>(result: RedisResult<Value>) -> Result<T, Refusal> {
    let value = result.map_err(|_| Refusal::Unavailable)?;
    T::from_redis_value(value).map_err(|e| {
        tracing::error!(
            "Redis answered with something else than Petrel asked for: {e}; do others use its keys?"
        );
        Refusal::Unavailable
    })
}

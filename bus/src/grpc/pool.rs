//! Several processes that offer the same service: each call goes to one that can take it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use petrel_protocol::limits;
use tokio::runtime::Handle;

use super::remote::{BadAddress, Remote};
use crate::calls::{CallError, PersistCall, Reply, RouterCall, Service};

/// Links to all processes of one service. A call goes to those that can be reached in turn; one that failed is passed
/// over for a while. A call that may be repeated and finds no answer is made once more elsewhere. A clone is another handle.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Handle,
    begun: Instant,
    members: RwLock<Vec<Arc<Member>>>,
    /// Whose turn it is.
    next: AtomicUsize,
}

#[derive(Debug)]
struct Member {
    remote: Remote,
    /// It is passed over until then, in milliseconds since the pool began.
    skipped_until_ms: AtomicU64,
}

impl Pool {
    /// A pool whose links run on `runtime`; nobody is in it.
    pub fn new(runtime: &Handle) -> Self {
        let (members, next) = (RwLock::default(), AtomicUsize::new(0));
        Self(Arc::new(Inner { runtime: runtime.clone(), begun: Instant::now(), members, next }))
    }

    /// From now on these (host:port) are in it, and no others. Links to those that stay go on, and those that go answer
    /// the calls that they have. Whoever has an address that cannot be one is left out and named.
    pub fn set<S: AsRef<str>>(&self, addresses: &[S]) -> Result<(), BadAddress> {
        let kept = |address: &str| {
            let members = self.0.members.read().unwrap_or_else(PoisonError::into_inner);
            members.iter().find(|member| member.remote.address() == address).cloned()
        };
        let mut bad = None;
        let mut members: Vec<Arc<Member>> = Vec::new();
        for address in addresses.iter().map(AsRef::as_ref).take(limits::LINK_POOL_MAX) {
            if members.iter().any(|member| member.remote.address() == address) {
                continue;
            }
            match kept(address).map_or_else(|| Remote::new(&self.0.runtime, address).map(Member::new), Ok) {
                Ok(member) => members.push(member),
                Err(e) => bad = Some(e),
            }
        }
        let gone = {
            let mut now = self.0.members.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *now, members)
        };
        // Dropped without the lock. A call under way holds its member.
        drop(gone);
        bad.map_or(Ok(()), Err)
    }

    /// How many are in it, and how many of them can be reached.
    pub fn counts(&self) -> (usize, usize) {
        let members = self.0.members.read().unwrap_or_else(PoisonError::into_inner);
        (members.len(), members.iter().filter(|member| member.remote.is_open()).count())
    }

    /// The next in turn that can be reached, other than `failed`; those that failed lately only where there is no other.
    fn pick(&self, failed: Option<&Arc<Member>>) -> Option<Arc<Member>> {
        let members = self.0.members.read().unwrap_or_else(PoisonError::into_inner);
        let start = self.0.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..members.len()).map(|offset| &members[(start + offset) % members.len()]);
        let can_be = |member: &&Arc<Member>| {
            member.remote.is_open() && failed.is_none_or(|failed| !Arc::ptr_eq(failed, member))
        };
        let now_ms = self.now_ms();
        let is_well = |member: &&Arc<Member>| member.skipped_until_ms.load(Ordering::Relaxed) <= now_ms;
        in_turn.clone().filter(can_be).find(is_well).or_else(|| in_turn.clone().find(can_be)).cloned()
    }

    fn now_ms(&self) -> u64 {
        self.0.begun.elapsed().as_millis() as u64
    }

    /// Makes a call that may be made twice.
    fn repeatable<C: 'static, Q, T>(&self, request: Q, reply: Reply<T>, make: fn(Q, Reply<T>) -> C)
    where
        Remote: Service<C>,
        Q: Clone + Send + 'static,
        T: Send + 'static,
    {
        let Some(member) = self.pick(None) else { return reply.send(Err(CallError::Unavailable)) };
        let (again, pool, first, since) = (request.clone(), self.clone(), member.clone(), Instant::now());
        let then = move |answer: Result<T, CallError>| {
            let Err(error @ (CallError::Unavailable | CallError::Full)) = answer else {
                return reply.send(answer);
            };
            pool.failed(&first, error);
            // Time for the second try must be left.
            let other =
                Some(()).filter(|()| since.elapsed() < RETRY_WITHIN).and_then(|()| pool.pick(Some(&first)));
            match other {
                Some(other) => other.remote.call(make(again, reply)),
                None => reply.send(Err(error)),
            }
        };
        member.remote.call(make(request, Reply::new(then)));
    }

    /// Makes a call that must not be made twice.
    fn once<C, T: Send + 'static>(&self, reply: Reply<T>, make: impl FnOnce(Reply<T>) -> C)
    where
        Remote: Service<C>,
    {
        let Some(member) = self.pick(None) else { return reply.send(Err(CallError::Unavailable)) };
        let (pool, first) = (self.clone(), member.clone());
        let then = move |answer: Result<T, CallError>| {
            if let Err(error) = answer {
                pool.failed(&first, error);
            }
            reply.send(answer);
        };
        member.remote.call(make(Reply::new(then)));
    }

    fn failed(&self, member: &Member, error: CallError) {
        if error != CallError::Taken {
            member.skipped_until_ms.store(self.now_ms() + limits::LINK_SKIP_MS, Ordering::Relaxed);
        }
    }
}

/// A call that failed within this time is made once more elsewhere.
const RETRY_WITHIN: Duration = Duration::from_millis(limits::PERSIST_CALL_MS_MAX / 2);

impl Member {
    fn new(remote: Remote) -> Arc<Self> {
        Arc::new(Self { remote, skipped_until_ms: AtomicU64::new(0) })
    }
}

impl Service<PersistCall> for Pool {
    fn call(&self, call: PersistCall) {
        match call {
            PersistCall::Sync(request, reply) => self.repeatable(request, reply, PersistCall::Sync),
            PersistCall::History(request, reply) => self.repeatable(request, reply, PersistCall::History),
            PersistCall::Resolve(request, reply) => self.repeatable(request, reply, PersistCall::Resolve),
            PersistCall::FindAccount(name, reply) => self.repeatable(name, reply, PersistCall::FindAccount),
            // Made twice, it would find the name taken by itself.
            PersistCall::CreateAccount(new, reply) => {
                self.once(reply, |reply| PersistCall::CreateAccount(new, reply));
            }
            PersistCall::RevokeTokens(user, reply) => {
                self.once(reply, |reply| PersistCall::RevokeTokens(user, reply));
            }
        }
    }
}

impl Service<RouterCall> for Pool {
    fn call(&self, call: RouterCall) {
        match call {
            RouterCall::Claim(claim, reply) => self.repeatable(claim, reply, RouterCall::Claim),
            RouterCall::Release(release, reply) => self.repeatable(release, reply, RouterCall::Release),
            RouterCall::Lease(lease, reply) => self.repeatable(lease, reply, RouterCall::Lease),
            RouterCall::Announce(service, reply) => self.repeatable(service, reply, RouterCall::Announce),
        }
    }
}

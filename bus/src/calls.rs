//! The calls between the services, whatever carries them: a reference in one process, gRPC between processes.
//!
//! A call never blocks its caller and always answers through its [`Reply`], also when it is refused or dropped.

use std::sync::Arc;

use petrel_protocol::calls::{
    Account, Announce, Claim, ClaimReply, CreateAccount, DeliverBatch, DeliverReply, HistoryRequest, Lease,
    LeaseReply, Range, Release, ResolveReply, ResolveRequest, SyncReply, SyncRequest,
};

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The service has too much under way.
    #[error("the service takes no more for now")]
    Full,
    /// The service cannot be reached, or failed.
    #[error("the service is unavailable")]
    Unavailable,
    /// What was asked for contradicts what is there (a taken username).
    #[error("it is taken")]
    Taken,
}

/// Where an answer goes. Dropped without an answer, it answers [`CallError::Unavailable`].
pub struct Reply<T>(Option<Then<T>>);

type Then<T> = Box<dyn FnOnce(Result<T, CallError>) + Send>;

impl<T> Reply<T> {
    /// A reply that runs `then` on the answering thread; `then` must not block.
    pub fn new(then: impl FnOnce(Result<T, CallError>) + Send + 'static) -> Self {
        Self(Some(Box::new(then)))
    }

    /// A reply for a caller that wants none.
    pub fn ignored() -> Self {
        Self(None)
    }

    /// Answers.
    pub fn send(mut self, answer: Result<T, CallError>) {
        if let Some(then) = self.0.take() {
            then(answer);
        }
    }
}

impl<T: Send + 'static> Reply<T> {
    /// A reply, and the future of its answer.
    pub fn channel() -> (Self, impl Future<Output = Result<T, CallError>> + Send) {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let reply = Self::new(move |answer| drop(tx.send(answer)));
        (reply, async move { rx.await.unwrap_or(Err(CallError::Unavailable)) })
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then(Err(CallError::Unavailable));
        }
    }
}

impl<T> std::fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

/// What persist answers.
#[derive(Debug)]
pub enum PersistCall {
    /// What does this device lack?
    Sync(SyncRequest, Reply<SyncReply>),
    /// One range of one conversation.
    History(HistoryRequest, Reply<Range>),
    /// Which seq has this message?
    Resolve(ResolveRequest, Reply<ResolveReply>),
    /// A new account; [`CallError::Taken`] where the name is.
    CreateAccount(CreateAccount, Reply<Account>),
    /// The account of this username, if there is one.
    FindAccount(String, Reply<Option<Account>>),
    /// Makes all tokens of this user invalid; answers with the new token version.
    RevokeTokens(u64, Reply<u32>),
}

/// What router answers.
#[derive(Debug)]
pub enum RouterCall {
    /// A session is connected.
    Claim(Claim, Reply<ClaimReply>),
    /// A session is gone (compare-and-delete).
    Release(Release, Reply<()>),
    /// An edge lives. Answers whether its epoch still holds; where it does not, the edge takes a new one and claims all
    /// its routes again.
    Lease(Lease, Reply<LeaseReply>),
    /// A router or a persist lives.
    Announce(Announce, Reply<()>),
}

/// What an edge answers.
#[derive(Debug)]
pub enum EdgeCall {
    /// Pushes for its sessions. Answered when each is queued, found gone, or marked dirty.
    Deliver(DeliverBatch, Reply<DeliverReply>),
}

/// A service as its callers see it.
pub trait Service<C>: Send + Sync {
    /// Starts a call. Never blocks.
    fn call(&self, call: C);
}

/// A handle on a service.
pub type Link<C> = Arc<dyn Service<C>>;

//! Calls as messages, and messages as calls.

use petrel_protocol::calls::{Account, ClaimReply, DeliverReply, LeaseReply, Range, ResolveReply, SyncReply};
use petrel_protocol::limits;

use super::compiled::reply::Answer;
use super::compiled::request::Call;
use super::compiled::{Announced, Error, FoundAccount, Released};
use super::server::Services;
use crate::calls::{CallError, EdgeCall, PersistCall, Reply, RouterCall};

/// A call that travels: what is sent, and who waits for the answer.
pub(super) type Outgoing = (Call, Waiting);

/// Who waits for the answer to one call.
#[derive(Debug)]
pub(super) enum Waiting {
    Sync(Reply<SyncReply>),
    History(Reply<Range>),
    Resolve(Reply<ResolveReply>),
    CreateAccount(Reply<Account>),
    FindAccount(Reply<Option<Account>>),
    RevokeTokens(Reply<u32>),
    Claim(Reply<ClaimReply>),
    Release(Reply<()>),
    Lease(Reply<LeaseReply>),
    Announce(Reply<()>),
    Deliver(Reply<DeliverReply>),
}

impl From<PersistCall> for Outgoing {
    fn from(call: PersistCall) -> Self {
        match call {
            PersistCall::Sync(request, reply) => (Call::Sync(request), Waiting::Sync(reply)),
            PersistCall::History(request, reply) => (Call::History(request), Waiting::History(reply)),
            PersistCall::Resolve(request, reply) => (Call::Resolve(request), Waiting::Resolve(reply)),
            PersistCall::CreateAccount(account, reply) => {
                (Call::CreateAccount(account), Waiting::CreateAccount(reply))
            }
            PersistCall::FindAccount(name, reply) => (Call::FindAccount(name), Waiting::FindAccount(reply)),
            PersistCall::RevokeTokens(user, reply) => {
                (Call::RevokeTokens(user), Waiting::RevokeTokens(reply))
            }
        }
    }
}

impl From<RouterCall> for Outgoing {
    fn from(call: RouterCall) -> Self {
        match call {
            RouterCall::Claim(claim, reply) => (Call::Claim(claim), Waiting::Claim(reply)),
            RouterCall::Release(release, reply) => (Call::Release(release), Waiting::Release(reply)),
            RouterCall::Lease(lease, reply) => (Call::Lease(lease), Waiting::Lease(reply)),
            RouterCall::Announce(announce, reply) => (Call::Announce(announce), Waiting::Announce(reply)),
        }
    }
}

impl From<EdgeCall> for Outgoing {
    fn from(call: EdgeCall) -> Self {
        let EdgeCall::Deliver(batch, reply) = call;
        (Call::Deliver(batch), Waiting::Deliver(reply))
    }
}

impl Waiting {
    /// What the call is called in metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Sync(_) => "sync",
            Self::History(_) => "history",
            Self::Resolve(_) => "resolve",
            Self::CreateAccount(_) => "create_account",
            Self::FindAccount(_) => "find_account",
            Self::RevokeTokens(_) => "revoke_tokens",
            Self::Claim(_) => "claim",
            Self::Release(_) => "release",
            Self::Lease(_) => "lease",
            Self::Announce(_) => "announce",
            Self::Deliver(_) => "deliver",
        }
    }

    /// How long an answer is waited for, milliseconds.
    pub(super) fn answer_ms_max(&self) -> u64 {
        match self {
            Self::Lease(_) | Self::Announce(_) => limits::LEASE_CALL_MS_MAX,
            Self::Deliver(_) => limits::DELIVER_ANSWER_MS_MAX,
            _ => limits::PERSIST_CALL_MS_MAX,
        }
    }

    /// There will be no answer.
    pub(super) fn fail(self, error: CallError) {
        match self {
            Self::Sync(reply) => reply.send(Err(error)),
            Self::History(reply) => reply.send(Err(error)),
            Self::Resolve(reply) => reply.send(Err(error)),
            Self::CreateAccount(reply) => reply.send(Err(error)),
            Self::FindAccount(reply) => reply.send(Err(error)),
            Self::RevokeTokens(reply) => reply.send(Err(error)),
            Self::Claim(reply) => reply.send(Err(error)),
            Self::Release(reply) | Self::Announce(reply) => reply.send(Err(error)),
            Self::Lease(reply) => reply.send(Err(error)),
            Self::Deliver(reply) => reply.send(Err(error)),
        }
    }

    /// The answer has come. One that does not fit the call counts as none; false then.
    pub(super) fn answer(self, answer: Option<Answer>) -> bool {
        match (self, answer) {
            (Self::Sync(reply), Some(Answer::Sync(answer))) => reply.send(Ok(answer)),
            (Self::History(reply), Some(Answer::History(answer))) => reply.send(Ok(answer)),
            (Self::Resolve(reply), Some(Answer::Resolve(answer))) => reply.send(Ok(answer)),
            (Self::CreateAccount(reply), Some(Answer::CreateAccount(answer))) => reply.send(Ok(answer)),
            (Self::FindAccount(reply), Some(Answer::FindAccount(answer))) => reply.send(Ok(answer.account)),
            (Self::RevokeTokens(reply), Some(Answer::RevokeTokens(answer))) => reply.send(Ok(answer)),
            (Self::Claim(reply), Some(Answer::Claim(answer))) => reply.send(Ok(answer)),
            (Self::Release(reply), Some(Answer::Release(Released {})))
            | (Self::Announce(reply), Some(Answer::Announce(Announced {}))) => reply.send(Ok(())),
            (Self::Lease(reply), Some(Answer::Lease(answer))) => reply.send(Ok(answer)),
            (Self::Deliver(reply), Some(Answer::Deliver(answer))) => reply.send(Ok(answer)),
            (waiting, Some(Answer::Error(error))) => waiting.fail(match Error::try_from(error) {
                Ok(Error::Full) => CallError::Full,
                Ok(Error::Taken) => CallError::Taken,
                Ok(Error::Unavailable) | Err(_) => CallError::Unavailable,
            }),
            (waiting, _) => {
                waiting.fail(CallError::Unavailable);
                return false;
            }
        }
        true
    }
}

/// Gives a request to the service that it is for. False where this process has no such service, or does not know the
/// call: the answer says so.
pub(super) fn serve(
    services: &Services,
    call: Option<Call>,
    answer: impl FnOnce(Answer) + Send + 'static,
) -> bool {
    match (call, services) {
        (Some(Call::Sync(request)), Services { persist: Some(persist), .. }) => {
            persist.call(PersistCall::Sync(request, reply(answer, Answer::Sync)));
        }
        (Some(Call::History(request)), Services { persist: Some(persist), .. }) => {
            persist.call(PersistCall::History(request, reply(answer, Answer::History)));
        }
        (Some(Call::Resolve(request)), Services { persist: Some(persist), .. }) => {
            persist.call(PersistCall::Resolve(request, reply(answer, Answer::Resolve)));
        }
        (Some(Call::CreateAccount(account)), Services { persist: Some(persist), .. }) => {
            persist.call(PersistCall::CreateAccount(account, reply(answer, Answer::CreateAccount)));
        }
        (Some(Call::FindAccount(name)), Services { persist: Some(persist), .. }) => {
            let found = |account| Answer::FindAccount(FoundAccount { account });
            persist.call(PersistCall::FindAccount(name, reply(answer, found)));
        }
        (Some(Call::RevokeTokens(user)), Services { persist: Some(persist), .. }) => {
            persist.call(PersistCall::RevokeTokens(user, reply(answer, Answer::RevokeTokens)));
        }
        (Some(Call::Claim(claim)), Services { router: Some(router), .. }) => {
            router.call(RouterCall::Claim(claim, reply(answer, Answer::Claim)));
        }
        (Some(Call::Release(release)), Services { router: Some(router), .. }) => {
            router.call(RouterCall::Release(release, reply(answer, |()| Answer::Release(Released {}))));
        }
        (Some(Call::Lease(lease)), Services { router: Some(router), .. }) => {
            router.call(RouterCall::Lease(lease, reply(answer, Answer::Lease)));
        }
        (Some(Call::Announce(announce)), Services { router: Some(router), .. }) => {
            let announced = |()| Answer::Announce(Announced {});
            router.call(RouterCall::Announce(announce, reply(answer, announced)));
        }
        (Some(Call::Deliver(batch)), Services { edge: Some(edge), .. }) => {
            edge.call(EdgeCall::Deliver(batch, reply(answer, Answer::Deliver)));
        }
        _ => {
            answer(error(CallError::Unavailable));
            return false;
        }
    }
    true
}

fn reply<T: 'static>(
    answer: impl FnOnce(Answer) + Send + 'static,
    wrap: impl FnOnce(T) -> Answer + Send + 'static,
) -> Reply<T> {
    Reply::new(move |result| answer(result.map_or_else(error, wrap)))
}

/// An error as an answer.
pub(super) fn error(error: CallError) -> Answer {
    Answer::Error(match error {
        CallError::Full => Error::Full,
        CallError::Unavailable => Error::Unavailable,
        CallError::Taken => Error::Taken,
    } as i32)
}

//! The calls that persist answers, on threads of their own: a device that syncs must not hold up the sequencer. The
//! embedded store has one such thread; a remote one has several, since each call there waits more than it works.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use petrel_bus::calls::{CallError, PersistCall, Reply, Service};
use petrel_protocol::limits;

use crate::accounts::Accounts;
use crate::metrics::METRICS;
use crate::store::{Store, StoreError};
use crate::sync;

/// A caller waits no longer.
const GIVEN_UP: Duration = Duration::from_millis(limits::PERSIST_CALL_MS_MAX);

/// The callers' end.
#[derive(Clone)]
pub(crate) struct Calls(SyncSender<Message>);

pub(crate) enum Message {
    /// With the time when it came.
    Call(PersistCall, Instant),
    Stop,
}

impl Calls {
    /// The callers' end, and what the threads take.
    pub(crate) fn channel() -> (Self, Waiting) {
        let (sender, receiver) = sync_channel(limits::PERSIST_CALLS_MAX);
        (Self(sender), Waiting(Arc::new(Mutex::new(receiver))))
    }

    /// Ends this many threads after the calls that wait.
    pub(crate) fn stop(&self, threads: usize) {
        for _ in 0..threads {
            // Where the threads are gone already, they have stopped.
            let _ = self.0.send(Message::Stop);
        }
    }
}

impl Service<PersistCall> for Calls {
    fn call(&self, call: PersistCall) {
        // Where the thread is gone, the dropped reply answers that the service is unavailable.
        if let Err(TrySendError::Full(Message::Call(call, _))) =
            self.0.try_send(Message::Call(call, Instant::now()))
        {
            METRICS.calls.with_label_values(&["full"]).inc();
            refuse(call, CallError::Full);
        }
    }
}

/// What calls are answered from, once it is there.
#[derive(Clone, Default)]
pub(crate) struct Answering(Arc<OnceLock<(Store, Accounts)>>);

impl Answering {
    pub(crate) fn begin(&self, store: Store, accounts: Accounts) {
        let is_first = self.0.set((store, accounts)).is_ok();
        assert!(is_first, "the store is opened once");
    }
}

/// The calls that wait.
#[derive(Clone)]
pub(crate) struct Waiting(Arc<Mutex<Receiver<Message>>>);

impl Waiting {
    /// Answers until it is told to stop. What waited for so long that its caller has given it up is not begun: under more
    /// calls than the store can answer, all work would else go into answers that come too late, for ever.
    pub(crate) fn answer(self, answering: &Answering) {
        while let Some((call, since)) = self.next() {
            match answering.0.get() {
                Some(_) if since.elapsed() >= GIVEN_UP => {
                    METRICS.calls.with_label_values(&["given_up"]).inc();
                    refuse(call, CallError::Unavailable);
                }
                Some((store, accounts)) => answer(call, store, accounts),
                None => refuse(call, CallError::Unavailable),
            }
        }
    }

    fn next(&self) -> Option<(PersistCall, Instant)> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).recv() {
            Ok(Message::Call(call, since)) => Some((call, since)),
            Ok(Message::Stop) | Err(_) => None,
        }
    }
}

fn answer(call: PersistCall, store: &Store, accounts: &Accounts) {
    let count = |kind| METRICS.calls.with_label_values(&[kind]).inc();
    match call {
        PersistCall::Sync(request, reply) => {
            count("sync");
            let synced = sync::sync(store, &request).map(|page| page.ok_or(CallError::Unavailable));
            send(reply, synced);
        }
        PersistCall::History(request, reply) => {
            count("history");
            send(reply, sync::history(store, &request).map(Ok));
        }
        PersistCall::Resolve(request, reply) => {
            count("resolve");
            send(reply, sync::resolve(store, &request).map(Ok));
        }
        PersistCall::CreateAccount(request, reply) => {
            count("create_account");
            send(reply, accounts.create(request));
        }
        PersistCall::FindAccount(username, reply) => {
            count("find_account");
            send(reply, store.find_account(&username).map(Ok));
        }
        PersistCall::RevokeTokens(user, reply) => {
            count("revoke_tokens");
            send(reply, accounts.revoke_tokens(user).map(Ok));
        }
    }
}

fn send<T>(reply: Reply<T>, answer: Result<Result<T, CallError>, StoreError>) {
    reply.send(answer.unwrap_or_else(|error| {
        tracing::error!("a call failed: {error}");
        METRICS.failures.inc();
        Err(CallError::Unavailable)
    }));
}

fn refuse(call: PersistCall, error: CallError) {
    match call {
        PersistCall::Sync(_, reply) => reply.send(Err(error)),
        PersistCall::History(_, reply) => reply.send(Err(error)),
        PersistCall::Resolve(_, reply) => reply.send(Err(error)),
        PersistCall::CreateAccount(_, reply) => reply.send(Err(error)),
        PersistCall::FindAccount(_, reply) => reply.send(Err(error)),
        PersistCall::RevokeTokens(_, reply) => reply.send(Err(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use petrel_protocol::calls::{SyncReply, SyncRequest};

    use super::*;
    use crate::store::tests::{GENERATION, belongs};

    #[test]
    fn what_its_caller_has_given_up_is_not_begun() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::embedded(dir.path(), &belongs(GENERATION)).unwrap();
        let answering = Answering::default();
        answering.begin(store.clone(), Accounts::new(store, 1));
        let (calls, waiting) = Calls::channel();
        let (answered, answers) = channel();
        let now = Instant::now();
        for since in [now.checked_sub(GIVEN_UP).unwrap(), now] {
            let answered = answered.clone();
            let reply =
                Reply::new(move |answer: Result<SyncReply, CallError>| answered.send(answer).unwrap());
            let request = SyncRequest { user: 1, device: 1, rows_max: 1, ..SyncRequest::default() };
            calls.0.send(Message::Call(PersistCall::Sync(request, reply), since)).unwrap();
        }
        calls.stop(1);
        waiting.answer(&answering);
        let answers: Vec<_> = answers.try_iter().collect();
        assert_eq!(answers, [Err(CallError::Unavailable), Ok(SyncReply::default())]);
    }
}

//! The calls that persist answers, on a thread of their own: a device that syncs must not hold up the sequencer.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use petrel_bus::calls::{CallError, PersistCall, Reply, Service};
use petrel_protocol::limits;

use crate::accounts::Accounts;
use crate::metrics::METRICS;
use crate::store::{Store, StoreError};
use crate::sync;

/// The callers' end.
#[derive(Clone)]
pub(crate) struct Calls(SyncSender<Message>);

enum Message {
    Call(PersistCall),
    Stop,
}

impl Calls {
    /// The callers' end, and what the thread takes.
    pub(crate) fn channel() -> (Self, Waiting) {
        let (sender, receiver) = sync_channel(limits::PERSIST_CALLS_MAX);
        (Self(sender), Waiting(receiver))
    }

    /// Ends the thread after the calls that wait.
    pub(crate) fn stop(&self) {
        // Where the thread is gone already, it has stopped.
        let _ = self.0.send(Message::Stop);
    }
}

impl Service<PersistCall> for Calls {
    fn call(&self, call: PersistCall) {
        // Where the thread is gone, the dropped reply answers that the service is unavailable.
        if let Err(TrySendError::Full(Message::Call(call))) = self.0.try_send(Message::Call(call)) {
            METRICS.calls.with_label_values(&["full"]).inc();
            refuse(call, CallError::Full);
        }
    }
}

/// The calls that wait.
pub(crate) struct Waiting(Receiver<Message>);

impl Waiting {
    /// Answers until it is told to stop.
    pub(crate) fn answer(self, store: &Store, mut accounts: Accounts) {
        while let Ok(Message::Call(call)) = self.0.recv() {
            answer(call, store, &mut accounts);
        }
    }
}

fn answer(call: PersistCall, store: &Store, accounts: &mut Accounts) {
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

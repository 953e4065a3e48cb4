//! The calls that persist answers, on threads of their own: a device that syncs must not hold up the sequencer. The
//! embedded store has one such thread; a remote one has several, since each call there waits more than it works.
//!
//! After a loss of power the embedded store may be behind what `stored` has kept. So what reads messages waits there until
//! everything that was in `uplink` at the start is stored; accounts do not come from `uplink`, and are answered at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use petrel_bus::calls::{CallError, PersistCall, Reply, Service};
use petrel_protocol::limits;

use crate::accounts::Accounts;
use crate::metrics::METRICS;
use crate::store::{Store, StoreError};
use crate::sync;

/// After half of what a caller waits, the answer would often come too late: calls are begun in their order, so that under
/// more than can be answered each would be begun just before its caller gives it up.
const GIVEN_UP: Duration = Duration::from_millis(limits::PERSIST_CALL_MS_MAX / 2);

const TELL_EVERY: Duration = Duration::from_secs(1);

/// The callers' end.
#[derive(Clone)]
pub(crate) struct Calls(SyncSender<Message>);

pub(crate) enum Message {
    /// With the time when it came.
    Call(PersistCall, Instant),
    /// What waited for the store can be answered.
    CaughtUp,
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
pub(crate) struct Answering(Arc<Source>);

#[derive(Default)]
struct Source {
    store: OnceLock<(Store, Accounts)>,
    /// The store has what was in `uplink` when it was opened.
    is_caught_up: AtomicBool,
}

impl Answering {
    /// The store is open. `is_caught_up`: it lacks nothing that `stored` may have.
    pub(crate) fn begin(&self, store: Store, accounts: Accounts, is_caught_up: bool) {
        self.0.is_caught_up.store(is_caught_up, Ordering::Release);
        let is_first = self.0.store.set((store, accounts)).is_ok();
        assert!(is_first, "the store is opened once");
    }

    /// From now on messages are read from the store, also for whom waits on the one thread that answers.
    pub(crate) fn catch_up(&self, calls: &Calls) {
        self.0.is_caught_up.store(true, Ordering::Release);
        // Where the thread is gone already, nobody waits.
        let _ = calls.0.send(Message::CaughtUp);
    }

    /// Whether this call has to wait for the store to catch up.
    fn has_to_wait(&self, call: &PersistCall) -> bool {
        let reads =
            matches!(call, PersistCall::Sync(..) | PersistCall::History(..) | PersistCall::Resolve(..));
        reads && !self.0.is_caught_up.load(Ordering::Acquire)
    }
}

/// The calls that wait.
#[derive(Clone)]
pub(crate) struct Waiting(Arc<Mutex<Receiver<Message>>>);

impl Waiting {
    /// Answers until it is told to stop; what is held then is answered as unavailable, by being dropped. What waited for so
    /// long that its caller gives it up is not begun: under more calls than the store can answer, all work would else go
    /// into answers that come too late, for ever. What was held is answered all the same: it comes from this process,
    /// where callers wait.
    pub(crate) fn answer(self, answering: &Answering) {
        let mut held = Vec::new();
        loop {
            match (self.next(), answering.0.store.get()) {
                (Message::Stop, _) => return,
                (Message::Call(call, _), None) => refuse(call, CallError::Unavailable),
                (Message::Call(call, _), Some(_)) if answering.has_to_wait(&call) => {
                    if held.len() < limits::PERSIST_CALLS_MAX {
                        held.push(call);
                    } else {
                        METRICS.calls.with_label_values(&["full"]).inc();
                        refuse(call, CallError::Full);
                    }
                }
                (Message::Call(call, since), Some(_)) if since.elapsed() >= GIVEN_UP => {
                    METRICS.calls.with_label_values(&["given_up"]).inc();
                    refuse(call, CallError::Unavailable);
                }
                (Message::Call(call, _), Some((store, accounts))) => answer(call, store, accounts),
                (Message::CaughtUp, store) => {
                    let (store, accounts) = store.expect("it was there to catch up");
                    held.drain(..).for_each(|call| answer(call, store, accounts));
                }
            }
        }
    }

    fn next(&self) -> Message {
        let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).recv();
        next.unwrap_or(Message::Stop)
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
        static FAILURES: Mutex<Failures> = Mutex::new(Failures { told: None, untold: 0 });
        if let Some(count) = FAILURES.lock().unwrap_or_else(PoisonError::into_inner).failed(Instant::now()) {
            tracing::error!("{count} calls failed; the last one: {error}");
        }
        METRICS.failures.inc();
        Err(CallError::Unavailable)
    }));
}

/// A store that is away fails every call; its log says so once a second.
struct Failures {
    told: Option<Instant>,
    untold: u64,
}

impl Failures {
    /// How many are to be told now, if any.
    fn failed(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        let is_due = self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY);
        is_due.then(|| {
            self.told = Some(now);
            std::mem::take(&mut self.untold)
        })
    }
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
    fn failures_are_told_once_a_second_with_their_number() {
        let mut failures = Failures { told: None, untold: 0 };
        let now = Instant::now();
        let told =
            [0, 10, 999, 1_000, 1_001, 2_500].map(|ms| failures.failed(now + Duration::from_millis(ms)));
        assert_eq!(told, [Some(1), None, None, Some(3), None, Some(2)]);
    }

    #[test]
    fn what_its_caller_has_given_up_is_not_begun() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::embedded(dir.path(), &belongs(GENERATION)).unwrap();
        let answering = Answering::default();
        answering.begin(store.clone(), Accounts::new(store, 1), true);
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

//! What every message on a link must lead to: a call reaches its service as it was sent and is answered once, and an
//! answer is told once to whoever waits for one of its kind.

use std::sync::{Arc, Mutex, PoisonError};

use petrel_protocol::calls::{
    Announce, Claim, CreateAccount, DeliverBatch, HistoryRequest, Lease, Release, ResolveRequest, SyncRequest,
};
use prost::Message;

use super::Services;
use super::compiled::reply::Answer;
use super::compiled::request::Call;
use super::compiled::{Replies, Requests};
use super::wire::{self, Outgoing};
use crate::calls::{CallError, EdgeCall, PersistCall, Reply, RouterCall, Service};

/// One message, as of a caller and as of a service.
pub fn check(bytes: &[u8]) {
    if let Ok(message) = Requests::decode(bytes) {
        for request in message.requests {
            check_call(request.call.as_ref());
        }
    }
    if let Ok(message) = Replies::decode(bytes) {
        for reply in message.replies {
            check_answer(reply.answer.as_ref());
        }
    }
}

fn check_call(call: Option<&Call>) {
    for has_services in [true, false] {
        let noted = Arc::new(Noting::default());
        let mut services = Services::default();
        if has_services {
            services.edge = Some(noted.clone());
            services.router = Some(noted.clone());
            services.persist = Some(noted.clone());
        }
        let answers = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&answers);
        let is_served = wire::serve(&services, call.cloned(), move |answer| push(&told, answer));
        assert_eq!(is_served, has_services && call.is_some());
        assert!(matches!(take(&answers)[..], [Answer::Error(_)]), "one answer");
        assert_eq!(take(&noted.0), call.into_iter().filter(|_| is_served).cloned().collect::<Vec<_>>());
    }
}

fn check_answer(answer: Option<&Answer>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let calls = one_of_each(&told);
    let (kinds, mut fitting) = (calls.len(), 0);
    for (_, waiting) in calls {
        fitting += usize::from(waiting.answer(answer.cloned()));
        assert_eq!(lock(&told).len(), 1, "told once");
        let is_answered = take(&told)[0];
        assert!(!is_answered || !matches!(answer, None | Some(Answer::Error(_))));
    }
    let expected = match answer {
        None => 0,
        Some(Answer::Error(_)) => kinds,
        Some(_) => 1,
    };
    assert_eq!(fitting, expected);
}

/// A call of each kind, which notes whether it was answered.
fn one_of_each(told: &Arc<Mutex<Vec<bool>>>) -> Vec<Outgoing> {
    fn note<T>(told: &Arc<Mutex<Vec<bool>>>) -> Reply<T> {
        let told = Arc::clone(told);
        Reply::new(move |answer| push(&told, answer.is_ok()))
    }
    vec![
        PersistCall::Sync(SyncRequest::default(), note(told)).into(),
        PersistCall::History(HistoryRequest::default(), note(told)).into(),
        PersistCall::Resolve(ResolveRequest::default(), note(told)).into(),
        PersistCall::CreateAccount(CreateAccount::default(), note(told)).into(),
        PersistCall::FindAccount(String::new(), note(told)).into(),
        PersistCall::RevokeTokens(0, note(told)).into(),
        RouterCall::Claim(Claim::default(), note(told)).into(),
        RouterCall::Release(Release::default(), note(told)).into(),
        RouterCall::Lease(Lease::default(), note(told)).into(),
        RouterCall::Announce(Announce::default(), note(told)).into(),
        EdgeCall::Deliver(DeliverBatch::default(), note(told)).into(),
    ]
}

/// Notes the calls that reach it, and refuses them.
#[derive(Default)]
struct Noting(Mutex<Vec<Call>>);

impl<C: Into<Outgoing>> Service<C> for Noting {
    fn call(&self, call: C) {
        let (call, waiting) = call.into();
        push(&self.0, call);
        waiting.fail(CallError::Full);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn push<T>(list: &Mutex<Vec<T>>, item: T) {
    lock(list).push(item);
}

fn take<T>(list: &Mutex<Vec<T>>) -> Vec<T> {
    std::mem::take(&mut lock(list))
}

#[test]
fn seeds() {
    crate::replay::replay("links", check);
}

//! A server whose service does what a test wants, and a caller that counts its answers.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use petrel_bus::calls::{CallError, EdgeCall, Link, PersistCall, Reply, RouterCall, Service};
use petrel_bus::grpc::{Remote, Server, Services};
use petrel_protocol::calls::Account;
use tokio::runtime::Runtime;

/// The longest that anything in these tests may take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime")
}

/// A service that hands each call to a function.
pub(crate) struct Doing<F>(pub(crate) F);

impl<F: Fn(PersistCall) + Send + Sync> Service<PersistCall> for Doing<F> {
    fn call(&self, call: PersistCall) {
        (self.0)(call);
    }
}

impl<F: Fn(RouterCall) + Send + Sync> Service<RouterCall> for Doing<F> {
    fn call(&self, call: RouterCall) {
        (self.0)(call);
    }
}

impl<F: Fn(EdgeCall) + Send + Sync> Service<EdgeCall> for Doing<F> {
    fn call(&self, call: EdgeCall) {
        (self.0)(call);
    }
}

/// Serves a persist at `addr`.
pub(crate) fn serve(
    runtime: &Runtime,
    addr: SocketAddr,
    persist: impl Fn(PersistCall) + Send + Sync + 'static,
) -> Server {
    let services = Services { persist: Some(Arc::new(Doing(persist))), ..Services::default() };
    Server::start(runtime.handle(), listener(addr), services).expect("a server")
}

pub(crate) fn listener(addr: SocketAddr) -> TcpListener {
    let until = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind(addr) {
            Ok(listener) => return listener,
            Err(e) => assert!(Instant::now() < until, "{addr}: {e}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Answers with an account of the name that was asked for.
pub(crate) fn find(call: PersistCall) {
    match call {
        PersistCall::FindAccount(name, reply) => reply.send(Ok(Some(account(name)))),
        other => panic!("not asked for: {other:?}"),
    }
}

pub(crate) fn account(username: String) -> Account {
    Account { username, ..Account::default() }
}

/// An open link.
pub(crate) fn open(runtime: &Runtime, addr: SocketAddr) -> Arc<Remote> {
    let remote = Arc::new(Remote::new(runtime.handle(), &addr.to_string()).expect("an address"));
    wait_until("the link opens", || remote.is_open());
    remote
}

/// What the calls of a test were answered with.
#[derive(Clone, Default)]
pub(crate) struct Answers(Arc<(Mutex<Vec<Answer>>, Condvar)>);

type Answer = (u64, Result<Option<Account>, CallError>);

impl Answers {
    pub(crate) fn reply(&self, call: u64) -> Reply<Option<Account>> {
        let answers = self.clone();
        Reply::new(move |answer| {
            answers.0.0.lock().unwrap().push((call, answer));
            answers.0.1.notify_all();
        })
    }

    /// Asks for an account whose name is the call's number.
    pub(crate) fn ask(&self, persist: &dyn Service<PersistCall>, call: u64) {
        persist.call(PersistCall::FindAccount(call.to_string(), self.reply(call)));
    }

    pub(crate) fn count(&self) -> usize {
        self.0.0.lock().unwrap().len()
    }

    pub(crate) fn any_is(&self, error: CallError) -> bool {
        self.0.0.lock().unwrap().iter().any(|(_, answer)| *answer == Err(error))
    }

    /// Waits for this many answers, in the calls' order.
    pub(crate) fn take(&self, count: usize) -> Vec<Answer> {
        let until = Instant::now() + PATIENCE;
        let mut list = self.0.0.lock().unwrap();
        while list.len() < count {
            assert!(Instant::now() < until, "{} of {count} answers came", list.len());
            list = self.0.1.wait_timeout(list, Duration::from_secs(1)).unwrap().0;
        }
        let mut list = std::mem::take(&mut *list);
        list.sort_by_key(|(call, _)| *call);
        list
    }

    /// Asks, and waits for the one answer.
    pub(crate) fn one(&self, persist: &dyn Service<PersistCall>) -> Result<Option<Account>, CallError> {
        self.ask(persist, 0);
        self.take(1).remove(0).1
    }
}

/// Calls that a service holds and answers when it is told to.
#[derive(Clone, Default)]
pub(crate) struct Held(Arc<Mutex<Vec<PersistCall>>>);

impl Held {
    pub(crate) fn hold(&self) -> impl Fn(PersistCall) + Send + Sync + 'static {
        let held = Arc::clone(&self.0);
        move |call| held.lock().unwrap().push(call)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) fn answer(&self) {
        let held = std::mem::take(&mut *self.0.lock().unwrap());
        held.into_iter().for_each(find);
    }
}

/// Whether every call from 0 on was answered once, with this error.
pub(crate) fn all_are(answers: &[Answer], error: CallError) -> bool {
    (0..).zip(answers).all(|(call, answer)| *answer == (call, Err(error)))
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A link handle of the right kind.
pub(crate) fn link<C>(remote: &Arc<Remote>) -> Link<C>
where
    Remote: Service<C>,
{
    Arc::clone(remote) as Link<C>
}

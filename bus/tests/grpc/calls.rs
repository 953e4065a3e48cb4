//! What goes in comes out at the other end, and the answer finds its call.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use petrel_bus::calls::{CallError, EdgeCall, PersistCall, Reply, RouterCall, Service};
use petrel_bus::grpc::{Remote, Server, Services};
use petrel_protocol::calls::{
    Announce, Claim, ClaimReply, CreateAccount, DeliverBatch, DeliverReply, Delivery, HistoryRequest, Lease,
    LeaseReply, Range, Release, ResolveReply, ResolveRequest, ServiceAt, ServiceKind, SyncReply, SyncRequest,
    claim_reply::Outcome,
};
use petrel_protocol::events::Address;
use tokio::runtime::Runtime;

use crate::support::{Answers, Doing, account, anywhere, find, listener, open, runtime, serve};

#[test]
fn many_calls_at_once_each_get_their_own_answer() {
    const THREADS: u64 = 8;
    const CALLS: u64 = 2_000;
    let runtime = runtime();
    // Every second call is answered later, by another thread.
    let (later, calls) = std::sync::mpsc::channel::<PersistCall>();
    let answering = std::thread::spawn(move || calls.into_iter().for_each(find));
    let later = Mutex::new((later, 0));
    let server = serve(&runtime, anywhere(), move |call| {
        let mut later = later.lock().unwrap();
        later.1 += 1;
        if later.1 % 2 == 0 {
            later.0.send(call).unwrap();
        } else {
            find(call);
        }
    });
    let remote = open(&runtime, server.addr());
    let answers = Answers::default();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (answers, remote) = (&answers, &remote);
            scope.spawn(move || {
                (thread * CALLS..(thread + 1) * CALLS).for_each(|call| answers.ask(&**remote, call));
            });
        }
    });
    for (expected, (call, answer)) in (0..).zip(answers.take((THREADS * CALLS) as usize)) {
        assert_eq!((call, answer), (expected, Ok(Some(account(expected.to_string())))));
    }
    drop(remote);
    runtime.block_on(server.stop());
    drop(runtime);
    answering.join().unwrap();
}

/// Makes one call and waits for its answer.
fn ask<C, T: Send + 'static>(
    runtime: &Runtime,
    remote: &Remote,
    call: impl FnOnce(Reply<T>) -> C,
) -> Result<T, CallError>
where
    Remote: Service<C>,
{
    let (reply, answer) = Reply::channel();
    remote.call(call(reply));
    runtime.block_on(answer)
}

fn address() -> Address {
    Address { edge: 1, epoch: 2, shard: 3, slot: 4, generation: 5 }
}

#[test]
fn every_kind_of_call_to_persist_travels_whole() {
    let runtime = runtime();
    let server = serve(&runtime, anywhere(), |call| match call {
        PersistCall::Sync(request, reply) => {
            reply.send(Ok(SyncReply {
                next_page: request.page,
                token_version: request.device,
                ..SyncReply::default()
            }));
        }
        PersistCall::History(request, reply) => {
            reply.send(Ok(Range { from_seq: request.from_seq, head_seq: request.user, ..Range::default() }));
        }
        PersistCall::Resolve(request, reply) => {
            reply.send(Ok(ResolveReply { msg_id: request.msg_id, ..ResolveReply::default() }));
        }
        PersistCall::CreateAccount(new, reply) if new.username == "ann" => {
            reply.send(Ok(account(new.username)));
        }
        PersistCall::CreateAccount(_, reply) => reply.send(Err(CallError::Taken)),
        PersistCall::FindAccount(_, reply) => reply.send(Ok(None)),
        PersistCall::RevokeTokens(user, reply) => reply.send(Ok(user as u32)),
    });
    let remote = open(&runtime, server.addr());
    let page = Bytes::from_static(b"page");
    let request = SyncRequest { page: page.clone(), device: 4, ..SyncRequest::default() };
    let answer = ask(&runtime, &remote, |reply| PersistCall::Sync(request, reply));
    assert_eq!(answer, Ok(SyncReply { next_page: page, token_version: 4, ..SyncReply::default() }));
    let request = HistoryRequest { user: 9, from_seq: 7, ..HistoryRequest::default() };
    let answer = ask(&runtime, &remote, |reply| PersistCall::History(request, reply));
    assert_eq!(answer, Ok(Range { from_seq: 7, head_seq: 9, ..Range::default() }));
    let request = ResolveRequest { msg_id: 1 << 60, ..ResolveRequest::default() };
    let answer = ask(&runtime, &remote, |reply| PersistCall::Resolve(request, reply));
    assert_eq!(answer, Ok(ResolveReply { msg_id: 1 << 60, ..ResolveReply::default() }));
    let create = |name: &str| {
        let new = CreateAccount { username: name.to_owned(), ..CreateAccount::default() };
        ask(&runtime, &remote, |reply| PersistCall::CreateAccount(new, reply))
    };
    assert_eq!(create("ann"), Ok(account("ann".to_owned())));
    assert_eq!(create("bob"), Err(CallError::Taken));
    let answer = ask(&runtime, &remote, |reply| PersistCall::FindAccount("nobody".to_owned(), reply));
    assert_eq!(answer, Ok(None));
    assert_eq!(ask(&runtime, &remote, |reply| PersistCall::RevokeTokens(6, reply)), Ok(6));
}

#[test]
fn every_kind_of_call_to_router_and_edge_travels_whole() {
    let runtime = runtime();
    let router = |call| match call {
        RouterCall::Claim(claim, reply) => {
            let outcome = Outcome::Superseded.into();
            reply.send(Ok(ClaimReply {
                replaced: claim.address,
                outcome,
                token_version: claim.age_ms as u32,
            }));
        }
        RouterCall::Release(release, reply) => {
            assert_eq!(release.address, Some(address()));
            reply.send(Ok(()));
        }
        RouterCall::Lease(lease, reply) => {
            let at = ServiceAt { kind: ServiceKind::Persist.into(), id: 7, calls: lease.calls };
            reply.send(Ok(LeaseReply {
                holds: lease.epoch == 2,
                services: vec![at],
                is_replaced: true,
                worker_of: Some(7),
            }));
        }
        RouterCall::Announce(announce, reply) => {
            assert_eq!((announce.id, &*announce.calls), (7, "here:1"));
            reply.send(Ok(()));
        }
    };
    let edge = |EdgeCall::Deliver(batch, reply): EdgeCall| {
        reply.send(Ok(DeliverReply { gone: batch.deliveries.len() as u32, dirty: batch.edge }));
    };
    let services =
        Services { router: Some(Arc::new(Doing(router))), edge: Some(Arc::new(Doing(edge))), persist: None };
    let server = Server::start(runtime.handle(), listener(anywhere()), services).expect("a server");
    let remote = open(&runtime, server.addr());
    let claim = Claim { user: 1, device: 2, address: Some(address()), age_ms: 9, is_assertion: true };
    let answer = ask(&runtime, &remote, |reply| RouterCall::Claim(claim, reply));
    let outcome = Outcome::Superseded.into();
    assert_eq!(answer, Ok(ClaimReply { replaced: Some(address()), outcome, token_version: 9 }));
    let release = Release { user: 1, device: 2, address: Some(address()) };
    assert_eq!(ask(&runtime, &remote, |reply| RouterCall::Release(release, reply)), Ok(()));
    for (epoch, holds) in [(2, true), (3, false)] {
        let lease = Lease { epoch, calls: "here:1".to_owned(), ..Lease::default() };
        let at = ServiceAt { kind: ServiceKind::Persist.into(), id: 7, calls: "here:1".to_owned() };
        let answer = ask(&runtime, &remote, |reply| RouterCall::Lease(lease, reply));
        assert_eq!(
            answer,
            Ok(LeaseReply { holds, services: vec![at], is_replaced: true, worker_of: Some(7) })
        );
    }
    let announce = Announce { kind: ServiceKind::Persist.into(), id: 7, calls: "here:1".to_owned() };
    assert_eq!(ask(&runtime, &remote, |reply| RouterCall::Announce(announce, reply)), Ok(()));
    let batch = DeliverBatch { edge: 8, epoch: 1, deliveries: vec![Delivery::default(); 3] };
    let answer = ask(&runtime, &remote, |reply| EdgeCall::Deliver(batch, reply));
    assert_eq!(answer, Ok(DeliverReply { gone: 3, dirty: 8 }));
    // This process has no persist: the caller was given a wrong address. Its link goes on.
    assert_eq!(Answers::default().one(&*remote), Err(CallError::Unavailable));
    assert!(remote.is_open());
}

//! Edges, a router and a persist that call each other over sockets, as processes of their own do, on one embedded log.

mod harness;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use harness::{Client, PATIENCE};
use petrel_bus::Bus;
use petrel_bus::calls::{EdgeCall, Link, PersistCall, Reply, RouterCall};
use petrel_bus::grpc::{Discovery, Pool, Remote, Server, Services};
use petrel_edge::{Conflict, Edge};
use petrel_persist::{Persist, StoreConfig};
use petrel_protocol::calls::{Announce, ServiceKind};
use petrel_protocol::ids::Device;
use petrel_protocol::packets::MsgType;
use petrel_protocol::token::Keys;
use petrel_router::Router;
use tokio::runtime::{Handle, Runtime};

/// The services but the edges.
struct World {
    runtime: Runtime,
    dir: tempfile::TempDir,
    keys: Arc<Keys>,
    bus: Bus,
    persist: Persist,
    router: Router,
    servers: [Server; 2],
}

/// An edge, and where routers call it.
struct EdgeProcess {
    edge: Edge,
    link: Link<EdgeCall>,
    server: Option<Server>,
    calls: SocketAddr,
}

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn serve(runtime: &Handle, addr: SocketAddr, services: Services) -> Server {
    Server::start(runtime, TcpListener::bind(addr).expect("a free port"), services).expect("serves")
}

impl World {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let handle = runtime.handle().clone();
        let dir = tempfile::tempdir().expect("a folder");
        let bus = Bus::embedded(&dir.path().join("bus"), 2).expect("a log");
        let store = StoreConfig::Embedded(dir.path().join("store"));
        let config = petrel_persist::Config { store, partitions: vec![0, 1], worker: 0 };
        let persist = Persist::start(config, bus.clone()).expect("persist starts");
        let persist_server =
            serve(&handle, anywhere(), Services { persist: Some(persist.link()), ..Services::default() });
        let keys = Arc::new(Keys::with_new_key("k1", [7; 32]));
        let persists = Pool::new(&handle);
        persists.set(&[persist_server.addr().to_string()]).expect("an address");
        let config = petrel_router::Config::new(anywhere());
        let router = Router::start(config, bus.clone(), Arc::new(persists), Arc::clone(&keys));
        let router = router.expect("the router starts");
        let links = handle.clone();
        let edge = move |calls: &str| {
            Remote::new(&links, calls).ok().map(|remote| Arc::new(remote) as Link<EdgeCall>)
        };
        router.connect(edge, |_| {});
        let router_server =
            serve(&handle, anywhere(), Services { router: Some(router.link()), ..Services::default() });
        let calls = persist_server.addr().to_string();
        let announce = Announce { kind: ServiceKind::Persist.into(), id: 1, calls };
        router.link().call(RouterCall::Announce(announce, Reply::ignored()));
        Self { runtime, dir, keys, bus, persist, router, servers: [persist_server, router_server] }
    }

    /// An edge that knows the router alone.
    fn edge(&self, id: u16, worker: u16) -> EdgeProcess {
        let handle = self.runtime.handle();
        let persists = Pool::new(handle);
        let routers = Pool::new(handle);
        let first = vec![self.servers[1].addr().to_string()];
        let routers = Discovery::new(first, routers.clone(), persists.clone()).map(|it| (it, routers));
        let (discovery, routers) = routers.expect("an address");
        until("the router can be reached", || routers.counts() == (1, 1));
        let listener = TcpListener::bind(anywhere()).expect("a free port");
        let calls = listener.local_addr().expect("bound");
        let config = config(self.dir.path(), id, worker, calls);
        let (persist, router): (Link<PersistCall>, Link<RouterCall>) =
            (Arc::new(persists.clone()), Arc::new(discovery));
        let mut attached = None;
        let edge = Edge::start(&config, &self.bus, &persist, &router, &self.keys, |_, link| {
            let services = Services { edge: Some(Arc::clone(&link)), ..Services::default() };
            attached = Some((link, Server::start(handle, listener, services).expect("serves")));
        });
        let edge = edge.unwrap_or_else(|e| panic!("the edge does not start: {e}"));
        until("the persist was learnt of, and can be reached", || persists.counts() == (1, 1));
        let (link, server) = attached.expect("attached");
        EdgeProcess { edge, link, server: Some(server), calls }
    }

    fn stop(self, edges: Vec<EdgeProcess>) {
        for EdgeProcess { edge, server, .. } in edges {
            edge.drain();
            if let Some(server) = server {
                self.runtime.block_on(server.stop());
            }
        }
        for server in self.servers {
            self.runtime.block_on(server.stop());
        }
        self.router.stop();
        self.persist.stop();
        self.bus.close();
    }

    /// A logged-in client whose device is ready for pushes.
    fn client(&self, edge: &EdgeProcess, user: u64) -> Client {
        let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        let token = harness::token(&self.keys, user, Device::Web, now_s + 3_600);
        let addr = edge.edge.addr().to_string();
        let mut client = Client::connect(&addr, &token, user).expect("the handshake is taken");
        client.until(|p| p.r#type() == MsgType::Ready);
        client
    }
}

fn config(dir: &Path, edge: u16, worker: u16, calls: SocketAddr) -> petrel_edge::Config {
    petrel_edge::Config {
        listen: anywhere(),
        url: None,
        calls: calls.to_string(),
        edge,
        worker,
        ids_file: dir.join(format!("ids-{worker}")),
        shards: 2,
        ring: petrel_edge::RingConfig { sockets: 256, ..Default::default() },
        session: petrel_protocol::session::Config::default(),
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One message with all its acks.
fn exchange(from: &mut Client, to: &mut Client, text: &str) {
    let id = from.send(to.user, text);
    assert_eq!(from.until_status(1).client_msg_id, id);
    let push = to.until_push();
    assert_eq!((push.from, push.content.as_str()), (from.user, text));
    to.ack(&push, 3);
    assert_eq!(from.until_status(3).msg_id, push.msg_id);
    to.ack(&push, 4);
    assert_eq!(from.until_status(4).msg_id, push.msg_id);
}

#[test]
fn messages_cross_from_one_edge_to_another_with_their_acks() {
    let world = World::start();
    let (one, two) = (world.edge(1, 1), world.edge(2, 2));
    let (mut alice, mut bob) = (world.client(&one, 1), world.client(&two, 2));
    for round in 0..50 {
        exchange(&mut alice, &mut bob, &format!("there {round}"));
        exchange(&mut bob, &mut alice, &format!("back {round}"));
    }
    assert!(one.edge.is_turning() && two.edge.is_turning());
    until("all loops turn", || {
        one.edge.is_turning() && world.router.is_turning() && world.persist.is_turning()
    });
    world.stop(vec![one, two]);
}

#[test]
fn users_of_an_edge_that_cannot_be_reached_are_found_again_when_it_can() {
    let world = World::start();
    let (one, mut two) = (world.edge(1, 1), world.edge(2, 2));
    let (mut alice, mut bob) = (world.client(&one, 1), world.client(&two, 2));
    exchange(&mut alice, &mut bob, "before");
    let server = two.server.take().expect("it serves");
    world.runtime.block_on(server.stop());
    // Accepted, stored, and not delivered: the edge's epoch is revoked, so that nobody is taken to be connected there.
    for text in ["one", "two", "three"] {
        alice.send(2, text);
        alice.until_status(1);
    }
    let services = Services { edge: Some(Arc::clone(&two.link)), ..Services::default() };
    let calls = two.calls;
    until("its port is free again", || TcpListener::bind(calls).is_ok());
    two.server = Some(serve(world.runtime.handle(), calls, services));
    for (seq, text) in (2..).zip(["one", "two", "three"]) {
        let push = bob.until_push();
        assert_eq!((push.seq, push.content.as_str()), (seq, text));
        bob.ack(&push, 3);
        assert_eq!(alice.until_status(3).msg_id, push.msg_id);
    }
    exchange(&mut alice, &mut bob, "after");
    world.stop(vec![one, two]);
}

#[test]
fn of_two_edges_with_one_id_the_earlier_is_told_to_end() {
    let world = World::start();
    let one = world.edge(1, 1);
    // A later one, by the wall's clock.
    std::thread::sleep(Duration::from_millis(5));
    let again = world.edge(1, 2);
    until("the earlier one knows", || one.edge.conflict() == Some(Conflict::Id { edge: 1 }));
    assert!(again.edge.conflict().is_none());
    let other = world.edge(2, 3);
    let (mut alice, mut bob) = (world.client(&again, 1), world.client(&other, 2));
    exchange(&mut alice, &mut bob, "the later one serves");
    assert!(again.edge.conflict().is_none());
    world.stop(vec![one, again, other]);
}

//! A deployment of a test's own: a namespace of Pulsar, a keyspace of Cassandra, a prefix of Redis, an address for its
//! processes. All of it is removed at the end.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use petrel_protocol::ids::{ConversationId, Device, UserId};
use petrel_protocol::topics::{Topic, partition};

use crate::harness::talk::{At, Talks};
use crate::harness::{Client, token_now};
use crate::process::Process;
use crate::servers;

/// The tenant of all tests.
const TENANT: &str = "petrel-test";
/// Few, since each costs time to make; more than there are persists.
const PARTITIONS: u16 = 4;
/// Processes of one service.
const PROCESSES_MAX: u16 = 4;

pub(crate) struct Stack {
    /// Nobody else listens on it, so that ports are what they are.
    pub(crate) ip: Ipv4Addr,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) servers: Servers,
    name: String,
}

/// Where the servers are reached; a test may put a link between.
#[derive(Clone)]
pub(crate) struct Servers {
    pub(crate) broker: String,
    pub(crate) admin: String,
    /// Host and port.
    pub(crate) cassandra: String,
    /// Host and port.
    pub(crate) redis: String,
}

/// The services.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Edge,
    Router,
    Persist,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Router => "router",
            Self::Persist => "persist",
        }
    }
}

impl Stack {
    /// On the servers that the environment names.
    pub(crate) fn new() -> Self {
        let named = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        let redis = named("PETREL_TEST_REDIS", "redis://127.0.0.1:6379");
        Self::on(Servers {
            broker: named("PETREL_TEST_PULSAR", "pulsar://127.0.0.1:6650"),
            admin: named("PETREL_TEST_PULSAR_ADMIN", "http://127.0.0.1:8090"),
            cassandra: named("PETREL_TEST_CASSANDRA", "127.0.0.1:9042"),
            redis: redis.trim_start_matches("redis://").to_owned(),
        })
    }

    pub(crate) fn on(servers: Servers) -> Self {
        for (server, addr) in [
            ("Pulsar", servers.admin.trim_start_matches("http://")),
            ("Cassandra", servers.cassandra.as_str()),
            ("Redis", servers.redis.as_str()),
        ] {
            assert!(
                std::net::TcpStream::connect(addr).is_ok(),
                "no {server} at {addr}: run deploy/local/up, or set PETREL_TEST_{{PULSAR,PULSAR_ADMIN,CASSANDRA,REDIS}}"
            );
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("randomness");
        let [a, b, c, ..] = random;
        // Above the addresses that people use.
        let ip = Ipv4Addr::new(127, 64 | (a % 64), b, 1 | c);
        let dir = tempfile::tempdir().expect("a folder");
        let stack = Self { ip, dir, servers, name: format!("t{:016x}", u64::from_be_bytes(random)) };
        let keys = petrel_protocol::token::Keys::with_new_key("k", [7; 32]).to_json();
        std::fs::write(stack.keys(), keys).expect("written");
        std::fs::set_permissions(stack.keys(), std::fs::Permissions::from_mode(0o600)).expect("ours");
        stack
    }

    /// An edge, a router or a persist with this number. `more` flags go above what stands here.
    pub(crate) fn edge(&self, number: u16, more: &[(&str, &str)]) -> Process {
        let state = self.dir.path().join(format!("edge{number}"));
        let flags = [
            ("--listen", self.edge_addr(number)),
            ("--keys", self.keys().display().to_string()),
            ("--state", state.display().to_string()),
            ("--routers", self.routers()),
            ("--shards", "1".to_owned()),
            ("--sockets-per-shard", "256".to_owned()),
        ];
        self.start(Kind::Edge, number, &flags, more)
    }

    /// See [`Self::edge`].
    pub(crate) fn router(&self, number: u16, more: &[(&str, &str)]) -> Process {
        let flags = [
            ("--http", self.http_addr(number)),
            ("--keys", self.keys().display().to_string()),
            ("--redis-urls", format!("redis://{}", self.servers.redis)),
            ("--redis-prefix", self.prefix()),
        ];
        self.start(Kind::Router, number, &flags, more)
    }

    /// See [`Self::edge`].
    pub(crate) fn persist(&self, number: u16, more: &[(&str, &str)]) -> Process {
        let flags = [
            ("--routers", self.routers()),
            ("--cassandra-nodes", self.servers.cassandra.clone()),
            ("--cassandra-keyspace", self.keyspace()),
            ("--cassandra-replicas", "1".to_owned()),
        ];
        self.start(Kind::Persist, number, &flags, more)
    }

    fn start(&self, kind: Kind, number: u16, its: &[(&str, String)], more: &[(&str, &str)]) -> Process {
        assert!((1..=PROCESSES_MAX).contains(&number));
        let mut flags = vec![
            ("--id", number.to_string()),
            ("--calls", self.calls_addr(kind, number).to_string()),
            ("--pulsar-broker", self.servers.broker.clone()),
            ("--pulsar-admin", self.servers.admin.clone()),
            ("--pulsar-tenant", TENANT.to_owned()),
            ("--pulsar-namespace", self.name.clone()),
            ("--pulsar-partitions", PARTITIONS.to_string()),
        ];
        flags.extend(its.iter().cloned());
        flags.retain(|(flag, _)| more.iter().all(|(other, _)| flag != other));
        flags.extend(more.iter().map(|(flag, value)| (*flag, (*value).to_owned())));
        let arguments: Vec<_> =
            flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        let health = format!("{}:{}", self.ip, 10_060 + 10 * kind as u16 + number);
        let name = format!("{}{number}", kind.name());
        Process::start(&name, &format!("petrel-{}", kind.name()), &arguments, &health, self.dir.path())
    }

    /// The namespace with its tenant.
    pub(crate) fn namespace(&self) -> String {
        format!("{TENANT}/{}", self.name)
    }

    pub(crate) fn keyspace(&self) -> String {
        format!("petrel_{}", self.name)
    }

    fn prefix(&self) -> String {
        format!("{}:", self.name)
    }

    /// The file of token keys.
    pub(crate) fn keys(&self) -> PathBuf {
        self.dir.path().join("keys.json")
    }

    /// Where clients connect to an edge: host and port.
    pub(crate) fn edge_addr(&self, number: u16) -> String {
        format!("{}:{}", self.ip, 10_000 + number)
    }

    /// Where clients register and log in.
    pub(crate) fn http_addr(&self, number: u16) -> String {
        format!("{}:{}", self.ip, 10_020 + number)
    }

    /// Where routers call an edge.
    pub(crate) fn edge_calls_addr(&self, number: u16) -> SocketAddr {
        self.calls_addr(Kind::Edge, number)
    }

    fn calls_addr(&self, kind: Kind, number: u16) -> SocketAddr {
        SocketAddr::from((self.ip, 10_030 + 10 * kind as u16 + number))
    }

    fn routers(&self) -> String {
        let all: Vec<_> = (1..=PROCESSES_MAX).map(|n| self.calls_addr(Kind::Router, n).to_string()).collect();
        all.join(",")
    }

    /// One conversation in each partition: the users with the lower and the higher id, who have no other.
    pub(crate) fn pairs() -> Vec<(u64, u64)> {
        let mut pairs = vec![None; PARTITIONS.into()];
        let mut low = 1_001;
        while pairs.contains(&None) {
            let pair = (low, low + 1);
            let its = partition(ConversationId::of_users(UserId(pair.0), UserId(pair.1)), PARTITIONS);
            pairs[usize::from(its)].get_or_insert(pair);
            low += 2;
        }
        pairs.into_iter().flatten().collect()
    }

    /// Somebody on the first of these edges talks to somebody on the second, in every partition.
    pub(crate) fn talks(&self, from: u16, to: u16) -> Talks {
        let pairs = Self::pairs().into_iter();
        Talks::start(
            pairs.map(|(low, high)| (self.at(from, low, Device::Web), self.at(to, high, Device::Android))),
        )
    }

    /// What the store has of the conversations of [`Self::talks`], as a new device reads it: numbers 1, 2, 3, … to these.
    pub(crate) fn stored(&self, edge: u16, counts: &[u64]) {
        for ((low, high), count) in Self::pairs().into_iter().zip(counts) {
            let rows = self.client(edge, high, Device::Desktop).history(low);
            let expected: Vec<_> = (1..=*count).map(|n| (n, n.to_string())).collect();
            assert_eq!(rows, expected, "the conversation of {low} and {high}");
        }
    }

    /// How this user's device connects to an edge.
    pub(crate) fn at(&self, edge: u16, user: u64, device: Device) -> At {
        At { edge: self.edge_addr(edge), token: token_now(&self.keys(), user, device), user }
    }

    /// A client that is ready for pushes.
    pub(crate) fn client(&self, edge: u16, user: u64, device: Device) -> Client {
        let At { edge, token, user } = self.at(edge, user, device);
        let mut client = Client::connect(&edge, &token, user).expect("the handshake is taken");
        client.until(|p| p.r#type() == petrel_protocol::packets::MsgType::Ready);
        client
    }
}

impl Stack {
    /// Removes the log, with nobody on it.
    pub(crate) fn wipe_log(&self) {
        let admin = &self.servers.admin;
        for topic in Topic::ALL {
            let topic = format!("persistent/{}/{}-1", self.namespace(), topic.name());
            servers::pulsar(admin, "DELETE", &format!("{topic}/partitions?force=true"), "");
        }
        servers::pulsar(admin, "DELETE", &format!("namespaces/{}", self.namespace()), "");
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // The processes are gone by now: they are dropped before what they run on.
        self.wipe_log();
        servers::cassandra(&self.servers.cassandra, &format!("DROP KEYSPACE IF EXISTS {}", self.keyspace()));
        let forget = "EVAL \"for _, k in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', k) end\" 0";
        // A server of the test's own is gone.
        let _ = servers::redis(&self.servers.redis, &format!("{forget} {}*", self.prefix()));
    }
}

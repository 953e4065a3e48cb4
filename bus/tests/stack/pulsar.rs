//! A log on a real Pulsar for each test, in a namespace of its own, which is removed at the end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use petrel_bus::Bus;
use petrel_bus::pulsar::Config;
use petrel_protocol::topics::Topic;

/// The tenant of all tests.
const TENANT: &str = "petrel-test";

pub(crate) struct Stack {
    pub(crate) config: Config,
}

impl Stack {
    /// Entries begin wherever the broker begins a ledger.
    pub(crate) const IS_DENSE: bool = false;

    pub(crate) fn new(partitions: u16) -> Self {
        let or = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        let broker = or("PETREL_TEST_PULSAR", "pulsar://127.0.0.1:6650");
        let admin = or("PETREL_TEST_PULSAR_ADMIN", "http://127.0.0.1:8090");
        assert!(
            http(&admin, "GET", "clusters", "").is_some(),
            "no Pulsar answers at {admin}: run deploy/local/up, or set PETREL_TEST_PULSAR and PETREL_TEST_PULSAR_ADMIN"
        );
        Self::at(&broker, &admin, partitions)
    }

    /// In a new namespace of this broker.
    pub(crate) fn at(broker: &str, admin: &str, partitions: u16) -> Self {
        // Shown where a test fails: what the log has to say.
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let mut id = [0; 8];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut id).unwrap();
        let namespace = format!("bus-{:016x}", u64::from_be_bytes(id));
        Self { config: Config::new(broker, admin, TENANT, &namespace, partitions) }
    }

    /// Opens what is there.
    pub(crate) async fn open(&self) -> Bus {
        Bus::pulsar(self.config.clone()).await.expect("it opens")
    }

    /// Calls the administration; the status and the body of its answer.
    pub(crate) fn admin(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        http(&self.config.admin, method, path, body).expect("the administration answers")
    }

    /// `persistent/tenant/namespace/topic-generation`.
    pub(crate) fn path(&self, topic: Topic) -> String {
        let Config { tenant, namespace, generation, .. } = &self.config;
        format!("persistent/{tenant}/{namespace}/{}-{generation}", topic.name())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // A broker of the test's own may be gone.
        for topic in Topic::ALL {
            let path = format!("{}/partitions?force=true", self.path(topic));
            let _ = http(&self.config.admin, "DELETE", &path, "");
        }
        let namespace = format!("namespaces/{TENANT}/{}", self.config.namespace);
        let _ = http(&self.config.admin, "DELETE", &namespace, "");
    }
}

/// One request of HTTP/1.0; none where nobody answers.
pub(crate) fn http(admin: &str, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    http_with("", admin, method, path, body)
}

/// The same with more headers, each with its end of line.
pub(crate) fn http_with(
    headers: &str,
    admin: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Option<(u16, String)> {
    let host = admin.strip_prefix("http://")?;
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let length = body.len();
    let request = format!(
        "{method} /admin/v2/{path} HTTP/1.0\r\nhost: {host}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

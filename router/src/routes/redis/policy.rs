//! Whether Redis forgets keys by itself when its memory is full. Petrel tells it when to forget: a route that goes earlier
//! is a device without pushes until its session asks for it.

use redis::{Cmd, Value};

use super::link::Link;
use super::metrics::METRICS;

/// What Redis is to do when its memory is full: refuse.
const NO_EVICTION: &str = "noeviction";

/// Looks at the servers, and says once what to change.
#[derive(Debug, Default)]
pub(super) struct Policy {
    is_complained: bool,
}

impl Policy {
    pub(super) async fn look(&mut self, link: &Link) {
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        self.judge(&ask(link, &info).await);
    }

    fn judge(&mut self, policies: &[String]) {
        let evicting = policies.iter().find(|policy| *policy != NO_EVICTION);
        METRICS.evicts.set(evicting.is_some().into());
        match evicting {
            Some(policy) if !self.is_complained => tracing::warn!(
                "Redis evicts keys when its memory is full (maxmemory-policy {policy}), and a device whose route is \
                 evicted gets no pushes for minutes: CONFIG SET maxmemory-policy {NO_EVICTION}, and write it into the \
                 configuration of Redis"
            ),
            None if self.is_complained => tracing::info!("Redis evicts no keys any more"),
            _ => {}
        }
        self.is_complained = evicting.is_some();
    }
}

/// The policy of each server that answers. One that does not is complained about elsewhere.
async fn ask(link: &Link, info: &Cmd) -> Vec<String> {
    let mut policies = Vec::new();
    if let Ok(answer) = link.command(info).await {
        read(&answer, &mut policies);
    }
    policies
}

/// A Cluster answers with a text for each of its nodes.
fn read(answer: &Value, policies: &mut Vec<String>) {
    let mut text = |text: &str| {
        policies
            .extend(text.lines().filter_map(|line| line.strip_prefix("maxmemory_policy:")).map(Into::into));
    };
    match answer {
        Value::BulkString(bytes) => text(&String::from_utf8_lossy(bytes)),
        Value::VerbatimString { text: verbatim, .. } => text(verbatim),
        Value::Array(all) => all.iter().for_each(|value| read(value, policies)),
        Value::Map(all) => all.iter().for_each(|(_, value)| read(value, policies)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_read_from_one_server_and_from_many() {
        let info = |policy| {
            Value::BulkString(format!("# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:{policy}\r\n").into())
        };
        let read = |answer| {
            let mut policies = Vec::new();
            super::read(&answer, &mut policies);
            policies
        };
        assert_eq!(read(info("noeviction")), ["noeviction"]);
        let name = Value::BulkString(b"127.0.0.1:1".into());
        let nodes = Value::Map(vec![(name.clone(), info("noeviction")), (name, info("allkeys-lru"))]);
        assert_eq!(read(nodes), ["noeviction", "allkeys-lru"]);
        assert!(read(Value::Nil).is_empty());
    }

    #[test]
    fn one_server_that_evicts_is_enough_and_is_told_once() {
        let mut policy = Policy::default();
        policy.judge(&["noeviction".to_owned(), "volatile-ttl".to_owned()]);
        assert!(policy.is_complained && METRICS.evicts.get() == 1);
        policy.judge(&["noeviction".to_owned()]);
        assert!(!policy.is_complained && METRICS.evicts.get() == 0);
    }
}

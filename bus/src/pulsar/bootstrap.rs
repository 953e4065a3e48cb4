//! Makes the namespace, the topics and their subscriptions, and verifies what others have made.
//!
//! Every process does this at its start, also several at once: each step takes what is there already for done. Until it
//! is over nothing is published, since Pulsar gives receipts for what it does not keep: a topic without its
//! subscriptions.
//!
//! The topic of [`Topic::Uplink`] is the first to be made, and its properties have the generation's random id, which the
//! other topics repeat. A topic whose subscriptions are all there says so in a property. From then on a missing
//! subscription means that records may be lost, and is for a person to judge.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use petrel_protocol::limits;
use petrel_protocol::topics::Topic;
use serde_json::{Value, json};

use super::Config;
use super::admin::{Admin, Answer};
use super::names::Names;
use super::policies::{Policy, policies};
use super::waiting::Waiting;
use crate::OpenError;

const GENERATION: &str = "petrel-generation";
const ID: &str = "petrel-id";
const SUBSCRIPTIONS: &str = "petrel-subscriptions";
const CREATED: &str = "created";

/// The part that is reported while this waits.
const PART: &str = "opening the log";
/// How long a broker waits before it rewinds for a reader that takes over, in ms.
const FAILOVER_DELAY: &str = "activeConsumerFailoverDelayTimeMillis";
/// What is for a person to mend is found so often in a row before it ends the start: while several processes make the same
/// things at once, the administration may answer one of them from before.
const NEVER_AFTER: u32 = 2;

/// Why it is not done.
enum Failure {
    /// Waiting may mend it.
    Wait(String),
    /// It is for a person to mend.
    Never(String),
}

use Failure::{Never, Wait};

/// Answers with the generation's id once all is made and verified. An error is for a person to mend.
pub(super) async fn until_ready(config: Config, names: Names) -> Result<[u8; 16], OpenError> {
    let mut pause = Duration::from_millis(limits::BUS_RECONNECT_MS_MAX / 4);
    let mut waiting = Waiting::new(&config.health, PART, "the log on Pulsar cannot be opened yet");
    let mut nevers = 0;
    loop {
        let bootstrap = Bootstrap { config: &config, names: &names, admin: Admin::new(&config) };
        let problem = match bootstrap.run().await {
            Ok(id) => {
                waiting.is_over();
                return Ok(id);
            }
            Err(Never(problem)) => {
                nevers += 1;
                if nevers == NEVER_AFTER {
                    return Err(OpenError(problem));
                }
                problem
            }
            Err(Wait(problem)) => {
                nevers = 0;
                problem
            }
        };
        waiting.goes_on(&problem);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(2 * limits::BUS_RECONNECT_MS_MAX));
    }
}

struct Bootstrap<'a> {
    config: &'a Config,
    names: &'a Names,
    admin: Admin<'a>,
}

impl Bootstrap<'_> {
    async fn run(&self) -> Result<[u8; 16], Failure> {
        let untold = self.broker().await?;
        self.namespace().await?;
        self.policies().await?;
        let uplink = self.topic(Topic::Uplink, None).await?;
        for topic in Topic::ALL {
            self.topic(topic, Some(uplink)).await?;
        }
        for topic in Topic::ALL {
            self.subscriptions(topic).await?;
        }
        // Once, and not where something else is wrong with the token.
        if let Some(untold) = untold {
            tracing::warn!("{untold}");
        }
        Ok(uplink)
    }

    /// Refuses a broker that may give a reader which takes over a partition what is new before what nobody has acknowledged.
    ///
    /// That is so where it waits before it rewinds: the end of a write to the reader before makes it read on for the one
    /// that is active now, and of two acknowledgements up to a record the later one skips what is between (Pulsar 4.0,
    /// `PersistentDispatcherSingleActiveConsumer`). Its own default is to wait for a second.
    ///
    /// A text: whether it is one is not told, and a person has to look.
    async fn broker(&self) -> Result<Option<String>, Failure> {
        let found = self.get("brokers/configuration/runtime").await?;
        let runtime = found.json();
        match runtime[FAILOVER_DELAY].as_str() {
            Some("0") => Ok(None),
            Some(delay) => Err(Wait(format!(
                "Pulsar's broker has {FAILOVER_DELAY}={delay}: accepted messages would be lost when another process goes on \
                 reading a partition; set it to 0 in broker.conf and restart the broker"
            ))),
            None => Ok(Some(format!(
                "Pulsar's administration does not tell {FAILOVER_DELAY} ({}): see that it is 0 in broker.conf, else \
                 accepted messages are lost when another process goes on reading a partition",
                found.status,
            ))),
        }
    }

    async fn namespace(&self) -> Result<(), Failure> {
        let (tenant, namespace) = (&self.config.tenant, format!("namespaces/{}", self.names.namespace()));
        let found = self.get(&namespace).await?;
        if found.status != StatusCode::NOT_FOUND {
            return self.good(&found, "read the namespace");
        }
        let path = format!("tenants/{tenant}");
        let there = self.get(&path).await?;
        if there.status == StatusCode::NOT_FOUND {
            let clusters = self.get("clusters").await?;
            self.good(&clusters, "list the clusters")?;
            let body = json!({ "allowedClusters": clusters.json() });
            self.made(self.admin.put(&path, &body).await, "make the tenant")?;
        }
        let made = self.admin.put(&namespace, &json!({})).await;
        // Who may not see the tenant may be allowed to make a namespace of it, where it is there.
        if made.as_ref().is_ok_and(|made| made.status == StatusCode::NOT_FOUND) {
            self.good(&there, "read the tenant")?;
        }
        self.made(made, "make the namespace")
    }

    async fn policies(&self) -> Result<(), Failure> {
        let namespace = format!("namespaces/{}", self.names.namespace());
        let mut refused = None;
        // Twice, since each of two limits can be wrong only as long as the other is.
        for _ in 0..2 {
            let present = self.get(&namespace).await?;
            self.good(&present, "read the policies")?;
            for policy in self.wrong(&present.json()) {
                let path = format!("{namespace}/{}", policy.path);
                let answer = self.admin.post(&path, &policy.value).await.map_err(Wait)?;
                if !answer.status.is_success() {
                    refused = Some(answer);
                }
            }
        }
        let present = self.get(&namespace).await?;
        self.good(&present, "read the policies")?;
        let present = present.json();
        let Some(policy) = self.wrong(&present).into_iter().next() else { return Ok(()) };
        let problem = format!(
            "the policy {} of Pulsar's namespace {} is {} and has to be {}",
            policy.path,
            self.names.namespace(),
            present.pointer(policy.pointer).unwrap_or(&Value::Null),
            policy.value,
        );
        match refused {
            Some(answer) if is_forbidden(answer.status) => {
                Err(Never(format!("{problem}: set it, or let this process do so ({})", answer.reason())))
            }
            Some(answer) => Err(Wait(format!("{problem}, and setting it failed: {}", answer.reason()))),
            // Others set policies at the same time, and the broker shows each a moment later.
            None => Err(Wait(format!("{problem}: it was set, and is not shown yet"))),
        }
    }

    fn wrong(&self, present: &Value) -> Vec<Policy> {
        policies(self.config).into_iter().filter(|policy| !policy.is_shown_in(present)).collect()
    }

    /// Makes a topic or verifies it; its generation's id. `expected`: that of the other topics.
    async fn topic(&self, topic: Topic, expected: Option<[u8; 16]>) -> Result<[u8; 16], Failure> {
        let path = format!("{}/partitions", self.names.path(topic));
        let mut found = self.get(&path).await?;
        if found.status == StatusCode::NOT_FOUND {
            if expected.is_none() {
                self.refuse_a_remainder().await?;
            }
            let id = expected.map_or_else(random_id, Ok)?;
            let (partitions, generation) = (self.config.partitions, self.config.generation.to_string());
            let body = json!({
                "partitions": partitions,
                "properties": { GENERATION: generation, ID: to_hex(id) },
            });
            let content = "application/vnd.partitioned-topic-metadata+json";
            let made = self.admin.call(Method::PUT, &path, content, Bytes::from(body.to_string())).await;
            self.made(made, &format!("make the topic {}", topic.name()))?;
            found = self.get(&path).await?;
        }
        self.good(&found, &format!("read the topic {}", topic.name()))?;
        self.verify(topic, &found.json(), expected)
    }

    fn verify(&self, topic: Topic, found: &Value, expected: Option<[u8; 16]>) -> Result<[u8; 16], Failure> {
        let name = self.names.path(topic);
        let has = found["partitions"].as_u64().unwrap_or(0);
        // The broker looks for the partitions first, and then whether there is a topic: another process may make it between.
        if has == 0 {
            return Err(Wait(format!(
                "the topic {name} has no partitions: where no other process makes it right now, it is not Petrel's; \
                 remove it, or choose another namespace"
            )));
        }
        if has != u64::from(self.config.partitions) {
            return Err(Never(format!(
                "the topic {name} has {has} partitions and {} were asked for: start with {has}, since their number is \
                 fixed for a generation",
                self.config.partitions,
            )));
        }
        let id = found["properties"][ID].as_str().and_then(from_hex);
        let Some(id) = id else {
            return Err(Never(format!(
                "the topic {name} was not made by Petrel: it has no property {ID}; choose another namespace"
            )));
        };
        if expected.is_some_and(|expected| expected != id) {
            return Err(Never(format!(
                "the topic {name} belongs to another log than uplink of the same namespace: some of the topics were \
                 deleted; restore them, or begin a new generation"
            )));
        }
        Ok(id)
    }

    /// Where `uplink` is missing, so is the rest; else somebody deleted the order of all conversations. It is the first to
    /// be made, so where another process makes the topics right now, it is there by the time that another one is seen.
    async fn refuse_a_remainder(&self) -> Result<(), Failure> {
        for topic in Topic::ALL.into_iter().filter(|topic| *topic != Topic::Uplink) {
            if self.is_missing(topic).await? || !self.is_missing(Topic::Uplink).await? {
                continue;
            }
            return Err(Never(format!(
                "the topic {} is there and {} is not: it was deleted; restore it, or begin a new generation",
                self.names.path(topic),
                self.names.path(Topic::Uplink),
            )));
        }
        Ok(())
    }

    async fn is_missing(&self, topic: Topic) -> Result<bool, Failure> {
        let found = self.get(&format!("{}/partitions", self.names.path(topic))).await?;
        Ok(found.status == StatusCode::NOT_FOUND)
    }

    /// Makes a topic's subscriptions or verifies them.
    async fn subscriptions(&self, topic: Topic) -> Result<(), Failure> {
        let path = format!("{}/properties", self.names.path(topic));
        let properties = self.get(&path).await?;
        self.good(&properties, &format!("read the properties of {}", topic.name()))?;
        let are_made = properties.json()[SUBSCRIPTIONS] == CREATED;
        for partition in 0..self.config.partitions {
            let name = self.names.partition_path(topic, partition);
            let found = self.get(&format!("{name}/subscriptions")).await?;
            if found.status == StatusCode::NOT_FOUND && are_made {
                return Err(Never(format!(
                    "the topic {name} was deleted: restore it, or begin a new generation"
                )));
            }
            self.good(&found, &format!("list the subscriptions of {name}"))?;
            for subscription in topic.subscriptions() {
                let subscription = subscription.name();
                if found.json().as_array().is_some_and(|there| there.iter().any(|s| s == subscription)) {
                    continue;
                }
                if are_made {
                    return Err(Never(format!(
                        "the topic {name} has lost its subscription {subscription}, so records may be lost: make it \
                         again at the earliest record that is kept (pulsar-admin topics create-subscription \
                         --subscription {subscription} --messageId earliest persistent://{}), then start again",
                        name.trim_start_matches("persistent/"),
                    )));
                }
                // The position before the first record.
                let earliest = json!({ "ledgerId": -1, "entryId": -1, "partitionIndex": -1 });
                let made = self.admin.put(&format!("{name}/subscription/{subscription}"), &earliest).await;
                self.made(made, &format!("make the subscription {subscription} of {name}"))?;
            }
        }
        if are_made {
            return Ok(());
        }
        let made = self.admin.put(&path, &json!({ SUBSCRIPTIONS: CREATED })).await;
        self.made(made, &format!("mark {} as complete", topic.name()))
    }

    async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.admin.get(path).await.map_err(Wait)
    }

    /// What was asked for is made, by whomever.
    fn made(&self, answer: Result<Answer, String>, what: &str) -> Result<(), Failure> {
        let answer = answer.map_err(Wait)?;
        if answer.status == StatusCode::CONFLICT { Ok(()) } else { self.good(&answer, what) }
    }

    fn good(&self, answer: &Answer, what: &str) -> Result<(), Failure> {
        let (status, reason) = (answer.status, answer.reason());
        if status.is_success() {
            return Ok(());
        }
        if is_forbidden(status) {
            let admin = &self.config.admin;
            return Err(Never(format!(
                "{admin} does not let this process {what}: {reason}; give it a token that may, or make the tenant and \
                 namespace {} for it",
                self.names.namespace(),
            )));
        }
        Err(Wait(format!("cannot {what}: {reason}")))
    }
}

fn is_forbidden(status: StatusCode) -> bool {
    [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status)
}

fn random_id() -> Result<[u8; 16], Failure> {
    let mut id = [0; 16];
    let filled = getrandom::fill(&mut id);
    filled.map_err(|error| Never(format!("no randomness for the log's id: {error}")))?;
    Ok(id)
}

fn to_hex(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

fn from_hex(text: &str) -> Option<[u8; 16]> {
    let id = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
    id.map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    /// An administration that answers as this says, with a status and a body.
    async fn administration(
        answer: impl Fn(&str) -> (&'static str, &'static str) + Send + 'static,
    ) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4_096];
                let len = stream.read(&mut request).await.unwrap();
                let (status, body) = answer(&String::from_utf8_lossy(&request[..len]));
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn a_broker_that_waits_before_it_rewinds_is_refused_until_it_does_not() {
        let broker = async |status, body| {
            let admin = administration(move |_| (status, body)).await;
            let config = Config::new("pulsar://127.0.0.1:1", &admin, "t", "n", 1);
            let names = Names::new("t", "n", 1);
            Bootstrap { config: &config, names: &names, admin: Admin::new(&config) }.broker().await
        };
        let waits = broker("200 OK", r#"{"activeConsumerFailoverDelayTimeMillis":"1000"}"#).await;
        assert!(
            matches!(waits, Err(Wait(problem)) if problem.contains("=1000") && problem.contains("set it to 0"))
        );
        let is_good = broker("200 OK", r#"{"activeConsumerFailoverDelayTimeMillis":"0"}"#).await;
        assert!(matches!(is_good, Ok(None)));
        // Who may not ask is told in the log.
        let untold = broker("403 Forbidden", r#"{"reason":"no"}"#).await;
        assert!(matches!(untold, Ok(Some(text)) if text.contains("see that it is 0")));
    }

    #[tokio::test]
    async fn topics_that_another_process_makes_right_now_are_no_remainder() {
        let remainder = async |topics: &'static [Topic]| {
            let is_there =
                |request: &str| topics.iter().any(|t| request.contains(&format!("/{}-1/", t.name())));
            let found = move |request: &str| if is_there(request) { "200 OK" } else { "404 Not Found" };
            let admin = administration(move |request| (found(request), "{}")).await;
            let config = Config::new("pulsar://127.0.0.1:1", &admin, "t", "n", 1);
            let names = Names::new("t", "n", 1);
            let admin = Admin::new(&config);
            Bootstrap { config: &config, names: &names, admin }.refuse_a_remainder().await
        };
        assert!(remainder(&[]).await.is_ok());
        // This one was not there a moment before, when it was asked for alone.
        assert!(remainder(&Topic::ALL).await.is_ok());
        let deleted = remainder(&[Topic::Stored, Topic::Receipts]).await;
        assert!(matches!(deleted, Err(Never(problem)) if problem.contains("it was deleted")));
    }

    #[tokio::test]
    async fn policies_that_others_set_at_the_same_time_are_waited_for() {
        // What is shown of the namespace is what was there before.
        let policies = async |posted| {
            let admin =
                administration(
                    move |request| if request.starts_with("GET") { ("200 OK", "{}") } else { (posted, "") },
                )
                .await;
            let config = Config::new("pulsar://127.0.0.1:1", &admin, "t", "n", 1);
            let names = Names::new("t", "n", 1);
            Bootstrap { config: &config, names: &names, admin: Admin::new(&config) }.policies().await
        };
        assert!(
            matches!(policies("204 No Content").await, Err(Wait(problem)) if problem.contains("not shown yet"))
        );
        assert!(matches!(policies("409 Conflict").await, Err(Wait(problem)) if problem.contains("409")));
        assert!(
            matches!(policies("403 Forbidden").await, Err(Never(problem)) if problem.contains("let this process"))
        );
    }

    #[tokio::test]
    async fn a_topic_that_another_process_makes_right_now_is_waited_for() {
        let admin = administration(|_| ("200 OK", r#"{"partitions":0}"#)).await;
        let config = Config::new("pulsar://127.0.0.1:1", &admin, "t", "n", 1);
        let names = Names::new("t", "n", 1);
        let bootstrap = Bootstrap { config: &config, names: &names, admin: Admin::new(&config) };
        let made = bootstrap.topic(Topic::Uplink, None).await;
        assert!(matches!(made, Err(Wait(problem)) if problem.contains("has no partitions")));
    }

    #[tokio::test]
    async fn what_is_for_a_person_to_mend_is_found_twice_before_it_ends_the_start() {
        let asked = Arc::new(AtomicUsize::new(0));
        let opened = async |answers: &'static [&'static str]| {
            asked.store(0, Ordering::Relaxed);
            let count = Arc::clone(&asked);
            let admin = administration(move |request| {
                if request.contains("/namespaces/") {
                    (answers[count.fetch_add(1, Ordering::Relaxed) % answers.len()], "{}")
                } else {
                    ("200 OK", r#"{"activeConsumerFailoverDelayTimeMillis":"0"}"#)
                }
            })
            .await;
            let config = Config::new("pulsar://127.0.0.1:1", &admin, "t", "n", 1);
            timeout(Duration::from_secs(3), until_ready(config, Names::new("t", "n", 1))).await
        };
        let refused = opened(&["403 Forbidden"]).await.expect("it ends").expect_err("it is refused");
        assert!(refused.to_string().contains("give it a token"), "{refused}");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        // Once, and then something that time mends.
        assert!(opened(&["403 Forbidden", "503 Service Unavailable"]).await.is_err(), "it waits");
        assert!(asked.load(Ordering::Relaxed) > 2);
    }

    #[test]
    fn ids_survive_their_text() {
        let id = 0x00ff_u128.to_be_bytes();
        assert_eq!(from_hex(&to_hex(id)), Some(id));
        assert_eq!(from_hex("ff"), None);
    }
}

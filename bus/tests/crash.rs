//! Kill -9 in the middle of load, again and again on one folder: what was receipted is there, and nothing is skipped.

mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use petrel_bus::Bus;
use petrel_protocol::topics::{Subscription, Topic};
use support::next;

const PARTITIONS: u16 = 3;
const ROUNDS: u64 = 6;
/// Where the child finds its folder.
const DIR_VARIABLE: &str = "PETREL_BUS_TEST_DIR";

/// The pack with this tag: its size and its bytes follow from the tag.
fn pack(tag: u64) -> Bytes {
    let size = 16 + (tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as usize;
    let mut pack = vec![tag as u8; size];
    pack[..8].copy_from_slice(&tag.to_be_bytes());
    pack.into()
}

/// What the child says about each receipt and acknowledgement, one line each, written at once.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("\n={line}\n").as_bytes()).expect("the parent listens");
}

/// Publishes on all topics without end, reads and acknowledges `stored`, and reports all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other tests run it as a process of their own"]
async fn child() {
    let dir = std::env::var(DIR_VARIABLE).expect("run by the other tests");
    let first = std::env::var("PETREL_BUS_TEST_TAG").unwrap().parse::<u64>().unwrap();
    let bus = Bus::embedded(Path::new(&dir), PARTITIONS).unwrap();
    for partition in 0..PARTITIONS {
        let mut consumer = bus.subscribe(Topic::Stored, Subscription::Router, partition).unwrap();
        tokio::spawn(async move {
            while let Some(record) = consumer.next().await {
                // Said before it is done: the parent accepts that less was acknowledged, never more.
                say(&format!("ack {partition} {}", record.position.entry));
                consumer.ack(record.position);
            }
        });
    }
    let publishers = Topic::ALL.map(|topic| {
        let on_receipt = move |receipt: petrel_bus::Receipt| {
            let position = receipt.outcome.expect("the disk is well");
            let partition = receipt.tag % u64::from(PARTITIONS);
            say(&format!("{} {partition} {} {}", topic.name(), position.entry, receipt.tag));
        };
        bus.publisher(topic, Arc::new(on_receipt))
    });
    for tag in first.. {
        for publisher in &publishers {
            while publisher.publish((tag % u64::from(PARTITIONS)) as u16, tag, pack(tag)).is_err() {
                tokio::task::yield_now().await;
            }
        }
    }
}

fn start_child(dir: &Path, first_tag: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env(DIR_VARIABLE, dir)
        .env("PETREL_BUS_TEST_TAG", first_tag.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the child has said.
#[derive(Default)]
struct Said {
    /// By topic and partition: offset → tag.
    receipted: HashMap<(String, u16), HashMap<u64, u64>>,
    /// The last acknowledged offset of `stored`, by partition.
    acked: HashMap<u16, u64>,
}

impl Said {
    /// Listens until `lines` lines came, kills the child, and listens to the rest.
    fn listen(mut child: Child, lines: u64) -> Self {
        let mut said = Self::default();
        let mut heard = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(line) = line.strip_prefix('=') else { continue };
            let words: Vec<&str> = line.split(' ').collect();
            let numbers = |from: usize| words[from..].iter().map(|word| word.parse::<u64>().unwrap());
            if let ["ack", partition, offset] = words[..] {
                said.acked.insert(partition.parse().unwrap(), offset.parse().unwrap());
            } else {
                let [partition, offset, tag] = numbers(1).collect::<Vec<_>>()[..] else { panic!("{line}") };
                said.receipted
                    .entry((words[0].to_owned(), partition as u16))
                    .or_default()
                    .insert(offset, tag);
            }
            heard += 1;
            if heard == lines {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(heard >= lines, "the child ended by itself");
        said
    }
}

#[tokio::test]
async fn what_was_receipted_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut next_offsets: HashMap<(Topic, u16), u64> = HashMap::new();
    for round in 0..ROUNDS {
        // Tags never repeat, so a record of an earlier round cannot stand for one of this.
        let lines = 200 + round * 600;
        let said = Said::listen(start_child(dir.path(), round << 32), lines);
        let bus = Bus::embedded(dir.path(), PARTITIONS).expect("it opens after kill -9");
        for topic in Topic::ALL {
            for partition in 0..PARTITIONS {
                let begin = next_offsets.entry((topic, partition)).or_default();
                *begin = verify(&bus, topic, partition, *begin, &said).await;
            }
        }
        bus.close();
    }
}

/// Reads everything from the cursor on and compares it with what was said; acknowledges it. Returns the next offset.
async fn verify(bus: &Bus, topic: Topic, partition: u16, begin: u64, said: &Said) -> u64 {
    let empty = HashMap::new();
    let receipted = said.receipted.get(&(topic.name().to_owned(), partition)).unwrap_or(&empty);
    let last = receipted.keys().max().copied();
    assert!(receipted.keys().all(|&offset| offset >= begin), "no offset is given twice");
    let mut end = begin;
    for &subscription in topic.subscriptions() {
        let mut reader = bus.subscribe(topic, subscription, partition).unwrap();
        let mut expected = None;
        loop {
            let missing = last.is_some() && expected <= last;
            // What was written and not receipted may follow.
            let record = if missing { Some(next(&mut reader).await) } else { reader.try_next() };
            let Some(record) = record else { break };
            let offset = record.position.entry;
            if expected.is_none() && topic == Topic::Stored {
                let unacked = said.acked.get(&partition).map_or(begin, |acked| acked + 1);
                assert!(offset <= unacked, "reading begins at {offset}, after {unacked}");
            } else {
                assert_eq!(offset, expected.unwrap_or(begin), "dense, from the cursor on");
            }
            let tag = u64::from_be_bytes(record.pack[..8].try_into().unwrap());
            assert_eq!(record.pack, pack(tag), "whole");
            if let Some(&receipted) = receipted.get(&offset) {
                assert_eq!(tag, receipted, "offset {offset} has the pack that it was receipted for");
            }
            expected = Some(offset + 1);
            end = offset + 1;
            reader.ack(record.position);
        }
    }
    end
}

//! A disk that takes no more: publishes are refused, nothing receipted is lost, and it goes on when there is room.
//!
//! The process' limit on the size of a file (`RLIMIT_FSIZE`) stands for the full disk: a write beyond it fails in the
//! middle of a batch, as it would on a full disk, and it can be lifted while the process runs.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use petrel_bus::{Bus, PublishError};
use petrel_protocol::topics::{Subscription, Topic};
use support::{Publishing, next, wait_until};

const DIR_VARIABLE: &str = "PETREL_BUS_TEST_DIR";
/// In units of 512 bytes, as the shell's `ulimit -f` has it.
const LIMIT: u64 = (4 << 20) / 512;

fn pack(tag: u64) -> Vec<u8> {
    [&tag.to_be_bytes()[..], &vec![tag as u8; 50_000]].concat()
}

fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("\n={line}\n").as_bytes()).expect("the parent listens");
}

#[test]
#[ignore = "the other tests run it as a process of their own"]
fn child() {
    let dir = std::env::var(DIR_VARIABLE).expect("run by the other tests");
    let bus = Bus::embedded(Path::new(&dir), 1).unwrap();
    let publishing = Publishing::new(&bus, Topic::Uplink);
    let mut tag = 0;
    let mut failures = 0;
    let mut successes_after = 0;
    while successes_after < 20 {
        tag += 1;
        match publishing.publish(0, tag, pack(tag)) {
            Ok(()) => match publishing.receipts(1).remove(0).outcome {
                Ok(position) => {
                    say(&format!("ok {tag} {}", position.entry));
                    successes_after += u64::from(failures > 0);
                }
                Err(error) => {
                    failures += 1;
                    successes_after = 0;
                    say(&format!(
                        "{} {tag}",
                        if error == PublishError::Unknown { "unknown" } else { "refused" }
                    ));
                }
            },
            Err(error) => {
                assert_eq!(error, PublishError::Unavailable);
                assert_eq!(bus.sync(), Err(PublishError::Unavailable));
                say("unavailable");
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
    bus.close();
    say("done");
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    // The files that are made with their full length are made before the limit.
    Bus::embedded(dir.path(), 1).unwrap().close();
    let command =
        format!("trap '' XFSZ; ulimit -S -f {LIMIT}; exec \"$0\" --ignored --exact child --nocapture");
    let mut child = Command::new("sh")
        .args(["-c", &command])
        .arg(std::env::current_exe().unwrap())
        .env(DIR_VARIABLE, dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut receipted, mut refused) = (Vec::new(), Vec::<u64>::new());
    let (mut unknown, mut unavailable, mut done) = (0, 0, false);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(line) = line.strip_prefix('=') else { continue };
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["ok", tag, offset] => {
                receipted.push((offset.parse::<u64>().unwrap(), tag.parse::<u64>().unwrap()));
            }
            ["unknown", _] => unknown += 1,
            ["refused", tag] => refused.push(tag.parse().unwrap()),
            ["unavailable"] => {
                unavailable += 1;
                if unavailable == 10 {
                    let lifted = Command::new("prlimit")
                        .args(["--pid", &child.id().to_string(), "--fsize=unlimited:"])
                        .status()
                        .expect("prlimit (util-linux) is there");
                    assert!(lifted.success());
                }
            }
            ["done"] => done = true,
            _ => panic!("{line}"),
        }
    }
    assert!(child.wait().unwrap().success() && done, "it went on after the limit was lifted");
    assert!(unknown + refused.len() >= 1, "a write failed");

    let bus = Bus::embedded(dir.path(), 1).unwrap();
    let mut consumer = bus.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap();
    let mut receipts = receipted.iter().peekable();
    let mut offset = 0;
    while receipts.peek().is_some() {
        let record = next(&mut consumer).await;
        assert_eq!(record.position.entry, offset, "dense");
        let tag = u64::from_be_bytes(record.pack[..8].try_into().unwrap());
        assert_eq!(record.pack, pack(tag), "whole");
        assert!(!refused.contains(&tag), "what is refused for sure is not there");
        if let Some((_, receipted)) = receipts.next_if(|(receipted, _)| *receipted == offset) {
            assert_eq!(tag, *receipted);
        }
        offset += 1;
    }
}

#[tokio::test]
async fn disk_use_and_open_files_stay_flat_under_load_that_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::embedded(dir.path(), 2).unwrap();
    let publishing = Publishing::new(&bus, Topic::Stored);
    let mut readers =
        [0, 1].map(|partition| bus.subscribe(Topic::Stored, Subscription::Router, partition).unwrap());
    // 20 MB a round: 30 segments in all.
    for _ in 0..24 {
        pass(&publishing, &mut readers).await;
        // Housekeeping follows at its own pace.
        wait_until("the room of what is acknowledged", || disk_use(dir.path()) < 80 << 20);
        wait_until("the end of old files", || open_files(dir.path()) <= 5);
    }
    // The last segment stays, and the next one waits; the others go with the next acknowledgements that are written.
    bus.sync().unwrap();
    wait_until("the segments' deletion", || segments(dir.path()) <= 2);
}

#[tokio::test]
async fn a_slow_reader_keeps_what_it_needs_and_little_else() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::embedded(dir.path(), 2).unwrap();
    let publishing = Publishing::new(&bus, Topic::Stored);
    let slow = Publishing::new(&bus, Topic::Uplink);
    let mut readers =
        [0, 1].map(|partition| bus.subscribe(Topic::Stored, Subscription::Router, partition).unwrap());
    for round in 0..20_u64 {
        for i in 0..50 {
            slow.put(1, (round * 50 + i).to_be_bytes().repeat(100));
        }
        pass(&publishing, &mut readers).await;
        wait_until("the room of what is acknowledged", || disk_use(dir.path()) < 240 << 20);
    }
    wait_until("few files", || open_files(dir.path()) <= 12);
    for start in 0..2 {
        let bus = if start == 0 { bus.clone() } else { Bus::embedded(dir.path(), 2).unwrap() };
        let mut reader = bus.subscribe(Topic::Uplink, Subscription::Persist, 1).unwrap();
        for offset in 0..1_000_u64 {
            let record = next(&mut reader).await;
            let expected = (offset, offset.to_be_bytes().repeat(100).into());
            assert_eq!((record.position.entry, record.pack), expected);
        }
        drop(reader);
        bus.close();
    }
}

/// 20 MB are published, read and acknowledged.
async fn pass(publishing: &Publishing, readers: &mut [petrel_bus::Consumer; 2]) {
    for i in 0..330_u16 {
        publishing.publish_patiently(i % 2, 0, vec![1; 60_000]);
    }
    publishing.receipts(330);
    for reader in readers {
        for _ in 0..165 {
            let record = next(reader).await;
            reader.ack(record.position);
        }
    }
}

fn disk_use(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    // Files are deleted while this looks.
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.metadata().ok()?, entry)))
        .map(
            |(metadata, entry)| {
                if metadata.is_dir() { disk_use(&entry.path()) } else { metadata.blocks() * 512 }
            },
        )
        .sum()
}

/// The segments on disk, and the spare.
fn segments(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("log")).unwrap().count()
}

/// Files in this folder that this process has open.
fn open_files(dir: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    open.filter_map(|file| std::fs::read_link(file.path()).ok()).filter(|path| path.starts_with(dir)).count()
}

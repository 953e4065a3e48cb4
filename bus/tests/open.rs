//! What cannot be opened says why, and what to do.

mod support;

use std::fs;
use std::path::Path;

use petrel_bus::Bus;
use petrel_protocol::topics::Topic;
use support::Publishing;

fn refusal(dir: &Path, partitions: u16) -> String {
    Bus::embedded(dir, partitions).expect_err("it is refused").to_string()
}

#[test]
fn a_folder_in_use_names_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::embedded(dir.path(), 2).unwrap();
    let text = refusal(dir.path(), 2);
    assert!(text.contains(&format!("in use by process {}", std::process::id())), "{text}");
    drop(bus);
    Bus::embedded(dir.path(), 2).expect("a dropped bus is closed").close();
}

#[test]
fn another_number_of_partitions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Bus::embedded(dir.path(), 4).unwrap().close();
    let text = refusal(dir.path(), 8);
    assert!(text.contains("has 4 partitions and 8 were asked for: start with 4"), "{text}");
    assert!(refusal(dir.path().join("none").as_path(), 0).contains("choose 1 to 1024"));
}

#[test]
fn a_log_keeps_its_id_and_no_other_log_has_it() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let id = |dir: &Path| Bus::embedded(dir, 4).unwrap().generation_id();
    let first = id(dir.path());
    assert_eq!(id(dir.path()), first);
    assert_ne!(id(other.path()), first);
}

#[test]
fn another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Bus::embedded(dir.path(), 4).unwrap().close();
    for (format, which) in [(1, "which this version cannot read"), (3, "which is newer")] {
        let facts = format!("format {format}\ngeneration 1\npartitions 4\n");
        fs::write(dir.path().join("format"), facts).unwrap();
        let text = refusal(dir.path(), 4);
        let expected = format!("format {format}, {which}");
        assert!(text.contains(&expected) && text.contains("run the version of Petrel"), "{text}");
    }
}

#[test]
fn an_unreadable_folder_is_refused_and_left_alone() {
    for broken in [
        &b"format one\n"[..],
        b"",
        b"\xff\xfe",
        b"format 2\ngeneration 1\n",
        b"format 2\ngeneration 1\npartitions 4\nid 12\n",
    ] {
        let dir = tempfile::tempdir().unwrap();
        Bus::embedded(dir.path(), 4).unwrap().close();
        fs::write(dir.path().join("format"), broken).unwrap();
        let text = refusal(dir.path(), 4);
        assert!(text.contains("cannot be read") && text.contains("restore the folder"), "{text}");
        assert_eq!(fs::read(dir.path().join("format")).unwrap(), broken);
    }
    let dir = tempfile::tempdir().unwrap();
    Bus::embedded(dir.path(), 4).unwrap().close();
    fs::remove_file(dir.path().join("format")).unwrap();
    assert!(refusal(dir.path(), 4).contains("`format` is missing"));
}

#[test]
fn segments_that_are_damaged_missing_or_another_logs_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::embedded(dir.path(), 4).unwrap();
    let publishing = Publishing::new(&bus, Topic::Uplink);
    // Nobody reads them, so they stay: two segments and some.
    for _ in 0..40 {
        publishing.put(0, vec![1; 1_000_000]);
    }
    bus.close();
    let log = dir.path().join("log");
    let other = tempfile::tempdir().unwrap();
    Bus::embedded(other.path(), 4).unwrap().close();
    let first = fs::read(log.join("0000000001")).unwrap();
    let damages: [(&str, &dyn Fn()); 5] = [
        ("segment 0000000001 is broken at byte", &|| {
            let mut bytes = first.clone();
            bytes[5_000_000] ^= 1;
            fs::write(log.join("0000000001"), bytes).unwrap();
        }),
        ("the head of segment 0000000001 is broken", &|| {
            fs::write(log.join("0000000001"), &first[..20]).unwrap();
        }),
        ("the head of segment 0000000001 is broken, or another log's", &|| {
            fs::copy(other.path().join("log/0000000001"), log.join("0000000001")).unwrap();
        }),
        ("record 0 of uplink partition 0 is missing", &|| fs::remove_file(log.join("0000000001")).unwrap()),
        ("is no segment", &|| fs::write(log.join("segment"), b"").unwrap()),
    ];
    for (why, damage) in damages {
        damage();
        let text = refusal(dir.path(), 4);
        assert!(text.contains(why) && text.contains("restore the folder from a copy"), "{text}");
        fs::write(log.join("0000000001"), &first).unwrap();
    }
    fs::remove_file(log.join("segment")).unwrap();
    Bus::embedded(dir.path(), 4).expect("it is as it was").close();
    fs::remove_dir_all(&log).unwrap();
    assert!(refusal(dir.path(), 4).contains("its segments are missing"));
}

#[test]
fn a_place_that_is_no_folder_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = refusal(file.path(), 4);
    assert!(text.contains("cannot open the log in"), "{text}");
}

#[test]
fn a_creation_that_was_cut_short_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    Bus::embedded(dir.path(), 4).unwrap().close();
    // As a kill in the creation leaves it: the facts say that nothing was written, and the first segment is not whole.
    let facts = fs::read_to_string(dir.path().join("format")).unwrap();
    fs::write(dir.path().join("format"), facts.replace("begun 1", "begun 0")).unwrap();
    fs::write(dir.path().join("log/0000000001"), b"").unwrap();
    let bus = Bus::embedded(dir.path(), 4).unwrap();
    assert_eq!(Publishing::new(&bus, Topic::Uplink).put(0, "x").entry, 0);
}

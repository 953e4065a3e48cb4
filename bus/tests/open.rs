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
    // A folder of the first version is given one, and keeps it.
    fs::write(dir.path().join("format"), "format 1\ngeneration 1\npartitions 4\n").unwrap();
    let second = id(dir.path());
    assert_ne!(second, first);
    assert_eq!(id(dir.path()), second);
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Bus::embedded(dir.path(), 4).unwrap().close();
    fs::write(dir.path().join("format"), "format 2\ngeneration 1\npartitions 4\n").unwrap();
    let text = refusal(dir.path(), 4);
    assert!(
        text.contains("format 2, which is newer") && text.contains("run the version of Petrel"),
        "{text}"
    );
}

#[test]
fn an_unreadable_folder_is_refused_and_left_alone() {
    for broken in [
        &b"format one\n"[..],
        b"",
        b"\xff\xfe",
        b"format 1\ngeneration 1\n",
        b"format 1\ngeneration 1\npartitions 4\nid 12\n",
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
fn a_database_of_another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Bus::embedded(dir.path(), 4).unwrap().close();
    fs::write(dir.path().join("fjall/version"), b"FJL\x09").unwrap();
    let text = refusal(dir.path(), 4);
    assert!(text.contains("cannot be read"), "{text}");
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
    // fjall writes `version` before the first keyspace; without both the rest is what a kill in its creation leaves.
    let database = dir.path().join("fjall");
    let (keyspaces, aside) = (database.join("keyspaces"), dir.path().join("aside"));
    fs::remove_file(database.join("version")).unwrap();
    assert!(Bus::embedded(dir.path(), 4).is_err(), "what holds keyspaces is not removed");
    assert!(fs::read_dir(&keyspaces).unwrap().count() > 1);
    fs::rename(&keyspaces, &aside).unwrap();
    fs::create_dir(&keyspaces).unwrap();
    let bus = Bus::embedded(dir.path(), 4).unwrap();
    assert_eq!(Publishing::new(&bus, Topic::Uplink).put(0, "x").entry, 0);
}

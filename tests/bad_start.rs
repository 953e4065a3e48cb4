//! A start that cannot succeed: one clear line that names the mend, exit code 2.

mod harness;

use harness::{Petrel, command};

fn refused(dir: &std::path::Path, args: &[&str]) -> String {
    let output = command(dir, args).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8(output.stderr).expect("text");
    let line: Vec<_> = text.lines().filter(|l| l.starts_with("petrel: ")).collect();
    assert_eq!(line.len(), 1, "one line: {text}");
    line[0].to_owned()
}

#[test]
fn a_port_in_use() {
    let dir = tempfile::tempdir().expect("a folder");
    let petrel = Petrel::start(dir.path());
    let other = tempfile::tempdir().expect("a folder");
    let line = refused(other.path(), &["--listen", &petrel.edge, "--http", "127.0.0.1:0"]);
    assert!(line.contains(&petrel.edge) && line.contains("--listen"), "{line}");
    let line = refused(other.path(), &["--listen", "127.0.0.1:0", "--http", &petrel.http]);
    assert!(line.contains(&petrel.http) && line.contains("--http"), "{line}");
}

#[test]
fn a_data_folder_that_another_petrel_uses() {
    let dir = tempfile::tempdir().expect("a folder");
    let _petrel = Petrel::start(dir.path());
    let line = refused(dir.path(), &["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    assert!(line.contains("another") || line.contains("in use"), "{line}");
}

#[test]
fn a_data_folder_of_a_newer_format() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("format"), "99\n").expect("written");
    let line = refused(dir.path(), &[]);
    assert!(line.contains("format 99") && line.contains("newer"), "{line}");
}

#[test]
fn an_unknown_configuration_key_and_values_out_of_range() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("petrel.toml");
    let start = |text: &str| {
        std::fs::write(&file, text).expect("written");
        refused(&dir.path().join("data"), &["--config", file.to_str().expect("text")])
    };
    assert!(start("shard = 2").contains("`shard`"));
    assert!(start("shards = -1").contains("shards") || start("shards = -1").contains("-1"));
    assert!(start("partitions = 0").contains("partitions"));
    assert!(start("ping_after_s = 60\nevict_after_s = 30").contains("evict_after_s"));
    let line = refused(dir.path(), &["--config", "/nowhere/petrel.toml"]);
    assert!(line.contains("/nowhere/petrel.toml"), "{line}");
}

#[test]
fn a_data_folder_that_cannot_be_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("a-file");
    std::fs::write(&file, "").expect("written");
    assert!(refused(&file.join("data"), &[]).contains("--data"));
}

//! Histories of real runs, judged by the judge of the simulation: what the generator's own verifier finds, it finds too.

mod fake;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fake::{FakeEdge, Mischief};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_petrel-loadgen"))
}

/// Runs against an edge that does this, and answers with the run's exit code and the history.
fn history_of(mischief: Mischief, more: &str) -> (Option<i32>, PathBuf, FakeEdge) {
    let edge = FakeEdge::start(mischief);
    let (scenario, history) = (edge.data.path().join("s.toml"), edge.data.path().join("history"));
    let text = format!(
        "users = 10\nmessages = 400\nwindow = 2\nsettle_s = 3.0\nquiet_ms = 300\nanswer_s = 1.0\n{more}"
    );
    std::fs::write(&scenario, text).expect("a file");
    let mut run = program();
    run.arg("run").arg(scenario).arg("--history").arg(&history);
    run.arg("--edge").arg(format!("ws://{}/websocket", edge.address)).arg("--data").arg(edge.data.path());
    let output = run.output().expect("it runs");
    (output.status.code(), history, edge)
}

fn check(history: &Path) -> Output {
    program().arg("check").arg(history).output().expect("it runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[track_caller]
fn assert_found(mischief: Mischief, more: &str, rules: &[&str]) {
    let (code, history, _edge) = history_of(mischief, more);
    assert_eq!(code, Some(1), "the run itself finds it");
    let output = check(&history);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(rules.iter().any(|rule| text.starts_with(&format!("VIOLATION of {rule}: "))), "{text}");
    let story: Vec<&str> = text.lines().skip(1).collect();
    assert!(story.iter().any(|line| line.contains(" ms  u")), "the story of the message: {text}");
}

#[test]
fn a_good_run_has_a_good_history() {
    let more = "pairs = 'fixed'\nrecall_share = 0.2\nread_share = 0.5\nchurn_per_s = 10.0";
    let (code, history, edge) = history_of(Mischief::None, more);
    assert_eq!(code, Some(0));
    let output = check(&history);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).contains("accepted: 400"), "{}", stdout(&output));
    let left: Vec<_> = std::fs::read_dir(edge.data.path()).expect("a folder").flatten().collect();
    let is_part = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("history.");
    assert!(left.iter().all(|file| !is_part(&file.file_name())), "the parts are gone: {left:?}");
}

#[test]
fn a_forgotten_message_is_found() {
    assert_found(Mischief::Forget, "", &["accepted-is-seen"]);
}

#[test]
fn a_hidden_message_is_found() {
    assert_found(Mischief::Hide, "pairs = 'fixed'", &["dense"]);
}

#[test]
fn a_swapped_order_is_found() {
    // The last one of a device has none behind it to be swapped with, and is never stored.
    assert_found(Mischief::Swap, "pairs = 'fixed'", &["sender-order", "accepted-is-seen"]);
}

#[test]
fn a_changed_content_is_found() {
    assert_found(Mischief::Change, "", &["unchanged"]);
}

#[test]
fn a_falling_status_is_found() {
    assert_found(Mischief::LowerStatus, "", &["status-rises"]);
}

#[test]
fn a_message_stored_twice_is_found() {
    assert_found(Mischief::StoreTwice, "", &["seen-once"]);
}

#[test]
fn a_refused_and_delivered_message_is_found() {
    assert_found(Mischief::RefuseAndDeliver, "", &["refused-is-unseen"]);
}

#[test]
fn broken_files_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (missing, bad) = (folder.path().join("missing"), folder.path().join("bad"));
    std::fs::write(&bad, "1 2 3 connected\n1 2 3 flew away\n").expect("a file");
    for (file, word) in [(missing, "cannot read"), (bad, "line 2")] {
        let output = check(&file);
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(text.contains(word), "{text}");
    }
}

/// By hand: an accepted message that one device never sees, so that no part of the generator is believed.
#[test]
fn a_history_by_hand_is_judged() {
    let folder = tempfile::tempdir().expect("a folder");
    let (id, file) = ("0000000000000000000000000000000a", folder.path().join("history"));
    let good = format!(
        "0 1 1 opened in-order one-by-one\n0 2 1 opened in-order one-by-one\n5 1 1 send 2 {id} 00000000000000ff\n\
         6 1 1 accepted {id}\n7 2 1 arrived 1 1 1 {id} 00000000000000ff\n7 2 1 message 1 1 1 {id} 00000000000000ff\n\
         9 1 1 own 2 1\n10 1 1 rested\n10 2 1 rested\n"
    );
    std::fs::write(&file, &good).expect("a file");
    assert_eq!(check(&file).status.code(), Some(0), "{}", stdout(&check(&file)));
    let lost: String = good.lines().filter(|l| !l.contains(" 1 1 1 ")).flat_map(|l| [l, "\n"]).collect();
    std::fs::write(&file, lost).expect("a file");
    let output = check(&file);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.contains("accepted-is-seen") && text.contains("u1/1  accepted"), "{text}");
}

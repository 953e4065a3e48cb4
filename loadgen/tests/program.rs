//! The program as it is called: its exit codes, its words, its processes.

mod fake;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fake::{FakeEdge, Mischief};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_petrel-loadgen"))
}

fn scenario(folder: &Path, text: &str) -> std::path::PathBuf {
    let path = folder.join("scenario.toml");
    std::fs::write(&path, text).expect("a file");
    path
}

fn run(edge: &FakeEdge, text: &str, more: &[&str]) -> Output {
    let path = scenario(edge.data.path(), text);
    let url = format!("ws://{}/websocket", edge.address);
    let mut command = program();
    command.arg("run").arg(path).arg("--edge").arg(url).arg("--data").arg(edge.data.path()).args(more);
    command.output().expect("it runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

const SMALL: &str = "users = 6\nmessages = 100\nquiet_ms = 300\nsettle_s = 5.0\n";

#[test]
fn a_clean_run_ends_with_0_and_leaves_a_report() {
    let edge = FakeEdge::start(Mischief::None);
    let json = edge.data.path().join("report.json");
    let output = run(&edge, SMALL, &["--json", json.to_str().expect("a path")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("no violation"), "{}", text(&output.stdout));
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(json).expect("a report")).expect("JSON");
    assert_eq!(report["verdict"], "clean");
    assert_eq!(report["counts"]["accepted"], 100);
    assert_eq!(report["latencies_ms"]["delivery"]["count"], 100);
    for key in ["commit", "kernel", "scenario", "server", "generator", "seconds", "accepted_per_s"] {
        assert!(!report[key].is_null(), "{key} is missing");
    }
}

#[test]
fn reports_become_a_table() {
    let edge = FakeEdge::start(Mischief::None);
    let json = edge.data.path().join("small.json");
    run(&edge, SMALL, &["--json", json.to_str().expect("a path")]);
    let output = program().arg("table").args([&json, &json]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| small |")).collect();
    assert_eq!(rows.len(), 2, "{table}");
    assert!(rows[0].contains("| 100 | 100 | 0 | 0 |") && rows[0].ends_with("| clean |"), "{table}");

    std::fs::write(&json, "{}").expect("a file");
    let output = program().arg("table").arg(&json).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("small.json"), "{}", text(&output.stderr));
}

#[test]
fn processes_that_are_named_are_reported_with_their_shares() {
    let edge = FakeEdge::start(Mischief::None);
    let json = edge.data.path().join("cluster.json");
    let [edges, brokers] = ["edge", "broker"].map(|name| format!("{name}={}", std::process::id()));
    let json_path = json.to_str().expect("a path");
    let output = run(&edge, SMALL, &["--server", &edges, "--backend", &brokers, "--json", json_path]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("all servers"), "{}", text(&output.stdout));
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&json).expect("a report")).expect("JSON");
    let processes = report["processes"].as_array().expect("a list");
    let parts: Vec<_> = processes.iter().map(|p| (p["name"].as_str(), p["part"].as_str())).collect();
    let expected = [("edge", "server"), ("broker", "backend"), ("generator", "generator")];
    assert_eq!(parts, expected.map(|(name, part)| (Some(name), Some(part))));
    assert!(processes.iter().all(|p| p["cost"]["resident_bytes"].as_u64() > Some(0)), "{processes:?}");

    let output = program().arg("table").arg(&json).output().expect("it runs");
    assert!(text(&output.stdout).contains("| **all servers** |"), "{}", text(&output.stdout));

    let output = run(&edge, SMALL, &["--server", "edge=1073741824"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no process 1073741824"), "{}", text(&output.stderr));
}

#[test]
fn a_violation_ends_with_1_and_its_history() {
    let edge = FakeEdge::start(Mischief::Forget);
    let output = run(&edge, SMALL, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).contains("VIOLATION: accepted and not delivered"),
        "{}",
        text(&output.stdout)
    );
    assert!(text(&output.stderr).contains("intended"), "{}", text(&output.stderr));
}

#[test]
fn what_cannot_be_run_ends_with_2_and_one_line() {
    let edge = FakeEdge::start(Mischief::None);
    let output = run(&edge, "userz = 3", &[]);
    assert_eq!(output.status.code(), Some(2));
    let line = text(&output.stderr);
    assert!(line.lines().count() == 1 && line.contains("userz"), "{line}");

    // Nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let path = scenario(edge.data.path(), "users = 2\nmessages = 1\nsettle_s = 0.3\nramp_per_s = 100.0");
    let url = format!("ws://{free}/websocket");
    let mut command = program();
    let output =
        command.arg("run").arg(path).args(["--edge", &url]).arg("--data").arg(edge.data.path()).output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("0 of 2 devices"), "{}", text(&output.stderr));
}

#[test]
fn a_generator_that_lagged_ends_with_3() {
    let edge = FakeEdge::start(Mischief::None);
    // No generator keeps its times to a nanosecond.
    let impossible = "users = 6\nrate = 200.0\nmessages = 50\nquiet_ms = 300\nlag_p99_ms_max = 0.000001";
    let output = run(&edge, impossible, &[]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("INVALID"), "{}", text(&output.stdout));
}

#[test]
fn several_processes_make_one_run() {
    let edge = FakeEdge::start(Mischief::None);
    let output = run(&edge, SMALL, &["--workers", "3"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("verified: 100 messages"), "{}", text(&output.stdout));

    let edge = FakeEdge::start(Mischief::Forget);
    let output = run(&edge, SMALL, &["--workers", "3"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
}

#[test]
fn two_people_chat() {
    let edge = FakeEdge::start(Mischief::None);
    let start = |user: &str, to: &str| {
        let url = format!("ws://{}/websocket", edge.address);
        let mut command = program();
        command.args(["chat", "--as", user, "--to", to, "--edge", &url]).arg("--data").arg(edge.data.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs")
    };
    let (mut one, mut two) = (start("1", "2"), start("2", "1"));
    let mut lines_of_one = lines(one.stdout.take().expect("piped"));
    let mut lines_of_two = lines(two.stdout.take().expect("piped"));
    let (mut one_in, mut two_in) = (one.stdin.take().expect("piped"), two.stdin.take().expect("piped"));
    wait_for(&mut lines_of_one, "connected");
    wait_for(&mut lines_of_two, "connected");
    writeln!(one_in, "good morning").expect("a pipe");
    wait_for(&mut lines_of_two, "1: good morning (seq 1)");
    wait_for(&mut lines_of_one, "[delivered, seq 1] good morning");
    writeln!(two_in, "/read").expect("a pipe");
    wait_for(&mut lines_of_one, "[read, seq 1] good morning");
    writeln!(one_in, "/recall").expect("a pipe");
    wait_for(&mut lines_of_two, "user 1 took back seq 1");
    writeln!(one_in, "/quit").expect("a pipe");
    drop(two_in);
    assert_eq!(one.wait().expect("it ends").code(), Some(0));
    assert_eq!(two.wait().expect("it ends").code(), Some(0));
}

fn lines(from: std::process::ChildStdout) -> std::sync::mpsc::Receiver<String> {
    let (to, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::BufRead::lines(std::io::BufReader::new(from)).map_while(Result::ok) {
            if to.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

#[track_caller]
fn wait_for(lines: &mut std::sync::mpsc::Receiver<String>, words: &str) {
    let mut seen = Vec::new();
    while let Ok(line) = lines.recv_timeout(std::time::Duration::from_secs(20)) {
        if line.contains(words) {
            return;
        }
        seen.push(line);
    }
    panic!("{words:?} is not among {seen:?}");
}

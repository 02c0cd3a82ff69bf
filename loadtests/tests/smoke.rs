//! The generator against the bare proxy and the host, as processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A server of this package, killed by its pid when the test ends.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(program: &str, args: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .arg("--exit-with-stdin")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_string();
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn host() -> Server {
    Server::start(env!("CARGO_BIN_EXE_host"), &[])
}

fn load(target: &str, args: &[&str]) -> (bool, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate-load"))
        .args(["--target", target, "--actors", "50", "--connections", "8", "--json", "-"])
        .args(["--duration", "1"])
        .args(args)
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.success(), report)
}

#[test]
fn every_call_through_the_bare_proxy_counts_once_in_a_closed_loop() {
    let host = host();
    let proxy = Server::start(env!("CARGO_BIN_EXE_bare-proxy"), &["--upstream", &host.address]);
    let (success, report) = load(&proxy.address, &["--dialect", "callback", "--warm-up", "0.2"]);
    assert!(success, "{report}");
    assert!(report["answered"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["wrong"], 0);
    assert!(report["due"].is_null());
}

#[test]
fn an_open_loop_accounts_for_every_call_that_was_due() {
    let host = host();
    let proxy = Server::start(env!("CARGO_BIN_EXE_bare-proxy"), &["--upstream", &host.address]);
    let (success, report) =
        load(&proxy.address, &["--dialect", "callback", "--rate", "200", "--warm-up", "0.2"]);
    assert!(success, "{report}");
    let count = |field: &str| report[field].as_u64().unwrap();
    assert_eq!(count("due"), 200);
    assert_eq!(count("answered") + count("unsent"), 200);
}

#[test]
fn a_host_that_is_gone_is_a_bad_gateway_and_a_failed_run() {
    let host = host();
    let gone = host.address.clone();
    drop(host);
    let proxy = Server::start(env!("CARGO_BIN_EXE_bare-proxy"), &["--upstream", &gone]);
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate-load"))
        .args(["--target", &proxy.address, "--dialect", "callback", "--actors", "1"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("502"), "{complaint}");
}

#[test]
fn a_target_that_is_no_proxy_is_said_to_be_none() {
    let host = host();
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate-load"))
        .args(["--target", &host.address, "--actors", "1"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("registration"), "{complaint}");
}

fn load_faulty(fault: &str) -> (bool, Value) {
    let proxy = Server::start(env!("CARGO_BIN_EXE_faulty-proxy"), &["--fault", fault]);
    load(&proxy.address, &["--warm-up", "0"])
}

#[test]
fn a_proxy_without_a_fault_passes() {
    let (success, report) = load_faulty("none");
    assert!(success && report["answered"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_lost_call_and_a_doubled_call_are_found() {
    for fault in ["forgets", "repeats"] {
        let (success, report) = load_faulty(fault);
        assert!(!success && report["wrong"].as_u64().unwrap() > 0, "{fault}: {report}");
    }
}

#[test]
fn a_shed_call_is_no_fault_when_it_says_when_to_come_back() {
    let (success, report) = load_faulty("sheds");
    assert!(success && report["shed"].as_u64().unwrap() > 0, "{report}");
    let (success, report) = load_faulty("sheds-silently");
    assert!(!success && report["wrong"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_call_that_may_have_run_is_failed_and_not_wrong() {
    let (success, report) = load_faulty("fails");
    assert!(!success && report["failed"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["wrong"], 0, "{report}");
}

/// Compares with the faulty proxy, which makes no mistake but that it calls no host.
fn compare(directory: &Path, json: &Path, scenario: &str, durability: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_compare"))
        .args(["--tidegate", env!("CARGO_BIN_EXE_faulty-proxy"), "--scenario", scenario])
        .args(["--rounds", "1", "--seconds", "1", "--warm-up", "0", "--actors", "20"])
        .args(["--connections", "4", "--overload-connections", "16"])
        .args(["--durability", durability])
        .arg("--data-dir")
        .arg(directory)
        .arg("--json")
        .arg(json)
        .output()
        .unwrap()
}

#[test]
fn effects_that_do_not_reach_the_host_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let output = compare(directory.path(), &json, "effects", "snapshot");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{complaints}");
    assert!(complaints.contains("the host ran 0 actions for "), "{complaints}");
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["pairs"][0]["of"], "with effects snapshot");
    assert_eq!(report["pairs"][0]["rounds"].as_array().unwrap().len(), 1);
}

#[test]
fn a_comparison_measures_every_target_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    for (scenario, durability) in [("speed", "both"), ("overload", "snapshot")] {
        let output = compare(directory.path(), &json, scenario, durability);
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        let targets: Vec<_> =
            report["targets"].as_array().unwrap().iter().map(|target| &target["target"]).collect();
        let expected: &[&str] = match scenario {
            "speed" => &["reference", "tidegate acknowledged", "tidegate snapshot"],
            _ => &["tidegate snapshot"],
        };
        assert_eq!(targets, expected);
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "only the report: {left:?}");
    }
}

//! The output of settings, and unknown names in the environment.

use rustix::process::Signal;

use crate::raw::{Proxy, tidegate};
use crate::{refused, run, text};

#[test]
fn names_that_kubernetes_sets_beside_a_service_called_tidegate_are_told_and_ignored() {
    let injected = [
        ("TIDEGATE_SERVICE_HOST", "10.0.0.11"),
        ("TIDEGATE_SERVICE_PORT", "9001"),
        ("TIDEGATE_SERVICE_PORT_HTTP_API", "9001"),
        ("TIDEGATE_PORT", "tcp://10.0.0.11:9001"),
        ("TIDEGATE_PORT_9001_TCP", "tcp://10.0.0.11:9001"),
        ("TIDEGATE_PORT_9001_TCP_PROTO", "tcp"),
        ("TIDEGATE_PORT_9001_TCP_PORT", "9001"),
        ("TIDEGATE_PORT_9001_TCP_ADDR", "10.0.0.11"),
        ("TIDEGATE_PORT_53_UDP", "udp://10.0.0.11:53"),
        ("TIDEGATE_PORT_7_SCTP_ADDR", "10.0.0.11"),
        // Beside one called tidegate-metrics.
        ("TIDEGATE_METRICS_SERVICE_HOST", "10.0.0.12"),
        ("TIDEGATE_METRICS_PORT", "tcp://10.0.0.12:9001"),
        ("TIDEGATE_METRICS_PORT_9001_TCP_ADDR", "10.0.0.12"),
    ];
    let shown = run(&["config"], &injected);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut command = tidegate();
    command.arg("serve").envs([("PROXY_HTTP_PORT", "0"), ("TIDEGATE_DRAIN_DELAY", "0")]);
    command.envs(injected);
    let child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let mut proxy = Proxy::started(child);
    assert_eq!(proxy.get("/health").status, 200);
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
    let told = std::fs::read_to_string(&log).unwrap();
    let shown = text(&shown.stdout);
    for (name, _) in injected {
        assert!(shown.contains(&format!("{name} = (ignored")), "{name} in {shown}");
        let is_warning = |line: &str| line.contains("WARN") && line.contains(name);
        assert!(told.lines().any(is_warning), "{name} in {told}");
    }
}

#[test]
fn any_other_unknown_name_is_a_mistake_with_the_nearest_known_name() {
    for (name, value, nearest) in [
        ("TIDEGATE_DATA_DRI", "/there", "TIDEGATE_DATA_DIR"),
        ("TIDEGATE_HTTP_ADRESS", "::1", "TIDEGATE_HTTP_ADDRESS"),
        // Meant as a setting: Kubernetes would say tcp://.
        ("TIDEGATE_HTTP_PORT", "9001", "PROXY_HTTP_PORT"),
        ("TIDEGATE_PORT", "9001", "PROXY_HTTP_PORT"),
        ("TIDEGATE_PORT_TCP", "tcp://10.0.0.11:9001", "PROXY_HTTP_PORT"),
        // Near to several, of which none is meant.
        ("TIDEGATE_SERVICES_HOST", "10.0.0.11", ""),
    ] {
        let ended = refused(&[(name, value)]);
        let told = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(64), "{name}: {told}");
        assert!(told.contains(&format!("{name} (environment)")), "{told}");
        assert!(told.contains(&format!("did you mean {nearest}")), "{told}");
    }
    // Kubernetes sets the environment only.
    let given = run(&["config", "--set", "TIDEGATE_SERVICE_HOST=10.0.0.11"], &[]);
    assert_eq!(given.status.code(), Some(64));
}

#[test]
fn a_setting_of_spawn_that_asks_for_something_that_is_not_there_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut command = tidegate();
    command.arg("serve").envs([("PROXY_HTTP_PORT", "0"), ("TIDEGATE_DRAIN_DELAY", "0")]);
    command.envs([("PROXY_GRPC_SERVER_ENABLED", "true"), ("PROXY_CLUSTER_STRATEGY", "gossip")]);
    let child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let mut proxy = Proxy::started(child);
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
    let told = std::fs::read_to_string(&log).unwrap();
    let level =
        |name| told.lines().find(|line| line.contains(name)).map(|line| line.contains("WARN"));
    assert_eq!(level("PROXY_GRPC_SERVER_ENABLED"), Some(true), "{told}");
    assert_eq!(level("PROXY_CLUSTER_STRATEGY"), Some(false), "{told}");
}

#[test]
fn the_effective_settings_are_shown_with_where_they_come_from() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tidegate.toml");
    std::fs::write(&file, "PROXY_HTTP_PORT = 1\nUSER_FUNCTION_PORT = 2\n").unwrap();
    let shown = run(
        &["config", "--config", file.to_str().unwrap(), "--set", "TIDEGATE_DATA_DIR=/there"],
        &[("PROXY_HTTP_PORT", "3"), ("TIDEGATE_ADMIN_TOKEN", "hush")],
    );
    let shown = text(&shown.stdout);
    for line in [
        "PROXY_HTTP_PORT = 3    # environment".to_owned(),
        format!("USER_FUNCTION_PORT = 2    # {}", file.display()),
        "TIDEGATE_DATA_DIR = /there    # flag".to_owned(),
        "TIDEGATE_DURABILITY = acknowledged    # default".to_owned(),
    ] {
        assert!(shown.contains(&line), "{line:?} in {shown}");
    }
    assert!(!shown.contains("hush"));
}

//! The binary answers as `/openapi.json` describes. Schemathesis sends requests that the description allows, and others.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::client::Client;
use support::host::Host;
use support::json::{Told, send};
use support::proxy::{Proxy, embedded};
use tokio::process::Command;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_mins(20);
const VERSION: &str = "4.32.5";
/// What counts as a failure: a server error, and whatever the description does not say.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance";

/// What no tool asks at random: each who follows an actor counts for 30 s, and more than 32 are refused.
const FOLLOWED: (&str, &str) = ("followCalls", "/api/v1/system/{system}/actors/{actor}/calls");

async fn run(command: &mut Command) -> String {
    let output = timeout(LIMIT, command.kill_on_drop(true).output()).await.expect("it hangs");
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}\n{errors}");
    said
}

/// A virtual environment with schemathesis, made once.
async fn schemathesis() -> std::path::PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("schemathesis-{VERSION}"));
    let program = venv.join("bin/schemathesis");
    if !program.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv)).await;
        let wanted = format!("schemathesis=={VERSION}");
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", &wanted])).await;
    }
    program
}

#[tokio::test]
async fn the_binary_does_what_its_description_says() {
    let program = schemathesis().await;
    let told = Arc::new(Told::default());
    let host = Host::start(told.clone());
    let port = host.port();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut settings = embedded(&data, &port);
    settings.push(("TIDEGATE_REVISIONS", "every"));
    // Many may serve an actor, so that one can be drained.
    settings.push(("TIDEGATE_HOSTS", "many"));
    // What waits for a paused actor, or a host that is gone, waits a little only.
    settings.extend([("TIDEGATE_START_TIMEOUT", "500ms"), ("TIDEGATE_HOST_GRACE", "200ms")]);
    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let (_, described) = send(&mut client, ("GET", "/openapi.json"), &[], "").await;
    assert_eq!(described["openapi"], "3.1.0");
    // The examples of the description are about these.
    let actors = json!({"system": "demo", "actors": [
        {"name": "counter", "actions": ["increment"]},
        {"name": "template", "kind": "unnamed", "actions": ["increment"]},
    ]});
    let path = ("POST", "/api/v1/system");
    assert_eq!(send(&mut client, path, &[], &actors.to_string()).await.0.status, 200);
    let elsewhere = json!({"system": "demo", "actors": [{"name": "away", "actions": ["wait"]}]});
    for host in ["http://127.0.0.1:1", "http://127.0.0.1:2"] {
        let named = [("tidegate-host", host)];
        let registered = send(&mut client, path, &named, &elsewhere.to_string()).await;
        assert_eq!(registered.0.status, 200);
    }
    let asked = json!({"action": "increment", "payload": {"answer": {"state": {}, "effects": [
        {"actor": "nobody", "action": "nothing"},
    ]}}});
    let call = ("POST", "/api/v1/system/demo/actors/counter/invoke");
    assert_eq!(send(&mut client, call, &[], &asked.to_string()).await.0.status, 200);
    let url = format!("http://{}", proxy.address());
    // What is paused answers 504 from then on: that comes last, alone.
    let mut tested = 0;
    for which in ["--exclude-tag", "--include-tag"] {
        let mut command = Command::new(&program);
        command
            .arg("run")
            .arg(format!("{url}/openapi.json"))
            .args(["--url", &url, which, "control"]);
        command.args(["--exclude-operation-id", FOLLOWED.0]);
        command.args(["--phases", "examples,coverage,fuzzing", "--checks", CHECKS]);
        command.args(["--seed", "11", "--max-examples", "20", "--generation-database", "none"]);
        command.args(["--suppress-health-check", "all", "--warnings", "off"]);
        command.args(["--request-timeout", "60"]).current_dir(directory.path());
        tested += tested_in(&run(&mut command).await);
    }
    assert_eq!(tested, operations(&described));
    assert!(!told.calls.lock().is_empty(), "no action ran");
    let followed = &described["paths"][FOLLOWED.1]["get"];
    assert_eq!(followed["operationId"], FOLLOWED.0);
    let path = FOLLOWED.1.replace("{system}", "demo").replace("{actor}", "counter");
    let (reply, _) = send(&mut client, ("GET", &path), &[], "").await;
    let content = reply.headers["content-type"].to_str().unwrap();
    assert!(followed["responses"]["200"]["content"][content].is_object(), "{content}");
    assert_eq!(reply.status, 200);
}

fn tested_in(said: &str) -> usize {
    let tested = said.split("Tested: ").nth(1).and_then(|rest| rest.split_whitespace().next());
    tested.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("nothing tested: {said}"))
}

/// A name that nothing can have is refused where a path has it; a filter with one matches nothing.
#[tokio::test]
async fn nothing_has_a_name_that_cannot_be() {
    let host = Host::start(Arc::new(Told::default()));
    let directory = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(&embedded(directory.path(), &host.port())).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let long = "n".repeat(513);
    for (request, path) in [
        ("GET 400", format!("/api/v1/system/demo/schedules/{long}")),
        ("GET 400", "/api/v1/system/demo/schedules/a%00b".into()),
        ("GET 400", format!("/api/v1/system/{long}/schedules/n")),
        ("DELETE 400", format!("/api/v1/system/demo/schedules/{long}")),
        ("POST 400", format!("/api/v1/system/demo/schedules/{long}/pause")),
        ("POST 400", format!("/api/v1/system/demo/schedules/{long}/resume")),
        ("POST 400", format!("/api/v1/system/demo/schedules/{long}/run")),
        ("GET 404", format!("/api/v1/system/demo/schedules/{}", &long[1..])),
        ("GET 400", format!("/api/v1/system/{long}/schedules")),
        ("GET 400", format!("/api/v1/system/demo/channels/{long}/subscribers")),
        ("GET 400", "/api/v1/system/demo/channels/a%00b/subscribers".into()),
        ("GET 400", format!("/api/v1/system/{long}/channels/news/subscribers")),
        ("GET 400", format!("/api/v1/system/demo/schedules?after={long}")),
        ("GET 400", format!("/api/v1/system/{long}/hosts")),
        ("DELETE 400", "/api/v1/system/a%00b/hosts/127.0.0.1:8090".into()),
        ("GET 400", format!("/api/v1/system/demo/actors/{long}")),
        ("GET 400", format!("/api/v1/system/{long}/actors/joe")),
        ("GET 400", "/api/v1/system/demo/actors/a%00b".into()),
        ("DELETE 400", format!("/api/v1/system/demo/actors/{long}")),
        ("DELETE 400", "/api/v1/system/de%0amo/actors/joe".into()),
        ("GET 400", format!("/api/v1/system/demo/actors/{long}/revisions")),
        ("GET 400", format!("/api/v1/system/demo/actors/{long}/calls")),
        ("GET 400", format!("/api/v1/system/demo/actors/{long}/effects/1.1.1")),
        ("DELETE 400", format!("/api/v1/system/demo/actors/{long}/effects/1.1.1")),
        ("GET 404", format!("/api/v1/system/demo/actors/{}", &long[1..])),
        ("GET 200", format!("/api/v1/actors?system=demo&name={long}")),
        ("POST 404", format!("/api/v1/actors/cancel?system=demo&name={long}")),
        ("POST 404", format!("/api/v1/actors/pause?system=demo&name={long}")),
        ("POST 404", format!("/api/v1/actors/deactivate?system=demo&name={long}")),
        ("POST 200", format!("/api/v1/actors/resume?system=demo&name={long}")),
    ] {
        let (method, status) = request.split_once(' ').unwrap();
        let (reply, answer) = send(&mut client, (method, &path), &[], "").await;
        assert_eq!(
            reply.status.to_string(),
            status,
            "{method} {}: {answer}",
            path.get(..40).unwrap_or(&path)
        );
    }
}

fn operations(described: &serde_json::Value) -> usize {
    // The description itself is where schemathesis reads it.
    let untested = ["/openapi.json", FOLLOWED.1];
    let paths = described["paths"].as_object().unwrap().iter();
    let paths = paths.filter(|(path, _)| !untested.contains(&path.as_str()));
    paths.map(|(_, operations)| operations.as_object().unwrap().len()).sum()
}

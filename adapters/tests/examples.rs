//! Runs the pages of `examples/`, as `tidegate init` writes them and as their first lines say, against the built binary; and the
//! page that speaks protobuf.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use support::client::Client;
use support::proxy::{BINARY, Proxy, embedded};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// A step that takes longer than this hangs: some of them fetch packages and compile them.
const LIMIT: Duration = Duration::from_mins(15);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Runs a command to its end.
async fn run(command: &mut Command) -> String {
    let output = timeout(LIMIT, command.kill_on_drop(true).output()).await.expect("it hangs");
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// `tidegate init` in a new directory.
async fn init(directory: &Path, language: &str) -> PathBuf {
    let directory = directory.join(language);
    let mut command = Command::new(BINARY);
    command.arg("init").arg(&directory).args(["--lang", language]);
    let said = run(&mut command).await;
    assert!(said.contains("curl localhost:9001"), "{said}");
    directory
}

/// Gets what a page needs; returns what starts it.
async fn prepared(directory: &Path, language: &str) -> Command {
    let mut command = match language {
        "python" => {
            let venv = directory.join("venv");
            run(Command::new("python3").args(["-m", "venv"]).arg(&venv)).await;
            let mut install = Command::new(venv.join("bin/pip"));
            install.args(["install", "--quiet", "-r", "requirements.txt"]).current_dir(directory);
            run(&mut install).await;
            let mut command = Command::new(venv.join("bin/python"));
            command.arg("counter.py");
            command
        }
        "node" => {
            let mut install = Command::new("npm");
            run(install.args(["install", "--silent"]).current_dir(directory)).await;
            let mut command = Command::new("node");
            command.arg("counter.mjs");
            command
        }
        "go" => {
            let mut build = Command::new("go");
            run(build.args(["build", "-o", "counter", "."]).current_dir(directory)).await;
            Command::new(directory.join("counter"))
        }
        "rust" => {
            // Its dependencies are compiled once, not for each run.
            let target = Path::new(BINARY).parent().unwrap().join("../init-rust");
            let mut build = Command::new(env!("CARGO"));
            build.arg("build").arg("--target-dir").arg(&target).current_dir(directory);
            run(&mut build).await;
            Command::new(target.join("debug/counter"))
        }
        other => panic!("{other}"),
    };
    command.current_dir(directory);
    command
}

/// Starts a page on a free port.
fn start(mut command: Command, proxy: &Proxy) -> Child {
    // It is free again when the page takes it.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let proxy = proxy.address().rsplit_once(':').unwrap().1;
    command.env("PROXY_HTTP_PORT", proxy).env("USER_FUNCTION_PORT", port.to_string());
    command.stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap()
}

async fn increment(proxy: &Proxy, payload: Value) -> (u16, Value) {
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let path = "/api/v1/system/demo/actors/counter/invoke";
    let call = json!({ "action": "increment", "payload": payload }).to_string();
    let (reply, body) = support::json::send(&mut client, ("POST", path), &[], &call).await;
    (reply.status, body)
}

/// The same, once the page has registered.
async fn first_increment(proxy: &Proxy) -> Value {
    let first = async {
        loop {
            let (status, body) = increment(proxy, Value::Null).await;
            if status == 200 {
                return body;
            }
            assert_eq!(status, 404, "{body}");
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, first).await.expect("it never got ready")
}

fn counts(count: u64) -> Value {
    json!({ "payload": { "count": count } })
}

async fn page_counts(language: &str) {
    let directory = tempfile::tempdir().unwrap();
    let page = init(directory.path(), language).await;
    let command = prepared(&page, language).await;
    let data = directory.path().join("data");
    let proxy = Proxy::start(&embedded(&data, "1")).await;
    let mut host = start(command, &proxy);
    assert_eq!(first_increment(&proxy).await, counts(1));
    assert_eq!(increment(&proxy, json!({"by": 2})).await, (200, counts(3)));
    let (status, body) = increment(&proxy, json!({"by": 0})).await;
    assert_eq!((status, &body["kind"]), (422, &json!("action_failed")), "{body}");
    assert_eq!(body["body"], json!({"reason": "it only counts up"}));
    // The count is on disk, and the host does not have to register again.
    proxy.kill().await;
    let proxy = Proxy::start(&embedded(&data, "1")).await;
    assert_eq!(increment(&proxy, Value::Null).await, (200, counts(4)));
    host.kill().await.unwrap();
}

#[tokio::test]
async fn the_python_page_counts() {
    page_counts("python").await;
}

#[tokio::test]
async fn the_node_page_counts() {
    page_counts("node").await;
}

#[tokio::test]
async fn the_go_page_counts() {
    page_counts("go").await;
}

#[tokio::test]
async fn the_rust_page_counts() {
    page_counts("rust").await;
}

#[tokio::test]
async fn init_never_overwrites() {
    let directory = tempfile::tempdir().unwrap();
    let page = init(directory.path(), "go").await;
    std::fs::remove_file(page.join("main.go")).unwrap();
    std::fs::write(page.join("go.mod"), "mine").unwrap();
    let mut again = Command::new(BINARY);
    again.arg("init").arg(&page).args(["--lang", "go"]);
    let output = again.output().await.unwrap();
    assert_eq!(output.status.code(), Some(73));
    assert!(String::from_utf8_lossy(&output.stderr).contains("go.mod is there already"));
    assert_eq!(std::fs::read_to_string(page.join("go.mod")).unwrap(), "mine");
    assert!(!page.join("main.go").exists(), "nothing is written");
}

/// Built here: unlike a binary, an example is not built for a test that needs it.
async fn protobuf_page() -> PathBuf {
    let profile = Path::new(BINARY).parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "tidegate", "--example", "counter_host"]);
    build.arg("--target-dir").arg(profile.parent().unwrap()).current_dir(root());
    if profile.ends_with("release") {
        build.arg("--release");
    }
    run(&mut build).await;
    profile.join("examples/counter_host")
}

#[tokio::test]
async fn the_page_that_speaks_protobuf_counts() {
    let page = protobuf_page().await;
    let directory = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(&embedded(directory.path(), "1")).await;
    let port = proxy.address().rsplit_once(':').unwrap().1;
    let command = || {
        let mut command = Command::new(&page);
        command.env("PROXY_HTTP_PORT", port).env("USER_FUNCTION_PORT", "0").kill_on_drop(true);
        command
    };
    let mut host = command().stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(host.stdout.take().unwrap()).lines();
    let ready = timeout(LIMIT, said.next_line()).await.expect("it never got ready").unwrap();
    assert!(ready.unwrap().starts_with("registered"));
    assert_eq!(run(command().arg("invoke")).await.trim(), "counter is 1");
    assert_eq!(run(command().arg("invoke")).await.trim(), "counter is 2");
    host.kill().await.unwrap();
}

//! Runs the counter hosts of `examples/`, as their first lines say, against the built binary.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// A step that takes longer than this hangs.
const LIMIT: Duration = Duration::from_mins(1);

/// A process that has said that it is ready. Dropping it kills it.
struct Running {
    process: Child,
    ready: String,
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Starts `command` and waits for a line that starts with `ready`.
    async fn start(mut command: Command, ready: &str) -> Running {
        let program = command.as_std().get_program().to_owned();
        let started = command.stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let mut process =
            started.unwrap_or_else(|error| panic!("{} is needed: {error}", program.display()));
        let mut stdout = BufReader::new(process.stdout.take().unwrap()).lines();
        loop {
            let line =
                timeout(LIMIT, stdout.next_line()).await.expect("it never got ready").unwrap();
            let line =
                line.unwrap_or_else(|| panic!("{} ended before it was ready", program.display()));
            if line.starts_with(ready) {
                return Running { process, ready: line, _stdout: stdout };
            }
        }
    }

    async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}

/// Starts the proxy on a free port. It is told no host: the examples say themselves where they listen.
async fn proxy(directory: &Path) -> (Running, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("serve").env("PROXY_HTTP_PORT", "0").env("TIDEGATE_HTTP_ADDRESS", "127.0.0.1");
    command.env("TIDEGATE_DATA_DIR", directory.join("data")).current_dir(directory);
    let listening = "listening on http://";
    let proxy = Running::start(command, listening).await;
    let address = proxy.ready.strip_prefix(listening).unwrap().trim().parse().unwrap();
    (proxy, address)
}

/// One of the examples.
struct Example {
    program: PathBuf,
    page: Option<PathBuf>,
}

impl Example {
    fn python() -> Example {
        Example {
            program: "python3".into(),
            page: Some(root().join("examples/python/counter_host.py")),
        }
    }

    fn node() -> Example {
        Example {
            program: "node".into(),
            page: Some(root().join("examples/node/counter_host.mjs")),
        }
    }

    /// Built here: unlike a binary, an example is not built for a test that needs it.
    async fn rust() -> Example {
        let profile = Path::new(env!("CARGO_BIN_EXE_tidegate")).parent().unwrap();
        let target = profile.parent().unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--package",
            "tidegate",
            "--example",
            "counter_host",
            "--target-dir",
        ]);
        build.arg(target).current_dir(root());
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().await.unwrap().success(), "the example does not build");
        Example { program: profile.join("examples/counter_host"), page: None }
    }

    fn command(&self, proxy: SocketAddr) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.page)
            .env("PROXY_HTTP_PORT", proxy.port().to_string())
            .env("USER_FUNCTION_PORT", "0");
        command
    }

    /// Starts it as a host.
    async fn serve(&self, proxy: SocketAddr) -> Running {
        Running::start(self.command(proxy), "registered").await
    }

    /// Runs its `invoke` mode and returns what it printed.
    async fn invoke(&self, proxy: SocketAddr) -> String {
        let mut command = self.command(proxy);
        let output = timeout(LIMIT, command.arg("invoke").kill_on_drop(true).output())
            .await
            .expect("it hangs")
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

async fn counts(example: Example) {
    let directory = tempfile::tempdir().unwrap();
    let (proxy, address) = proxy(directory.path()).await;
    let host = example.serve(address).await;
    assert_eq!(example.invoke(address).await, "counter is 1");
    assert_eq!(example.invoke(address).await, "counter is 2");
    host.kill().await;
    proxy.kill().await;
}

#[tokio::test]
async fn the_python_page_counts() {
    counts(Example::python()).await;
}

#[tokio::test]
async fn the_node_page_counts() {
    counts(Example::node()).await;
}

#[tokio::test]
async fn the_rust_page_counts() {
    counts(Example::rust().await).await;
}

#[tokio::test]
async fn a_count_goes_on_over_a_restart_and_under_a_host_in_another_language() {
    let directory = tempfile::tempdir().unwrap();
    let (python, node) = (Example::python(), Example::node());
    let (before, address) = proxy(directory.path()).await;
    let host = python.serve(address).await;
    assert_eq!(node.invoke(address).await, "counter is 1");
    assert_eq!(python.invoke(address).await, "counter is 2");
    before.kill().await;

    let (after, address) = proxy(directory.path()).await;
    assert_eq!(python.invoke(address).await, "counter is 3", "the host did not register again");
    host.kill().await;
    let host = node.serve(address).await;
    assert_eq!(
        python.invoke(address).await,
        "counter is 4",
        "the new host got the old one's state"
    );
    host.kill().await;
    after.kill().await;
}

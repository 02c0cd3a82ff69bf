//! Cassandra: servers from `./test cql`, and nodes that one test owns and may kill.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// How long a ring may take to start, or a node to end.
const LIMIT: Duration = Duration::from_mins(5);

/// What `./test cql` tells.
pub(crate) fn told(name: &str) -> String {
    let told = std::env::var_os(name).and_then(|value| value.into_string().ok());
    told.unwrap_or_else(|| panic!("{name} is not set: `./test cql` starts the servers and sets it"))
}

/// A keyspace that nobody else has.
pub(crate) fn keyspace() -> String {
    format!("test_{:016x}", rand::random::<u64>())
}

/// Settings of a proxy on a keyspace of its own on nodes with these addresses (`host:port`).
pub(crate) fn on(addresses: &[String]) -> Vec<(String, String)> {
    let keyspace = keyspace();
    let hosts = addresses.join(",");
    let settings = [
        ("PROXY_DATABASE_TYPE", "scylla"),
        ("PROXY_DATABASE_HOST", &hosts),
        ("PROXY_DATABASE_NAME", &keyspace),
    ];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Nodes of a test's own; stopped when it is dropped.
#[derive(Debug)]
pub(crate) struct Cassandra {
    run: PathBuf,
    pub(crate) addresses: Vec<String>,
}

impl Cassandra {
    /// Starts a node, or a ring of several.
    pub(crate) async fn start(name: &str, nodes: u32, heap: &str) -> Self {
        let run = PathBuf::from(told("TIDEGATE_TEST_CASSANDRA_RUNS")).join(name);
        // Made first: whatever was started is stopped, also when not all of it was.
        let mut ring = Self { run, addresses: Vec::new() };
        let said = ring.tell(&[&nodes.to_string()], heap).await;
        ring.addresses = said.lines().map(str::to_owned).collect();
        assert_eq!(ring.addresses.len(), nodes as usize, "{said}");
        ring
    }

    /// SIGKILL.
    pub(crate) async fn kill(&self, node: u32) {
        self.tell(&["kill", &node.to_string()], "").await;
    }

    /// Starts a killed node again, on its data.
    pub(crate) async fn start_again(&self, node: u32) {
        self.tell(&["start", &node.to_string()], "").await;
    }

    /// SIGSTOP: it is there and says nothing.
    pub(crate) async fn pause(&self, node: u32) {
        self.tell(&["pause", &node.to_string()], "").await;
    }

    /// SIGCONT.
    pub(crate) async fn resume(&self, node: u32) {
        self.tell(&["resume", &node.to_string()], "").await;
    }

    async fn tell(&self, arguments: &[&str], heap: &str) -> String {
        let mut up = Command::new(told("TIDEGATE_TEST_CASSANDRA_UP"));
        up.args(arguments).env("CASS_RUN", &self.run).env("CASS_HEAP", heap);
        up.stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(LIMIT, up.output()).await.expect("in time").expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Cassandra {
    fn drop(&mut self) {
        let mut down = std::process::Command::new(told("TIDEGATE_TEST_CASSANDRA_UP"));
        let down = down.arg("down").env("CASS_RUN", &self.run).status();
        // A test that fails says why; nodes that are left are stopped by `./test`.
        if !down.is_ok_and(|status| status.success()) {
            eprintln!("nodes in {} were not stopped", self.run.display());
        }
    }
}

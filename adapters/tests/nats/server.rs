//! Server: NATS servers of a test's own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use tempfile::TempDir;
use tokio::process::Command;

use super::soon;

/// Servers, by `tools/nats-up`; stopped when this is dropped.
pub(crate) struct Nats {
    run: TempDir,
    port: u16,
    settings: Vec<(String, String)>,
    /// Their addresses, separated by commas.
    pub(crate) servers: String,
}

/// Whether a node can have this port, and what `nats-up` derives from it.
fn is_free(port: u16) -> bool {
    [0, 2_000, 4_000].iter().all(|more| TcpListener::bind(("127.0.0.1", port + more)).is_ok())
}

impl Nats {
    pub(crate) async fn start() -> Self {
        Self::with(1, &[]).await
    }

    /// So many nodes, with what `nats-up` reads of the environment.
    pub(crate) async fn with(nodes: u16, settings: &[(&str, &str)]) -> Self {
        // Below the ports that the system gives to others.
        let port = loop {
            let port = 10_000 + rand::random::<u16>() % 16_000;
            if (0..nodes).all(|node| is_free(port + node)) {
                break port;
            }
        };
        let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let run = tempfile::tempdir().unwrap();
        let mut nats = Self { run, port, settings: settings.collect(), servers: String::new() };
        let said = nats.tell(&[&nodes.to_string()]).await;
        nats.servers = said.lines().collect::<Vec<_>>().join(",");
        nats
    }

    /// SIGKILL.
    pub(crate) async fn kill(&self, node: u16) {
        self.tell(&["kill", &node.to_string()]).await;
    }

    /// Starts a killed node again, at its address.
    pub(crate) async fn restart(&self, node: u16) {
        self.tell(&["start", &node.to_string()]).await;
    }

    /// The process of a node.
    pub(crate) async fn pid(&self, node: u16) -> Pid {
        let told = self.tell(&["pid", &node.to_string()]).await;
        told.trim().parse().ok().and_then(Pid::from_raw).unwrap()
    }

    /// A client that is no Tidegate.
    pub(crate) async fn client(&self) -> async_nats::Client {
        soon(async_nats::connect(&self.servers)).await.unwrap()
    }

    async fn tell(&self, arguments: &[&str]) -> String {
        let output = soon(self.command(arguments).output()).await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "nats-up {arguments:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut command = Command::new(root.join("tools/nats-up"));
        command
            .args(arguments)
            .env("NATS_BIN", binary())
            .env("NATS_RUN", self.run.path())
            .env("NATS_PORT", self.port.to_string())
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let stopped = self.command(&["down"]).into_std().status();
        assert!(stopped.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn binary() -> PathBuf {
    let told = std::env::var_os("TIDEGATE_TEST_NATS_SERVER");
    told.expect("TIDEGATE_TEST_NATS_SERVER is not set: `./test nats` builds the server and sets it")
        .into()
}

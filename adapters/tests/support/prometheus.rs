//! Prometheus: a real one, as a child process, asked over its API.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::client::Client;

/// How long it may take to start, and anything to show in it.
const PATIENCE: Duration = Duration::from_mins(1);

/// A series of an answer: its labels, and its value.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) labels: Value,
    pub(crate) value: f64,
}

/// A running Prometheus; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Prometheus {
    _child: Child,
    address: String,
    _reader: JoinSet<()>,
}

impl Prometheus {
    /// Starts it with a configuration, on a port that the system chooses; its data are in `data`.
    pub(crate) async fn start(config: &Path, data: &Path) -> Self {
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("./test see installs prometheus");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let started = timeout(PATIENCE, async {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("{line}");
                let address = line.split("msg=\"Listening on\" address=").nth(1);
                if let Some(address) = address {
                    return Some(address.trim().to_owned());
                }
            }
            None
        });
        let address = started.await.expect("in time").expect("it listens");
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("level=warn") || line.contains("level=error") {
                    eprintln!("{line}");
                }
            }
        });
        let ready = timeout(PATIENCE, async {
            let mut client = Client::connect(&address).await.expect("it listens");
            while client.get("/-/ready").await.expect("it answers").status != 200 {
                sleep(Duration::from_millis(20)).await;
            }
        });
        ready.await.expect("it is ready in time");
        Self { _child: child, address, _reader: reader }
    }

    /// What is at a path of its API.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let mut client = Client::connect(&self.address).await.expect("it listens");
        let reply = client.get(path).await.expect("it answers");
        serde_json::from_slice(&reply.body).expect("JSON")
    }

    /// What an expression is now.
    pub(crate) async fn query(&self, expression: &str) -> Vec<Series> {
        let escaped =
            expression.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02x}"));
        let answer = self.get(&format!("/api/v1/query?query={escaped}")).await;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let series = answer["data"]["result"].as_array().expect("series").iter();
        let number = |value: &Value| value[1].as_str().expect("a number").parse();
        let series = series.map(|series| Series {
            labels: series["metric"].clone(),
            value: number(&series["value"]).expect("a number"),
        });
        series.collect()
    }

    /// Asks until an expression has series.
    pub(crate) async fn until(&self, expression: &str) -> Vec<Series> {
        let asked = timeout(PATIENCE, async {
            loop {
                let found = self.query(expression).await;
                if !found.is_empty() {
                    return found;
                }
                sleep(Duration::from_millis(100)).await;
            }
        });
        asked.await.unwrap_or_else(|_| panic!("never so: {expression}"))
    }
}

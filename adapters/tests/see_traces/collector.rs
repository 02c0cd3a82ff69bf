//! The OpenTelemetry collector as a child process: it takes spans over OTLP and prints each.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long something that has to happen may take.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// Names the program; `./test see` builds it.
const PROGRAM: &str = "TIDEGATE_TEST_OTELCOL";

/// A span as it was received.
#[derive(Debug, Clone, Default)]
pub(crate) struct Span {
    pub(crate) service: String,
    pub(crate) trace: String,
    pub(crate) parent: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) message: String,
    pub(crate) starts: String,
    pub(crate) ends: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Traces and spans.
    pub(crate) links: Vec<(String, String)>,
}

impl Span {
    pub(crate) fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).unwrap_or_else(|| panic!("{name} of {self:?}"))
    }
}

/// A running collector; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Collector {
    child: Child,
    /// For gRPC and for HTTP.
    ports: (u16, u16),
    lines: Arc<Mutex<Vec<String>>>,
    _readers: JoinSet<()>,
    _directory: tempfile::TempDir,
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Collector {
    pub(crate) async fn start() -> Self {
        // A port may be taken between its choice and its use.
        for _ in 0..5 {
            if let Some(collector) = Self::try_start().await {
                return collector;
            }
        }
        panic!("the collector does not start")
    }

    async fn try_start() -> Option<Self> {
        let program = std::env::var_os(PROGRAM).map(PathBuf::from);
        let program = program.unwrap_or_else(|| panic!("{PROGRAM} is not set; ./test see sets it"));
        let directory = tempfile::tempdir().unwrap();
        let ports = (free_port(), free_port());
        let config = format!(
            "receivers:\n  otlp:\n    protocols:\n      grpc: {{endpoint: \"127.0.0.1:{}\"}}\n      \
             http: {{endpoint: \"127.0.0.1:{}\"}}\nexporters:\n  debug: {{verbosity: detailed}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}}}\n  pipelines:\n    \
             traces: {{receivers: [otlp], exporters: [debug]}}\n",
            ports.0, ports.1
        );
        let path = directory.path().join("collector.yaml");
        std::fs::write(&path, config).unwrap();
        let mut child = Command::new(program)
            .arg("--config")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let mut readers = JoinSet::new();
        let out = BufReader::new(child.stdout.take().unwrap());
        let err = BufReader::new(child.stderr.take().unwrap());
        let kept = lines.clone();
        readers.spawn(async move { keep(out.lines(), &kept).await });
        let kept = lines.clone();
        readers.spawn(async move { keep(err.lines(), &kept).await });
        let mut collector = Self { child, ports, lines, _readers: readers, _directory: directory };
        let is_ready = timeout(LIMIT, async {
            while collector.child.try_wait().unwrap().is_none() {
                if collector.lines.lock().iter().any(|line| line.contains("Everything is ready")) {
                    return true;
                }
                sleep(Duration::from_millis(10)).await;
            }
            false
        });
        is_ready.await.expect("it is ready in time").then_some(collector)
    }

    /// The settings that send traces here.
    pub(crate) fn settings(&self, protocol: &'static str) -> [(&'static str, String); 2] {
        let port = if protocol == "grpc" { self.ports.0 } else { self.ports.1 };
        [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}")),
        ]
    }

    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until there are so many spans; returns all.
    pub(crate) async fn spans(&self, count: usize) -> Vec<Span> {
        self.spans_when(|spans| spans.len() >= count).await
    }

    pub(crate) async fn spans_when(&self, is_there: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let come = timeout(LIMIT, async {
            loop {
                let spans = read(&self.lines.lock());
                if is_there(&spans) {
                    return spans;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        come.await.unwrap_or_else(|_| panic!("{:#?}", read(&self.lines.lock())))
    }
}

async fn keep(
    mut lines: tokio::io::Lines<impl tokio::io::AsyncBufRead + Unpin>,
    kept: &Mutex<Vec<String>>,
) {
    while let Ok(Some(line)) = lines.next_line().await {
        kept.lock().push(line);
    }
}

/// Reads what the exporter `debug` prints.
fn read(lines: &[String]) -> Vec<Span> {
    let (mut spans, mut service): (Vec<Span>, _) = (Vec::new(), String::new());
    for line in lines {
        if line.starts_with("Span #") {
            spans.push(Span { service: service.clone(), ..Span::default() });
            continue;
        }
        if let Some(name) = text(line, "     -> service.name: Str(") {
            name.clone_into(&mut service);
        }
        let Some(span) = spans.last_mut() else { continue };
        if let Some(link) = line.strip_prefix("     -> Trace ID: ") {
            span.links.push((link.to_owned(), String::new()));
        } else if let Some(link) = line.strip_prefix("     -> ID: ") {
            link.clone_into(&mut span.links.last_mut().unwrap().1);
        } else if let Some((name, value)) =
            line.strip_prefix("     -> ").and_then(|line| line.split_once(": "))
        {
            let (_, value) = value.split_once('(').unwrap_or(("", value));
            span.attributes.insert(name.into(), value.trim_end_matches(')').into());
        } else if let Some((name, value)) = line.split_once(':') {
            let value = value.trim().to_owned();
            match name.trim() {
                "Trace ID" => span.trace = value,
                "Parent ID" => span.parent = value,
                "ID" => span.id = value,
                "Name" => span.name = value,
                "Kind" => span.kind = value,
                "Start time" => span.starts = value,
                "End time" => span.ends = value,
                "Status code" => span.status = value,
                "Status message" => span.message = value,
                _ => {}
            }
        }
    }
    spans
}

fn text<'a>(line: &'a str, before: &str) -> Option<&'a str> {
    line.strip_prefix(before)?.strip_suffix(')')
}

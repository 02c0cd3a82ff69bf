//! The built binary as a child process: started, watched, and ended with the test.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long a start may take; a debug build on a busy machine needs a second or two.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a killed process may take to be reaped.
const REAP_LIMIT: Duration = Duration::from_secs(10);
/// How many of the last lines of its log are kept to be shown when a test fails.
const LOG_LINES: usize = 200;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");

/// A running Tidegate. Dropping it kills the process; when the test is failing, its log is printed.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    pid: Pid,
    address: String,
    log: Arc<Mutex<VecDeque<String>>>,
    readers: JoinSet<()>,
}

impl Proxy {
    /// Starts `tidegate serve` with these settings on a port that the system chooses.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("serve");
        Self::spawn(command, settings).await
    }

    /// Starts a command that ends up being `tidegate serve` with these settings.
    ///
    /// A launcher that keeps a process of its own (a tracer) must make its child print `pid N` first: signals go there.
    pub(crate) async fn spawn(mut command: Command, settings: &[(&str, &str)]) -> Self {
        set(&mut command, settings);
        Self::launch(command).await
    }

    /// Starts `tidegate serve` with these settings and a log that goes elsewhere.
    pub(crate) async fn logging_to(stderr: impl Into<Stdio>, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(BINARY);
        set(command.arg("serve"), settings);
        command.stderr(stderr);
        Self::launch(command).await
    }

    async fn launch(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the command starts");
        let own = i32::try_from(child.id().expect("not reaped yet")).expect("a pid fits");

        let log = Arc::new(Mutex::new(VecDeque::new()));
        let mut readers = JoinSet::new();
        let (lines, mut said) = mpsc::channel(16);
        let stdout = child.stdout.take().expect("stdout is piped");
        readers.spawn(read_lines(stdout, Arc::clone(&log), Some(lines)));
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(read_lines(stderr, Arc::clone(&log), None));
        }

        let pid = Pid::from_raw(own).expect("a pid is not 0");
        let mut proxy = Self { child, pid, address: String::new(), log, readers };
        let started = timeout(START_LIMIT, async {
            while let Some(line) = said.recv().await {
                if let Some(pid) = line.strip_prefix("pid ") {
                    proxy.pid = pid.parse().ok().and_then(Pid::from_raw).expect("a pid");
                }
                let url = line.strip_prefix("listening on ");
                let address = url.and_then(|url| {
                    url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))
                });
                if let Some(address) = address {
                    address.trim().clone_into(&mut proxy.address);
                    return true;
                }
            }
            false
        });
        let listens = started.await.expect("the binary says where it listens within its limit");
        assert!(listens, "the binary ended before it said where it listens");
        proxy
    }

    /// Starts `tidegate serve` with settings on which it ends by itself: its exit code, and what it says on stderr.
    pub(crate) async fn refused(settings: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut command = Command::new(BINARY);
        set(command.arg("serve"), settings);
        let ended = timeout(START_LIMIT, command.output()).await;
        let output = ended.expect("the binary ends within its limit").expect("the binary starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The last lines that it said so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().iter().cloned().collect()
    }

    /// `host:port` of its ingress.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// `host:port` of its admin port, which it tells in its log.
    pub(crate) async fn admin(&self) -> String {
        let told = async {
            loop {
                let line = self.log().into_iter().find_map(|line| {
                    let (_, url) = line.split_once("admin port on ")?;
                    Some(url.split_once("://")?.1.trim().to_owned())
                });
                if let Some(address) = line {
                    return address;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(START_LIMIT, told).await.expect("the binary says where its admin port is")
    }

    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Ends it at once, as a power cut would, and reaps it.
    pub(crate) async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait(REAP_LIMIT).await;
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(limit).await
    }

    /// Asks it to end, and waits until it has: the last lines that it said.
    pub(crate) async fn said(mut self, limit: Duration) -> Vec<String> {
        self.signal(Signal::TERM);
        self.wait(limit).await;
        while self.readers.join_next().await.is_some() {}
        self.log.lock().drain(..).collect()
    }

    /// Reads its log no more: the other end of its stderr is gone.
    pub(crate) async fn stop_reading(&mut self) {
        self.readers.shutdown().await;
    }

    /// Sends a signal to it.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("it is still there");
    }

    /// The most memory that it had so far, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = format!("/proc/{}/status", self.pid.as_raw_nonzero());
        let status = std::fs::read_to_string(status).expect("it is still there");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
        peak.expect("the kernel tells").trim().parse().expect("a number")
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let ended = timeout(limit, self.child.wait()).await;
        ended.expect("the binary ends within its limit").expect("it can be waited for")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // `None` once it was reaped: then the number may be somebody else's.
        if self.child.id().is_some() {
            // It may have ended by itself just now; `kill_on_drop` reaps it either way.
            let _gone = kill_process(self.pid, Signal::KILL);
        }
        if std::thread::panicking() {
            let log = self.log.lock();
            eprintln!("--- the last {} lines of the proxy's log ---", log.len());
            for line in log.iter() {
                eprintln!("{line}");
            }
        }
    }
}

/// Nothing of this process's environment but what a program needs; these settings.
pub(crate) fn set(command: &mut Command, settings: &[(&str, &str)]) {
    command.env_clear();
    for inherited in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(inherited) {
            command.env(inherited, value);
        }
    }
    command
        .env("PROXY_HTTP_PORT", "0")
        .env("TIDEGATE_HTTP_ADDRESS", "127.0.0.1")
        .env("TIDEGATE_ADMIN_ADDRESS", "off")
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
}

async fn read_lines(
    stream: impl AsyncRead + Unpin,
    log: Arc<Mutex<VecDeque<String>>>,
    tell: Option<mpsc::Sender<String>>,
) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(tell) = &tell {
            // Nobody listens any more once the start is over; a full channel is never awaited.
            drop(tell.try_send(line.clone()));
        }
        let mut log = log.lock();
        if log.len() == LOG_LINES {
            log.pop_front();
        }
        log.push_back(line);
    }
}

/// The settings of a proxy on the embedded store in `directory`, whose host listens on `host_port`.
pub(crate) fn embedded<'a>(directory: &'a Path, host_port: &'a str) -> Vec<(&'a str, &'a str)> {
    let directory = AsRef::<OsStr>::as_ref(directory).to_str().expect("a readable path");
    vec![
        ("PROXY_DATABASE_TYPE", "embedded"),
        ("TIDEGATE_DATA_DIR", directory),
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", host_port),
    ]
}

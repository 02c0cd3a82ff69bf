//! The proxy's log cannot be written: the reader is gone, the device is full, or nobody reads the pipe.
//!
//! The proxy serves calls all the time, counts lost lines, and ends when it is asked to.

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message;
use rustix::process::Signal;
use support::client::Client;
use support::counter::{ADD, Added, Counter, add, call, definition, register};
use support::host::{Answer, Call, Host, Script};
use support::namespace::run_on_device;
use support::proto::{Action, ActorInvocation, Kind};
use support::proxy::{BINARY, Proxy, set};
use tidegate::config::LogSettings;
use tidegate::telemetry;
use tokio::net::{TcpListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// The size of the pipes: the least there is.
const PIPE_BYTES: usize = 4096;
/// Actions whose failure is one line of the log, longer than a pipe is large.
const NOISE_BYTES: usize = 8192;
/// So many of them are more than any queue holds.
const NOISE: u64 = 1_000;
/// How long anything may take here.
const LIMIT: Duration = Duration::from_mins(1);

/// Counts; any other action than `add` fails.
#[derive(Debug, Default)]
struct Noisy(Arc<Counter>);

impl Script for Noisy {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        let invocation = ActorInvocation::decode(call.body.clone()).expect("an invocation");
        if invocation.action_name == ADD {
            return Arc::clone(&self.0).answer(call);
        }
        let mut answer = Answer::message(&());
        answer.status = 500;
        Box::pin(std::future::ready(Some(answer)))
    }
}

/// The action that fails.
fn noise() -> String {
    "x".repeat(NOISE_BYTES)
}

async fn register_noisy(client: &mut Client) {
    let mut noisy = definition("a", Kind::Named);
    noisy.actions.push(Action { name: noise() });
    register(client, vec![noisy]).await;
}

/// Makes calls that nobody waits for and that fail, each of which is logged; and in between calls that succeed.
async fn make_noise(client: &mut Client, calls: u64) {
    let mut noise = call("a", &noise());
    noise.r#async = true;
    for _ in 0..calls {
        let (status, response) = client.invoke(&noise).await.expect("it is accepted");
        assert_eq!(status, 200, "{response:.200?}");
        let added = add(client, "a").await.expect("an answer");
        assert!(matches!(added, Added::To(_)), "{added:?}");
    }
}

fn settings(port: &str) -> Vec<(&str, &str)> {
    vec![
        ("PROXY_DATABASE_TYPE", "memory"),
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", port),
        ("TIDEGATE_DRAIN_DELAY", "0"),
        // So many lines of one kind are made here on purpose.
        ("TIDEGATE_LOG_LINES_PER_KIND", "0"),
    ]
}

async fn connect(proxy: &Proxy) -> Client {
    let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
    register_noisy(&mut client).await;
    client
}

/// How many lines were lost, as the proxy counts them.
async fn lost(client: &mut Client) -> u64 {
    let metrics = client.get("/metrics").await.expect("metrics").body;
    let metrics = String::from_utf8(metrics.to_vec()).expect("text");
    let line =
        metrics.lines().find_map(|line| line.strip_prefix("tidegate_log_lines_dropped_total "));
    line.expect("lost lines are counted").parse().expect("a number")
}

/// Waits until it holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("never so: {what}"));
}

/// How many lines of noise a log has, each of them whole, and how many it says were lost.
fn seen(log: &[String]) -> (u64, u64) {
    let noise = noise();
    let whole = log.iter().filter(|line| line.contains(&noise)).count();
    let told = log.iter().filter_map(|line| {
        let lines = line.split("lines of the log are lost lines=").nth(1)?;
        Some(lines.parse::<u64>().expect("a number"))
    });
    (u64::try_from(whole).expect("few"), told.sum())
}

/// A pipe of the least size.
fn pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let size = rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BYTES).expect("its size is set");
    assert_eq!(size, PIPE_BYTES);
    (reader, writer)
}

/// A pipe into which nothing goes any more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe();
    writer.write_all(&[b'\n'; PIPE_BYTES]).expect("it is empty");
    (reader, writer)
}

/// A device that is full.
fn full_device() -> File {
    File::options().write(true).open("/dev/full").expect("Linux has it")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_gone_ends_nothing() {
    let host = Host::start(Arc::new(Noisy::default()));
    let port = host.port();
    let (reader, writer) = pipe();
    let proxy = Proxy::logging_to(writer, &settings(&port)).await;
    drop(reader);
    let mut client = connect(&proxy).await;
    make_noise(&mut client, 100).await;
    until("every line is lost and counted", async || lost(&mut client).await >= 100).await;
    assert!(proxy.terminate(LIMIT).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_device_ends_nothing() {
    let host = Host::start(Arc::new(Noisy::default()));
    let port = host.port();
    let proxy = Proxy::logging_to(full_device(), &settings(&port)).await;
    let mut client = connect(&proxy).await;
    make_noise(&mut client, 100).await;
    until("every line is lost and counted", async || lost(&mut client).await >= 100).await;
    assert!(proxy.terminate(LIMIT).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_that_nobody_reads_stops_nothing_and_once_it_is_read_says_what_was_lost() {
    let (reader, writer) = pipe();
    is_read_late(reader, writer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_that_does_not_block_is_no_different() {
    let (reader, writer) = pipe();
    rustix::io::ioctl_fionbio(&writer, true).expect("it need not block");
    is_read_late(reader, writer).await;
}

async fn is_read_late(reader: PipeReader, writer: PipeWriter) {
    let host = Host::start(Arc::new(Noisy::default()));
    let port = host.port();
    let proxy = Proxy::logging_to(writer, &settings(&port)).await;
    let mut client = connect(&proxy).await;
    make_noise(&mut client, NOISE).await;
    assert!(lost(&mut client).await > 0, "the queue has a bound");

    let log = Arc::new(Mutex::new(Vec::new()));
    let lines = BufReader::new(reader).lines();
    let taken = Arc::clone(&log);
    let reading = std::thread::spawn(move || {
        lines.for_each(|line| taken.lock().push(line.expect("a readable line")));
    });
    until("each line is written or said to be lost", async || {
        let (noise, told) = seen(&log.lock());
        noise + told == NOISE
    })
    .await;
    let told = seen(&log.lock()).1;
    assert_eq!(lost(&mut client).await, told);

    let ended = proxy.terminate(LIMIT).await;
    assert!(ended.success());
    reading.join().expect("the log has ended");
    let log = log.lock();
    assert!(log.last().expect("lines").contains("ended"), "{:?}", log.last());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_that_nobody_reads_keeps_the_process_from_nothing() {
    let host = Host::start(Arc::new(Noisy::default()));
    let port = host.port();
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("socket");
    let socket_path = socket.to_str().expect("a readable path");
    let mut settings = settings(&port);
    settings.extend([("PROXY_UDS_ENABLED", "true"), ("PROXY_UDS_ADDRESS", socket_path)]);
    // What it says on stdout goes there too, as with `2>&1 |`.
    let (_reader, writer) = full_pipe();
    let mut command = Command::new(BINARY);
    set(command.arg("serve"), &settings);
    let both = writer.try_clone().expect("one more");
    let mut child = command.stdout(both).stderr(writer).spawn().expect("the binary starts");

    let mut client = None;
    until("it listens", async || {
        client = over(&socket).await;
        client.is_some()
    })
    .await;
    let mut client = client.expect("it is there");
    register_noisy(&mut client).await;
    make_noise(&mut client, 10).await;
    let status = terminate(&mut child).await;
    assert!(status.expect("it ends").success());
}

/// Waits for the end of a process.
async fn output(command: &mut Command) -> Output {
    let child = command.spawn().expect("it starts");
    let ended = timeout(LIMIT, child.wait_with_output()).await;
    ended.expect("it ends within its limit").expect("it can be waited for")
}

async fn over(socket: &Path) -> Option<Client> {
    Client::over(UnixStream::connect(socket).await.ok()?).await.ok()
}

async fn terminate(child: &mut Child) -> std::io::Result<std::process::ExitStatus> {
    let pid = i32::try_from(child.id().expect("not reaped yet")).expect("a pid fits");
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid is not 0");
    rustix::process::kill_process(pid, Signal::TERM).expect("it is still there");
    timeout(LIMIT, child.wait()).await.expect("it ends within its limit")
}

#[test]
fn a_log_file_on_a_device_that_was_full_goes_on() {
    run_on_device("1m", "inside_a_device_that_runs_full");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by a test above"]
async fn inside_a_device_that_runs_full() {
    let host = Host::start(Arc::new(Noisy::default()));
    let port = host.port();
    // No multiple of the length of a line: the last one that fits does so in part.
    std::fs::write("ballast", vec![1; 500_000]).expect("there is space");
    let log = File::options().create(true).append(true).open("log").expect("a file");
    let proxy = Proxy::logging_to(log, &settings(&port)).await;
    let mut client = connect(&proxy).await;
    make_noise(&mut client, 200).await;
    until("it is full", async || lost(&mut client).await > 0).await;
    std::fs::remove_file("ballast").expect("it is there");
    make_noise(&mut client, 10).await;
    until("each line is written or said to be lost", async || {
        let log = std::fs::read_to_string("log").expect("text");
        let lines: Vec<_> = log.lines().map(str::to_owned).collect();
        let (noise, told) = seen(&lines);
        noise + told == 210
    })
    .await;
    assert!(proxy.terminate(LIMIT).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_says_so_and_ends_whoever_reads_it() {
    let other = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = other.local_addr().expect("bound").port().to_string();
    let taken = [("PROXY_DATABASE_TYPE", "memory"), ("PROXY_HTTP_PORT", port.as_str())];
    let start = async |stderr: Stdio| -> Output {
        let mut command = Command::new(BINARY);
        set(command.arg("serve"), &taken);
        output(command.stderr(stderr)).await
    };
    let read = start(Stdio::piped()).await;
    let said = String::from_utf8_lossy(&read.stderr);
    let last = said.lines().last().expect("lines");
    assert!(last.starts_with("tidegate: ") && last.contains("PROXY_HTTP_PORT"), "{said}");
    assert_eq!(read.status.code(), Some(69));

    let (_reader, writer) = full_pipe();
    assert_eq!(start(writer.into()).await.status.code(), Some(69), "a pipe that nobody reads");
    let gone = pipe().1;
    assert_eq!(start(gone.into()).await.status.code(), Some(69), "a reader that is gone");
    assert_eq!(start(full_device().into()).await.status.code(), Some(69), "a full device");
}

#[tokio::test]
async fn a_panic_that_cannot_be_logged_ends_its_thread_only() {
    let (_reader, unread) = full_pipe();
    for stderr in [full_device().into(), pipe().1.into(), Stdio::from(unread)] {
        let mut command = Command::new(std::env::current_exe().expect("this binary has a path"));
        command.args(["--exact", "inside_a_process_that_panics", "--ignored", "--nocapture"]);
        let output = output(command.stderr(stderr).stdout(Stdio::piped()).kill_on_drop(true)).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{} {text}", output.status);
    }
}

#[test]
#[ignore = "started by a test above"]
fn inside_a_process_that_panics() {
    telemetry::log(&LogSettings { level: "info", json: false, lines_per_kind: 0 })
        .expect("the first log");
    for _ in 0..3 {
        let panicking = std::thread::spawn(|| panic!("on purpose"));
        assert!(panicking.join().is_err());
    }
}

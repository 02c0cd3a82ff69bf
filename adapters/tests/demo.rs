//! Runs the demo as a user does; checks its output, its exit code and the files that it leaves.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use support::pty::OnTerminal;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};

/// A demo that takes longer than this hangs.
const LIMIT: Duration = Duration::from_mins(2);

/// A running demo, whose temporary files go to a directory of the test's.
struct Demo {
    process: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    said: Vec<String>,
    temporary: TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Demo {
        let temporary = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("demo")
            .args(arguments)
            // A user's settings must not reach the demo's proxy.
            .envs([("PROXY_HTTP_PORT", "no port"), ("TIDEGATE_DURABILITY", "snapshot")])
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap()).lines();
        Demo { process, stdout, said: Vec::new(), temporary }
    }

    /// Reads on until a line contains `text`.
    async fn until(&mut self, text: &str) {
        loop {
            let line =
                timeout(LIMIT, self.stdout.next_line()).await.expect("the demo hangs").unwrap();
            self.said
                .push(line.unwrap_or_else(|| panic!("{text:?} was not said: {:#?}", self.said)));
            if self.said.last().unwrap().contains(text) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Reads to the end; returns the exit code, `None` when a signal ended it.
    async fn end(&mut self) -> Option<i32> {
        while let Some(line) =
            timeout(LIMIT, self.stdout.next_line()).await.expect("the demo hangs").unwrap()
        {
            self.said.push(line);
        }
        timeout(LIMIT, self.process.wait()).await.expect("the demo hangs").unwrap().code()
    }

    /// The numbers in a row of its tables.
    fn row<const N: usize>(&self, name: &str) -> [u64; N] {
        let row = self.said.iter().find(|line| line.split_whitespace().next() == Some(name));
        let numbers = row.unwrap().split_whitespace().skip(1).take(N);
        let numbers: Vec<u64> = numbers.map(|number| number.parse().unwrap()).collect();
        numbers.try_into().unwrap_or_else(|_| panic!("{name}: {:#?}", self.said))
    }

    /// Process ids of all children it told of.
    fn children(&self) -> Vec<Pid> {
        let pid = |line: &String| {
            line.split_once("(pid ")?.1.split_once(')')?.0.parse().ok().and_then(Pid::from_raw)
        };
        self.said.iter().filter_map(pid).collect()
    }

    async fn leaves_no_process(&self, at_least: usize) {
        let children = self.children();
        assert!(children.len() >= at_least, "{:#?}", self.said);
        let gone = async {
            while children.iter().any(|pid| test_kill_process(*pid).is_ok() && !is_zombie(*pid)) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LIMIT, gone).await.expect("a child outlives the demo");
    }

    fn leaves_no_file(&self) {
        let left: Vec<_> = std::fs::read_dir(self.temporary.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Whether a process has ended but nobody asked for its status: where process 1 does not, orphans stay so.
fn is_zombie(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(
        Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join("stat"),
    );
    stat.is_ok_and(|stat| {
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    })
}

#[tokio::test]
async fn a_demo_counts_crashes_finds_every_count_and_leaves_nothing() {
    let mut demo = Demo::start(&["--duration", "2s", "--rate", "100", "--actors", "3"]);
    let code = demo.end().await;
    assert_eq!(code, Some(0), "{:#?}", demo.said);
    for text in
        ["/s  p50 ", "killed  pid ", "nobody registered again", "No acknowledged count was lost"]
    {
        assert!(
            demo.said.iter().any(|line| line.contains(text)),
            "{text:?} was not said: {:#?}",
            demo.said
        );
    }
    let mut all_found = 0;
    for actor in ["tern", "gull", "knot"] {
        let [acknowledged, tried, found] = demo.row(actor);
        assert!(acknowledged > 0 && (acknowledged..=tried).contains(&found), "{:#?}", demo.said);
        all_found += found;
    }
    let [sent, arrived, lost, doubled] = demo.row("effects");
    assert_eq!((sent, arrived, lost, doubled), (all_found, all_found, 0, 0), "{:#?}", demo.said);
    let [sent, arrived, lost, doubled] = demo.row("broadcasts");
    assert_eq!((sent, arrived + lost, doubled), (demo.row::<3>("tern")[2], sent, 0));
    assert!(arrived > 0, "{:#?}", demo.said);
    let [seen, ticked, lost, doubled] = demo.row("ticks");
    assert!(seen > 0 && ticked > seen && lost + doubled == 0, "{:#?}", demo.said);
    demo.leaves_no_process(3).await;
    demo.leaves_no_file();
}

#[tokio::test]
async fn on_a_terminal_the_demo_shows_the_stages_in_place() {
    let temporary = tempfile::tempdir().unwrap();
    let args = ["demo", "--duration", "4s", "--rate", "100", "--actors", "3"];
    let mut demo = OnTerminal::start(&args, &[("TMPDIR", temporary.path())]);
    let (mut frames, mut granted) = (BTreeSet::new(), BTreeSet::new());
    while demo.changed().await {
        let screen = demo.screen().contents();
        assert!(screen.matches("STAGE").count() <= 1, "a frame stays: {screen}");
        frames.extend(screen.lines().find(|line| line.contains("/s  p50 ")).map(str::to_owned));
        let row = screen.lines().find(|line| line.starts_with("caller "));
        granted.extend(row.and_then(|row| row.split_whitespace().nth(2)?.parse::<u64>().ok()));
    }
    let screen = demo.screen().contents();
    assert_eq!(demo.ended().await, Some(0), "{screen}");
    assert!(screen.contains("No acknowledged count was lost"), "{screen}");
    assert!(frames.len() > 2, "{frames:?}");
    assert!(granted.iter().any(|rate| *rate > 0), "{granted:?}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn ctrl_c_goes_on_to_the_crash_at_once() {
    let mut demo = Demo::start(&["--duration", "1h", "--actors", "2"]);
    demo.until("p50").await;
    demo.signal(Signal::INT);
    assert_eq!(demo.end().await, Some(0), "{:#?}", demo.said);
    assert!(
        demo.said.iter().any(|line| line.contains("No acknowledged count was lost")),
        "{:#?}",
        demo.said
    );
    demo.leaves_no_process(3).await;
    demo.leaves_no_file();
}

#[tokio::test]
async fn a_demo_told_to_end_fails_and_leaves_nothing() {
    let mut demo = Demo::start(&["--duration", "1h"]);
    demo.until("p50").await;
    demo.signal(Signal::TERM);
    assert_eq!(demo.end().await, Some(1), "{:#?}", demo.said);
    demo.leaves_no_process(2).await;
    demo.leaves_no_file();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_killed_demo_takes_its_children_along() {
    let mut demo = Demo::start(&["--duration", "1h"]);
    demo.until("p50").await;
    demo.signal(Signal::KILL);
    assert_eq!(demo.end().await, None, "{:#?}", demo.said);
    demo.leaves_no_process(2).await;
}

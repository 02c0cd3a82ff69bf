//! Demo: shows in half a minute that actors run through Tidegate, that nothing acknowledged is lost, and that effects,
//! broadcasts and timers go on after a crash.
//!
//! The demo uses Tidegate as any user does: it starts the built binary as a proxy and a user function in
//! another process, and talks to both over HTTP only. `demo/script.rs` has the order in which a viewer sees
//! the demo.

mod cast;
mod child;
mod client;
mod host;
mod notes;
mod screen;
mod script;
mod sendings;
mod tally;
mod traffic;
mod verdict;

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::child::Part;
use self::screen::Screen;
use self::script::Stage;

/// Counts through a proxy that is killed in the middle, and shows that nothing acknowledged is lost or done twice
///
/// Starts a proxy on a temporary directory and a sample user function in another process, both on free ports.
/// Ctrl-C skips to the crash; a second one ends the demo. Exit code 0: every acknowledged count was found again,
/// every effect counted once, no broadcast arrived twice, and the timer ticked on.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// How long to invoke before the proxy is killed: seconds, or a number with `s`, `m` or `h`
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Invocations per second, all actors together
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// How many actors to invoke
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub actors: u32,
}

/// Arguments of the hidden `tidegate demo-part`, with which the demo starts its own processes.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct PartArgs {
    /// Which of the demo's processes to be
    #[arg(value_enum)]
    part: Part,
}

/// Runs the demo: starts proxy and host as children, sends calls, kills the proxy, restarts it and compares
/// the counts. The first Ctrl-C skips to the kill; a second one, or SIGTERM, ends the demo. Every exit path
/// ends the children.
///
/// # Errors
/// When a process does not start, a call fails, an acknowledged count is missing, or the demo was
/// interrupted.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    screen.say(&format!(
        "Tidegate {} demo: counts, then crashes, then counts again.",
        env!("CARGO_PKG_VERSION")
    ))?;

    let hurry = CancellationToken::new();
    let mut stage = Stage::new()
        .context("cannot make a temporary directory; set TMPDIR to one that can be written")?;
    let played = tokio::select! {
        played = script::play(&args, &mut stage, &mut screen, &hurry) => played,
        interrupted = interruption(&hurry) => interrupted,
    };
    let cleared = stage.clear(played.is_err()).await;
    played.and(cleared)?;
    screen.say("Cleaned up: both processes have ended, the directory is gone.")
}

/// Runs one of the demo's own processes; see [`run`].
///
/// # Errors
/// When the process cannot start or loses its listener.
pub async fn part(args: PartArgs) -> anyhow::Result<()> {
    child::die_with_the_demo();
    match args.part {
        Part::Host => host::serve().await,
        Part::Proxy => child::become_proxy(),
    }
}

/// Fails when the demo must end now: on SIGTERM or a second Ctrl-C. A first Ctrl-C cancels `hurry`.
async fn interruption(hurry: &CancellationToken) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    loop {
        tokio::select! {
            _ = interrupt.recv() => {
                if hurry.is_cancelled() {
                    bail!("interrupted twice: ended before anything was compared");
                }
                hurry.cancel();
            }
            _ = terminate.recv() => bail!("asked to end (SIGTERM) before anything was compared"),
        }
    }
}

/// Parses `45`, `45s`, `2m` or `1h`; at least one second, at most one day.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 3_600,
        _ => return Err("write seconds, or a whole number with s, m or h: 45, 45s, 2m, 1h".into()),
    };
    let number: u64 =
        digits.parse().map_err(|_| "write a whole number: 45, 45s, 2m, 1h".to_owned())?;
    match number.checked_mul(unit) {
        Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("must be between 1s and 24h".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_seconds_or_has_a_unit() {
        for (text, seconds) in
            [("45", 45), ("30s", 30), ("2m", 120), ("1h", 3_600), ("24h", 86_400)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn a_duration_that_makes_no_sense_is_refused_with_an_example() {
        for text in ["", "s", "0", "25h", "10x", "-3s", "1.5s", "3 s", "99999999999999999999h", "ſ"]
        {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains("45") || error.contains("24h"), "{text}: {error}");
        }
    }
}

//! Script: the demo from the first call to the comparison, in the order in which a viewer sees it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::future::{join_all, try_join_all};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::DemoArgs;
use super::cast::{CLOCK, CRIER, LISTENER, PERIOD, SYSTEM};
use super::child::{Child, Part};
use super::client::{Client, patiently};
use super::notes::Notes;
use super::screen::{Screen, millis};
use super::sendings;
use super::tally::Tally;
use super::traffic::{Until, call, count};
use super::verdict::{Verdict, broken_promises, heading};
use crate::log;

/// Acknowledgements at full speed before the kill.
const BURST: u64 = 200;
/// Time limit for these acknowledgements.
const BURST_LIMIT: Duration = Duration::from_secs(20);
/// Lines of a log that are shown after a failure.
const LOG_LINES: usize = 8;

/// The processes and the directory that the demo removes at its end.
#[derive(Debug)]
pub(super) struct Stage {
    host: Option<Child>,
    proxy: Option<Child>,
    directory: TempDir,
    /// Whether the directory proves a broken promise and must stay.
    is_evidence: bool,
}

/// What was seen of effects, broadcasts and ticks before the crash.
#[derive(Debug)]
struct Crash {
    /// Broadcasts that were sent before the calls at full speed, and what the listener had noted.
    early: (u64, Notes),
    /// The last count of the clock that was seen.
    ticks_seen: u64,
}

/// Runs the whole demo on `stage`. `hurry` ends the paced part early.
pub(super) async fn play(
    args: &DemoArgs,
    stage: &mut Stage,
    screen: &mut Screen,
    hurry: &CancellationToken,
) -> anyhow::Result<()> {
    let tally = Tally::new(args.actors)?;
    let mut clients = stage.open(&tally, screen).await?;
    screen.say("")?;
    screen.say("Checked all the while: every answer is exactly one more than the actor's last.")?;
    screen.say(
        "Checked at the end: SIGKILL in the middle of calls loses no count that was answered;",
    )?;
    screen.say(
        "  the effect of each count counts once, no broadcast comes twice, the timer ticks on.",
    )?;
    screen.say("")?;
    count(args, &tally, &mut clients, screen, hurry).await?;
    let crash = stage.crash(&tally, &mut clients, screen).await?;
    stage.compare(&tally, &crash, screen).await
}

impl Stage {
    /// Creates a temporary directory; starts no process.
    pub(super) fn new() -> std::io::Result<Stage> {
        let directory = tempfile::Builder::new().prefix("tidegate-demo-").tempdir()?;
        Ok(Stage { host: None, proxy: None, directory, is_evidence: false })
    }

    /// Starts host and proxy, registers once, and makes the actors.
    async fn open(&mut self, tally: &Tally, screen: &mut Screen) -> anyhow::Result<Vec<Client>> {
        let host = self.host.insert(Child::start(Part::Host, self.directory.path(), &[]).await?);
        let at = format!("http://{} (pid {})", host.address, host.pid);
        screen.say(&format!(
            "  host    {at}: counters in a process of its own, without memory of its own"
        ))?;
        let proxy = self.start_proxy().await?;
        let (address, pid) = (proxy.address, proxy.pid);
        let directory = self.directory.path().display();
        screen.say(&format!("  proxy   http://{address} (pid {pid}), state in {directory}"))?;

        let mut client = Client::new(address);
        client.register().await.context("registration failed")?;
        client
            .spawn(tally.actors.iter().map(|actor| &*actor.name))
            .await
            .context("spawning failed")?;
        let actors = tally.actors.len();
        screen.say(&format!(
            "  actors  {actors} counters in the system `{SYSTEM}`, each with a ledger that its effects reach;"
        ))?;
        screen.say(&format!(
            "          `{LISTENER}`, which hears the broadcasts of `{CRIER}`; `{CLOCK}`, with a timer of {PERIOD:?}"
        ))?;
        Ok(tally.actors.iter().map(|_| Client::new(address)).collect())
    }

    async fn start_proxy(&mut self) -> anyhow::Result<&mut Child> {
        let host = self.host.as_ref().context("the host is started first")?.address;
        let settings = [
            ("PROXY_ACTOR_SYSTEM_NAME", SYSTEM.into()),
            ("PROXY_HTTP_PORT", "0".into()),
            ("TIDEGATE_HTTP_ADDRESS", "127.0.0.1".into()),
            ("TIDEGATE_ADMIN_ADDRESS", "off".into()),
            ("USER_FUNCTION_HOST", host.ip().to_string()),
            ("USER_FUNCTION_PORT", host.port().to_string()),
            ("TIDEGATE_DURABILITY", "acknowledged".into()),
            ("TIDEGATE_DATA_DIR", self.directory.path().join("data").display().to_string()),
        ];
        let proxy = Child::start(Part::Proxy, self.directory.path(), &settings).await?;
        Ok(self.proxy.insert(proxy))
    }

    /// Sends calls at full speed, kills the proxy during them, and starts it again.
    async fn crash(
        &mut self,
        tally: &Tally,
        clients: &mut [Client],
        screen: &mut Screen,
    ) -> anyhow::Result<Crash> {
        let mut proxy = self.proxy.take().context("the proxy runs")?;
        let mut observer = Client::new(proxy.address);
        let crier = tally.actors.iter().find(|actor| actor.name == CRIER);
        let sent = crier.context("the crier is one of the counters")?.acknowledged();
        let early = sendings::early_broadcasts(&mut observer, sent).await?;
        screen.say("")?;
        screen
            .say("Now as fast as answers come, and SIGKILL for the proxy in the middle of it:")?;
        let killed = CancellationToken::new();
        let callers = tally
            .actors
            .iter()
            .zip(clients)
            .map(|(actor, client)| call(client, actor, tally, Until::Killed(&killed)));
        let kill = async {
            let enough = tally.acknowledged() + BURST;
            let reached = async {
                while tally.acknowledged() < enough {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(BURST_LIMIT, reached)
                .await
                .context("the proxy got too slow to be killed in full flight")?;
            let in_flight = tally.in_flight();
            killed.cancel();
            proxy.send_kill()?;
            anyhow::Ok(in_flight)
        };
        let watch = sendings::watch_clock(&mut observer, &killed);
        let (_, in_flight, ticks_seen) = tokio::try_join!(try_join_all(callers), kill, watch)?;
        let pid = proxy.pid;
        proxy.kill().await?;
        let acknowledged = tally.acknowledged();
        screen.say(&format!(
            "  killed  pid {pid}, with {in_flight} calls in flight and {acknowledged} acknowledged"
        ))?;

        let proxy =
            self.start_proxy().await.context("the proxy did not come back after SIGKILL")?;
        let (address, pid) = (proxy.address, proxy.pid);
        screen.say(&format!(
            "  back    http://{address} (pid {pid}), same directory; nobody registered again"
        ))?;
        Ok(Crash { early, ticks_seen })
    }

    /// Compares the acknowledged counts with the counts found, and what was sent with what arrived; then increments each
    /// counter once more.
    async fn compare(
        &mut self,
        tally: &Tally,
        crash: &Crash,
        screen: &mut Screen,
    ) -> anyhow::Result<()> {
        let proxy = self.proxy.as_ref().context("the proxy runs")?.address;
        let mut client = Client::new(proxy);
        let mut verdicts = Vec::with_capacity(tally.actors.len());
        screen.say("")?;
        screen.say(&heading())?;
        for actor in &tally.actors {
            let name = &actor.name;
            let found = patiently(async || client.count(name).await).await;
            let found = found
                .with_context(|| format!("the state of {name} cannot be read after the restart"))?;
            let (acknowledged, tried) = (actor.acknowledged(), actor.tried());
            let verdict = Verdict { actor: name.clone(), acknowledged, tried, found };
            screen.say(&verdict.to_string())?;
            verdicts.push(verdict);
        }
        screen.say("")?;
        screen.say(&sendings::heading())?;
        let sent = sendings::after_the_crash(&mut client, &verdicts, crash.early, crash.ticks_seen)
            .await?;
        for sending in &sent {
            screen.say(&sending.to_string())?;
        }
        screen.say("")?;
        let broken = broken_promises(&verdicts).or_else(|| sendings::broken_promises(&sent));
        if let Some(broken) = broken {
            self.is_evidence = true;
            bail!(
                "{broken}: the table above says which. This is a defect of Tidegate; please report it"
            );
        }
        for Verdict { actor, found, .. } in &verdicts {
            let count = client
                .increment(actor)
                .await
                .with_context(|| format!("{actor} cannot count on"))?;
            if count != found + 1 {
                bail!(
                    "{actor} was at {found} after the restart and answered {count} to the next call"
                );
            }
        }
        sendings::go_on(&mut client, &verdicts).await?;
        let overall = tally.overall();
        let (calls, p50, p99) = (overall.calls, millis(overall.p50), millis(overall.p99));
        screen.say(&format!(
            "No acknowledged count was lost, and every actor counts on. {calls} calls, p50 {p50}, p99 {p99}."
        ))?;
        screen.say(
            "Each effect counted once, no broadcast came twice, and the timer ticks at its rate.",
        )
    }

    /// Ends the children and removes the directory. After a failure, `tell` first shows the last lines of
    /// their logs.
    pub(super) async fn clear(mut self, tell: bool) -> anyhow::Result<()> {
        let children = [self.proxy.take(), self.host.take()];
        let ended = join_all(children.into_iter().flatten().map(Child::kill)).await;
        if tell {
            self.tell_logs();
        }
        if self.is_evidence {
            let kept = self.directory.keep();
            log::say(&format!("the data directory and the logs are kept in {}", kept.display()));
        } else {
            let directory = self.directory.path().to_owned();
            self.directory
                .close()
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        ended.into_iter().collect()
    }

    fn tell_logs(&self) {
        for part in [Part::Host, Part::Proxy] {
            let log = std::fs::read_to_string(part.log(self.directory.path())).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            if !lines.is_empty() {
                let last = lines.split_at(lines.len().saturating_sub(LOG_LINES)).1;
                let (name, lines) = (part.name(), last.join("\n  "));
                log::say(&format!("the last lines of the {name}'s log:\n  {lines}"));
            }
        }
    }
}

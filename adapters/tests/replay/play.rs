//! Plays a run: sends the SDK's requests to the proxy in recorded order, and plays the host.
//!
//! The order is kept, not the time. A request is sent after the end of every request that had ended before
//! it in the recording, and after the responses of the actions that those requests started in the
//! background. Requests that overlapped are sent together. Pauses are dropped, with one exception: before a
//! call that reactivates its actor in the recording, the actor stays idle until it is deactivated.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hyper::Request;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::recording::{Recording, Sdk, SdkCall};
use crate::stand_in::{Seen, StandIn};
use crate::support::client::{Client, NoAnswer, Reply};
use crate::support::host::BoundHost;
use crate::support::proto::{Actor, INIT_ACTIONS, actor_deactivation_strategy};
use crate::support::proxy::Proxy;

/// How long an idle actor is left alone beyond its own deactivation timeout before it is taken for unloaded.
const UNLOADING: Duration = Duration::from_millis(1_500);
/// How long actions in the background may take until the next request goes out all the same.
const QUIET: Duration = Duration::from_secs(3);
/// How long the Rust SDK's server stays deaf after it registered.
const DEAF: Duration = Duration::from_millis(300);

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Played {
    /// What each SDK call got, in the order of the recording.
    pub(crate) replies: Vec<Result<Reply, NoAnswer>>,
    /// What the host saw.
    pub(crate) seen: Seen,
}

/// Plays the whole run against the built binary.
pub(crate) async fn play(run: &Arc<Recording>) -> Played {
    let host = BoundHost::bind();
    let directory = tempfile::tempdir().expect("a directory");
    let port = host.port();
    let settings = crate::support::proxy::embedded(directory.path(), &port);
    let proxy = Proxy::start(&settings).await;

    let stand_in = StandIn::new(Arc::clone(run));
    let (ended, _) = watch::channel(vec![false; run.sdk_calls.len()]);
    let calls = run.sdk_calls.iter().enumerate().map(|(index, call)| {
        let turn = Turn { index, call, run, stand_in: &stand_in, ended: &ended };
        turn.take(proxy.address())
    });
    let replies = if run.sdk == Sdk::Rust {
        // This SDK registers before it listens: its first request leaves while nobody answers.
        let late = async {
            ended.subscribe().wait_for(|ended| ended[0]).await.expect("the sender is here");
            sleep(DEAF).await;
            stand_in.hears();
            host.listen(Arc::clone(&stand_in))
        };
        let (replies, _host) = tokio::join!(join_all(calls), late);
        stand_in.settled(QUIET).await;
        replies
    } else {
        stand_in.hears();
        let _host = host.listen(Arc::clone(&stand_in));
        let replies = join_all(calls).await;
        stand_in.settled(QUIET).await;
        replies
    };
    let status = proxy.terminate(Duration::from_mins(1)).await;
    assert!(status.success(), "the proxy ends with {status}");
    Played { replies, seen: stand_in.into_seen() }
}

/// One SDK call and what decides when it leaves.
struct Turn<'a> {
    index: usize,
    call: &'a SdkCall,
    run: &'a Recording,
    stand_in: &'a Arc<StandIn>,
    ended: &'a watch::Sender<Vec<bool>>,
}

impl Turn<'_> {
    async fn take(self, address: &str) -> Result<Reply, NoAnswer> {
        self.predecessors().await;
        if self.index > 0 {
            self.stand_in.heard().await;
            self.stand_in.settled(QUIET).await;
        }
        self.reactivation().await;
        self.stand_in.expect_background(self.call);
        let reply = send(address, self.call).await;
        self.stand_in.touch(self.call.actor());
        self.stand_in.sdk_call_ended(self.index);
        self.ended.send_modify(|ended| ended[self.index] = true);
        reply
    }

    /// Waits for every call that had ended before this one began.
    async fn predecessors(&self) {
        let began = self.call.started_ms;
        let before = |(index, call): &(usize, &SdkCall)| {
            *index != self.index && call.ended_ms <= began && call.started_ms < began
        };
        let before: Vec<usize> =
            self.run.sdk_calls.iter().enumerate().filter(before).map(|(index, _)| index).collect();
        let mut ended = self.ended.subscribe();
        let all = ended.wait_for(|ended| before.iter().all(|index| ended[*index]));
        all.await.expect("the sender is here");
    }

    /// Lets the actor be unloaded when the recording shows that this call activated it.
    async fn reactivation(&self) {
        let span = self.call.started_ms..self.call.ended_ms;
        let is_init = |action: &str| INIT_ACTIONS.contains(&action);
        let inits = || {
            let of_actor = |call: &&crate::recording::HostCall| {
                call.id().name == self.call.actor() && is_init(&call.invocation.action_name)
            };
            self.run.host_calls.iter().filter(of_actor)
        };
        if !inits().any(|init| span.contains(&init.started_ms)) {
            return;
        }
        let definition = self.run.actors.get(self.call.actor()).expect("it is registered itself");
        let earlier = inits().filter(|init| init.started_ms < span.start).map(|init| init.number);
        self.stand_in.seen_all(earlier.collect(), QUIET).await;
        // Another activation may still be on its way: the last sign of life counts.
        let idle = deactivation_of(definition) + UNLOADING;
        loop {
            let unloaded_at = self.stand_in.last_sign(self.call.actor()) + idle;
            if unloaded_at <= Instant::now() {
                return;
            }
            sleep_until(unloaded_at).await;
        }
    }
}

fn deactivation_of(definition: &Actor) -> Duration {
    let settings = definition.settings.as_ref().expect("a definition has settings");
    let strategy = settings.deactivation_strategy.as_ref().and_then(|some| some.strategy.as_ref());
    let Some(actor_deactivation_strategy::Strategy::Timeout(timeout)) = strategy else {
        panic!("an actor without a deactivation strategy is never unloaded");
    };
    Duration::from_millis(timeout.timeout.try_into().expect("a timeout"))
}

/// Sends the recorded bytes with the recorded headers, on a connection of its own.
async fn send(address: &str, call: &SdkCall) -> Result<Reply, NoAnswer> {
    let mut request = Request::post(&call.path).header("host", address);
    for (name, value) in &call.headers {
        let ours = ["host", "content-length", "connection"];
        if !ours.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            request = request.header(name, value);
        }
    }
    let request = request.body(call.body.clone().into()).expect("a recorded request is valid");
    let mut client = Client::connect(address).await?;
    client.send(request).await
}

/// Waits until the condition holds, at most this long. Says whether it holds.
pub(crate) async fn within<T: Send + Sync>(
    limit: Duration,
    state: &mut watch::Receiver<T>,
    condition: impl FnMut(&T) -> bool,
) -> bool {
    timeout(limit, state.wait_for(condition)).await.is_ok_and(|held| held.is_ok())
}

//! Calls: sends the calls for systems that are not registered here, and reads their answers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidegate_stages::error::{Error, ErrorKind, FailedBy, FailedElsewhere};
use tidegate_stages::invocation::{Invocation, Payload};
use tidegate_stages::ports::{Bus, BusError, BusMessage, OtherSystems};
use tokio::sync::Semaphore;

use super::context;
use super::metrics::CallsOut;
use super::subject;
use super::told;
use crate::wire;

/// Body of an answer: the call is accepted.
pub(super) const ACCEPTED: &[u8] = b"async";
/// Body of an answer of Spawn: the host of the actor gave none.
const NO_CONTENT: &[u8] = b"no_content";

/// When to come back after a call that was not sent.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Calls over a bus; see the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NatsCalls {
    bus: Arc<dyn Bus>,
    free: Arc<Semaphore>,
    counted: CallsOut,
}

impl NatsCalls {
    /// At most so many calls wait for their answers at the same time.
    pub fn new(bus: Arc<dyn Bus>, at_once: usize) -> Self {
        Self { bus, free: Arc::new(Semaphore::new(at_once)), counted: CallsOut::new() }
    }

    async fn call(&self, invocation: Invocation, limit: Duration) -> Result<Payload, Error> {
        let system = invocation.actor.system.clone();
        let Ok(_place) = self.free.clone().try_acquire_owned() else {
            self.counted.unsent.increment(1);
            let text = "not sent, it is safe to retry: too many calls to other actor systems wait for their answers (TIDEGATE_NATS_CALLS)";
            return Err(unsent(ErrorKind::Overloaded, Some(RETRY_AFTER), text.into()));
        };
        let is_awaited = !invocation.asynchronous && invocation.scheduled_to == 0;
        let headers = context::headers(&invocation.traceparent);
        let request = BusMessage { headers, body: wire::encode_invocation(invocation) };
        match self.bus.request(subject::actions(&system), request, limit).await {
            Ok(answer) => {
                let read = read(&answer, &system, is_awaited);
                if read.is_ok() { &self.counted.ok } else { &self.counted.error }.increment(1);
                read
            }
            Err(error) => {
                let count =
                    if error.is_unsent() { &self.counted.unsent } else { &self.counted.unanswered };
                count.increment(1);
                Err(unanswered(&error, &system))
            }
        }
    }
}

impl OtherSystems for NatsCalls {
    fn call(
        &self,
        invocation: Box<Invocation>,
        limit: Duration,
    ) -> BoxFuture<'static, Result<Payload, Error>> {
        let calls = self.clone();
        Box::pin(async move { calls.call(*invocation, limit).await })
    }
}

/// What an answer means. One without the header of an error may be Spawn's: its errors are bare texts.
fn read(answer: &BusMessage, system: &str, is_awaited: bool) -> Result<Payload, Error> {
    if let Some(failed) = told::read(answer) {
        return Err(Error::Elsewhere(Box::new(failed)));
    }
    let broken = |text: String| Err(failed(ErrorKind::HostFailed, FailedBy::Host, text));
    match &answer.body[..] {
        ACCEPTED => Ok(Payload::Unset),
        NO_CONTENT => broken(format!(
            "the actor host of ActorSystem {system} gave no answer; the action may have run"
        )),
        _ => match wire::response_of(answer.body.clone(), system) {
            Some(payload) => Ok(if is_awaited { payload } else { Payload::Unset }),
            None => broken(format!(
                "ActorSystem {system} answered with an error, the action may have run: {}",
                told::text(&answer.body)
            )),
        },
    }
}

/// Why a call has no answer.
fn unanswered(error: &BusError, system: &str) -> Error {
    match error {
        BusError::NobodyThere(_) => {
            let text = format!(
                "ActorSystem {system} is not registered here, and no proxy on NATS serves it; not started, it is safe to retry"
            );
            unsent(ErrorKind::ActorNotFound, None, text)
        }
        BusError::Away(reason) => {
            let text = format!(
                "not sent to ActorSystem {system}, it is safe to retry: no connection to NATS: {reason}"
            );
            unsent(ErrorKind::Overloaded, Some(RETRY_AFTER), text)
        }
        BusError::TooLarge { .. } => {
            let text = format!("not sent to ActorSystem {system}: {error} (max_payload of NATS)");
            failed(ErrorKind::TooLarge, FailedBy::Proxy, text)
        }
        _ => {
            let text = format!("ActorSystem {system}: {error}; the action may have run");
            failed(ErrorKind::DeadlineExceeded, FailedBy::Proxy, text)
        }
    }
}

fn failed(kind: ErrorKind, by: FailedBy, text: String) -> Error {
    let (is_retryable, retry_after, answered) = (false, None, None);
    let is_done = false;
    let failed = FailedElsewhere { kind, by, is_retryable, retry_after, text, answered, is_done };
    Error::Elsewhere(Box::new(failed))
}

fn unsent(kind: ErrorKind, retry_after: Option<Duration>, text: String) -> Error {
    let (by, is_retryable, answered, is_done) = (FailedBy::Proxy, true, None, false);
    let failed = FailedElsewhere { kind, by, is_retryable, retry_after, text, answered, is_done };
    Error::Elsewhere(Box::new(failed))
}

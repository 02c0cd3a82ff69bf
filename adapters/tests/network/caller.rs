//! Caller: a client on a simulated machine; sends one call at a time and records its end.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use prost::Message;
use tidegate::proto::eigr::functions::protocol::{Broadcast, broadcast};
use tidegate::proto::tidegate::api::v1::Published;
use tokio::time::{Instant, sleep, timeout};
use turmoil::net::TcpStream;

use crate::actors::{SHORT, TOPIC};
use crate::call::{CallId, Kind, calls_of, payload, request};
use crate::facts::{Facts, Outcome};
use crate::support::client::{Client, NoAnswer, Reply};
use crate::support::counter::SYSTEM;
use crate::support::json;
use crate::support::proto::{
    ActorState, InvocationRequest, InvocationResponse, Status, invocation_response,
};
use crate::wires::PROXY_ADDRESS;

/// How long one attempt to reach the proxy may take, and the pause after it.
const CONNECT_TIME: Duration = Duration::from_millis(300);
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
/// How often it is tried.
const CONNECT_ATTEMPTS: u32 = 100;

/// One connection at a time; see the [module](self).
pub(crate) struct Caller {
    facts: Arc<Facts>,
    /// With the crashes that the proxy had had when it was made.
    connection: Option<(Client, u32)>,
}

impl Caller {
    pub(crate) fn new(facts: &Arc<Facts>) -> Self {
        Self { facts: facts.clone(), connection: None }
    }

    /// Calls an action that takes that long, and waits for its end.
    pub(crate) async fn add(&mut self, actor: &str, takes: Duration) -> Outcome {
        self.connect().await;
        let (id, began) = (self.facts.attempt(actor, Kind::Call), Instant::now());
        let outcome = self.send(id, actor, takes).await;
        self.facts.outcome(id, outcome.clone(), began.elapsed());
        outcome
    }

    /// Has an action called after some time, and waits until that is kept.
    pub(crate) async fn add_later(&mut self, actor: &str, after: Duration) -> Outcome {
        self.connect().await;
        let (id, began) = (self.facts.attempt(actor, Kind::Due), Instant::now());
        let at = turmoil::since_epoch().expect("inside the simulation") + after;
        let scheduled_to = i64::try_from(at.as_millis()).expect("fits");
        self.facts.due(id, since_epoch(scheduled_to));
        let call = request(actor, id, Duration::from_millis(5));
        let call = InvocationRequest { scheduled_to, ..call };
        let outcome = match self.invoke(id, actor, call).await {
            Ok(response) if response.payload.is_none() => Outcome::Accepted,
            Ok(response) => panic!("{id:?} ran before its time: {response:?}"),
            Err(outcome) => outcome,
        };
        self.facts.outcome(id, outcome.clone(), began.elapsed());
        outcome
    }

    /// Publishes a message, and waits until it is in the mailboxes.
    pub(crate) async fn publish(&mut self) -> (CallId, Outcome) {
        self.connect().await;
        let (id, began) = (self.facts.attempt(TOPIC, Kind::Publication), Instant::now());
        let message = broadcast::Payload::Value(payload(id.causes(Kind::Message), SHORT));
        let message = Broadcast { payload: Some(message), ..Broadcast::default() };
        let path = format!("/api/v1/system/{SYSTEM}/channels/{TOPIC}");
        let outcome = match self.exchange(id, &path, message.encode_to_vec()).await {
            Ok(reply) => Outcome::Published(reply.decode::<Published>().subscribers),
            Err(outcome) => outcome,
        };
        self.facts.outcome(id, outcome.clone(), began.elapsed());
        (id, outcome)
    }

    /// Sends JSON; the status of its answer, if there is one.
    pub(crate) async fn post_json(&mut self, path: &str, body: &str) -> Option<u16> {
        let client = self.client().await;
        let sent = json::try_send(client, ("POST", path), &[], body).await;
        if sent.is_err() {
            self.connection = None;
        }
        Some(sent.ok()?.0.status)
    }

    /// Calls an action and hangs up unless it has ended within `patience`.
    pub(crate) async fn add_within(
        &mut self,
        actor: &str,
        takes: Duration,
        patience: Duration,
    ) -> (CallId, Outcome) {
        self.connect().await;
        let (id, began) = (self.facts.attempt(actor, Kind::Call), Instant::now());
        let outcome = if let Ok(outcome) = timeout(patience, self.send(id, actor, takes)).await {
            outcome
        } else {
            self.facts.abandon(id);
            self.connection = None;
            Outcome::Abandoned
        };
        self.facts.outcome(id, outcome.clone(), began.elapsed());
        (id, outcome)
    }

    /// The calls that an actor's state tells of.
    pub(crate) async fn look(&mut self, actor: &str) -> Vec<CallId> {
        let client = self.client().await;
        let path = format!("/api/v1/system/{SYSTEM}/actors/{actor}");
        let reply = client.get(&path).await.expect("a GET is answered");
        match reply.status {
            200 => calls_of(reply.decode::<ActorState>().state.as_ref()),
            404 => Vec::new(),
            status => panic!("GET of a state answers {status}"),
        }
    }

    /// The connection, made first if need be.
    pub(crate) async fn client(&mut self) -> &mut Client {
        self.connect().await;
        &mut self.connection.as_mut().expect("just connected").0
    }

    async fn connect(&mut self) {
        for _ in 0..CONNECT_ATTEMPTS {
            if self.connection.is_some() {
                return;
            }
            let crashes = self.facts.crashes();
            if let Ok(Ok(stream)) = timeout(CONNECT_TIME, TcpStream::connect(PROXY_ADDRESS)).await {
                let client = Client::over(stream).await.expect("HTTP/1.1 begins without a word");
                self.connection = Some((client, crashes));
            } else {
                sleep(CONNECT_PAUSE).await;
            }
        }
        assert!(self.connection.is_some(), "the proxy cannot be reached");
    }

    async fn send(&mut self, id: CallId, actor: &str, takes: Duration) -> Outcome {
        match self.invoke(id, actor, request(actor, id, takes)).await {
            Ok(response) => self.acknowledged(id, response),
            Err(outcome) => outcome,
        }
    }

    async fn invoke(
        &mut self,
        id: CallId,
        actor: &str,
        call: InvocationRequest,
    ) -> Result<InvocationResponse, Outcome> {
        let path = format!("/api/v1/system/{SYSTEM}/actors/{actor}/invoke");
        let reply = self.exchange(id, &path, call.encode_to_vec()).await?;
        Ok(reply.decode())
    }

    /// The answer to a request, or how else it ended.
    async fn exchange(&mut self, id: CallId, path: &str, body: Vec<u8>) -> Result<Reply, Outcome> {
        let (client, crashes) = self.connection.as_mut().expect("connected by its callers");
        let crashes = *crashes;
        let request = Request::post(path)
            .header("host", "localhost")
            .header("content-type", "application/octet-stream")
            .header("accept", "application/octet-stream");
        let request = request.body(Full::new(body.into())).expect("a valid request");
        match client.send(request).await {
            Ok(reply) if reply.status == 200 => Ok(reply),
            Ok(reply) => {
                let status = reply.status;
                // In the answer of every request that is where the first field is.
                let told = reply.decode::<InvocationResponse>().status.unwrap_or_default();
                if told.status() != Status::Error || told.message.is_empty() {
                    self.facts
                        .complain(format!("{id:?}: {status} without a typed error: {told:?}"));
                }
                Err(Outcome::Refused(status, told.message))
            }
            Err(error) => {
                self.connection = None;
                if matches!(error, NoAnswer::Silence) || self.facts.crashes() == crashes {
                    self.facts.complain(format!("{id:?} has no answer (I2): {error:?}"));
                }
                Err(Outcome::Lost)
            }
        }
    }

    fn acknowledged(&self, id: CallId, response: InvocationResponse) -> Outcome {
        let Some(invocation_response::Payload::Value(state)) = response.payload else {
            panic!("{id:?}: a success without a value");
        };
        let calls = calls_of(Some(&state));
        if calls.last() != Some(&id) {
            self.facts.complain(format!("{id:?} has the answer of another call: {calls:?}"));
        }
        Outcome::Acknowledged(calls.len())
    }
}

/// A time of the protocol.
pub(crate) fn since_epoch(millis: i64) -> Duration {
    Duration::from_millis(millis.try_into().expect("after the epoch"))
}

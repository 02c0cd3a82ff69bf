//! Answer: what each route does with a request.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use ::metrics::gauge;
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{HeaderName, HeaderValue};
use http::request;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body;
use tidegate_stages::actor::HostAddress;
use tidegate_stages::error::Error;
use tidegate_stages::identity::Identity;
use tidegate_stages::mesh::Mesh;
use tidegate_stages::request_id::RequestId;
use tidegate_stages::traces::context;
use tracing::error;

use super::http::{Answer, JSON, Refusal, of_type};
use super::lifecycle::Phase;
use super::query::Query;
use super::route::{NoResource, Resource, revision};
use super::schedules::Outcome;
use super::sending::{Held, Hold};
use super::{
    Calls, Ingress, Inner, Limits, Parts, Scrape, accept, backup, body, calls, channels, control,
    cors, effects, history, hosts, hot, json, log_level, names, schedules, warnings,
};
use crate::audit::BEGUN;
use crate::metrics::STORE_UP;
use crate::metrics::spawn::SpawnNames;
use crate::store::Ownership;
use crate::wire::{self, Form};

const EXPOSITION: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");
const UP: Bytes = Bytes::from_static(br#"{"status":"up"}"#);
const DOWN: Bytes = Bytes::from_static(br#"{"status":"down"}"#);

/// Header in which a registering host names its own address: `http://host:port`, `https://host:port` or `unix:/path`.
const HOST_HEADER: &str = "tidegate-host";
/// W3C trace context of a request.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The id of a request, in both directions.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

impl<C: Calls> Ingress<C> {
    pub(super) fn limits(&self) -> &Limits {
        &self.0.parts.limits
    }

    /// Returns the response to a request, within the limits of the mesh and of the body. Never fails, never panics. What it does
    /// not need of the body stays unread.
    pub async fn handle<B>(
        &self,
        head: &request::Parts,
        body: &mut B,
        client: Identity,
    ) -> Response<Full<Held>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let ingress = &*self.0;
        let resource = Resource::find(head.uri.path()).map(|found| found.under(&head.method));
        let label = resource.as_ref().map_or("none", Resource::label);
        // Routes that return JSON return their errors as JSON too.
        let fixed = match &resource {
            Ok(
                Resource::History { .. } | Resource::Channel { .. } | Resource::Schedules { .. },
            ) => Some(accept::form(&head.headers).unwrap_or(Form::Json)),
            Ok(
                Resource::Backup { .. }
                | Resource::Outboxes(_)
                | Resource::Hosts { .. }
                | Resource::Host { .. }
                | Resource::Channels(_)
                | Resource::Actors { .. }
                | Resource::LogLevel
                | Resource::Summary
                | Resource::Hot
                | Resource::Warnings
                | Resource::Calls
                | Resource::Followed { .. }
                | Resource::OpenApi,
            ) => Some(Form::Json),
            _ => None,
        };
        let form = || fixed.unwrap_or_else(|| accept::form_of_answer(&head.headers));
        let mut hold = Hold::default();
        let given = head.headers.get(REQUEST_ID);
        let request = request_id(given);
        let answered = ingress.answer(resource, head, body, (client, &request, &mut hold));
        let answered = AssertUnwindSafe(answered);
        let answer = match answered.catch_unwind().await {
            Ok(Ok(answer)) => answer,
            Ok(Err(refusal)) => refusal.into_answer(form()),
            Err(_) => {
                // The panic hook has logged the place and the cause.
                let request_id = request.field();
                error!(route = label, request_id, "a request ended in a panic");
                let error = Error::Internal("a defect ended this request".into());
                Refusal::from(error).into_answer(form())
            }
        };
        let (mut answer, hold) = match ingress.sending.hold(hold, answer.body().len()).await {
            Ok(hold) => (answer, hold),
            Err(_) if answer.status() != StatusCode::OK => (answer, Hold::default()),
            Err(unread) => {
                let is_done = !matches!(head.method, Method::GET | Method::HEAD);
                (unread.refusal(is_done).into_answer(form()), Hold::default())
            }
        };
        ingress.counted.count(label, answer.status());
        cors::label(cors::known_origin(&ingress.parts.trust, head), &mut answer);
        name(&mut answer, &request, given);
        answer.map(|bytes| Full::new(Held::new(bytes, hold)))
    }
}

impl<C: Calls> Inner<C> {
    async fn answer<B>(
        &self,
        resource: Result<Resource<'_>, NoResource>,
        head: &request::Parts,
        body: &mut B,
        (client, request, hold): (Identity, &RequestId, &mut Hold),
    ) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if let Ok(resource) = &resource
            && let Some(answer) = cors::preflight(&self.parts.trust, head, resource.allowed())
        {
            return Ok(answer);
        }
        let is_audited = resource.as_ref().is_ok_and(|found| found.asks(&head.method).is_audited());
        let resource = match self.check(resource, head, body) {
            Ok(resource) => resource,
            Err(refusal) if !is_audited => return Err(refusal),
            Err(refusal) => return Err(Box::pin(self.condemned(&client, head, refusal)).await),
        };
        match resource {
            Resource::Health | Resource::Liveness => return Ok(of_type(JSON, UP)),
            Resource::Readiness => return Ok(self.readiness(head.uri.query())),
            Resource::Metrics => return self.scrape(),
            Resource::OpenApi => return Ok(of_type(JSON, json::OPENAPI)),
            _ => {}
        }
        let named = match resource {
            Resource::Register => host_named_in(&head.headers)?,
            Resource::Host { ref address, .. } => Some(hosts::named(address)?),
            _ => None,
        };
        let client = self.known(client, head).await?;
        let entry = self.allowed(&resource, head, &client, named.as_ref()).await?;
        // Afterwards its outcome cannot be logged.
        if matches!(resource, Resource::LogLevel)
            && log_level::silences_the_audit(head)
            && let Some(entry) = &entry
        {
            entry.log(BEGUN);
        }
        let who = client.clone();
        let answered = match names::check(&resource, head) {
            Ok(()) => self.carry_out(resource, head, body, (client, named, request, hold)).await,
            Err(error) => Err(error.into()),
        };
        let later = || self.ownership.get().and_then(Ownership::later);
        let answered = answered.map_err(|refusal| refusal.naming(later()));
        match (entry, &answered) {
            (Some(entry), Ok(answer)) => {
                entry.end(answer.extensions().get().map_or("done", |Outcome(outcome)| outcome));
            }
            (Some(entry), Err(refusal)) => entry.end(refusal.text()),
            (None, Err(refusal)) if refusal.is_forbidden() => {
                Box::pin(self.refused(&who, head, refusal)).await;
            }
            (None, _) => {}
        }
        answered
    }

    async fn spawn(
        &self,
        calls: &C,
        system: &str,
        head: &request::Parts,
        read: impl Future<Output = Result<Bytes, body::BodyError>>,
    ) -> Result<Answer, Refusal> {
        let revision = revision(head.uri.query())
            .map_err(|text| Refusal::new(StatusCode::BAD_REQUEST, text))?;
        let limit = self.parts.limits.registered;
        let spawn = json::spawn(&head.headers, read.await?, (system, revision), limit)?;
        calls.spawn(spawn).await?;
        Ok(json::done(&head.headers, wire::accepted))
    }

    /// Does what an allowed request asks for. All but a call is boxed: a call is not to carry the memory of what is rare.
    async fn carry_out<B>(
        &self,
        resource: Resource<'_>,
        head: &request::Parts,
        body: &mut B,
        (client, named, request, hold): (Identity, Option<HostAddress>, &RequestId, &mut Hold),
    ) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if resource.is_of_the_whole() {
            return Box::pin(self.show(resource, head, &client)).await;
        }
        let calls = &self.opened.get().ok_or_else(opening)?.calls;
        if let Resource::History { system, name, part } = resource {
            *hold = Box::pin(history::before_load(&self.sending, &self.parts.limits, part)).await?;
            return Box::pin(history::answer(calls, (&system, &name), part, head)).await;
        }
        if let Resource::Backup { id } = resource {
            *hold = Box::pin(backup::before_load(&self.sending, &self.parts.limits)).await?;
            return Box::pin(backup::answer(self.backed_up.get(), id)).await;
        }
        if let Resource::Outboxes(part) = resource {
            *hold = Box::pin(effects::before_load(&self.sending, &self.parts.limits)).await?;
            let (query, is_delete) = (head.uri.query(), head.method == Method::DELETE);
            return Box::pin(effects::answer(calls.outboxes(), part, query, is_delete)).await;
        }
        let Parts { limits, types, .. } = &self.parts;
        let mut bodies = self.bodies.enter();
        let read = body::read(body, limits.body_bytes, limits.body_time, &mut bodies);
        match resource {
            Resource::Invoke { system, name } => {
                // Looked for once: each search of a header costs as much as a name in the body.
                let form = accept::content_form(&head.headers).unwrap_or(Form::Protobuf);
                if form == Form::Json {
                    names::of_call(&system, &name)?;
                }
                let announced = calls.announce(&client, &system)?;
                let called = json::called(form, read.await?, (&system, &name), types)?;
                let mut invocation = called.invocation;
                invocation.traceparent = traceparent(&head.headers);
                invocation.request = request.clone();
                let peer = client.peer;
                invocation.identity = client;
                let scrape = self.parts.scrape.as_ref();
                let counted = scrape.and_then(|scrape| scrape.begin(&system, &invocation.action));
                let invoked = calls.invoke(invocation, announced).await;
                drop(counted);
                let payload = match invoked {
                    Ok(payload) => payload,
                    Err(error) => return Err(self.failed(error, peer)),
                };
                let form = accept::form_of_answer_to(form, &head.headers);
                Ok(json::invoked(form, &called.echo, &payload, types))
            }
            Resource::Register => {
                let host = named.unwrap_or_else(|| self.parts.hosts.address(&client));
                let limit = limits.registered;
                let registration = json::registration(&head.headers, read.await?, &host, limit)?;
                Box::pin(calls.register(registration)).await?;
                Ok(json::done(&head.headers, wire::registered))
            }
            Resource::Spawn { system } => Box::pin(self.spawn(calls, &system, head, read)).await,
            Resource::Channel { system, topic } => {
                let form = accept::form(&head.headers)?;
                let announced = calls.announce(&client, &system)?;
                let broadcast = json::publication(&head.headers, read.await?, &topic, types)?;
                let traceparent = traceparent(&head.headers);
                let publishing = calls.publish(client, &system, broadcast, traceparent, announced);
                let reached = Box::pin(publishing).await?;
                Ok(history::body(form, wire::published(reached, form)))
            }
            Resource::Hosts { system } => Ok(hosts::list(calls, &system)),
            Resource::Host { system, address } => {
                let address = hosts::named(&address)?;
                Box::pin(hosts::drain(calls, &system, &address)).await
            }
            Resource::Schedules { system, which } => {
                let asked = (&*system, which);
                Box::pin(schedules::answer(calls, client, asked, head, read)).await
            }
            Resource::Actor { system, name } if head.method == Method::DELETE => {
                Box::pin(calls.delete(&system, &name)).await?;
                Ok(json::done(&head.headers, wire::accepted))
            }
            Resource::Actor { system, name } => {
                let state = Box::pin(calls.state(&client, &system, &name)).await?;
                Ok(json::state(&head.headers, state, types))
            }
            Resource::History { .. }
            | Resource::Backup { .. }
            | Resource::Outboxes(_)
            | Resource::Channels(_)
            | Resource::Actors { .. }
            | Resource::LogLevel
            | Resource::Summary
            | Resource::Hot
            | Resource::Warnings
            | Resource::Calls
            | Resource::Followed { .. }
            | Resource::Health
            | Resource::Liveness
            | Resource::Readiness
            | Resource::OpenApi
            | Resource::Metrics => unreachable!("answered above"),
        }
    }

    /// Shows what runs and what has ended, and changes what is logged and which actors run.
    async fn show(
        &self,
        resource: Resource<'_>,
        head: &request::Parts,
        client: &Identity,
    ) -> Result<Answer, Refusal> {
        let kept = self.kept.get().map(|kept| &**kept);
        let mesh = self.controlled.get().ok_or_else(opening);
        match resource {
            Resource::Calls => calls::list(kept, head),
            Resource::Followed { system, name } => {
                calls::follow(kept, (&system, &name), head).await
            }
            Resource::Channels(which) => channels::answer(mesh?, &which, head),
            Resource::Warnings => {
                Query::read(head.uri.query())?.knows(&[])?;
                Ok(warnings::answer(mesh?, self.backed_up.get()).await)
            }
            Resource::Summary => {
                Query::read(head.uri.query())?.knows(&[])?;
                Ok(control::summary(mesh?).await)
            }
            Resource::Hot => hot::answer(mesh?, &head.uri),
            Resource::Actors { verb: None } => control::list(mesh?, head).await,
            Resource::Actors { verb: Some(verb) } => {
                control::change(mesh?, verb, head, client).await
            }
            _ => log_level::answer(head),
        }
    }

    /// Whether clients should send new work to this proxy; with `?verbose` also why, and whether the store works. While it
    /// does not, stateless actors are served, so readiness stays.
    fn readiness(&self, query: Option<&str>) -> Answer {
        let store_works = self.opened.get().map(|opened| (opened.store_works)());
        let phase = self.parts.lifecycle.phase();
        let is_ready = store_works.is_some() && phase == Phase::Serving;
        let body = if query.is_some_and(|query| query.split('&').any(|name| name == "verbose")) {
            let word = |up: bool| if up { "up" } else { "down" };
            let phase = match phase {
                Phase::Serving if store_works.is_none() => "opening",
                Phase::Serving => "serving",
                Phase::Leaving => "leaving",
                Phase::Draining => "draining",
            };
            let (status, store) = (word(is_ready), store_works.map_or("opening", word));
            let mut told = format!(r#"{{"status":"{status}","phase":"{phase}","store":"{store}""#);
            if self.backed_up.get().is_some_and(|store| store.is_disk_full()) {
                told.push_str(r#","disk":"full""#);
            }
            for files in &self.parts.reloads {
                let state = if files.is_broken() { "broken" } else { "ok" };
                told = format!(r#"{told},"{}":"{state}""#, files.what);
            }
            (told + "}").into()
        } else if is_ready {
            UP
        } else {
            DOWN
        };
        let mut answer = of_type(JSON, body);
        if !is_ready {
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        answer
    }

    fn scrape(&self) -> Result<Answer, Refusal> {
        let served = self.parts.scrape.as_ref().filter(|scrape| scrape.is_served);
        let text = served.map(|scrape| self.rendered(scrape)).ok_or_else(|| {
            Refusal::new(StatusCode::NOT_FOUND, "metrics are off: SPAWN_DISABLE_METRICS is true")
        })?;
        Ok(of_type(EXPOSITION, text.into()))
    }

    /// All metrics, as of now, whether `/metrics` is on or not; `None` when none are gathered.
    pub(super) fn metrics(&self) -> Option<String> {
        self.parts.scrape.as_ref().map(|scrape| self.rendered(scrape))
    }

    fn rendered(&self, scrape: &Scrape) -> String {
        if let Some(opened) = self.opened.get() {
            gauge!(STORE_UP).set(f64::from(u8::from((opened.store_works)())));
        }
        if let Some(observed) = self.controlled.get().map(Mesh::observe)
            && scrape.spawn_names.is_some()
        {
            SpawnNames::show(&observed);
        }
        (scrape.render)()
    }
}

/// The id of a request: the one that its client gave, or one that is made.
pub(super) fn request_id(given: Option<&HeaderValue>) -> RequestId {
    let given = given.and_then(|given| RequestId::given(given.as_bytes()));
    given.unwrap_or_else(RequestId::make)
}

/// Tells the client the id of its request: when the client chose it, and when the request has failed. Others do not need it, and
/// would pay for it.
pub(super) fn name<B>(answer: &mut Response<B>, request: &RequestId, given: Option<&HeaderValue>) {
    let value = match given.filter(|_| request.is_given()) {
        Some(given) => given.clone(),
        None if answer.status().is_success() || answer.status().is_redirection() => return,
        None => HeaderValue::try_from(request.to_string()).expect("an id has digits only"),
    };
    answer.headers_mut().insert(REQUEST_ID, value);
}

/// The store is not open yet.
pub(super) fn opening() -> Error {
    let reason = "not started: the proxy is opening its store".into();
    Error::Overloaded { reason, retry_after: Duration::from_secs(1) }
}

/// Returns the address that a registering host says it has, if it says so.
fn host_named_in(headers: &HeaderMap) -> Result<Option<HostAddress>, Refusal> {
    let Some(given) = headers.get(HOST_HEADER) else { return Ok(None) };
    let text = given.to_str().unwrap_or_default();
    hosts::address(text).map(Some).ok_or_else(|| {
        let text =
            format!("header {HOST_HEADER} must be http://host:port, https://host:port or unix:/path, not {given:?}");
        Refusal::new(StatusCode::BAD_REQUEST, text)
    })
}

/// The trace context of a request.
fn traceparent(headers: &HeaderMap) -> String {
    let Some(parent) = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()) else {
        return String::new();
    };
    // A list may come in several headers.
    let states = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok());
    context::join(parent, &states.collect::<Vec<_>>().join(","))
}

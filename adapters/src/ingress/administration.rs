//! Administration: the server of the admin port. Whoever may administer gets everything there that the API has, from the same
//! [`Ingress`], and what only the admin port has.
//!
//! Health, metrics and the description of the API are for anybody, as at the API's own port. Everything else is for
//! administrators (decision 36): [`guard`](Administration::guard) refuses others before anything is read.

mod about;
mod console;
mod flow;
mod origin;
mod own;
mod pass;
mod record;
mod waiting;

use std::sync::{Arc, LazyLock};

use ::http::header::{CONTENT_LENGTH, ORIGIN};
use ::http::{Method, Request, Response, Uri, Version, request};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use serde_json::Value;
use tidegate_stages::identity::Identity;
use tower::Service;

use super::allowed::asked;
use super::answer::opening;
use super::body::Lent;
use super::http::{Answer, JSON, Refusal, of_type};
use super::listener::Listener;
use super::query::Query;
use super::route::Resource;
use super::serve::{At, Respond, Serving, sends_on, start};
use super::trust::Asks;
use super::{Calls, Ingress, Limits, hot, json, warnings};
use crate::tls::ServerTls;
use crate::wire::Form;
use own::Heard;
use pass::Passed;

/// How the paths of the port's own routes begin, other than those for anybody. The API has one more such path, `LogLevel`, and
/// asks for credentials itself.
const OWN: &str = "/admin/";

/// The methods of the port's own routes.
const METHODS: &str = "GET, HEAD";

/// Open connections of the admin port. Each holds at most one answer, or a stream of the newest figures.
const CONNECTIONS: usize = 64;

/// The description of the API and of the admin port.
static OPENAPI: LazyLock<Bytes> = LazyLock::new(|| {
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("it is checked in");
    let mut described = read(&json::OPENAPI);
    let own = read(include_bytes!("administration/openapi.json"));
    for (part, of_own) in [("/paths", "/paths"), ("/components/schemas", "/schemas")] {
        let known = described.pointer_mut(part).and_then(Value::as_object_mut);
        let more = own.pointer(of_own).and_then(Value::as_object).cloned().unwrap_or_default();
        known.expect("the description has both").extend(more);
    }
    serde_json::to_vec(&described).expect("JSON becomes JSON").into()
});

/// The server. Cheap to clone.
#[derive(Debug)]
pub struct Administration<C>(Arc<Inner<C>>);

impl<C> Clone for Administration<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Inner<C> {
    ingress: Ingress<C>,
    limits: Limits,
    router: Router,
}

impl<C: Calls> Administration<C> {
    fn new(ingress: Ingress<C>) -> (Self, flow::Sampler, record::Ring) {
        let limits = Limits {
            connections: CONNECTIONS,
            peer_connections: Some(CONNECTIONS),
            ..*ingress.limits()
        };
        let (sampler, looks) = flow::sampler();
        let (once, live) = (looks.clone(), looks);
        let router = Router::new()
            .route("/openapi.json", get(|| async { whole(of_type(JSON, OPENAPI.clone())) }))
            .route("/admin/about", get(about::answer))
            .route("/admin/flow", get(move |uri: Uri| async move { told(once.once(&uri).await) }))
            .route("/admin/flow/live", get(move |uri: Uri| async move { told(live.live(&uri)) }))
            .route("/admin/waiting", get(waiting::<C>))
            .route("/admin/hot", get(hottest::<C>))
            .route("/admin/warnings", get(warned::<C>))
            .route("/", get(|| async { console::elsewhere() }))
            .route("/console", get(page))
            .route("/console/{file}", get(page))
            .route("/console/runbook/{page}", get(runbook))
            .fallback(pass::on)
            .with_state(ingress.clone());
        let ring = record::Ring::default();
        let recorder = record::Recorder::new(router.clone(), ring.clone(), ingress.clone());
        let made = get(move |request| async { told(recorder.answer(request).await) });
        let router = router.route("/admin/record", made).method_not_allowed_fallback(wrong_method);
        (Self(Arc::new(Inner { ingress, limits, router })), sampler, ring)
    }

    /// Starts the server beside the one of the API.
    pub fn serve<L: Listener>(listener: L, ingress: Ingress<C>) -> Serving {
        let (server, sampler, ring) = Self::new(ingress.clone());
        let serving = start(listener, server);
        serving.beside(sampler.run(ingress.clone()));
        serving.beside(ring.run(ingress));
        serving
    }

    /// Refuses who may not administer, and returns the client with its name. A web page of the admin port itself is no foreign
    /// one: its requests go on without their `Origin`. What the API answers checks its credentials there.
    async fn guard(
        &self,
        head: &mut request::Parts,
        client: Identity,
    ) -> Result<Identity, Refusal> {
        let resource = Resource::find(head.uri.path());
        if resource.as_ref().is_ok_and(Resource::is_about_the_proxy) {
            return Ok(client);
        }
        let is_own = head.uri.path().starts_with(OWN) && resource != Ok(Resource::LogLevel);
        let api = &self.0.ingress.0;
        let parts = &api.parts;
        if origin::is_own(head, parts.tls.is_some()) {
            head.headers.remove(ORIGIN);
        }
        let asks = if console::has(head.uri.path()) { Asks::Use } else { Asks::Administer };
        // First, because its refusal says that a token is needed: the console asks for one then.
        if let Err(refused) = parts.trust.check(asks, &client, head, None).await {
            parts.audit.refused(&client, &asked(head), &refused).await?;
            return Err(refused.into());
        }
        if is_own { api.known(client, head).await } else { Ok(client) }
    }

    /// Answers a request of whoever may administer, and refuses those of others.
    async fn answer(
        &self,
        mut head: request::Parts,
        body: Body,
        client: Identity,
    ) -> Response<Body> {
        let is_head = head.method == Method::HEAD;
        match Box::pin(self.guard(&mut head, client)).await {
            Ok(client) => drop(head.extensions.insert(client)),
            Err(refusal) => {
                let answer = told(Err(refusal));
                return if is_head { without_body(answer) } else { answer };
            }
        }
        let mut router = self.0.router.clone();
        match router.call(Request::from_parts(head, body)).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}

impl<C: Calls> Respond for Administration<C> {
    type Body = Passed;

    fn limits(&self) -> &Limits {
        &self.0.limits
    }

    fn tls(&self) -> Option<&ServerTls> {
        self.0.ingress.0.parts.tls.as_ref()
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        client: Identity,
        at: At,
    ) -> Response<Passed> {
        let (head, body) = request.into_parts();
        let (sends_on, body) = (sends_on(&head, &body), Lent::new(body));
        let untaken = (head.version == Version::HTTP_2).then_some(at.write_time);
        let trust = &self.0.ingress.0.parts.trust;
        let asked_for = Heard::of(&head, trust);
        let mut answer = match own::preflight(&head, trust) {
            Some(answer) => answer,
            None => self.answer(head, Body::new(body.clone()), client).await,
        };
        asked_for.finish(&mut answer, &self.0.ingress.0.counted);
        if sends_on && !body.is_end_stream() {
            at.take_rest(body, self.0.limits.body_bytes);
        }
        answer.map(|body| Passed::new(body, at.in_flight, untaken))
    }
}

/// The same answer to HEAD. The router does that for what it answers.
fn without_body(answer: Response<Body>) -> Response<Body> {
    let (mut head, body) = answer.into_parts();
    if let Some(bytes) = body.size_hint().exact() {
        head.headers.insert(CONTENT_LENGTH, bytes.into());
    }
    Response::from_parts(head, Body::empty())
}

async fn wrong_method() -> Response<Body> {
    told(Err(Refusal::method(METHODS)))
}

async fn page(uri: Uri) -> Response<Body> {
    console::answer(&uri)
}

async fn runbook(uri: Uri) -> Response<Body> {
    console::runbook(&uri)
}

async fn waiting<C: Calls>(State(ingress): State<Ingress<C>>, uri: Uri) -> Response<Body> {
    told(match ingress.0.controlled.get() {
        Some(mesh) => waiting::answer(mesh, &uri),
        None => Err(opening().into()),
    })
}

/// As at the API, without a line in the audit: consoles ask each second or two.
async fn hottest<C: Calls>(State(ingress): State<Ingress<C>>, uri: Uri) -> Response<Body> {
    told(match ingress.0.controlled.get() {
        Some(mesh) => hot::answer(mesh, &uri).map(whole),
        None => Err(opening().into()),
    })
}

/// As [`hottest`].
async fn warned<C: Calls>(State(ingress): State<Ingress<C>>, uri: Uri) -> Response<Body> {
    told(match (knows_nothing(&uri), ingress.0.controlled.get()) {
        (Err(refusal), _) => Err(refusal),
        (_, Some(mesh)) => Ok(whole(warnings::answer(mesh, ingress.0.backed_up.get()).await)),
        (_, None) => Err(opening().into()),
    })
}

/// Refuses every parameter in the query.
fn knows_nothing(uri: &Uri) -> Result<(), Refusal> {
    Query::read(uri.query())?.knows(&[])
}

/// An answer, or why there is none.
fn told(answered: Result<Response<Body>, Refusal>) -> Response<Body> {
    answered.unwrap_or_else(|refusal| whole(refusal.into_answer(Form::Json)))
}

/// An answer with all of its bytes.
fn whole(answer: Answer) -> Response<Body> {
    answer.map(Body::from)
}

//! Access policies of the built binary: who is refused, how a changed file comes into effect, and what a broken one does.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use prost::Message;
use rustix::process::Signal;
use support::client::{Client, Reply};
use support::counter::{ADD, Counter, SYSTEM, call, definition, get_state, register};
use support::host::{Answer, Call, Host, Script};
use support::proto::{
    ActorInvocation, ActorInvocationResponse, Context, InvocationResponse, Kind, Status,
};
use support::proxy::Proxy;
use support::tool;
use tempfile::TempDir;
use tidegate::proto::eigr::functions::protocol::{Forward, Pipe, Workflow, workflow};
use tokio::time::{sleep, timeout};

/// How long a change of a file may take to come into effect; it takes 5 s without a signal.
const RELOAD_LIMIT: Duration = Duration::from_mins(1);

/// A proxy with policies, and a client of it.
struct Guarded {
    _host: Host,
    proxy: Proxy,
    client: Client,
    policies: TempDir,
}

impl Guarded {
    async fn start(files: &[(&str, &str)]) -> Self {
        Self::with(Arc::new(Counter::default()), files).await
    }

    async fn with(script: Arc<impl Script>, files: &[(&str, &str)]) -> Self {
        let policies = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(policies.path().join(name), text).unwrap();
        }
        let host = Host::start(script);
        let port = host.port();
        let settings = [
            ("PROXY_DATABASE_TYPE", "memory"),
            ("USER_FUNCTION_HOST", "127.0.0.1"),
            ("USER_FUNCTION_PORT", &port),
            ("TIDEGATE_POLICIES_DIR", policies.path().to_str().unwrap()),
        ];
        let proxy = Proxy::start(&settings).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        let actors = ["joe", "moe"].map(|name| definition(name, Kind::Named));
        register(&mut client, actors.to_vec()).await;
        Self { _host: host, proxy, client, policies }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.policies.path().join(name), text).unwrap();
    }

    async fn call(&mut self, actor: &str) -> Reply {
        let path = format!("/api/v1/system/{SYSTEM}/actors/{actor}/invoke");
        self.client.post(&path, call(actor, ADD).encode_to_vec().into()).await.unwrap()
    }

    async fn get(&mut self, path: &str) -> String {
        let reply = self.client.get(path).await.unwrap();
        String::from_utf8(reply.body.to_vec()).unwrap()
    }

    /// Waits until calls of this actor have this status.
    async fn until(&mut self, actor: &str, status: u16) {
        let reloaded = timeout(RELOAD_LIMIT, async {
            while self.call(actor).await.status != status {
                sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(reloaded.await.is_ok(), "calls of {actor} never had status {status}");
    }

    /// Waits until `?verbose` says this.
    async fn until_told(&mut self, part: &str) {
        let told = timeout(RELOAD_LIMIT, async {
            while !self.get("/health/readiness?verbose").await.contains(part) {
                sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(told.await.is_ok(), "never told {part}");
    }
}

/// A call that policies refuse; what it is told.
fn refused(reply: &Reply) -> String {
    let told = reply.decode::<InvocationResponse>().status.unwrap();
    assert_eq!((reply.status, told.status()), (403, Status::Error), "{}", told.message);
    assert_eq!(reply.headers["tidegate-error-source"], "policy");
    told.message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_policy_does_not_allow_is_a_403_that_is_counted() {
    let files = [("all.policy", "type: allow"), ("no-moe.policy", "type: deny\ntargets: [\"m*\"]")];
    let mut guarded = Guarded::start(&files).await;
    assert_eq!(guarded.call("joe").await.status, 200);
    assert_eq!(get_state(&mut guarded.client, "joe").await, 1);
    let told = refused(&guarded.call("moe").await);
    assert!(told.contains("127.0.0.1 may not call action add of actor counting/moe"), "{told}");
    assert!(told.contains("TIDEGATE_POLICIES_DIR"), "{told}");
    let path = format!("/api/v1/system/{SYSTEM}/actors/moe");
    refused(&guarded.client.get(&path).await.unwrap());
    // Who may not call an actor does not learn whether it exists.
    refused(&guarded.call("mystery").await);
    assert_eq!(guarded.call("nobody").await.status, 404);
    let told = guarded.get("/metrics").await;
    for line in [
        r#"tidegate_policy_refusals_total{policy="no-moe"} 3"#,
        r#"tidegate_http_requests_total{route="invoke",status="403"} 2"#,
        r#"tidegate_reload_broken{what="policies"} 0"#,
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_counts_on_sighup_and_a_broken_one_keeps_the_former() {
    let mut guarded = Guarded::start(&[("a.policy", "targets: joe")]).await;
    refused(&guarded.call("moe").await);
    guarded.write("a.policy", "targets: moe");
    guarded.proxy.signal(Signal::HUP);
    guarded.until("moe", 200).await;
    refused(&guarded.call("joe").await);

    guarded.write("b.policy", "type: allow\ntarget: joe");
    guarded.proxy.signal(Signal::HUP);
    guarded.until_told(r#""policies":"broken""#).await;
    assert_eq!(guarded.call("moe").await.status, 200);
    refused(&guarded.call("joe").await);
    let told = guarded.get("/metrics").await;
    assert!(told.contains(r#"tidegate_reload_broken{what="policies"} 1"#), "{told}");

    guarded.write("b.policy", "type: allow\ntargets: joe");
    guarded.proxy.signal(Signal::HUP);
    guarded.until("joe", 200).await;
    guarded.until_told(r#""policies":"ok""#).await;
    let said = guarded.proxy.said(Duration::from_mins(1)).await;
    let broken = said.iter().find(|line| line.contains("what was in effect before stays"));
    assert!(broken.is_some_and(|line| line.contains("b.policy:2: \"target\"")), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_counts_without_a_signal_and_without_files_everything_is_allowed() {
    let mut guarded = Guarded::start(&[("a.policy", "type: deny")]).await;
    refused(&guarded.call("joe").await);
    fs::remove_file(guarded.policies.path().join("a.policy")).unwrap();
    guarded.until("joe", 200).await;
    assert_eq!(guarded.call("moe").await.status, 200);
}

/// Pipes `pipe` and forwards every other action to the target that its actor is called after.
#[derive(Debug)]
struct Router;

impl Script for Router {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let invocation = ActorInvocation::decode(call.body).unwrap();
            let id = invocation.actor.unwrap();
            let (actor, action_name) = ("moe".to_owned(), ADD.to_owned());
            let routing = match id.name.as_str() {
                "moe" => None,
                "piper" => Some(workflow::Routing::Pipe(Pipe { actor, action_name })),
                _ => Some(workflow::Routing::Forward(Forward { actor, action_name })),
            };
            Some(Answer::message(&ActorInvocationResponse {
                actor_name: id.name,
                actor_system: id.system,
                updated_context: Some(Context::default()),
                workflow: Some(Workflow { routing, ..Workflow::default() }),
                ..ActorInvocationResponse::default()
            }))
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_needs_the_right_of_the_actor_that_asks_for_it() {
    let files = [
        ("clients.policy", "kinds: invoke\ntargets: joe, piper"),
        ("pipes.policy", "kinds: pipe\nactors: piper\nactor_systems: counting"),
    ];
    let mut guarded = Guarded::with(Arc::new(Router), &files).await;
    let routers = ["joe", "piper", "moe"].map(|name| definition(name, Kind::Named));
    register(&mut guarded.client, routers.to_vec()).await;
    refused(&guarded.call("moe").await);
    let piped = guarded.call("piper").await;
    let told = piped.decode::<InvocationResponse>().status;
    assert_eq!(piped.status, 200, "{told:?}");
    let told = refused(&guarded.call("joe").await);
    assert!(told.contains("actor counting/joe may not call"), "{told}");
    assert!(told.contains("its state was not kept"), "{told}");
}

#[tokio::test]
async fn policies_that_cannot_be_used_end_the_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.policy"), "type: allow\n\ntargets: [joe").unwrap();
    let given = ("TIDEGATE_POLICIES_DIR", folder.path().to_str().unwrap());
    let (code, told) = Proxy::refused(&[given, ("PROXY_DATABASE_TYPE", "memory")]).await;
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("a.policy:3: a list begins with [ and ends with ]"), "{told}");
    let missing = ("TIDEGATE_POLICIES_DIR", "/nowhere/policies");
    let (code, told) = Proxy::refused(&[missing, ("PROXY_DATABASE_TYPE", "memory")]).await;
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("policies in /nowhere/policies cannot be read"), "{told}");
}

async fn check(folder: &Path, args: &[&str]) -> (i32, String) {
    let settings = [("TIDEGATE_POLICIES_DIR", folder.to_str().unwrap())];
    let ran = tool::run(&[&["acl", "check"], args].concat(), &settings).await;
    (ran.code.unwrap(), ran.stdout + &ran.stderr)
}

#[tokio::test]
async fn acl_check_names_the_file_and_line_that_decide() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (code, told) = check(folder, &["anonymous", "shop/cart-7", "add"]).await;
    assert_eq!((code, told.starts_with("allowed: there is no policy in")), (0, true), "{told}");
    fs::write(folder.join("1.policy"), "# carts\nidentities: till-*\ntargets: cart-*").unwrap();
    fs::write(folder.join("2.policy"), "targets: *-locked\n\ntype: deny").unwrap();
    fs::write(folder.join("3.policy"), "actors: cart-*\nkinds: pipe").unwrap();
    for (args, code, parts) in [
        (&["till-1", "shop/cart-7", "add"][..], 0, &["allowed by ", "1.policy:1\n"][..]),
        (&["till-1", "shop/cart-locked", "add"], 1, &["refused by ", "2.policy:3\n"]),
        (&["actor:shop/cart-7", "shop/joe", "add", "--kind", "pipe"], 0, &["3.policy:1\n"]),
        (
            &["anonymous", "shop/cart-7", "add"],
            1,
            &[
                "refused: no policy allows it\n",
                "1.policy:2 allows other calls: identities: till-*\n",
                "2.policy:1 denies other calls: targets: *-locked\n",
                "3.policy:1 allows other calls: actors: cart-*\n",
            ],
        ),
        (
            &["actor:shop/cart-7", "shop/joe", "add"],
            1,
            &["3.policy:2 allows other calls: kinds: pipe"],
        ),
    ] {
        let (ended, told) = check(folder, args).await;
        assert_eq!(ended, code, "{args:?} {told}");
        for part in parts {
            assert!(told.contains(part), "{args:?}: {part} in {told}");
        }
    }
    fs::write(folder.join("2.policy"), "type: no").unwrap();
    let (code, told) = check(folder, &["till-1", "shop/cart-7", "add"]).await;
    assert_eq!((code, told.contains("2.policy:1: `type` must be")), (64, true), "{told}");
}

/// The files and the questions of the example in docs/access.md.
#[tokio::test]
async fn the_example_of_the_documentation_is_true() {
    let page = include_str!("../../docs/access.md");
    let example = page.split("\n## Example").nth(1).unwrap().split("\n## ").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut files, mut questions) = (0, 0);
    for block in example.split("```").skip(1).step_by(2) {
        if let Some(rest) = block.trim_start().strip_prefix("# policies/") {
            let name = rest.split_whitespace().next().unwrap();
            fs::write(folder.path().join(name), block.trim_start()).unwrap();
            files += 1;
        }
        for line in block.lines().filter_map(|line| line.strip_prefix("tidegate acl check ")) {
            let (args, answer) = line.split_once('#').unwrap();
            let args: Vec<_> = args.split_whitespace().collect();
            let (code, told) = check(folder.path(), &args).await;
            let answer = answer.trim();
            let by = answer.rsplit('/').next().unwrap();
            assert_eq!(code, i32::from(answer.starts_with("refused")), "{line}: {told}");
            assert!(!answer.contains(" by ") || told.contains(by), "{line}: {told}");
            questions += 1;
        }
    }
    assert_eq!((files, questions), (5, 6));
}

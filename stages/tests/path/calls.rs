//! What a call is answered, and when it is refused.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_call_is_answered_with_what_the_host_said_and_its_state_is_kept() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    assert_eq!(world.add("joe").await.unwrap(), 2);
    let head = world.head("joe").await.unwrap();
    assert_eq!((head.version, number(head.content.state.as_ref())), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn unknown_actors_and_actions_are_said_to_be_unknown_at_once() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let began = Instant::now();
    let error = world.add("moe").await.unwrap_err();
    assert_eq!(error.to_string(), "Actor moe not found on ActorSystem s");
    let error = world.mesh.invoke(call("joe", "fly")).await.unwrap_err();
    assert_eq!(error.to_string(), "Action [fly] not found for Actor [joe]");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_actor_without_actions_may_not_be_called() {
    let world = world(counter()).await;
    world.register(vec![Definition { actions: Vec::new(), ..definition("joe") }]).await.unwrap();
    let error = world.mesh.invoke(call("joe", "get")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden);
}

#[tokio::test(start_paused = true)]
async fn default_actions_are_answered_without_the_host_unless_one_is_registered() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let world = world(host(move |invocation| {
        seen.fetch_add(1, Ordering::SeqCst);
        async move { Ok(counted(&invocation)) }
    }))
    .await;
    let own_get = Definition { actions: vec!["Get".into()], ..definition("moe") };
    world.register(vec![definition("joe"), own_get]).await.unwrap();
    assert_eq!(world.mesh.invoke(call("joe", "get")).await.unwrap(), Payload::Unset);
    world.add("joe").await.unwrap();
    assert_eq!(answered(world.mesh.invoke(call("joe", "GetState")).await.unwrap()), 1);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(answered(world.mesh.invoke(call("moe", "get_state")).await.unwrap()), 1);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn an_asynchronous_call_is_answered_on_admission_and_runs() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let asynchronous = Invocation { asynchronous: true, ..call("joe", "add") };
    assert_eq!(world.mesh.invoke(asynchronous.clone()).await.unwrap(), Payload::Unset);
    assert_eq!(world.add("joe").await.unwrap(), 2);
    let unknown = Invocation { asynchronous: true, ..call("moe", "add") };
    assert_eq!(world.mesh.invoke(unknown).await.unwrap_err().kind(), ErrorKind::ActorNotFound);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_built_yet_is_a_typed_error() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    assert!(world.head("joe").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_one_call() {
    let world = world(host(|invocation| async move {
        assert_ne!(invocation.action, "other", "as the test wants it");
        Ok(counted(&invocation))
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    let error = world.mesh.invoke(call("joe", "other")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(world.add("joe").await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_hot_actor_cannot_take_all_places() {
    let settings =
        Settings { admission: Bound { events: 64, bytes: 1 << 20 }, ..Settings::default() };
    let stop = Arc::new(Notify::new());
    let never = stop.clone();
    let world = world_with(
        host(move |invocation| {
            let never = never.clone();
            async move {
                if invocation.actor.name == "hot" {
                    never.notified().await;
                }
                Ok(counted(&invocation))
            }
        }),
        settings,
        MemoryStore::new(),
    )
    .await;
    world.register(vec![definition("hot"), definition("cold")]).await.unwrap();
    let calls: Vec<_> = (0..40).map(|_| world.start(call("hot", "add"))).collect();
    until_idle().await;
    let refused = calls.iter().filter(|call| call.is_finished()).count();
    assert_eq!(refused, 40 - 1 - 64 / 8);
    assert_eq!(world.add("cold").await.unwrap(), 1);
    for call in calls {
        call.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_admission_says_when_to_come_back() {
    let settings =
        Settings { admission: Bound { events: 2, bytes: 1 << 20 }, ..Settings::default() };
    let world = world_with(host(|_| std::future::pending()), settings, MemoryStore::new()).await;
    world.register(["a", "b", "c"].map(definition).to_vec()).await.unwrap();
    let _stuck = [world.start(call("a", "add")), world.start(call("b", "add"))];
    until_idle().await;
    let error = world.add("c").await.unwrap_err();
    assert!(
        matches!(error, Error::Overloaded { retry_after, .. } if !retry_after.is_zero()),
        "{error}"
    );
}

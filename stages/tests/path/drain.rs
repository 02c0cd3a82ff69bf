//! A shutdown finishes what was admitted.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_was_admitted_and_refuses_the_rest() {
    let world = world(host(|invocation| async move {
        sleep(Duration::from_secs(3)).await;
        Ok(counted(&invocation))
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let calls = [world.start(call("joe", "add")), world.start(call("joe", "add"))];
    until_idle().await;
    let (drained, ()) = tokio::join!(world.mesh.drain(Duration::from_secs(20)), async {
        until_idle().await;
        assert_eq!(world.add("joe").await.unwrap_err().kind(), ErrorKind::Draining);
        for call in calls {
            call.await.unwrap().unwrap();
        }
    });
    assert!(drained);
    assert_eq!(number(world.head("joe").await.unwrap().content.state.as_ref()), 2);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_its_limit_and_every_caller_gets_an_answer() {
    let world = world(host(|_| std::future::pending())).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let calls = [world.start(call("joe", "add")), world.start(call("joe", "add"))];
    until_idle().await;
    let began = Instant::now();
    assert!(!world.mesh.drain(Duration::from_secs(5)).await);
    assert!(began.elapsed() < Duration::from_secs(8));
    for call in calls {
        assert!(call.await.unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_started_when_a_drain_ends_says_so() {
    let world = world(host(|invocation| async move {
        if invocation.actor.name == "away" {
            return Err(refused());
        }
        if invocation.actor.name == "first" {
            let mut response = counted(&invocation);
            let (actor, action) = ("busy".into(), "add".into());
            response.workflow.routing = Some(Routing::Pipe { actor, action });
            return Ok(response);
        }
        std::future::pending().await
    }))
    .await;
    world.register(["busy", "away", "first"].map(definition).to_vec()).await.unwrap();
    let running = world.start(call("busy", "add"));
    until_idle().await;
    // Two in the mailbox, and one that is parked for another try.
    let waiting = ["busy", "busy", "away"].map(|name| world.start(call(name, "add")));
    let routed = world.start(call("first", "add"));
    until_idle().await;
    assert!(!world.mesh.drain(Duration::from_secs(5)).await);
    for call in waiting {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Draining, "{error}");
        assert!(error.is_retryable() && error.to_string().contains("not started"), "{error}");
    }
    for (call, says) in [(routed, "an action of this call has run"), (running, "may have run")] {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Draining, "{error}");
        assert!(!error.is_retryable() && error.to_string().contains(says), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_reports_an_actor_whose_last_change_could_not_be_written() {
    for is_lost in [false, true] {
        let settings = rules(|rules| rules.durability = Durability::Snapshot);
        let world = world_with(counter(), settings, MemoryStore::new()).await;
        world.register(vec![definition("joe")]).await.unwrap();
        assert_eq!(world.add("joe").await.unwrap(), 1);
        if is_lost {
            let lost = StoreError::Fenced(9);
            world.store.fail_next_save(SaveFault::Lose(lost));
        }
        assert_eq!(world.mesh.drain(Duration::from_secs(20)).await, !is_lost);
    }
}

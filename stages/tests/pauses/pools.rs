//! Pools: a pause of a pool holds back all its members, former ones too.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_paused_pool_holds_back_its_members_also_new_ones() {
    let (counter, world) = world_of(&[], Settings::default()).await;
    let pool = Definition { kind: Kind::Pooled { min: 1, max: 2 }, ..definition("pool") };
    world.register(vec![pool]).await.unwrap();
    let pooled = || world.start(Invocation { pooled: true, ..call("pool", "add") });
    pooled().await.unwrap().unwrap();
    pause(&world, "pool").await;
    let waiting: Vec<_> = (0..6).map(|_| pooled()).collect();
    until_idle().await;
    assert_eq!(counter.calls("pool"), 1);
    resume(&world, "pool").await;
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    world.mesh.deactivate("s", "pool").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_former_members_of_a_pool_is_held_back_and_cancelled_with_the_pool() {
    let free = Arc::new(Semaphore::new(0));
    let gate = free.clone();
    let world = world(host(move |invocation: ActorInvocation| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(counted(&invocation))
        }
    }))
    .await;
    let pool = |min, max| {
        let kind = Kind::Pooled { min, max };
        Definition { kind, stateful: false, ..definition("pool") }
    };
    world.register(vec![pool(1, 2)]).await.unwrap();
    let pooled = || world.start(Invocation { pooled: true, ..call("pool", "add") });
    let mut waiting: Vec<_> = (0..6).map(|_| pooled()).collect();
    until_idle().await;
    world.register(vec![pool(3, 3)]).await.unwrap();
    until_idle().await;
    pause(&world, "pool").await;
    free.add_permits(1_000);
    until_idle().await;
    waiting.retain(|call| !call.is_finished());
    assert_eq!(waiting.len(), 4, "those that ran have ended, and no other has begun");
    assert_eq!(world.mesh.cancel_turns("s", "pool", Turns::Queued).unwrap(), (4, 0));
    for call in waiting {
        assert!(matches!(call.await.unwrap(), Err(Error::Cancelled)));
    }
    resume(&world, "pool").await;
    pooled().await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_members_of_a_paused_pool_that_shrinks_runs_when_it_is_resumed() {
    let (counter, world) = world_of(&[], Settings::default()).await;
    let pool = |max| Definition { kind: Kind::Pooled { min: 1, max }, ..definition("pool") };
    world.register(vec![pool(2)]).await.unwrap();
    let pooled = || world.start(Invocation { pooled: true, ..call("pool", "add") });
    pause(&world, "pool").await;
    let waiting: Vec<_> = (0..6).map(|_| pooled()).collect();
    until_idle().await;
    world.register(vec![pool(1)]).await.unwrap();
    until_idle().await;
    assert_eq!(counter.calls("pool"), 0);
    resume(&world, "pool").await;
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    world.register(vec![pool(2)]).await.unwrap();
    for _ in 0..20 {
        pooled().await.unwrap().unwrap();
    }
}

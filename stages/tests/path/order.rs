//! Turns of one actor come one by one, and actors do not hold each other up.

use super::*;

#[tokio::test(start_paused = true)]
async fn one_invocation_at_a_time_per_actor_in_the_order_of_admission() {
    let running = Arc::new(AtomicUsize::new(0));
    let order = Arc::new(Mutex::new(Vec::new()));
    let (inside, seen) = (running.clone(), order.clone());
    let world = world(host(move |invocation| {
        let (inside, seen) = (inside.clone(), seen.clone());
        async move {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            if let Payload::Value(any) = &invocation.payload {
                seen.lock().push(number(Some(any)));
            }
            sleep(Duration::from_millis(5)).await;
            inside.fetch_sub(1, Ordering::SeqCst);
            Ok(counted(&invocation))
        }
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let mut calls = Vec::new();
    for n in 0..50 {
        let payload = Payload::Value(any(n));
        calls.push(world.start(Invocation { payload, ..call("joe", "add") }));
        until_idle().await;
    }
    for (n, call) in (1..).zip(calls) {
        assert_eq!(answered(call.await.unwrap().unwrap()), n);
    }
    assert_eq!(*order.lock(), (0..50).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_slow_actor_delays_nobody_else() {
    let world = world(host(|invocation| async move {
        if invocation.action == "slow" {
            sleep(Duration::from_secs(30)).await;
        }
        Ok(counted(&invocation))
    }))
    .await;
    let names: Vec<String> = (0..3000).map(|n| format!("slow-{n}")).collect();
    let mut all: Vec<_> = names.iter().map(|name| definition(name)).collect();
    all.push(definition("quick"));
    world.register(all).await.unwrap();
    let calls: Vec<_> = names.iter().map(|name| world.start(call(name, "slow"))).collect();
    until_idle().await;
    let began = Instant::now();
    // More quick calls than there are slots left: each slot is free again at once.
    for n in 1..=3000 {
        assert_eq!(world.add("quick").await.unwrap(), n);
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_tried_again_in_order_until_the_start_deadline() {
    let up = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let listening = up.clone();
    let world = world(host(move |invocation| {
        let up = listening.load(Ordering::SeqCst);
        async move { if up { Ok(counted(&invocation)) } else { Err(refused()) } }
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let first = world.start(call("joe", "add"));
    until_idle().await;
    let second = world.start(call("joe", "add"));
    sleep(Duration::from_secs(3)).await;
    up.store(true, Ordering::SeqCst);
    assert_eq!(answered(first.await.unwrap().unwrap()), 1);
    assert_eq!(answered(second.await.unwrap().unwrap()), 2);
    up.store(false, Ordering::SeqCst);
    let began = Instant::now();
    let error = world.add("joe").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostFailed);
    assert!(error.is_retryable());
    assert!(began.elapsed() > Duration::from_secs(8) && began.elapsed() <= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_parked_actor_gives_its_worker_s_slot_back() {
    let settings = Settings { worker_demand: 2, workers: 1, ..Settings::default() };
    let world = world_with(
        host(|invocation| async move {
            if invocation.actor.name == "quick" { Ok(counted(&invocation)) } else { Err(refused()) }
        }),
        settings,
        MemoryStore::new(),
    )
    .await;
    let names = ["a", "b", "c", "d", "quick"];
    world.register(names.map(definition).to_vec()).await.unwrap();
    let _stuck: Vec<_> = names[..4].iter().map(|name| world.start(call(name, "add"))).collect();
    until_idle().await;
    let began = Instant::now();
    assert_eq!(world.add("quick").await.unwrap(), 1);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn two_systems_with_one_name_are_two_actors() {
    let world = world(counter()).await;
    let mut other = definition("joe");
    other.id.system = "t".into();
    world.register(vec![definition("joe"), other]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    let mut elsewhere = call("joe", "add");
    elsewhere.actor.system = "t".into();
    assert_eq!(answered(world.mesh.invoke(elsewhere).await.unwrap()), 1);
}

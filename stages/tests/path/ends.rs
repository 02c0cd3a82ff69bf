//! Failing actions, deadlines and callers that leave.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_failing_action_runs_once_and_leaves_the_state_alone() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let world = world(host(move |invocation| {
        let n = seen.fetch_add(1, Ordering::SeqCst);
        async move {
            if n == 1 {
                let (address, answer) = ("h".to_owned(), "HTTP 400 with an empty body".to_owned());
                return Err(HostError::Garbled { address, answer });
            }
            Ok(counted(&invocation))
        }
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    let error = world.add("joe").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostFailed);
    assert!(!error.is_retryable());
    assert_eq!(world.add("joe").await.unwrap(), 2);
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_ends_at_the_host_limit_and_the_actor_lives_on() {
    let world = world(host(|invocation| async move {
        if invocation.action == "slow" {
            std::future::pending::<()>().await;
        }
        Ok(counted(&invocation))
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let began = Instant::now();
    let error = world.mesh.invoke(call("joe", "slow")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(began.elapsed(), Duration::from_mins(1));
    assert_eq!(world.add("joe").await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_caller_s_deadline_ends_only_its_reply() {
    let world = world(host(|invocation| async move {
        sleep(Duration::from_secs(20)).await;
        Ok(counted(&invocation))
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let metadata = [("request-timeout".to_owned(), "500".to_owned())].into();
    let began = Instant::now();
    let bounded = Invocation { metadata, ..call("joe", "add") };
    let error = world.mesh.invoke(bounded).await.unwrap_err();
    assert!(matches!(error, Error::NoAnswer(_)), "{error}");
    assert_eq!(began.elapsed(), Duration::from_millis(500));
    // The first call goes on, is applied and committed; the second one waits for it.
    let metadata = [("request-timeout".to_owned(), "garbage".to_owned())].into();
    let error = world.mesh.invoke(Invocation { metadata, ..call("joe", "add") }).await.unwrap_err();
    assert!(matches!(error, Error::NotStarted(..)), "{error}");
    sleep(Duration::from_secs(11)).await;
    assert_eq!(world.add("joe").await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_client_has_gone_before_its_start_never_runs() {
    let permits = Arc::new(Semaphore::new(0));
    let opened = permits.clone();
    let world = world(host(move |invocation| {
        let permits = opened.clone();
        async move {
            permits.acquire().await.unwrap().forget();
            Ok(counted(&invocation))
        }
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let first = world.start(call("joe", "add"));
    until_idle().await;
    let gone = world.start(call("joe", "add"));
    until_idle().await;
    let last = world.start(call("joe", "add"));
    until_idle().await;
    gone.abort();
    until_idle().await;
    permits.add_permits(10);
    assert_eq!(answered(first.await.unwrap().unwrap()), 1);
    assert_eq!(answered(last.await.unwrap().unwrap()), 2);
    assert_eq!(permits.available_permits(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_started_call_whose_client_has_gone_runs_to_its_end() {
    let world = world(host(|invocation| async move {
        sleep(Duration::from_secs(1)).await;
        Ok(counted(&invocation))
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let gone = world.start(call("joe", "add"));
    until_idle().await;
    gone.abort();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(number(world.head("joe").await.unwrap().content.state.as_ref()), 1);
}

#[tokio::test(start_paused = true)]
async fn the_start_deadline_is_a_setting() {
    let limits = Deadlines { start: Duration::from_millis(100), ..Deadlines::default() };
    let settings = Settings { deadlines: limits, ..Settings::default() };
    let world = world_with(host(|_| async { Err(refused()) }), settings, MemoryStore::new()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let began = Instant::now();
    world.add("joe").await.unwrap_err();
    assert!(began.elapsed() <= Duration::from_millis(100));
}

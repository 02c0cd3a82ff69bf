//! Answers against a handful of places.

use std::pin::pin;

use tokio::time::sleep;

use super::super::tests::{LARGEST, PATIENCE, enter, entry, places};
use super::super::{Places, SMALLEST};
use super::*;

fn free_bytes(places: &Places) -> isize {
    places.0.free.lock().general.bytes
}

fn answering(place: &Place) -> Arc<Answering> {
    Answering::new(Some(place))
}

async fn reach(answering: &Arc<Answering>, bytes: usize, is_whole: bool) -> Result<usize, NoBytes> {
    match answering.try_reach(bytes) {
        Some(beyond) => Ok(beyond),
        None => answering.clone().reach(bytes, is_whole).await,
    }
}

#[test]
fn a_place_grows_for_an_answer_up_to_a_largest_state_and_keeps_that() {
    let places = places(4, 2 * LARGEST, LARGEST);
    let joe = entry("joe");
    let before = free_bytes(&places);
    let mut place = Some(enter(&places, &joe).unwrap());
    let answering = answering(place.as_ref().unwrap());
    assert_eq!(answering.try_reach(SMALLEST), Some(0));
    assert_eq!(place.as_ref().unwrap().bytes, SMALLEST, "it is large enough");
    assert_eq!(answering.try_reach(LARGEST - 1), Some(0));
    assert_eq!(answering.try_reach(LARGEST + 7), Some(7), "the client counts what is no state");
    answering.end(&mut place);
    drop(answering);
    assert_eq!(place.as_ref().unwrap().bytes, LARGEST);
    assert!(places.fit(&mut place, &joe, 5), "it shrinks to what is written");
    assert_eq!(before - free_bytes(&places), 5);
    let abandoned = Answering::new(place.as_ref());
    assert_eq!(abandoned.try_reach(LARGEST), Some(0));
    drop((abandoned, place));
    assert_eq!(free_bytes(&places), before, "an answer that was given up holds nothing");
}

#[test]
fn an_answer_without_a_place_is_its_client_s() {
    assert_eq!(Answering::new(None).try_reach(77), Some(77));
}

#[tokio::test(start_paused = true)]
async fn answers_that_arrive_piece_by_piece_get_the_reserve_one_after_the_other() {
    const LARGEST: usize = 4 * SMALLEST;
    let places = places(4, LARGEST, LARGEST);
    let actors = ["a", "b", "c", "d"].map(entry);
    let mut held = actors.each_ref().map(|actor| Some(enter(&places, actor).unwrap()));
    let [first, second, ..] = held.each_ref().map(|place| answering(place.as_ref().unwrap()));
    assert_eq!(reach(&first, SMALLEST + 1, false).await, Ok(0));
    assert_eq!(first.try_reach(LARGEST), Some(0), "it waits once");
    let began = Instant::now();
    assert_eq!(reach(&second, 3 * SMALLEST, true).await, Err(NoBytes));
    assert_eq!(began.elapsed(), PATIENCE);
    first.end(&mut held[0]);
    let over = async {
        sleep(PATIENCE / 2).await;
        drop((held[0].take(), first));
    };
    let (waited, ()) = tokio::join!(reach(&second, 3 * SMALLEST, true), over);
    assert_eq!(waited, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_host_is_not_blamed_for_the_time_in_line() {
    let alarms = Alarms::keeping(1);
    let (answering, limit) = (Answering::new(None), Duration::from_secs(4));
    let silent = async {
        sleep(limit / 2).await;
        answering.waits(true);
        sleep(10 * limit).await;
        answering.waits(false);
        sleep(10 * limit).await;
    };
    let began = Instant::now();
    assert_eq!(answering.within((Instant::now(), limit), &alarms, pin!(silent)).await, None);
    let (taken, expected) = (began.elapsed(), 11 * limit);
    assert!(taken >= expected && taken < expected + limit, "{taken:?}");
    let (answering, now) = (Answering::new(None), Instant::now());
    assert_eq!(answering.within((now, limit), &alarms, pin!(sleep(limit / 2))).await, Some(()));
}

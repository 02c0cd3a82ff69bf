use super::cursor::NextRead;
use super::*;
use crate::actor::ActorId;
use crate::due::record::Purpose;
use crate::history::Page;
use crate::invocation::Invocation;
use crate::outbox::EffectSource;

fn entry(at: u64, id: usize, target: &str) -> DueEntry {
    let actor = ActorId { name: target.into(), system: "s".into(), parent: String::new() };
    let invocation = Invocation { actor, ..Invocation::default() };
    let source = EffectSource { name: format!("{id:09}"), ..EffectSource::default() };
    let key = DueKey { at: Timestamp(at), source: source.into() };
    DueEntry { key, record: Record { invocation, purpose: Purpose::Call }.encode() }
}

/// A store: what it has, and reads of it.
#[derive(Default)]
struct Table(BTreeMap<DueKey, DueEntry>);

impl Table {
    fn of(entries: impl IntoIterator<Item = DueEntry>) -> Self {
        Self(entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect())
    }

    /// Reads until the window has enough.
    fn feed(&self, window: &mut Window) -> usize {
        let mut pages = 0;
        while let Some(NextRead { after }) = window.next_read() {
            pages += 1;
            let behind = |key: &&DueKey| after.as_ref().is_none_or(|after| *key > after);
            let mut rest = self.0.iter().filter(|(key, _)| behind(key)).map(|(_, of)| of);
            let items: Vec<_> = rest.by_ref().take(1_024).cloned().collect();
            let page = Page { items, more: rest.next().is_some() };
            assert_eq!(window.loaded(page, |_| false), []);
        }
        pages
    }
}

/// Calls everything that is due, one at a time. Returns the names of the targets.
fn drain(table: &mut Table, window: &mut Window, now: u64) -> Vec<String> {
    let mut called = Vec::new();
    loop {
        table.feed(window);
        if let Some(ready) = window.take_due(Timestamp(now), 64, true, |_| false) {
            called.push(ready.record.invocation.actor.name.clone());
            window.ended(&ready, true);
            assert!(table.0.remove(&ready.key).is_some(), "called twice: {:?}", ready.key);
            window.removed(ready.key);
        } else if window.has_left() {
            window.go_back();
        } else {
            return called;
        }
    }
}

#[test]
fn going_back_once_more_skips_nothing_that_was_not_read_since() {
    let mut table = Table::of([entry(1, 1, "a"), entry(5, 5, "b")]);
    let mut window = Window::default();
    table.feed(&mut window);
    let first = window.take_due(Timestamp(9), 4, true, |_| false).unwrap();
    let second = window.take_due(Timestamp(9), 4, true, |_| false).unwrap();
    window.ended(&first, false);
    window.go_back();
    assert!(window.next_read().is_some());
    window.not_read();
    window.ended(&second, false);
    window.go_back();
    assert_eq!(drain(&mut table, &mut window, 9), ["a", "b"]);
}

#[test]
fn all_entries_are_called_once_and_memory_is_bounded() {
    let mut table = Table::of((0..40_000).map(|n| entry(n as u64 / 3, n, &format!("t{}", n % 97))));
    let mut window = Window::default();
    table.feed(&mut window);
    assert!(window.held() <= ENTRIES, "{}", window.held());
    assert_eq!(drain(&mut table, &mut window, u64::MAX).len(), 40_000);
    assert_eq!((window.held(), window.bytes, window.targets.len()), (0, 0, 0));
}

#[test]
fn a_target_with_many_entries_delays_no_other() {
    // The target hangs: none of its calls ever ends.
    let many = (0..30_000).map(|n| entry(1, n, "slow"));
    let table = Table::of(many.chain([entry(2, 99_999, "quick")]));
    let mut window = Window::default();
    table.feed(&mut window);
    let mut called = Vec::new();
    while let Some(ready) = window.take_due(Timestamp(10), 64, true, |_| false) {
        called.push(ready.record.invocation.actor.name.clone());
    }
    assert_eq!(called.len(), 1 + 1);
    assert_eq!(called.last().map(String::as_str), Some("quick"));
    assert!(window.held() <= OF_TARGET + 1);
}

#[test]
fn large_entries_of_a_target_that_does_not_answer_are_not_read_again_and_again() {
    let large = |n| {
        let mut large = entry(1, n, "slow");
        let mut record = Record::decode(large.record).unwrap();
        let value = vec![0; 40 << 10].into();
        let payload = crate::state::Any { type_url: "t".into(), value };
        record.invocation.payload = crate::invocation::Payload::Value(payload);
        large.record = record.encode();
        large
    };
    let table = Table::of((0..2_000).map(large).chain([entry(2, 99_999, "quick")]));
    let mut window = Window::default();
    let (mut pages, mut called) = (0, Vec::new());
    for _ in 0..100 {
        pages += table.feed(&mut window);
        while let Some(ready) = window.take_due(Timestamp(10), 64, true, |_| false) {
            window.waits(&target(&ready.record));
            called.push(ready.record.invocation.actor.name.clone());
        }
        if window.has_drained() {
            window.go_back();
        }
    }
    assert_eq!(called, ["slow", "quick"]);
    assert!(pages < 10, "{pages} pages for 2");
}

#[test]
fn a_crowded_target_is_read_on_without_reading_the_whole_table_each_time() {
    let mut table = Table::of((0..50_000).map(|n| entry(1, n, "hot")));
    let mut window = Window::default();
    let (mut pages, mut called) = (0, 0);
    loop {
        pages += table.feed(&mut window);
        if let Some(ready) = window.take_due(Timestamp(10), 64, true, |_| false) {
            called += 1;
            window.ended(&ready, true);
            table.0.remove(&ready.key);
            window.removed(ready.key);
        } else if window.has_drained() {
            window.go_back();
        } else {
            break;
        }
    }
    assert_eq!(called, 50_000);
    assert!(pages < 300, "{pages} pages for 50");
}

#[test]
fn a_new_entry_is_called_whether_it_is_before_or_behind_what_was_read() {
    let mut table = Table::of((0..20_000).map(|n| entry(1_000 + n as u64, n, &format!("t{n}"))));
    let mut window = Window::default();
    table.feed(&mut window);
    for (at, id) in [(5, 90_001), (1_001, 90_002), (90_000, 90_003)] {
        let new = entry(at, id, "new");
        table.0.insert(new.key.clone(), new.clone());
        window.offer(new);
    }
    let first = window.take_due(Timestamp(10), 64, true, |_| false).unwrap();
    assert_eq!(first.key.at, Timestamp(5));
    window.ended(&first, true);
    table.0.remove(&first.key);
    window.removed(first.key);
    assert_eq!(drain(&mut table, &mut window, u64::MAX).len(), 20_002);
}

#[test]
fn what_is_cancelled_takes_no_place_and_is_not_called() {
    let far = 1 << 50;
    let mut table = Table::of([entry(far, 1, "t")]);
    let mut window = Window::default();
    table.feed(&mut window);
    // Far more than have a place, as when a schedule is changed again and again.
    for id in 10..100_000 {
        let new = entry(far + id as u64, id, "t");
        window.offer(new.clone());
        window.cancel(&new.key);
    }
    assert_eq!(window.held(), 1);
    window.cancel(&entry(far, 1, "t").key);
    assert_eq!((window.held(), window.bytes, window.targets.len()), (0, 0, 0));
    // Too many at once: what is left is read again.
    table.0.clear();
    for id in 0..100 {
        let new = entry(far, id, "t");
        window.offer(new);
    }
    let kept = entry(5, 7, "kept");
    table.0.insert(kept.key.clone(), kept);
    window.forget();
    assert_eq!(drain(&mut table, &mut window, u64::MAX), ["kept"]);
}

#[test]
fn what_failed_is_tried_again_and_what_was_removed_during_a_read_is_not() {
    let mut table = Table::of((0..3).map(|n| entry(n as u64, n, "t")));
    let mut window = Window::default();
    table.feed(&mut window);
    let first = window.take_due(Timestamp(9), 64, true, |_| false).unwrap();
    window.ended(&first, false);
    let second = window.take_due(Timestamp(9), 64, true, |_| false).unwrap();
    window.ended(&second, true);
    window.go_back();
    // The page is of before the removal.
    let before = Page { items: table.0.values().cloned().collect(), more: false };
    assert_eq!(window.next_read(), Some(NextRead { after: None }));
    table.0.remove(&second.key);
    window.removed(second.key);
    window.loaded(before, |_| false);
    assert_eq!(drain(&mut table, &mut window, 9).len(), 2);
}

#[test]
fn a_crowded_target_keeps_no_retry_of_another_from_being_read() {
    let slow = (0..3_000).map(|n| entry(1, n, "slow"));
    let quick = entry(5, 9_000, "quick");
    let mut table = Table::of(slow.chain([quick.clone(), entry(6, 9_001, "quick")]));
    let mut window = Window::default();
    let mut tried = 0;
    let mut slow_one = None;
    for _ in 0..20 {
        table.feed(&mut window);
        while let Some(ready) = window.take_due(Timestamp(9), 64, true, |_| false) {
            if ready.record.invocation.actor.name == "slow" {
                // It hangs.
                slow_one = Some(ready);
            } else {
                tried += usize::from(ready.key == quick.key);
                window.ended(&ready, false);
            }
        }
        window.go_back();
    }
    assert!(slow_one.is_some());
    assert_eq!(tried, 20, "once after each pause");
    // A look at the whole table passes over nothing, also not over what came later than it was read.
    for missed in [entry(3, 9_002, "missed"), entry(8, 9_003, "later")] {
        table.0.insert(missed.key.clone(), missed);
    }
    window.sweep();
    table.feed(&mut window);
    let due = std::iter::from_fn(|| window.take_due(Timestamp(9), 64, true, |_| false));
    let called: Vec<_> = due.map(|ready| ready.record.invocation.actor.name.clone()).collect();
    assert!(
        ["missed", "later"].iter().all(|name| called.iter().any(|of| of == name)),
        "{called:?}"
    );
}

/// A call that its client has named.
fn named(id: &str, target: &str) -> DueEntry {
    let entry = entry(5, 1, target);
    let source = EffectSource {
        kind: crate::outbox::SourceKind::Due,
        system: "s".into(),
        name: format!("id/{id}"),
    };
    DueEntry { key: DueKey { source: source.into(), ..entry.key }, ..entry }
}

#[test]
fn of_calls_with_one_id_and_time_the_last_one_counts() {
    let mut window = Window::default();
    Table::default().feed(&mut window);
    window.offer(named("x", "first"));
    window.offer(named("x", "last"));
    assert_eq!((window.held(), window.targets.len()), (1, 1));
    let ready = window.take_due(Timestamp(9), 4, true, |_| false).unwrap();
    assert_eq!(ready.record.invocation.actor.name, "last");
    window.ended(&ready, true);
    window.removed(ready.key);
    assert_eq!((window.held(), window.bytes, window.targets.len()), (0, 0, 0));
    // Also when its time has come and it waits for another call.
    window.offer(named("a", "busy"));
    window.offer(named("b", "busy"));
    let first = window.take_due(Timestamp(9), 4, true, |_| false).unwrap();
    assert!(window.take_due(Timestamp(9), 4, true, |_| false).is_none());
    window.offer(named("b", "other"));
    window.ended(&first, true);
    let queued = window.take_due(Timestamp(9), 4, true, |_| false).unwrap();
    assert!(window.take_replaced(&queued.key));
    window.put_off(&queued);
    assert!(window.has_left());
}

#[test]
fn what_is_offered_while_the_cursor_is_back_is_not_passed_over() {
    let slow = (0..3_000).map(|n| entry(1, n, "slow"));
    let table = Table::of(slow.chain([entry(7, 9_000, "last")]));
    let mut window = Window::default();
    table.feed(&mut window);
    window.offer(named("x", "first"));
    window.leave(&entry(5, 9_001, "quick").key);
    window.go_back();
    window.offer(named("x", "last"));
    window.offer(entry(6, 9_002, "new"));
    table.feed(&mut window);
    let due = std::iter::from_fn(|| window.take_due(Timestamp(9), 64, true, |_| false));
    let called: Vec<_> = due.map(|ready| ready.record.invocation.actor.name.clone()).collect();
    assert_eq!(
        called,
        ["slow", "last", "new"],
        "one of `slow` and of `last`, which are not answered"
    );
}

#[test]
fn much_that_is_not_due_for_long_delays_neither_new_calls_nor_retries() {
    let far = (0..9_000).map(|n| entry(1_000_000, n, &format!("t{}", n % 20)));
    let mut table = Table::default();
    let mut window = Window::default();
    table.feed(&mut window);
    for entry in far {
        table.0.insert(entry.key.clone(), entry.clone());
        window.offer(entry);
    }
    assert_eq!(window.held(), 9_000);
    let (one, other) = (entry(1, 10_001, "new"), entry(2, 10_002, "new"));
    for (offered, is_done) in [(Some(&one), false), (None, true), (Some(&other), true)] {
        if let Some(offered) = offered {
            table.0.insert(offered.key.clone(), offered.clone());
            window.offer(offered.clone());
        }
        let ready = window.take_due(Timestamp(9), 64, true, |_| false).expect("it is due");
        assert_eq!(ready.key, offered.unwrap_or(&one).key);
        window.ended(&ready, is_done);
        if is_done {
            table.0.remove(&ready.key);
            window.removed(ready.key);
        }
        window.sweep();
        table.feed(&mut window);
        assert!(window.held() <= ENTRIES / 2 + 1_024, "{}", window.held());
    }
    assert_eq!(drain(&mut table, &mut window, u64::MAX).len(), 9_000);
}

#[test]
fn what_makes_way_is_read_again_although_the_cursor_passes_over_a_crowded_target() {
    let mut table = Table::of((0..2_000).map(|n| entry(1 + n as u64 / 1_500 * 2, n, "slow")));
    let mut window = Window::default();
    table.feed(&mut window);
    let far = |n: usize| entry(1_000_000 + n as u64, 10_000 + n, &format!("t{}", n % 20));
    for n in 0..9_000 {
        if n == 6_000 {
            window.leave(&entry(2, 9_999, "quick").key);
            window.go_back();
        }
        table.0.insert(far(n).key, far(n));
        window.offer(far(n));
    }
    assert!(window.held() > 9_000);
    window.leave(&entry(2, 9_999, "quick").key);
    window.go_back();
    assert!(window.held() < 5_000, "{}", window.held());
    table.feed(&mut window);
    assert!(window.held() >= ENTRIES / 2, "{}: as much as is read at most", window.held());
    assert_eq!(drain(&mut table, &mut window, u64::MAX).len(), 11_000);
}

#[test]
fn a_target_that_hangs_is_remembered_and_called_only_when_it_may() {
    let table = Table::of([entry(1, 1, "slow"), entry(2, 2, "slow"), entry(3, 3, "quick")]);
    let mut window = Window::default();
    table.feed(&mut window);
    let slow = target(&Record::decode(entry(1, 1, "slow").record).unwrap());
    let name = |ready: &Ready| ready.record.invocation.actor.name.clone();
    let first = window.take_due(Timestamp(9), 4, true, |_| false).unwrap();
    window.waits(&slow);
    window.ended(&first, false);
    // Its next entry makes way, also when it was due before.
    let quick = window.take_due(Timestamp(9), 4, false, |_| false).unwrap();
    assert_eq!(name(&quick), "quick");
    window.ended(&quick, true);
    assert!(window.take_due(Timestamp(9), 4, false, |_| false).is_none() && window.hangs(&slow));
    let second = window.take_due(Timestamp(9), 4, true, |_| false).unwrap();
    assert_eq!(name(&second), "slow");
    window.ended(&second, false);
    // Nothing of it is in memory, and it comes again.
    window.go_back();
    table.feed(&mut window);
    assert!(window.take_due(Timestamp(9), 4, false, |_| false).is_none());
    assert_eq!(window.view().first, Some(Timestamp(1)), "it is late");
    let again = window.take_due(Timestamp(9), 4, true, |_| false).unwrap();
    window.ended(&again, true);
    assert!(!window.hangs(&slow));
    assert!(window.take_due(Timestamp(9), 4, false, |_| false).is_some(), "it answers now");
}

#[test]
fn many_targets_that_hang_do_not_keep_the_entries_of_others_out_of_memory() {
    const SLOW: usize = 9_000;
    let slow = (0..SLOW).map(|n| entry(1, n, &format!("t{n}")));
    let mut table = Table::of(slow.chain([entry(2, 99_999, "quick")]));
    let mut window = Window::default();
    for n in 0..SLOW {
        window.waits(&("s".to_owned(), format!("t{n}")));
    }
    table.feed(&mut window);
    assert!(window.take_due(Timestamp(9), 64, false, |_| false).is_none());
    table.feed(&mut window);
    let quick = window.take_due(Timestamp(9), 64, false, |_| false).expect("it is read");
    assert_eq!(quick.record.invocation.actor.name, "quick");
    assert!(window.of_hanging.len() <= 2 * OF_HANGING && window.has_left());
    window.ended(&quick, true);
    table.0.remove(&quick.key);
    window.removed(quick.key);
    assert_eq!(drain(&mut table, &mut window, 9).len(), SLOW, "they are read again");
    assert_eq!((window.held(), window.bytes, window.targets.len()), (0, 0, 0));
}

#[test]
fn it_is_known_when_no_entry_before_a_time_is_left() {
    let mut table = Table::of([entry(1, 1, "a"), entry(2, 2, "b"), entry(9, 3, "c")]);
    let mut window = Window::default();
    let has_none = |window: &Window| window.has_none_before(Timestamp(5));
    assert!(!has_none(&window), "nothing was read");
    table.feed(&mut window);
    let first = window.take_due(Timestamp(5), 4, true, |_| false).unwrap();
    window.ended(&first, true);
    assert!(!has_none(&window), "it is done and not removed");
    table.0.remove(&first.key);
    window.removed(first.key);
    assert!(window.take_due(Timestamp(5), 4, true, |_| true).is_none());
    assert!(!has_none(&window), "one is held back");
    assert!(window.let_go(|_, _| false) && !has_none(&window), "it is left");
    window.go_back();
    assert!(!has_none(&window), "it is read again");
    table.feed(&mut window);
    let second = window.take_due(Timestamp(5), 4, true, |_| false).unwrap();
    window.ended(&second, true);
    window.removed(second.key);
    assert!(has_none(&window) && !window.has_none_before(Timestamp(10)));
}

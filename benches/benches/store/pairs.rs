//! Pairs: saves and loads at all concurrencies, on a store and its bare engine in turns.

use std::sync::Arc;

use tidegate_benches::harness::{Bench, Case, case};
use tidegate_benches::store::crowd::Crowd;
use tidegate_benches::store::keeper::Keeper;

/// Concurrent workers.
const HANDS: [u64; 3] = [1, 64, 1_024];

/// Saves and loads at all concurrencies, the bare engine first in each group.
pub(crate) fn against_each_other<A: Keeper, B: Keeper>(
    bench: &Bench,
    engine: &Arc<Crowd<A>>,
    store: &Arc<Crowd<B>>,
) {
    let saves = bench.table("save");
    for (append, what) in [(false, "head"), (true, "head and revision")] {
        for hands in HANDS {
            let name = format!("saves, {what}, {hands} at once");
            saves.group([
                saving(&format!("{name}: engine"), engine, hands, append),
                saving(&format!("{name}: store"), store, hands, append),
            ]);
        }
    }
    let loads = bench.table("load");
    for hands in HANDS {
        let name = format!("loads, head, {hands} at once");
        loads.group([
            loading(&format!("{name}: engine"), engine, hands),
            loading(&format!("{name}: store"), store, hands),
        ]);
    }
    for hands in HANDS {
        let name = format!("loads, revision, {hands} at once");
        loads.group([
            loading_revisions(&format!("{name}: engine"), engine, hands),
            loading_revisions(&format!("{name}: store"), store, hands),
        ]);
    }
}

fn saving<K: Keeper>(name: &str, crowd: &Arc<Crowd<K>>, hands: u64, append: bool) -> Case {
    let crowd = Arc::clone(crowd);
    case(name, move |saves| Arc::clone(&crowd).save_at_random(hands, saves, append))
}

fn loading<K: Keeper>(name: &str, crowd: &Arc<Crowd<K>>, hands: u64) -> Case {
    let crowd = Arc::clone(crowd);
    case(name, move |loads| Arc::clone(&crowd).load_at_random(hands, loads))
}

fn loading_revisions<K: Keeper>(name: &str, crowd: &Arc<Crowd<K>>, hands: u64) -> Case {
    let crowd = Arc::clone(crowd);
    case(name, move |loads| Arc::clone(&crowd).load_revisions_at_random(hands, loads))
}

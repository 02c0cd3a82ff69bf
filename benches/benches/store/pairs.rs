//! Pairs: saves and loads at all concurrencies, on a store and its bare engine in turns.

use std::sync::Arc;

use tidegate_benches::harness::{Bench, Case, case};
use tidegate_benches::store::storage::Storage;
use tidegate_benches::store::workload::Workload;

/// Concurrent workers.
const WORKERS: [u64; 3] = [1, 64, 1_024];

/// Saves and loads at all concurrencies, the bare engine first in each group.
pub(crate) fn against_each_other<A: Storage, B: Storage>(
    bench: &Bench,
    engine: &Arc<Workload<A>>,
    store: &Arc<Workload<B>>,
) {
    let saves = bench.table("save");
    for (append, what) in [(false, "head"), (true, "head and revision")] {
        for workers in WORKERS {
            let name = format!("saves, {what}, {workers} at once");
            saves.group([
                saving(&format!("{name}: engine"), engine, workers, append),
                saving(&format!("{name}: store"), store, workers, append),
            ]);
        }
    }
    let loads = bench.table("load");
    for workers in WORKERS {
        let name = format!("loads, head, {workers} at once");
        loads.group([
            loading(&format!("{name}: engine"), engine, workers),
            loading(&format!("{name}: store"), store, workers),
        ]);
    }
    for workers in WORKERS {
        let name = format!("loads, revision, {workers} at once");
        loads.group([
            loading_revisions(&format!("{name}: engine"), engine, workers),
            loading_revisions(&format!("{name}: store"), store, workers),
        ]);
    }
}

fn saving<K: Storage>(name: &str, workload: &Arc<Workload<K>>, workers: u64, append: bool) -> Case {
    let workload = Arc::clone(workload);
    case(name, move |saves| Arc::clone(&workload).save_at_random(workers, saves, append))
}

fn loading<K: Storage>(name: &str, workload: &Arc<Workload<K>>, workers: u64) -> Case {
    let workload = Arc::clone(workload);
    case(name, move |loads| Arc::clone(&workload).load_at_random(workers, loads))
}

fn loading_revisions<K: Storage>(name: &str, workload: &Arc<Workload<K>>, workers: u64) -> Case {
    let workload = Arc::clone(workload);
    case(name, move |loads| Arc::clone(&workload).load_revisions_at_random(workers, loads))
}

//! Embedded: the store in a directory, beside fjall.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate::store::EmbeddedStore;
use tidegate_benches::harness::Bench;
use tidegate_benches::store::bare_fjall::BareFjall;
use tidegate_benches::store::ported::{Ported, open_embedded};
use tidegate_benches::store::workload::Workload;
use tidegate_benches::usage::cpu;
use tidegate_stages::ports::StateStore;
use tokio::time::Instant;

use super::histories::{self, SHORT};
use super::pairs::against_each_other;

/// How often the store is opened.
const OPENS: usize = 3;

/// Saves and loads.
pub(crate) fn pairs(bench: &Bench, disk: &Path) {
    let (raw, ours) = (disk.join("raw"), disk.join("ours"));
    let opened = raw.clone();
    let engine = bench.block_on(async move { Workload::gather(BareFjall::open(&opened)).await });
    let opened = ours.clone();
    let (store, workload) = bench.block_on(async move {
        let store = open_embedded(&opened).await;
        let workload = Workload::gather(Ported::claim(store.clone()).await).await;
        (store, workload)
    });
    against_each_other(bench, &engine, &workload);
    let engine = Arc::into_inner(engine).expect("nobody else has it");
    let workload = Arc::into_inner(workload).expect("nobody else has it");
    bench.block_on(async move {
        store.close().await.expect("the store closes");
        drop(store);
        let open = async || Ported::claim(open_embedded(&ours).await).await;
        Arc::new(workload.reopen(open).await).verify().await;
        let open = async || BareFjall::open(&raw);
        Arc::new(engine.reopen(open).await).verify().await;
    });
}

/// A long history.
pub(crate) fn history(bench: &Bench, directory: &Path) {
    let revisions = if bench.options().quick { 50_000 } else { 1_000_000 };
    let opened = directory.to_owned();
    let store = bench.block_on(async move { open_embedded(&opened).await });
    histories::fill(bench, &port(&store), revisions);
    bench.block_on(async move { store.close().await.expect("the store closes") });
    let bytes = occupied(directory) / (revisions + SHORT);
    println!("on disk: {bytes} bytes per revision");

    let mut opens: Vec<(Duration, Duration)> = Vec::new();
    for _ in 0..OPENS {
        let opened = directory.to_owned();
        let (started, cpu_before) = (Instant::now(), cpu());
        let store = bench.block_on(async move { open_embedded(&opened).await });
        opens.push((started.elapsed(), cpu().saturating_sub(cpu_before)));
        bench.block_on(async move { store.close().await.expect("the store closes") });
    }
    opens.sort_unstable();
    let (time, spent) = opens[OPENS / 2];
    let ms = |time: Duration| 1e3 * time.as_secs_f64();
    println!("opens in {:.1} ms, CPU {:.1} ms", ms(time), ms(spent));

    let opened = directory.to_owned();
    let store = bench.block_on(async move { open_embedded(&opened).await });
    histories::read(bench, &port(&store), revisions);
    bench.block_on(async move { store.close().await.expect("the store closes") });
}

fn port(store: &Arc<EmbeddedStore>) -> Arc<dyn StateStore> {
    Arc::clone(store) as Arc<dyn StateStore>
}

/// Space of a directory on its device, in bytes.
fn occupied(directory: &Path) -> u64 {
    let entries = directory.read_dir().expect("it is there");
    let sizes = entries.map(|entry| {
        let entry = entry.expect("it can be read");
        let metadata = entry.metadata().expect("it is there");
        let inside = if metadata.is_dir() { occupied(&entry.path()) } else { 0 };
        512 * metadata.blocks() + inside
    });
    sizes.sum()
}

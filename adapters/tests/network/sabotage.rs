//! Sabotage: makes something wrong, so that a simulation has to find it.

use std::time::Duration;

use futures_util::FutureExt;
use tidegate_stages::due::DueEntry;
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{DueStore, Save, ScheduleStore, StateStore};
use tidegate_stages::schedules::ScheduleKey;
use tidegate_stages::state::Head;
use tokio::time::sleep;

use crate::millis;
use crate::revisions::key;
use crate::support::counter::SYSTEM;

/// Makes something wrong behind the proxy's back, as soon as it can, until some time.
pub(crate) async fn make_wrong(planted: &str, disk: &MemoryStore, until: Duration) {
    let source = key("source-brief");
    let head = || disk.load(&source).now_or_never().expect("in memory").expect("it is read");
    let mut old: Option<Head> = None;
    while turmoil::sim_elapsed().expect("inside the simulation") < until {
        sleep(millis(1)).await;
        let now = head();
        match planted {
            "due work is lost" | "a run is lost" => {
                let kind = if planted == "a run is lost" { "run/" } else { "call/" };
                let due = disk.due(None, 100).await.expect("it is read").items;
                let is_one = |entry: &DueEntry| entry.key.source.name.starts_with(kind);
                if let Some(first) = due.into_iter().find(is_one) {
                    return disk.remove_due(vec![first.key]).await.expect("it is removed");
                }
            }
            "a schedule is lost" => {
                let first = ScheduleKey { system: SYSTEM.into(), name: "skip".into() };
                if disk.schedule(&first).await.expect("it is read").is_some() {
                    return disk.remove_schedule(&first).await.expect("it is removed");
                }
            }
            "a head is lost" if now.is_some() => {
                return disk.delete(&source).await.expect("it is deleted");
            }
            "a head goes back" => match (&old, now) {
                (Some(old), Some(now)) if now.version > old.version => {
                    let save = Save::of_head(source.clone().into(), old.clone(), false);
                    drop(disk.save_all(vec![Save { epoch: now.epoch, ..save }]).await);
                    return;
                }
                (None, now) => old = now,
                _ => {}
            },
            _ => {}
        }
    }
}

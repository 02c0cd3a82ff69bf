//! Warnings: those of the mesh, of certificates and of the disk, as JSON. Each warning names a page of the runbook.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_stages::mesh::{Mesh, Warned, WarningKind};
use tidegate_stages::ports::Clock;
use tidegate_stages::state::Timestamp;

use super::http::{Answer, JSON, of_type};
use crate::clock::SystemClock;
use crate::moment;
use crate::store::EmbeddedStore;
use crate::tls;

/// From this time before its end on a certificate is warned of, as the alert does.
const SOON_S: i64 = 14 * 24 * 60 * 60;

/// What is not as it should be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WarningList {
    pub(crate) warnings: Vec<Line>,
    /// Kinds of which more is known than is listed, or something may not be known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) others: Vec<Others>,
}

/// One warning.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) kind: String,
    /// The actor, the host, the schedule or the setting.
    pub(crate) what: String,
    /// Since when; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<String>,
    pub(crate) sentence: String,
    /// The page of the runbook.
    pub(crate) runbook: String,
}

/// Warnings of one kind that are not listed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Others {
    pub(crate) kind: String,
    /// How many more there are.
    pub(crate) more: usize,
    /// Why there may be others that were not found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unknown: Option<String>,
}

/// The name of a kind, and the page of the runbook.
fn told(kind: WarningKind) -> (&'static str, &'static str) {
    match kind {
        WarningKind::StuckTurn => ("stuck_turn", "turns-stuck"),
        WarningKind::HostAway => ("host_away", "host-away"),
        WarningKind::FlappingHost => ("flapping_host", "host-away"),
        WarningKind::FullMailbox => ("full_mailbox", "calls-shed"),
        WarningKind::RetryingEffect => ("retrying_effect", "effects-late"),
        WarningKind::OverdueSchedule => ("overdue_schedule", "due-work-late"),
    }
}

/// Answers with all warnings of now.
pub(super) async fn answer(mesh: &Mesh, store: Option<&Arc<EmbeddedStore>>) -> Answer {
    let now = SystemClock.now();
    let mut list = WarningList { warnings: Vec::new(), others: Vec::new() };
    for (kind, Warned { shown, more, unknown }) in mesh.warnings().await {
        let (kind, runbook) = told(kind);
        if more > 0 || unknown.is_some() {
            list.others.push(Others { kind: kind.into(), more, unknown });
        }
        list.warnings.extend(shown.into_iter().map(|warning| Line {
            kind: kind.into(),
            what: warning.what,
            since: Some(before(now, warning.lasts)),
            sentence: warning.sentence,
            runbook: runbook.into(),
        }));
    }
    let now_s = i64::try_from(now.0 / 1_000_000).unwrap_or(i64::MAX);
    let endings = tls::endings();
    list.warnings
        .extend(endings.into_iter().filter_map(|(setting, at)| certificate(setting, at, now_s)));
    list.warnings.extend(store.and_then(|store| disk(store.disk_seen(), store.is_disk_full())));
    let bytes = serde_json::to_vec(&list).expect("texts and numbers become JSON");
    of_type(JSON, bytes.into())
}

fn before(now: Timestamp, lasts: Duration) -> String {
    let lasts = u64::try_from(lasts.as_micros()).unwrap_or(u64::MAX);
    moment::show(Timestamp(now.0.saturating_sub(lasts)))
}

fn certificate(setting: &str, at: i64, now: i64) -> Option<Line> {
    let left = at.saturating_sub(now);
    if left >= SOON_S {
        return None;
    }
    let end = moment::show(Timestamp(u64::try_from(at).unwrap_or(0).saturating_mul(1_000_000)));
    let since = u64::try_from(at.saturating_sub(SOON_S)).unwrap_or(0).saturating_mul(1_000_000);
    let (days, hours) = (left.abs() / 86_400, left.abs() / 3_600 % 24);
    let when = if left <= 0 { "has ended" } else { "ends" };
    let how = if left <= 0 { "ago" } else { "from now" };
    Some(Line {
        kind: "certificate_ending".into(),
        what: setting.into(),
        since: Some(moment::show(Timestamp(since))),
        sentence: format!("a certificate {when} at {end}, {days} days and {hours} h {how}"),
        runbook: "certificate-ends".into(),
    })
}

/// A disk with less than twice the reserve free is warned of.
fn disk((free, reserve): (u64, u64), is_full: bool) -> Option<Line> {
    if !is_full && free >= reserve.saturating_mul(2) {
        return None;
    }
    let (free, reserve) = (free >> 10, reserve >> 10);
    let sentence = if is_full {
        format!("{free} KiB are free, {reserve} KiB are kept in reserve: changes are refused")
    } else {
        format!("{free} KiB are free; changes are refused when less than {reserve} KiB are")
    };
    Some(Line {
        kind: "disk_reserve_low".into(),
        what: "store".into(),
        since: None,
        sentence,
        runbook: "disk-full".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_warned_of_below_twice_the_reserve() {
        assert!(disk((2 << 20, 1 << 20), false).is_none());
        assert!(disk((0, 0), false).is_none(), "nobody has looked yet");
        let low = disk(((2 << 20) - 1, 1 << 20), false).unwrap().sentence;
        assert_eq!(low, "2047 KiB are free; changes are refused when less than 1024 KiB are");
        let full = disk((1 << 19, 1 << 20), true).unwrap().sentence;
        assert!(full.ends_with("1024 KiB are kept in reserve: changes are refused"), "{full}");
    }

    #[test]
    fn a_certificate_is_warned_of_from_two_weeks_before_its_end_on() {
        let now = 1_800_000_000;
        assert!(certificate("TIDEGATE_TLS_CERT", now + SOON_S, now).is_none());
        let soon = certificate("TIDEGATE_TLS_CERT", now + 90_000, now).unwrap();
        assert!(soon.sentence.ends_with("1 days and 1 h from now"), "{}", soon.sentence);
        let ended = certificate("TIDEGATE_TLS_CERT", now - 86_400, now).unwrap();
        assert!(
            ended.sentence.starts_with("a certificate has ended at 2027-"),
            "{}",
            ended.sentence
        );
    }
}

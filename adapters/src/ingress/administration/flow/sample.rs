//! Sample: the figures of one moment, and what has come between two of them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tidegate_stages::mesh::{FlowSeen, HostSeen, Mesh, WaitingSeen};
use tidegate_stages::ports::Clock;
use tokio::time::Instant;

use super::super::super::{Calls, Ingress};
use super::bottleneck::{self, Bottleneck, Known};
use crate::clock::SystemClock;
use crate::moment;

/// The stages, in the order in which a call passes them; others follow.
const ORDER: [&str; 6] = ["caller", "lookup", "invoke", "side_effects", "checkpoint", "registry"];

/// Labels of the stage that calls hosts.
const INVOKE: &str = "stage=\"invoke\"";
/// A buffer with this many places has no bound of its own.
const UNBOUNDED: f64 = 1e15;

/// What is known of stages, by stage and name of the metric.
type Figures = BTreeMap<String, BTreeMap<String, f64>>;

/// The figures of one moment.
#[derive(Debug)]
pub(super) struct Sample {
    at: Instant,
    time: String,
    figures: Figures,
    calls: CallCounts,
    seen: FlowSeen,
    store_up: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct CallCounts {
    all: f64,
    failed: f64,
    seconds: f64,
}

/// What happens now. Rates are per second, of the last `interval_ms`.
#[derive(Debug, Serialize)]
pub(super) struct Flow {
    at: String,
    interval_ms: u64,
    /// What holds calls up, in a sentence; absent when none waits, and none is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    bottleneck: Option<Bottleneck>,
    calls: CallRates,
    /// Empty when no metrics are gathered.
    stages: Vec<StageFlow>,
    waiting: Vec<WaitingFlow>,
    hosts: Vec<HostFlow>,
    all_hosts: usize,
    store_up: bool,
    store_breaker_open: bool,
    live_actors: usize,
    registered_actors: usize,
}

#[derive(Debug, Default, Serialize)]
struct CallRates {
    per_second: f64,
    failed_per_second: f64,
    /// Of the calls that ended; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_ms: Option<f64>,
}

/// One stage. What it has not is absent.
#[derive(Debug, Serialize)]
struct StageFlow {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    granted_per_second: Option<f64>,
    /// Events that are asked for and not granted: free slots.
    #[serde(skip_serializing_if = "Option::is_none")]
    demand: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parked: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buffer: Option<Buffer>,
    /// Seconds that callers waited for a place, per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shed_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_per_second: Option<f64>,
    /// How long events waited for their grant, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_ms: Option<f64>,
    /// How long turns took, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_ms: Option<f64>,
    /// How long the service took, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    service_ms: Option<f64>,
}

/// What a buffer holds, and may hold.
#[derive(Debug, Serialize)]
struct Buffer {
    events: f64,
    limit_events: f64,
    bytes: f64,
    limit_bytes: f64,
}

#[derive(Debug, Serialize)]
struct WaitingFlow {
    stage: &'static str,
    reason: &'static str,
    turns: usize,
    oldest_ms: u64,
    median_ms: u64,
}

#[derive(Debug, Serialize)]
struct HostFlow {
    address: String,
    state: &'static str,
    away_for_ms: u64,
    running: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    permits: Option<usize>,
    waiting: usize,
    median_ms: u64,
    oldest_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_turn_ms: Option<f64>,
}

impl Sample {
    /// Looks; `None` while the store opens.
    pub(super) fn take<C: Calls>(ingress: &Ingress<C>) -> Option<Self> {
        let inner = &ingress.0;
        let seen = inner.controlled.get().map(Mesh::flow)?;
        let (figures, calls) = read(&inner.metrics().unwrap_or_default());
        let store_up = inner.opened.get().is_some_and(|opened| (opened.store_works)());
        let time = moment::show(SystemClock.now());
        Some(Self { at: Instant::now(), time, figures, calls, seen, store_up })
    }

    /// A figure of a stage.
    fn figure(&self, stage: &str, metric: &str) -> Option<f64> {
        self.figures.get(stage)?.get(metric).copied()
    }

    /// What holds calls up.
    fn bottleneck(&self) -> Option<Bottleneck> {
        let places = |stage| {
            let of = |metric| self.figure(stage, metric);
            Some((of("tidegate_buffer_events")?, of("tidegate_buffer_limit_events")?))
        };
        let known = Known {
            running: self.figure("caller", "tidegate_in_flight_events").unwrap_or_default(),
            admitted: places("caller"),
            checkpoint: places("checkpoint"),
            store_up: self.store_up,
        };
        bottleneck::named(&self.seen, &known)
    }
}

impl Flow {
    /// What has come between two moments, and what is there at the second one.
    pub(super) fn between(before: &Sample, now: &Sample) -> Self {
        let interval = now.at.saturating_duration_since(before.at);
        let seconds = interval.as_secs_f64().max(0.001);
        let per_second = |now: f64, before: f64| (now - before).max(0.0) / seconds;
        let ended = now.calls.all - before.calls.all;
        let took = (now.calls.seconds - before.calls.seconds) * 1_000.0;
        let calls = CallRates {
            per_second: per_second(now.calls.all, before.calls.all),
            failed_per_second: per_second(now.calls.failed, before.calls.failed),
            mean_ms: (ended > 0.0).then(|| took / ended),
        };
        let mut names: Vec<&String> = now.figures.keys().collect();
        names.sort_by_key(|name| {
            (ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len()), *name)
        });
        let stages = names.into_iter().map(|name| stage(before, now, name, seconds));
        let FlowSeen { waiting, hosts, all_hosts, store_breaker_open, .. } = &now.seen;
        Self {
            at: now.time.clone(),
            interval_ms: millis(interval),
            bottleneck: now.bottleneck(),
            calls,
            stages: stages.collect(),
            waiting: waiting.iter().map(WaitingFlow::from).collect(),
            hosts: hosts.iter().map(HostFlow::from).collect(),
            all_hosts: *all_hosts,
            store_up: now.store_up,
            store_breaker_open: *store_breaker_open,
            live_actors: now.seen.live_actors,
            registered_actors: now.seen.registered_actors,
        }
    }
}

fn stage(before: &Sample, now: &Sample, name: &str, seconds: f64) -> StageFlow {
    let at = |metric: &str| now.figure(name, metric);
    let more = |metric: &str| {
        let came = at(metric)? - before.figure(name, metric).unwrap_or_default();
        Some(came.max(0.0))
    };
    let rate = |metric: &str| more(metric).map(|came| came / seconds);
    let mean_ms = |metric: &str| {
        let count = more(&format!("{metric}_count")).filter(|count| *count > 0.0)?;
        Some(more(&format!("{metric}_sum"))? * 1_000.0 / count)
    };
    let limit = at("tidegate_buffer_limit_events").filter(|limit| *limit < UNBOUNDED);
    let buffer = limit.map(|limit_events| Buffer {
        events: at("tidegate_buffer_events").unwrap_or_default(),
        limit_events,
        bytes: at("tidegate_buffer_bytes").unwrap_or_default(),
        limit_bytes: at("tidegate_buffer_limit_bytes").unwrap_or_default(),
    });
    StageFlow {
        name: name.to_owned(),
        asked_per_second: rate("tidegate_demand_asked_total"),
        granted_per_second: rate("tidegate_demand_granted_total"),
        demand: at("tidegate_demand_events"),
        queued: at("tidegate_queued_events"),
        in_flight: at("tidegate_in_flight_events"),
        parked: at("tidegate_parked_events"),
        buffer,
        lost_per_second: rate("tidegate_backpressure_seconds_total"),
        shed_per_second: rate("tidegate_calls_shed_total"),
        failed_per_second: rate("tidegate_events_failed_total"),
        queue_ms: mean_ms("tidegate_queue_duration_seconds"),
        turn_ms: mean_ms("tidegate_turn_duration_seconds"),
        service_ms: mean_ms("tidegate_stage_duration_seconds"),
    }
}

impl From<&WaitingSeen> for WaitingFlow {
    fn from(seen: &WaitingSeen) -> Self {
        let WaitingSeen { stage, reason, turns, oldest, median } = *seen;
        Self { stage, reason, turns, oldest_ms: millis(oldest), median_ms: millis(median) }
    }
}

impl From<&HostSeen> for HostFlow {
    fn from(seen: &HostSeen) -> Self {
        Self {
            address: seen.address.as_str().to_owned(),
            state: seen.state,
            away_for_ms: millis(seen.away_for),
            running: seen.running,
            permits: seen.permits,
            waiting: seen.waiting,
            median_ms: millis(seen.median),
            oldest_ms: millis(seen.oldest),
            mean_turn_ms: seen.mean_turn.map(|mean| mean.as_secs_f64() * 1_000.0),
        }
    }
}

/// Reads what a scrape says of stages and of calls. Series of a stage with other labels, too, are added up.
fn read(scrape: &str) -> (Figures, CallCounts) {
    let (mut figures, mut calls) = (Figures::new(), CallCounts::default());
    for line in scrape.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let (metric, labels) = series.split_once('{').unwrap_or((series, ""));
        let Ok(value) = value.parse::<f64>() else { continue };
        if let Some(part) = metric.strip_prefix("tidegate_invocation_duration_seconds") {
            match part {
                "_count" => {
                    calls.all += value;
                    calls.failed += if labels.contains("\"error\"") { value } else { 0.0 };
                }
                "_sum" => calls.seconds += value,
                _ => {}
            }
        }
        // Buckets are not needed, and the gauges of what is blocked are looked at elsewhere.
        let is_blocked =
            matches!(metric, "tidegate_blocked_turns" | "tidegate_blocked_oldest_seconds");
        if metric.ends_with("_bucket") || is_blocked {
            continue;
        }
        // The stage that calls hosts has a name of its own.
        let (metric, labels) = match metric.strip_prefix("tidegate_invoke_duration_seconds") {
            Some("_sum") => ("tidegate_stage_duration_seconds_sum", INVOKE),
            Some("_count") => ("tidegate_stage_duration_seconds_count", INVOKE),
            _ => (metric, labels),
        };
        let stage = labels.split_once("stage=\"").and_then(|(_, rest)| rest.split_once('"'));
        if let Some((stage, _)) = stage {
            let of_stage = figures.entry(stage.to_owned()).or_default();
            *of_stage.entry(metric.to_owned()).or_default() += value;
        }
    }
    (figures, calls)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_a_stage_are_added_up_and_what_is_blocked_left_out() {
        let scrape = "# TYPE tidegate_calls_shed_total counter\n\
            tidegate_calls_shed_total{stage=\"caller\",reason=\"full\"} 3\n\
            tidegate_calls_shed_total{stage=\"caller\",reason=\"closed\"} 4\n\
            tidegate_blocked_turns{stage=\"caller\",reason=\"worker\"} 9\n\
            tidegate_invoke_duration_seconds_count 6\n\
            tidegate_invocation_duration_seconds_count{outcome=\"ok\"} 5\n\
            tidegate_invocation_duration_seconds_count{outcome=\"error\"} 2\n\
            tidegate_invocation_duration_seconds_sum{outcome=\"ok\"} 1.5\n";
        let (figures, calls) = read(scrape);
        assert_eq!(figures.len(), 2, "{figures:?}");
        assert_eq!(figures["invoke"].len(), 1);
        assert_eq!(figures["caller"].len(), 1);
        assert!((figures["caller"]["tidegate_calls_shed_total"] - 7.0).abs() < 1e-9);
        assert!((calls.all - 7.0).abs() < 1e-9 && (calls.failed - 2.0).abs() < 1e-9);
    }
}

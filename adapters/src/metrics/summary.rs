//! Summary: a line of the log that tells how calls go, for those who have no Prometheus (`SPAWN_CONSOLE_METRICS`).

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// How often there is a line.
const PERIOD: Duration = Duration::from_secs(10);

/// What is told. Counts are since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Told {
    calls: f64,
    failed: f64,
    seconds: f64,
    running: f64,
    waiting: f64,
    live_actors: f64,
    memory: f64,
}

impl Told {
    /// Reads a scrape.
    fn of(scrape: &str) -> Self {
        let mut told = Self::default();
        for line in scrape.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let value: f64 = value.parse().unwrap_or_default();
            match name {
                "tidegate_invocation_duration_seconds_count" => {
                    told.calls += value;
                    told.failed += if labels.contains("error") { value } else { 0.0 };
                }
                "tidegate_invocation_duration_seconds_sum" => told.seconds += value,
                "tidegate_in_flight_events" if labels.contains("caller") => told.running += value,
                "tidegate_blocked_turns" => told.waiting += value,
                "tidegate_live_actors" => told.live_actors = value,
                "process_resident_memory_bytes" => told.memory = value,
                _ => {}
            }
        }
        told
    }

    /// What has come since an earlier one.
    fn since(self, before: Self) -> Self {
        let (calls, failed) = (self.calls - before.calls, self.failed - before.failed);
        Self { calls, failed, seconds: self.seconds - before.seconds, ..self }
    }
}

/// Logs a line every ten seconds, until `ended`. Run this as a task.
pub(crate) async fn log(scrape: impl Fn() -> Option<String> + Send, ended: CancellationToken) {
    let logging = async {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = Told::default();
        loop {
            ticks.tick().await;
            let Some(text) = scrape() else { return };
            let now = Told::of(&text);
            let Told { calls, failed, seconds, running, waiting, live_actors, memory } =
                now.since(before);
            before = now;
            let mean_ms = if calls > 0.0 { seconds * 1e3 / calls } else { 0.0 };
            let memory_mib = memory / 1_048_576.0;
            info!(
                calls = %format_args!("{calls:.0}"),
                failed = %format_args!("{failed:.0}"),
                mean_ms = %format_args!("{mean_ms:.3}"),
                running = %format_args!("{running:.0}"),
                waiting = %format_args!("{waiting:.0}"),
                live_actors = %format_args!("{live_actors:.0}"),
                memory_mib = %format_args!("{memory_mib:.0}"),
                "metrics of the last ten seconds"
            );
        }
    };
    ended.run_until_cancelled(logging).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_summed_up_since_the_one_before() {
        let before = Told { calls: 2.0, failed: 1.0, seconds: 1.0, ..Told::default() };
        let scrape = "# TYPE tidegate_live_actors gauge\n\
             tidegate_invocation_duration_seconds_count{outcome=\"ok\"} 4\n\
             tidegate_invocation_duration_seconds_count{outcome=\"error\"} 2\n\
             tidegate_invocation_duration_seconds_sum{outcome=\"ok\"} 1.5\n\
             tidegate_in_flight_events{stage=\"caller\"} 3\n\
             tidegate_in_flight_events{stage=\"side_effects\"} 8\n\
             tidegate_blocked_turns{stage=\"caller\",reason=\"worker\"} 5\n\
             tidegate_live_actors 7\n\
             process_resident_memory_bytes 1048576\n";
        let told = Told::of(scrape).since(before);
        let expected = Told {
            calls: 4.0,
            failed: 1.0,
            seconds: 0.5,
            running: 3.0,
            waiting: 5.0,
            live_actors: 7.0,
            memory: 1_048_576.0,
        };
        assert_eq!(told, expected);
    }
}

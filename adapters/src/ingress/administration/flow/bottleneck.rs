//! Bottleneck: names what holds calls up, in one sentence, as precisely as what is known allows.

use std::time::Duration;

use serde::Serialize;
use tidegate_stages::mesh::{FlowSeen, HostSeen, WaitingSeen};

/// What holds calls up.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct Bottleneck {
    /// Such as `calls wait for host 10.0.0.7:8090: 64 of 64 permits, 2.1 s median`.
    sentence: String,
    stage: &'static str,
    reason: &'static str,
    turns: usize,
    /// The host that is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
}

/// What comes of something else that is waited for: it is named only when nothing else is.
const CONSEQUENCES: [&str; 3] = ["actor_turn", "admission", "paused"];

/// Figures of stages that a sentence may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Turns that run.
    pub(super) running: f64,
    /// Places of admission that are taken, and that there are.
    pub(super) admitted: Option<(f64, f64)>,
    /// The same of the checkpoint.
    pub(super) checkpoint: Option<(f64, f64)>,
    pub(super) store_up: bool,
}

/// What holds up the most calls; when nothing waits, what refuses calls: the store, or the host that is away the longest.
pub(super) fn named(seen: &FlowSeen, known: &Known) -> Option<Bottleneck> {
    let rank = |waiting: &&WaitingSeen| {
        let consequence = CONSEQUENCES.iter().position(|reason| *reason == waiting.reason);
        (consequence.map_or(usize::MAX, |place| CONSEQUENCES.len() - place), waiting.turns)
    };
    let worst = seen.waiting.iter().filter(|waiting| waiting.turns > 0).max_by_key(rank);
    let Some(worst) = worst else {
        return store_refuses(seen, known).or_else(|| host_refuses(seen));
    };
    let host = seen.hosts.iter().filter(|host| host.waiting > 0).max_by_key(|host| host.waiting);
    let host = host.filter(|_| matches!(worst.reason, "host_permit" | "host_breaker"));
    Some(Bottleneck {
        sentence: sentence(worst, host, known),
        stage: worst.stage,
        reason: worst.reason,
        turns: worst.turns,
        host: host.map(|host| host.address.as_str().to_owned()),
    })
}

fn store_refuses(seen: &FlowSeen, known: &Known) -> Option<Bottleneck> {
    (!known.store_up || seen.store_breaker_open).then(|| Bottleneck {
        sentence: "the store does not answer: calls that need it are refused".into(),
        stage: "lookup",
        reason: "store",
        turns: 0,
        host: None,
    })
}

/// Calls of a host that is away wait only for the grace; then they are refused, and none waits.
fn host_refuses(seen: &FlowSeen) -> Option<Bottleneck> {
    let open = seen.hosts.iter().filter(|host| host.state == "open");
    let host = open.max_by_key(|host| host.away_for)?;
    Some(Bottleneck {
        sentence: format!(
            "host {} has accepted no connection for {}: calls that need it are refused",
            name(host),
            shown(host.away_for)
        ),
        stage: "caller",
        reason: "host_breaker",
        turns: 0,
        host: Some(host.address.as_str().to_owned()),
    })
}

fn sentence(worst: &WaitingSeen, host: Option<&HostSeen>, known: &Known) -> String {
    let turns = worst.turns;
    let waits = |median: Duration| format!("{} median", shown(median));
    let of = |places: Option<(f64, f64)>| {
        places.map_or_else(String::new, |(taken, all)| format!("{taken:.0} of {all:.0} places, "))
    };
    match (worst.reason, host) {
        ("host_permit", Some(host)) => {
            let permits = match host.permits {
                Some(permits) if host.running < permits => {
                    format!("{} turns run there, its share among the hosts", host.running)
                }
                Some(permits) => format!("{} of {permits} permits", host.running),
                None => format!("{} turns run there", host.running),
            };
            let median = waits(host.median);
            format!("calls wait for host {}: {permits}, {median}", name(host))
        }
        ("host_breaker", Some(host)) => format!(
            "calls wait for host {}, which has accepted no connection for {}: {} wait, {}",
            name(host),
            shown(host.away_for),
            host.waiting,
            waits(host.median)
        ),
        ("host_permit" | "host_breaker", None) => format!("{turns} turns wait for their hosts"),
        ("worker", _) => format!(
            "calls wait for a free worker: {:.0} turns run, {turns} wait, {}",
            known.running,
            waits(worst.median)
        ),
        ("checkpoint_place", _) => format!(
            "changes wait for a place at the checkpoint: {}{turns} wait, {}",
            of(known.checkpoint),
            waits(worst.median)
        ),
        ("store", _) => format!(
            "calls wait for the store, which loads their actors: {turns} wait, {}",
            waits(worst.median)
        ),
        ("commit", _) => format!("replies wait for the store to write: {turns} turns"),
        ("retry_host", _) => {
            format!("{turns} turns wait for their next try, since their host was not reached")
        }
        ("retry_store", _) => {
            format!("{turns} turns wait for their next try, since the store failed")
        }
        ("retry_spawn", _) => format!("{turns} turns wait for their actor to be spawned again"),
        ("admission", _) => {
            format!("callers wait for a place: {}{turns} wait", of(known.admitted))
        }
        ("paused", _) => format!("{turns} turns wait for paused actors"),
        ("actor_turn", _) => format!(
            "calls wait for other calls of the same actors: {turns} wait, the first for {}",
            shown(worst.oldest)
        ),
        (other, _) => format!("{turns} turns wait for {other}"),
    }
}

/// The address of a host, without a scheme that says nothing.
fn name(host: &HostSeen) -> &str {
    let address = host.address.as_str();
    address.strip_prefix("http://").unwrap_or(address)
}

fn shown(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds >= 120.0 => format!("{:.0} min", seconds / 60.0),
        _ if seconds >= 10.0 => format!("{seconds:.0} s"),
        _ if seconds >= 1.0 => format!("{seconds:.1} s"),
        _ => format!("{:.0} ms", seconds * 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_stages::actor::HostAddress;

    use super::*;

    const KNOWN: Known =
        Known { running: 4.0, admitted: None, checkpoint: Some((8.0, 9.0)), store_up: true };

    fn waiting(reason: &'static str, turns: usize, seconds: u64) -> WaitingSeen {
        let time = Duration::from_secs(seconds);
        WaitingSeen { stage: "caller", reason, turns, oldest: time, median: time }
    }

    fn host(address: &str, waiting: usize) -> HostSeen {
        HostSeen {
            address: HostAddress::new(address),
            state: "reached",
            away_for: Duration::from_secs(12),
            running: 64,
            permits: Some(64),
            waiting,
            median: Duration::from_millis(2_100),
            oldest: Duration::from_secs(4),
            mean_turn: None,
        }
    }

    fn seen(waiting: Vec<WaitingSeen>) -> FlowSeen {
        FlowSeen {
            waiting,
            hosts: vec![host("http://10.0.0.6:8090", 2), host("http://10.0.0.7:8090", 40)],
            all_hosts: 2,
            store_breaker_open: false,
            live_actors: 0,
            registered_actors: 0,
        }
    }

    fn said(waiting: Vec<WaitingSeen>) -> String {
        named(&seen(waiting), &KNOWN).map(|found| found.sentence).unwrap_or_default()
    }

    #[test]
    fn the_host_that_most_calls_wait_for_is_named() {
        let both = vec![waiting("actor_turn", 900, 9), waiting("host_permit", 42, 2)];
        let expected = "calls wait for host 10.0.0.7:8090: 64 of 64 permits, 2.1 s median";
        assert_eq!(said(both), expected);
        let away = said(vec![waiting("host_breaker", 42, 2)]);
        assert!(away.contains("10.0.0.7:8090") && away.contains("for 12 s"), "{away}");
    }

    #[test]
    fn a_consequence_is_named_only_when_there_is_nothing_else() {
        let places =
            "changes wait for a place at the checkpoint: 8 of 9 places, 3 wait, 2.0 s median";
        let all = vec![waiting("admission", 50, 0), waiting("checkpoint_place", 3, 2)];
        assert_eq!(said(all), places);
        let behind = "calls wait for other calls of the same actors: 7 wait, the first for 3.0 s";
        assert_eq!(said(vec![waiting("actor_turn", 7, 3), waiting("paused", 9, 3)]), behind);
        assert_eq!(said(vec![waiting("worker", 0, 0)]), "", "nothing waits");
    }

    #[test]
    fn a_store_that_does_not_answer_is_named_although_nothing_waits() {
        let away = Known { store_up: false, ..KNOWN };
        let found = named(&seen(Vec::new()), &away).unwrap();
        assert!(found.sentence.starts_with("the store does not answer"));
    }

    #[test]
    fn the_host_that_is_away_the_longest_is_named_although_nothing_waits() {
        let mut seen = seen(Vec::new());
        assert_eq!(named(&seen, &KNOWN), None);
        for (host, away_for) in seen.hosts.iter_mut().zip([700, 12]) {
            (host.state, host.away_for) = ("open", Duration::from_secs(away_for));
        }
        let found = named(&seen, &KNOWN).unwrap();
        let expected = "host 10.0.0.6:8090 has accepted no connection for 12 min: calls that need it are refused";
        assert_eq!(found.sentence, expected);
        assert_eq!(found.host.as_deref(), Some("10.0.0.6:8090"));
        seen.store_breaker_open = true;
        assert_eq!(named(&seen, &KNOWN).unwrap().reason, "store", "it refuses more calls");
        let waits = FlowSeen { waiting: vec![waiting("worker", 1, 0)], ..seen };
        assert_eq!(named(&waits, &KNOWN).unwrap().reason, "worker");
    }
}

//! Certificates: the files of TLS.

use std::time::Duration;

use tidegate_stages::ports::Clock;

use super::{Finding, Severity};
use crate::clock::SystemClock;
use crate::config::{Database, Settings};
use crate::tls::{
    Examined, Pair, PemFile, Standing, TlsError, examine_roots, examine_server, examine_shown,
};

const ABOUT: &str = "tls";

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The proxy is known by it.
    Server,
    /// Somebody is shown it.
    Shown,
    /// Others are checked by it.
    Roots,
}

/// A finding for each file that is set.
pub(super) fn examine(settings: &Settings) -> Vec<Finding> {
    let now = Duration::from_micros(SystemClock.now().0);
    let mut found = Vec::new();
    if let Some(files) = &settings.http.tls {
        match examine_server(files) {
            Err(error) => found.push(unusable(&error)),
            Ok(all) => {
                let parts = [Part::Server, Part::Roots];
                found.extend(all.iter().zip(parts).map(|(file, part)| finding(file, part, now)));
            }
        }
    }
    let traces = settings.traces.otlp.as_ref().and_then(|otlp| otlp.tls.as_ref());
    let (calls, broadcasts) = (&settings.nats.calls, &settings.nats.broadcasts);
    // Both connections have the same files.
    let nats = [calls, broadcasts].into_iter().flatten().find_map(|nats| nats.tls.as_ref());
    let clients = std::iter::once(&settings.host_tls).chain(traces).chain(nats);
    let database = match &settings.database {
        Database::Scylla(options) => options.tls.as_ref(),
        Database::Embedded | Database::Memory => None,
    };
    let roots = clients.clone().filter_map(|files| files.roots.clone());
    let of_database = database.and_then(|tls| tls.ca.clone());
    let of_database = of_database.map(|path| PemFile { setting: "TIDEGATE_DATABASE_CA", path });
    let roots = roots.chain(of_database);
    found.extend(roots.map(|file| one(examine_roots(&file), Part::Roots, now)));
    let shown = clients.filter_map(|files| files.shown.as_ref());
    let shown = shown.chain(database.and_then(|tls| tls.shown.as_ref()));
    found.extend(shown.map(|pair: &Pair| one(examine_shown(pair), Part::Shown, now)));
    let ours = &settings.proxy_tls;
    let roots = ours.roots.as_ref().map(|file| of_commands(examine_roots(file), Part::Roots, now));
    let shown = ours.shown.as_ref().map(|pair| of_commands(examine_shown(pair), Part::Shown, now));
    found.extend(roots.into_iter().chain(shown));
    found
}

/// A start does not read it, only commands that ask a running proxy do: it is a warning at most.
fn of_commands(examined: Result<Examined, TlsError>, part: Part, now: Duration) -> Finding {
    match examined {
        Ok(examined) => {
            let found = finding(&examined, part, now);
            Finding { severity: found.severity.min(Severity::Warning), ..found }
        }
        Err(error) => Finding::warning(
            ABOUT,
            format!(
                "{error}; commands that ask a running proxy fail (78), a start does not: put the right file there"
            ),
        ),
    }
}

fn one(examined: Result<Examined, TlsError>, part: Part, now: Duration) -> Finding {
    match examined {
        Ok(examined) => finding(&examined, part, now),
        Err(error) => unusable(&error),
    }
}

fn unusable(error: &TlsError) -> Finding {
    Finding::error(ABOUT, format!("{error}; a start fails (78): put the right file there"))
}

fn finding(examined: &Examined, part: Part, now: Duration) -> Finding {
    let Examined { file, servers, client, begin, end } = examined;
    let (begin, end) = (date(*begin), date(*end));
    let (whose, refused) = match part {
        Part::Server => (servers.join(", "), "clients refuse it"),
        Part::Shown => (client.clone().unwrap_or_default(), "it is refused where it is shown"),
        Part::Roots => ("roots".into(), "what they have signed is refused"),
    };
    match examined.standing(now) {
        Standing::Ended => {
            Finding::error(ABOUT, format!("{file} has ended on {end}: {refused}; renew it"))
        }
        Standing::Early => Finding::error(
            ABOUT,
            format!("{file} holds from {begin} on only: {refused}; look at the clock, or renew it"),
        ),
        Standing::EndsSoon => Finding::warning(
            ABOUT,
            format!("{file} ends on {end}, then {refused}; renew it (`tidegate tls bootstrap`)"),
        ),
        Standing::Holds if whose.is_empty() => Finding::warning(
            ABOUT,
            match part {
                Part::Server => format!(
                    "{file} names no DNS name or IP address: clients refuse it; make one with alternative names"
                ),
                Part::Shown | Part::Roots => format!(
                    "{file} has no name that a client can have: a proxy that needs certificates refuses it; make one with a \
                     common name"
                ),
            },
        ),
        Standing::Holds => Finding::ok(ABOUT, format!("{file}: {whose}; holds until {end}")),
    }
}

fn date(since: Duration) -> String {
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(seconds) {
        Ok(at) => at.strftime("%Y-%m-%d").to_string(),
        Err(_) => "a day beyond all calendars".into(),
    }
}

//! Scrape: what `/metrics` says, read by name and labels.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::client::Client;
use super::proxy::Proxy;

/// How long a metric may take to get where it is expected.
const PATIENCE: Duration = Duration::from_mins(1);

/// One scrape.
#[derive(Debug)]
pub(crate) struct Scrape(pub(crate) String);

impl Scrape {
    pub(crate) async fn of(proxy: &Proxy) -> Self {
        let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
        let reply = client.get("/metrics").await.expect("it answers");
        assert_eq!(reply.status, 200);
        Self(String::from_utf8(reply.body.to_vec()).expect("metrics are text"))
    }

    /// The lines with values, as series and value.
    pub(crate) fn series(&self) -> impl Iterator<Item = (&str, f64)> {
        let lines = self.0.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            (series, value.parse().expect("a number"))
        })
    }

    /// The sum of all series of this name that have these labels, written as in a scrape. `None` when there is none.
    pub(crate) fn get(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let is_meant = |series: &str| {
            let (found, given) = series.split_once('{').unwrap_or((series, ""));
            found == name && labels.iter().all(|label| given.contains(label))
        };
        let found: Vec<f64> =
            self.series().filter(|(series, _)| is_meant(series)).map(|(_, value)| value).collect();
        (!found.is_empty()).then(|| found.iter().sum())
    }
}

/// What a counter, or a gauge of whole numbers, says now, by its name with its labels; 0 when it is not there.
pub(crate) async fn count(proxy: &Proxy, name: &str) -> u64 {
    let scrape = Scrape::of(proxy).await;
    let value = scrape.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().expect("a whole number"))
}

/// Scrapes until a counter without labels has come to this.
pub(crate) async fn until_count(proxy: &Proxy, name: &str, least: u64) {
    let reached = timeout(PATIENCE, async {
        while count(proxy, name).await < least {
            sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(reached.await.is_ok(), "{name} does not come to {least}");
}

/// Scrapes until a metric is as expected; returns its value.
pub(crate) async fn until(
    proxy: &Proxy,
    name: &str,
    labels: &[&str],
    is_expected: impl Fn(f64) -> bool,
) -> f64 {
    let mut last = None;
    let reached = timeout(PATIENCE, async {
        loop {
            last = Scrape::of(proxy).await.get(name, labels);
            if let Some(value) = last.filter(|value| is_expected(*value)) {
                return value;
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    let Ok(value) = reached.await else { panic!("{name} {labels:?} stays at {last:?}") };
    value
}

//! Topics: the settings of durable topics become rules.

use std::time::Duration;

use tidegate_stages::access::Pattern;
use tidegate_stages::history::Retention;
use tidegate_stages::topics::rules::{Start, TopicRule, TopicRules};

use super::reader::Reader;
use super::value::{Kind, Value};

/// Where a subscriber may begin.
pub(super) const STARTS: Kind = Kind::Choice(&["now", "earliest"]);
/// How many events may be kept.
pub(super) const COUNTS: Kind = Kind::Count { min: 0, max: 1_000_000_000 };
/// How long they may be kept.
pub(super) const AGES: Kind = Kind::Time { min: 0, max: 20 * 365 * 24 * 60 * 60_000 };

impl Reader<'_> {
    /// The durable topics.
    pub(super) fn topics(&self) -> TopicRules {
        let text = self.value("TIDEGATE_DURABLE_TOPICS").map(ToString::to_string);
        let defaults = TopicRule {
            start: start(&self.text("TIDEGATE_TOPIC_START")),
            retention: Retention {
                revisions: at_least_one(self.count("TIDEGATE_TOPIC_EVENTS")),
                age: some_time(self.time("TIDEGATE_TOPIC_AGE")),
            },
        };
        let rules = parse_durable(&text.unwrap_or_default(), defaults);
        TopicRules::new(rules.expect("it was checked"))
    }
}

pub(super) fn durable(text: &str) -> Result<(), String> {
    parse_durable(text, TopicRule::default()).map(|_| ())
}

/// Parses names with their options. What a name does not say is as in `defaults`.
fn parse_durable(text: &str, defaults: TopicRule) -> Result<Vec<(Pattern, TopicRule)>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| parse_one(part, defaults)).collect()
}

fn parse_one(text: &str, mut rule: TopicRule) -> Result<(Pattern, TopicRule), String> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let pattern = Pattern::parse(name)
        .filter(|_| !name.is_empty())
        .ok_or_else(|| format!("must be names of topics with one * at most each, not {name:?}"))?;
    for option in parts {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "start" => rule.start = start(&STARTS.parse(value)?.to_string()),
            "events" => {
                let Value::Count(count) = COUNTS.parse(value)? else { continue };
                rule.retention.revisions = at_least_one(u64::try_from(count).unwrap_or_default());
            }
            "age" => {
                let Value::Time(age) = AGES.parse(value)? else { continue };
                rule.retention.age = some_time(age);
            }
            _ => {
                let text = "options of a topic must be start=, events= or age=, not";
                return Err(format!("{text} {option:?}"));
            }
        }
    }
    Ok((pattern, rule))
}

fn start(word: &str) -> Start {
    if word == "earliest" { Start::Earliest } else { Start::Now }
}

fn at_least_one(count: u64) -> Option<u64> {
    (count > 0).then_some(count)
}

fn some_time(age: Duration) -> Option<Duration> {
    (!age.is_zero()).then_some(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_the_options_that_its_name_says_and_the_defaults_else() {
        let age = Some(Duration::from_hours(7 * 24));
        let retention = Retention { revisions: Some(100_000), age };
        let defaults = TopicRule { start: Start::Now, retention };
        let text = "orders, audit-*;start=earliest;age=30d,bare;events=0;age=0";
        let rules = TopicRules::new(parse_durable(text, defaults).unwrap());
        assert_eq!(rules.of("orders"), Some(defaults));
        let audit = rules.of("audit-7").unwrap();
        assert_eq!(audit.start, Start::Earliest);
        assert_eq!(audit.retention.age, Some(Duration::from_hours(30 * 24)));
        assert_eq!(audit.retention.revisions, Some(100_000));
        assert!(rules.of("bare").unwrap().retention.is_endless());
        assert_eq!(rules.of("other"), None);
        assert!(parse_durable("", defaults).unwrap().is_empty());
        for wrong in
            ["a*b*", ";start=now", "a;start=later", "a;events=-1", "a;age=x", "a;size=3", "a;"]
        {
            assert!(durable(wrong).is_err(), "{wrong:?}");
        }
    }
}

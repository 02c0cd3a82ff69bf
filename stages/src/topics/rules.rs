//! Rules: which topics are durable, and how.

use std::sync::Arc;

use crate::access::Pattern;
use crate::history::Retention;

/// Where a subscriber begins that a topic does not know yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first event after its subscription.
    #[default]
    Now,
    /// With the earliest event that is kept.
    Earliest,
}

/// How a durable topic is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicRule {
    /// Where new subscribers begin.
    pub start: Start,
    /// Which events are kept. Here a revision is an event.
    pub retention: Retention,
}

/// The durable topics of all systems; see the [module](self). Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct TopicRules(Arc<[(Pattern, TopicRule)]>);

impl TopicRules {
    /// Topics whose names match these patterns. Of several that match the first one counts.
    pub fn new(rules: Vec<(Pattern, TopicRule)>) -> Self {
        Self(rules.into())
    }

    /// The rule of a topic; `None` when it is not durable.
    pub fn of(&self, topic: &str) -> Option<TopicRule> {
        self.0.iter().find(|(pattern, _)| pattern.matches(topic)).map(|(_, rule)| *rule)
    }

    /// Whether no topic is durable.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_rules_that_match_the_first_one_counts() {
        let rule = |start| TopicRule { start, ..TopicRule::default() };
        let rules = TopicRules::new(vec![
            (Pattern::parse("orders").unwrap(), rule(Start::Earliest)),
            (Pattern::parse("o*").unwrap(), rule(Start::Now)),
        ]);
        let start = |topic| rules.of(topic).map(|rule| rule.start);
        assert_eq!(start("orders"), Some(Start::Earliest));
        assert_eq!(start("others"), Some(Start::Now));
        assert_eq!(start("news"), None);
        assert!(TopicRules::default().is_empty() && !rules.is_empty());
    }
}

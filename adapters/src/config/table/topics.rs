//! Topics: which topics are durable, and how their events are kept.

use super::{Default, Setting, setting};
use crate::config::topics::{AGES, COUNTS, STARTS, durable};
use crate::config::value::Kind;

/// In the order in which they are shown.
pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "TIDEGATE_DURABLE_TOPICS",
        Kind::Form(
            "names separated by commas, each with one * at most and, after semicolons, start=, events= or age=, such as orders,audit-*;start=earliest;age=30d",
            durable,
        ),
        Default::Unset,
        "Topics whose events are kept, and delivered in order to each subscriber until it has answered; of several names that fit the first one counts. Others are delivered once at most.",
    ),
    setting(
        "TIDEGATE_TOPIC_START",
        STARTS,
        Default::Is("now"),
        "Where a subscriber of a durable topic begins that is new: with the next event, or with the earliest that is kept.",
    ),
    setting(
        "TIDEGATE_TOPIC_EVENTS",
        COUNTS,
        Default::Is("100000"),
        "Newest events kept of each durable topic, delivered or not; 0 keeps all.",
    ),
    setting(
        "TIDEGATE_TOPIC_AGE",
        AGES,
        Default::Is("7d"),
        "Age up to which they are kept; 0 keeps all. A CQL database keeps none for longer than TIDEGATE_RETENTION_AGE, if that is set.",
    ),
];

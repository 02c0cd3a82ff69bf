//! Subject: where the calls and the broadcasts of a system go.

use std::fmt::Write as _;

/// The subject of the calls of a system, which is also the queue group of those that serve it: Spawn's.
pub fn actions(system: &str) -> String {
    let mut subject = String::from("spawn.");
    push(&mut subject, system);
    subject + ".actors.actions"
}

/// The subject of the broadcasts to a topic.
pub(super) fn channel(system: &str, topic: &str) -> String {
    let mut subject = String::from("tidegate.channels.");
    push(&mut subject, system);
    subject.push('.');
    push(&mut subject, topic);
    subject
}

/// The subject of the broadcasts to all topics of a system.
pub(super) fn channels(system: &str) -> String {
    let mut subject = String::from("tidegate.channels.");
    push(&mut subject, system);
    subject + ".*"
}

/// Adds a name. Bytes outside `[A-Za-z0-9_-]` are escaped as `%XX`, because some of them mean something in a subject.
fn push(subject: &mut String, name: &str) {
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
            subject.push(char::from(byte));
        } else {
            write!(subject, "%{byte:02X}").expect("a string takes all text");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_spawns_and_a_name_cannot_mean_more_than_itself() {
        assert_eq!(actions("spawn-system_2"), "spawn.spawn-system_2.actors.actions");
        assert_eq!(actions("a.b"), "spawn.a%2Eb.actors.actions");
        assert_eq!(actions("*"), "spawn.%2A.actors.actions");
        assert_eq!(actions("x >"), "spawn.x%20%3E.actors.actions");
        assert_eq!(actions("a%2Eb"), "spawn.a%252Eb.actors.actions");
        assert_eq!(channel("shop", "news"), "tidegate.channels.shop.news");
        assert_eq!(channel("a.b", "*"), "tidegate.channels.a%2Eb.%2A");
        assert_eq!(channels("a.b"), "tidegate.channels.a%2Eb.*");
        // What NATS takes as one line of its protocol.
        assert!(channel(&".".repeat(512), &">".repeat(512)).len() < 4_000);
    }
}

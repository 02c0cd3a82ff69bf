//! Subject: where the calls of a system go.

use std::fmt::Write as _;

/// The subject of the calls of a system, which is also the queue group of those that serve it: Spawn's.
///
/// Bytes outside `[A-Za-z0-9_-]` are escaped as `%XX`, because some of them mean something in a subject.
pub fn actions(system: &str) -> String {
    let mut subject = String::from("spawn.");
    for byte in system.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
            subject.push(char::from(byte));
        } else {
            write!(subject, "%{byte:02X}").expect("a string takes all text");
        }
    }
    subject + ".actors.actions"
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
    }
}

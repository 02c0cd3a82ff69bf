//! Gaps: finds what is missing between the messages of a stream, and what came before.

use std::time::Duration;

use hashbrown::HashMap;
use tokio::time::Instant;

use crate::wire::Numbered;

/// Streams that are remembered, of one system.
const STREAMS: usize = 65_536;

/// The newest message of each stream.
#[derive(Debug)]
pub(super) struct Gaps {
    most: usize,
    /// Every stream that began later is remembered from its first message on.
    since: Instant,
    newest: HashMap<(u128, u64), u64>,
}

/// How a message stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It comes next, after so many that are missing.
    Next {
        /// These.
        missed: u64,
    },
    /// It was here, or it is late and was counted as missing.
    Before,
}

impl Gaps {
    /// Nothing sent from now on is missed without being counted.
    pub(super) fn new() -> Self {
        Self { most: STREAMS, since: Instant::now(), newest: HashMap::new() }
    }

    /// Notes a message.
    pub(super) fn see(&mut self, message: Numbered) -> Seen {
        let Numbered { publisher, stream, sequence, age_ms } = message;
        let stream = (publisher, stream);
        if let Some(newest) = self.newest.get_mut(&stream) {
            if sequence <= *newest {
                return Seen::Before;
            }
            let missed = sequence - *newest - 1;
            *newest = sequence;
            return Seen::Next { missed };
        }
        if self.newest.len() >= self.most {
            self.newest.clear();
            self.since = Instant::now();
        }
        self.newest.insert(stream, sequence);
        // What was sent before this proxy took part is not missed.
        let is_whole = Duration::from_millis(age_ms) <= self.since.elapsed();
        Seen::Next { missed: if is_whole { sequence.saturating_sub(1) } else { 0 } }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn message(publisher: u128, stream: u64, sequence: u64, age_ms: u64) -> Numbered {
        Numbered { publisher, stream, sequence, age_ms }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_counted_once_and_what_comes_again_is_known() {
        let mut gaps = Gaps::new();
        let mut see = |stream, sequence| gaps.see(message(1, stream, sequence, 0));
        assert_eq!(see(1, 1), Seen::Next { missed: 0 });
        assert_eq!(see(1, 1), Seen::Before);
        assert_eq!(see(1, 2), Seen::Next { missed: 0 });
        assert_eq!(see(1, 6), Seen::Next { missed: 3 });
        assert_eq!(see(1, 4), Seen::Before, "it is late, and was counted");
        assert_eq!(see(1, 7), Seen::Next { missed: 0 });
        assert_eq!(see(2, 1), Seen::Next { missed: 0 }, "each stream has its own numbers");
        assert_eq!(gaps.see(message(2, 1, 1, 0)), Seen::Next { missed: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_message_seen_of_a_stream_tells_what_was_missed_since_this_proxy_takes_part()
    {
        let mut gaps = Gaps::new();
        advance(Duration::from_secs(10)).await;
        assert_eq!(gaps.see(message(1, 1, 5, 9_999)), Seen::Next { missed: 4 });
        assert_eq!(gaps.see(message(1, 2, 5, 10_001)), Seen::Next { missed: 0 });
        assert_eq!(gaps.see(message(1, 2, 7, 10_001)), Seen::Next { missed: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_forgotten_at_the_bound_is_not_counted_as_missing() {
        let mut gaps = Gaps { most: 3, ..Gaps::new() };
        for stream in [1, 2, 3] {
            assert_eq!(gaps.see(message(1, stream, 1, 0)), Seen::Next { missed: 0 });
        }
        advance(Duration::from_secs(10)).await;
        assert_eq!(gaps.see(message(1, 4, 1, 0)), Seen::Next { missed: 0 });
        assert_eq!(gaps.newest.len(), 1, "the others are forgotten");
        assert_eq!(gaps.see(message(1, 1, 2, 10_000)), Seen::Next { missed: 0 }, "1 was here");
        advance(Duration::from_secs(10)).await;
        assert_eq!(gaps.see(message(1, 5, 3, 9_000)), Seen::Next { missed: 2 });
    }
}

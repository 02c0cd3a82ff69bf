//! Sendings: whether effects, broadcasts and ticks of a timer came as often as they should, also across the crash.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::cast::{CLOCK, CRIER, LISTENER, PERIOD, ledger_of};
use super::client::{Client, patiently};
use super::notes::Notes;
use super::verdict::Verdict;

/// How long what was sent may take to arrive.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(20);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Ticks that are waited for after the crash.
const TICKS: u64 = 10;

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sending {
    what: &'static str,
    sent: u64,
    arrived: u64,
    lost: u64,
    /// How many of the lost ones no promise covers.
    may_be_lost: u64,
    doubled: u64,
    /// What holds when nothing is wrong.
    promise: &'static str,
}

impl Sending {
    /// The effects: each counter found after the crash, and the notes of its ledger.
    fn effects(counters: &[(u64, Notes)]) -> Sending {
        let mut sending = Sending {
            what: "effects",
            sent: 0,
            arrived: 0,
            lost: 0,
            may_be_lost: 0,
            doubled: 0,
            promise: "each counted once",
        };
        for (found, notes) in counters {
            sending.add(*found, *notes);
        }
        sending
    }

    /// The broadcasts of a counter found after the crash. Nothing of what had `early` notes by then may be lost.
    fn broadcasts(early: (u64, Notes), found: u64, notes: Notes) -> Sending {
        let (sent_early, noted_early) = early;
        let mut sending = Sending { what: "broadcasts", ..Sending::effects(&[]) };
        sending.add(found, notes);
        let lost_early = noted_early.lost + sent_early.saturating_sub(noted_early.last);
        sending.may_be_lost = sending.lost.saturating_sub(lost_early);
        sending.promise = if sending.lost > 0 {
            "at most once: those on their way at the crash are lost"
        } else {
            "at most once; the crash met none on its way"
        };
        sending
    }

    /// The ticks: those seen before the crash, those found after it, then `more` within a time that allows `most`.
    fn ticks(seen: u64, found: u64, more: u64, most: u64) -> Sending {
        Sending {
            what: "ticks",
            sent: seen,
            arrived: found + more,
            lost: seen.saturating_sub(found),
            doubled: more.saturating_sub(most),
            promise: "the timer ticks on, at its rate",
            ..Sending::effects(&[])
        }
    }

    fn add(&mut self, sent: u64, notes: Notes) {
        self.sent += sent;
        self.arrived += notes.last - notes.lost + notes.doubled;
        self.lost += notes.lost + sent.saturating_sub(notes.last);
        // A number that its sender does not have belongs to a state that was lost: it never should have come.
        self.doubled += notes.doubled + notes.last.saturating_sub(sent);
    }

    fn is_kept(&self) -> bool {
        self.lost <= self.may_be_lost && self.doubled == 0
    }
}

impl fmt::Display for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sending { what, sent, arrived, lost, doubled, .. } = self;
        let word = match (self.is_kept(), *doubled) {
            (true, _) => self.promise.into(),
            (false, 0) => format!("LOST {}", lost - self.may_be_lost),
            (false, _) => format!("{doubled} TOO MANY"),
        };
        write!(f, "{what:<10} {sent:>12} {arrived:>8} {lost:>8} {doubled:>8}   {word}")
    }
}

pub(super) fn heading() -> String {
    format!("{:<10} {:>12} {:>8} {:>8} {:>8}", "", "sent", "arrived", "lost", "too many")
}

/// Returns which kinds were lost or came too often; `None` when all is right.
pub(super) fn broken_promises(sendings: &[Sending]) -> Option<String> {
    let broken = sendings.iter().filter(|sending| !sending.is_kept());
    let broken: Vec<_> = broken.map(|sending| sending.what).collect();
    (!broken.is_empty()).then(|| format!("{} were lost or came too often", broken.join(" and ")))
}

/// Before the crash: how many broadcasts the crier has sent, and what the listener has noted when all have had time to arrive.
pub(super) async fn early_broadcasts(
    client: &mut Client,
    sent: u64,
) -> anyhow::Result<(u64, Notes)> {
    Ok((sent, caught_up(client, LISTENER, sent, Instant::now() + ARRIVAL_LIMIT).await?))
}

/// Looks at the clock until the proxy is killed. Returns the last count that was seen.
pub(super) async fn watch_clock(
    client: &mut Client,
    killed: &CancellationToken,
) -> anyhow::Result<u64> {
    let mut seen = 0;
    while !killed.is_cancelled() {
        match patiently(async || client.count(CLOCK).await).await {
            Ok(count) => seen = count,
            Err(_) if killed.is_cancelled() => {}
            Err(error) => return Err(error).context("the clock cannot be read"),
        }
        sleep(PAUSE).await;
    }
    Ok(seen)
}

/// After the crash: what has arrived of all that was sent, and whether the timer ticks on.
pub(super) async fn after_the_crash(
    client: &mut Client,
    counters: &[Verdict],
    early: (u64, Notes),
    ticks_seen: u64,
) -> anyhow::Result<[Sending; 3]> {
    let since = Instant::now();
    let first = patiently(async || client.count(CLOCK).await).await?;
    let mut ledgers = Vec::with_capacity(counters.len());
    for Verdict { actor, found, .. } in counters {
        let notes = caught_up(client, &ledger_of(actor), *found, since + ARRIVAL_LIMIT).await?;
        ledgers.push((*found, notes));
    }
    let cried = counters.iter().find(|counter| counter.actor == CRIER);
    let cried = cried.context("the crier is one of the counters")?.found;
    // What was on its way is in no memory any more: nothing to wait for.
    let heard = patiently(async || client.notes(LISTENER).await).await?;
    let more = loop {
        let more = patiently(async || client.count(CLOCK).await).await?.saturating_sub(first);
        if more >= TICKS {
            break more;
        }
        if since.elapsed() > ARRIVAL_LIMIT {
            bail!("the timer stopped: {more} ticks since the restart");
        }
        sleep(PAUSE).await;
    };
    // One for the edge of the interval, and one that was late.
    let most = since.elapsed().as_millis() / PERIOD.as_millis() + 2;
    Ok([
        Sending::effects(&ledgers),
        Sending::broadcasts(early, cried, heard),
        Sending::ticks(ticks_seen, first, more, u64::try_from(most)?),
    ])
}

/// Fails unless the last count of each counter reaches its ledger, and the crier's the listener.
pub(super) async fn go_on(client: &mut Client, counters: &[Verdict]) -> anyhow::Result<()> {
    let until = Instant::now() + ARRIVAL_LIMIT;
    for Verdict { actor, found, .. } in counters {
        let mut receivers = vec![ledger_of(actor)];
        receivers.extend((actor == CRIER).then(|| LISTENER.into()));
        for receiver in receivers {
            let last = caught_up(client, &receiver, found + 1, until).await?.last;
            if last != found + 1 {
                bail!("{actor} sent {} after the restart and {receiver} is at {last}", found + 1);
            }
        }
    }
    Ok(())
}

/// Reads an actor's notes until it has this number, or until the time is up.
async fn caught_up(
    client: &mut Client,
    actor: &str,
    number: u64,
    until: Instant,
) -> anyhow::Result<Notes> {
    loop {
        let notes = patiently(async || client.notes(actor).await).await;
        let notes = notes.with_context(|| format!("the state of {actor} cannot be read"))?;
        if notes.last >= number || Instant::now() >= until {
            return Ok(notes);
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(numbers: impl IntoIterator<Item = u64>) -> Notes {
        let mut notes = Notes::default();
        numbers.into_iter().for_each(|number| notes.note(number));
        notes
    }

    /// The last word of a line that breaks a promise.
    fn broken(sending: Sending) -> String {
        let told = broken_promises(&[sending]).unwrap();
        assert!(told.starts_with(sending.what), "{told}");
        sending.to_string().rsplit("   ").next().unwrap().into()
    }

    #[test]
    fn effects_count_once_each() {
        let whole = Sending::effects(&[(3, noted(1..=3)), (2, noted(1..=2))]);
        assert_eq!((whole.sent, whole.arrived), (5, 5));
        assert!(whole.to_string().ends_with("each counted once"), "{whole}");
        assert_eq!(broken_promises(&[whole]), None);
    }

    #[test]
    fn an_effect_that_is_lost_doubled_or_of_a_lost_state_breaks_the_promise() {
        assert_eq!(broken(Sending::effects(&[(3, noted(1..=2)), (2, noted(1..=2))])), "LOST 1");
        assert_eq!(broken(Sending::effects(&[(3, noted([1, 3]))])), "LOST 1");
        assert_eq!(broken(Sending::effects(&[(3, noted([1, 2, 2, 3]))])), "1 TOO MANY");
        assert_eq!(broken(Sending::effects(&[(3, noted([1, 1, 3]))])), "1 TOO MANY");
        assert_eq!(broken(Sending::effects(&[(3, noted(1..=5))])), "2 TOO MANY");
    }

    #[test]
    fn a_broadcast_may_be_lost_in_the_crash_and_only_there() {
        let early = (5, noted(1..=5));
        let whole = Sending::broadcasts(early, 8, noted(1..=8));
        assert!(whole.to_string().contains("at most once"), "{whole}");
        let some = Sending::broadcasts(early, 8, noted(1..=6));
        assert_eq!((some.lost, broken_promises(&[whole, some])), (2, None));
        let before = (5, noted([1, 2, 4, 5]));
        assert_eq!(broken(Sending::broadcasts(before, 8, noted([1, 2, 4, 5, 6]))), "LOST 1");
        assert_eq!(broken(Sending::broadcasts((5, noted(1..=3)), 8, noted(1..=3))), "LOST 2");
        assert_eq!(broken(Sending::broadcasts(early, 8, noted([1, 2, 3, 4, 5, 5]))), "1 TOO MANY");
        assert_eq!(broken(Sending::broadcasts(early, 8, noted(1..=9))), "1 TOO MANY");
    }

    #[test]
    fn ticks_that_were_seen_stay_and_the_timer_keeps_its_rate() {
        assert_eq!(broken_promises(&[Sending::ticks(20, 21, 10, 12)]), None);
        assert_eq!(broken(Sending::ticks(20, 18, 10, 12)), "LOST 2");
        // Two timers instead of one.
        assert_eq!(broken(Sending::ticks(20, 20, 10, 7)), "3 TOO MANY");
    }
}

//! Faults: the schedule of faults of the network and its machines.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

/// Something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The link between proxy and host loses everything.
    Partition,
    /// It loses what the proxy sends.
    PartitionToHost,
    /// It loses what the host sends.
    PartitionFromHost,
    /// It is whole again; what was lost stays lost.
    Repair,
    /// It keeps everything back.
    Hold,
    /// It delivers what it kept back.
    Release,
    /// It takes this long from now on.
    Slow(Duration),
    /// The links between proxy and clients keep everything back.
    HoldClients,
    /// They deliver what they kept back.
    ReleaseClients,
    /// The host's process ends: its connections are reset, new ones refused.
    StopHost,
    /// It starts again.
    StartHost,
    /// The host's machine goes down: its connections end, new ones are not answered.
    CrashHost,
    /// It is back.
    BounceHost,
    /// The proxy's machine goes down, without a word to the proxy.
    CrashProxy,
    /// It is back.
    BounceProxy,
    /// The store fails the next write of heads so.
    Write(WriteFault),
    /// The store fails the next write of due work or schedules so.
    WriteDue(WriteFault),
    /// The store refuses all writes that have no fault of their own.
    RefuseWrites,
    /// It takes them again.
    TakeWrites,
    /// The store refuses to read heads and due work.
    RefuseReads,
    /// It reads again.
    Read,
}

/// How a write to the store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteFault {
    /// It is lost, and the proxy is told so.
    Lost,
    /// It is lost, and whether it is written is not known.
    LostUnknown,
    /// It is written, and whether it is written is not known.
    WrittenUnknown,
    /// Its first save is lost for want of space.
    FirstFull,
    /// It is written after so long.
    Late(Duration),
}

/// Events and when they happen, since the simulation's start; in that order.
pub(crate) type FaultSchedule = Vec<(Duration, Event)>;

/// How long the links between proxy and clients are held at most.
pub(crate) const LONGEST_CLIENT_HOLD: Duration = Duration::from_millis(200);
/// How long a message takes at most on a link that is well.
pub(crate) const LONGEST_LATENCY: Duration = Duration::from_millis(20);

fn millis(random: &mut impl Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.random_range(range))
}

/// Faults between `from` and `until`; everything is well at the end.
///
/// A call of an actor may begin when the host limit of the one before has passed, so no fault delays a request by as much as that:
/// the network would deliver both at once, and nobody could call that the proxy's doing.
pub(crate) fn random(random: &mut StdRng, from: Duration, until: Duration) -> FaultSchedule {
    let mut schedule = Vec::new();
    add_faults(random, &mut schedule, from, until, (50..250, 50..300), |random| {
        match random.random_range(0..7) {
            0 => (Event::Partition, Event::Repair),
            1 => (Event::PartitionToHost, Event::Repair),
            2 => (Event::PartitionFromHost, Event::Repair),
            3 => (Event::Hold, Event::Release),
            4 => (Event::Slow(Duration::from_millis(100)), Event::Slow(LONGEST_LATENCY)),
            5 => (Event::StopHost, Event::StartHost),
            _ => (Event::CrashHost, Event::BounceHost),
        }
    });
    let longest = u64::try_from(LONGEST_CLIENT_HOLD.as_millis()).expect("short");
    add_faults(random, &mut schedule, from, until, (20..longest, 300..900), |_| {
        (Event::HoldClients, Event::ReleaseClients)
    });
    add_faults(random, &mut schedule, from, until, (100..200, 500..3_000), |_| {
        (Event::CrashProxy, Event::BounceProxy)
    });
    schedule.sort_by_key(|(at, _)| *at);
    schedule
}

/// As [`random`], and the store fails as well.
pub(crate) fn random_with_store(
    random: &mut StdRng,
    from: Duration,
    until: Duration,
) -> FaultSchedule {
    let mut schedule = self::random(random, from, until);
    let mut at = from;
    while at < until {
        at += millis(random, 10..125);
        let fault = match random.random_range(0..6) {
            0 => WriteFault::Lost,
            1 => WriteFault::LostUnknown,
            2 => WriteFault::WrittenUnknown,
            3 => WriteFault::FirstFull,
            _ => WriteFault::Late(millis(random, 0..150)),
        };
        let event = if random.random_bool(0.5) { Event::Write } else { Event::WriteDue };
        schedule.push((at, event(fault)));
    }
    add_faults(random, &mut schedule, from, until, (20..200, 300..2_000), |random| {
        match random.random_range(0..2) {
            0 => (Event::RefuseWrites, Event::TakeWrites),
            _ => (Event::RefuseReads, Event::Read),
        }
    });
    schedule.sort_by_key(|(at, _)| *at);
    schedule
}

/// Adds faults that do not overlap: each with its end, how long they last and what lies between them in milliseconds.
fn add_faults(
    random: &mut StdRng,
    schedule: &mut FaultSchedule,
    from: Duration,
    until: Duration,
    (lasting, apart): (std::ops::Range<u64>, std::ops::Range<u64>),
    mut kind: impl FnMut(&mut StdRng) -> (Event, Event),
) {
    let mut begin = from + millis(random, 0..apart.end);
    while begin < until {
        let end = begin + millis(random, lasting.clone());
        let (fault, relief) = kind(random);
        schedule.extend([(begin, fault), (end, relief)]);
        begin = end + millis(random, apart.clone());
    }
}

//! Recorder: counts and latencies of one phase, in shards, so that 64 connections do not contend for one lock.

use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

const SHARDS: usize = 8;
const HIGHEST_US: u64 = 120_000_000;
const DIGITS: u8 = 3;
/// Most distinct complaints that are kept with their text.
const MAX_EXAMPLES: usize = 10;

/// Counts and latencies of a phase so far.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Latency of calls that counted, in µs.
    pub answered: Histogram<u32>,
    /// Latency of calls that were shed, in µs.
    pub shed: Histogram<u32>,
    /// Latency of calls that counted, measured from sending, in µs; empty in a closed loop.
    pub service: Histogram<u32>,
    /// Time from when a call was due until it was sent, in µs; empty in a closed loop.
    pub lateness: Histogram<u32>,
    /// Calls that failed otherwise.
    pub failed: u64,
    /// Responses that cannot be correct.
    pub wrong: u64,
    /// The texts of the first complaints.
    pub examples: Vec<String>,
}

/// The result of one call.
#[derive(Debug)]
pub enum Entry {
    Answered(Duration),
    Shed(Duration),
    Failed(String),
    Wrong(String),
}

/// The shards.
#[derive(Debug)]
pub struct Recorder {
    shards: Vec<Mutex<Tally>>,
}

impl Recorder {
    /// An empty recorder.
    ///
    /// # Errors
    /// Never with the bounds used here; the constructor of histograms is fallible.
    pub fn new() -> anyhow::Result<Self> {
        let shards = (0..SHARDS).map(|_| Tally::new().map(Mutex::new)).collect::<Result<_, _>>()?;
        Ok(Self { shards })
    }

    /// Adds the result of one call; `worker` only selects the shard.
    pub fn add(&self, worker: usize, late: Option<Duration>, entry: Entry) {
        let mut tally = self.shards[worker % SHARDS].lock();
        if let Some(late) = late {
            tally.lateness.saturating_record(micros(late));
            if let Entry::Answered(latency) = &entry {
                tally.service.saturating_record(micros(latency.saturating_sub(late)));
            }
        }
        match entry {
            Entry::Answered(latency) => tally.answered.saturating_record(micros(latency)),
            Entry::Shed(latency) => tally.shed.saturating_record(micros(latency)),
            Entry::Failed(text) => {
                tally.failed += 1;
                tally.complain(text);
            }
            Entry::Wrong(text) => {
                tally.wrong += 1;
                tally.complain(text);
            }
        }
    }

    /// Sums all shards.
    ///
    /// # Errors
    /// Never with the bounds used here; the addition of histograms is fallible.
    pub fn total(&self) -> anyhow::Result<Tally> {
        let mut total = Tally::new()?;
        for shard in &self.shards {
            let shard = shard.lock();
            total.answered.add(&shard.answered).context("adding histograms")?;
            total.shed.add(&shard.shed).context("adding histograms")?;
            total.service.add(&shard.service).context("adding histograms")?;
            total.lateness.add(&shard.lateness).context("adding histograms")?;
            total.failed += shard.failed;
            total.wrong += shard.wrong;
            for example in &shard.examples {
                total.complain(example.clone());
            }
        }
        Ok(total)
    }
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        let histogram =
            Histogram::new_with_bounds(1, HIGHEST_US, DIGITS).context("histogram bounds")?;
        Ok(Self {
            answered: histogram.clone(),
            shed: histogram.clone(),
            service: histogram.clone(),
            lateness: histogram,
            failed: 0,
            wrong: 0,
            examples: Vec::new(),
        })
    }

    /// Number of finished calls.
    pub fn ended(&self) -> u64 {
        self.answered.len() + self.shed.len() + self.failed + self.wrong
    }

    fn complain(&mut self, text: String) {
        if self.examples.len() < MAX_EXAMPLES && !self.examples.contains(&text) {
            self.examples.push(text);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up_and_a_complaint_is_kept_once() {
        let recorder = Recorder::new().unwrap();
        for worker in 0..16 {
            recorder.add(worker, None, Entry::Answered(Duration::from_micros(100)));
            recorder.add(worker, None, Entry::Failed("no".into()));
        }
        let total = recorder.total().unwrap();
        assert_eq!((total.answered.len(), total.failed, total.ended()), (16, 16, 32));
        assert_eq!(total.examples, ["no"]);
    }
}

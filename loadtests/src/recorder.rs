//! Recorder: counts and latencies of one phase, in shards so that 64 connections do not meet at one lock.

use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

const SHARDS: usize = 8;
const HIGHEST_US: u64 = 120_000_000;
const DIGITS: u8 = 3;
/// How many different complaints are kept word by word.
const MAX_EXAMPLES: usize = 10;

/// What a phase has seen so far.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Latency of calls that counted, in µs.
    pub answered: Histogram<u32>,
    /// Latency of calls that were shed, in µs.
    pub shed: Histogram<u32>,
    /// The same from the moment the call was sent, in µs; empty in a closed loop.
    pub service: Histogram<u32>,
    /// From the moment a call was due until it was sent, in µs; empty in a closed loop.
    pub lateness: Histogram<u32>,
    /// Calls that failed otherwise.
    pub failed: u64,
    /// Answers that cannot be right.
    pub wrong: u64,
    /// The first complaints, word by word.
    pub examples: Vec<String>,
}

/// What a call added.
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
    /// Never with the bounds set here; histograms are made fallibly.
    pub fn new() -> anyhow::Result<Self> {
        let shards = (0..SHARDS).map(|_| Tally::new().map(Mutex::new)).collect::<Result<_, _>>()?;
        Ok(Self { shards })
    }

    /// Adds what one call brought; `worker` only picks the shard.
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

    /// Everything so far.
    ///
    /// # Errors
    /// Never with the bounds set here; histograms are added fallibly.
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

    /// Calls that came to an end.
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

//! Harness: runs each case in rounds and prints median and spread.
//!
//! The harness finds the number of operations of a round by trial, so that a round is long enough to measure on any machine.
//! Cases of one [group](Bench::group) take turns, round by round, so a disturbance of the machine affects all of them. No time is
//! asserted; the cases check their payloads.
#![allow(clippy::print_stdout, reason = "a benchmark prints")]
#![allow(clippy::cast_precision_loss, reason = "counts of operations are far below 2^52")]

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::options::Options;
use crate::usage::cpu;

/// A round that takes longer counts as hanging.
const LIMIT: Duration = Duration::from_mins(2);

/// The operations of a round are a multiple of this, so that every bench can divide them evenly.
const MULTIPLE: u64 = 64;

/// The unit of printed times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// For operations below a microsecond.
    Nanoseconds,
    /// For longer operations.
    Microseconds,
}

impl Unit {
    fn per_second(self) -> f64 {
        match self {
            Unit::Nanoseconds => 1e9,
            Unit::Microseconds => 1e6,
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Unit::Nanoseconds => "ns",
            Unit::Microseconds => "µs",
        }
    }
}

/// Seconds per operation in one round.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Wall-clock time.
    pub seconds: f64,
    /// CPU time of all threads of the process.
    pub cpu_seconds: f64,
}

/// Something to measure.
pub struct Case {
    name: String,
    work: Box<dyn Fn(u64) -> BoxFuture<'static, ()>>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Creates a case. `work` runs the given number of operations (a multiple of 64) and checks them.
pub fn case<F: Future<Output = ()> + Send + 'static>(
    name: &str,
    work: impl Fn(u64) -> F + 'static,
) -> Case {
    Case { name: name.into(), work: Box::new(move |operations| work(operations).boxed()) }
}

/// The harness; see the [module](self).
#[derive(Debug)]
pub struct Bench {
    runtime: Arc<Runtime>,
    options: Options,
    unit: Unit,
    operation: &'static str,
    /// Whether the table's header was printed; it is printed with the first line.
    headed: Cell<bool>,
}

impl Bench {
    /// A harness on a runtime of two workers; `operation` names the unit of work.
    ///
    /// # Panics
    /// When the machine has no more threads.
    pub fn new(operation: &'static str, unit: Unit, options: Options) -> Bench {
        Bench { runtime: runtime(2), options, unit, operation, headed: Cell::new(false) }
    }

    /// The same table on a runtime with another number of workers.
    ///
    /// # Panics
    /// When the machine has no more threads.
    #[must_use]
    pub fn with_workers(&self, workers: usize) -> Bench {
        Bench {
            runtime: runtime(workers),
            options: self.options.clone(),
            unit: self.unit,
            operation: self.operation,
            headed: self.headed.clone(),
        }
    }

    /// Another table on the same runtime; `operation` names the unit of work.
    #[must_use]
    pub fn table(&self, operation: &'static str) -> Bench {
        let runtime = Arc::clone(&self.runtime);
        let (options, unit) = (self.options.clone(), self.unit);
        Bench { runtime, options, unit, operation, headed: Cell::new(false) }
    }

    /// The options of the command line.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Measures a case alone.
    pub fn run<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: &str,
        work: impl Fn(u64) -> F + 'static,
    ) {
        self.group([case(name, work)]);
    }

    /// Measures cases against each other; the first one is the reference of the last column.
    pub fn group(&self, cases: impl IntoIterator<Item = Case>) {
        let cases: Vec<Case> = cases.into_iter().collect();
        let chosen = |case: &Case| self.options.chooses(&case.name);
        if !cases.iter().any(chosen) {
            return;
        }
        let mut cases = cases.into_iter();
        let reference = cases.next();
        let cases: Vec<Case> = reference.into_iter().chain(cases.filter(chosen)).collect();
        let sizes: Vec<u64> = cases.iter().map(|case| self.size(case)).collect();
        let mut samples: Vec<Vec<Sample>> = cases.iter().map(|_| Vec::new()).collect();
        for _ in 0..self.options.rounds() {
            for ((case, size), samples) in cases.iter().zip(&sizes).zip(&mut samples) {
                samples.push(self.measure(*size, (case.work)(*size)));
            }
        }
        let reference = samples.first().filter(|_| samples.len() > 1).map(Vec::as_slice);
        for (case, samples) in cases.iter().zip(&samples) {
            self.print(&case.name, samples, reference);
        }
    }

    /// Finds the operations for about one round, and so warms up the case.
    fn size(&self, case: &Case) -> u64 {
        const MOST_STEPS: usize = 8;
        let target = self.options.round().as_secs_f64();
        let mut size = MULTIPLE;
        for _ in 0..MOST_STEPS {
            let taken = self.measure(size, (case.work)(size)).seconds * size as f64;
            let growth = (target / taken.max(1e-9)).clamp(0.01, 100.0);
            size = multiple(size as f64 * growth);
            if growth < 2.0 {
                break;
            }
        }
        size
    }

    /// Runs `work`, which does `operations` operations, on a worker as in production, and measures it.
    ///
    /// # Panics
    /// When it panics or hangs.
    pub fn measure<F: Future<Output = ()> + Send + 'static>(
        &self,
        operations: u64,
        work: F,
    ) -> Sample {
        let (started, cpu_before) = (Instant::now(), cpu());
        self.block_on(work);
        let (seconds, cpu) = (started.elapsed(), cpu().saturating_sub(cpu_before));
        let operations = operations as f64;
        Sample {
            seconds: seconds.as_secs_f64() / operations,
            cpu_seconds: cpu.as_secs_f64() / operations,
        }
    }

    /// Runs unmeasured work on the same workers.
    ///
    /// # Panics
    /// When it panics or hangs.
    pub fn block_on<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let mut task = JoinSet::new();
        self.runtime.block_on(async {
            task.spawn(work);
            let ended = timeout(LIMIT, task.join_next()).await.expect("ends within its limit");
            ended.expect("one was spawned").expect("does not panic")
        })
    }

    /// Prints the medians and the spread of rounds that were [measured](Self::measure) one by one.
    ///
    /// # Panics
    /// When there are none.
    pub fn row(&self, name: &str, samples: &[Sample]) {
        self.print(name, samples, None);
    }

    fn print(&self, name: &str, samples: &[Sample], reference: Option<&[Sample]>) {
        if !self.headed.replace(true) {
            self.print_head();
        }
        let times = sorted(samples, |sample| sample.seconds);
        let (median, cpu) = (times[times.len() / 2], cpu_median(samples));
        let spread = match times.as_slice() {
            [best, .., worst] => format!("{:.0}%", 100.0 * (worst - best) / median),
            _ => String::new(),
        };
        let unit = self.unit.per_second();
        let (ratio, pace) = reference.map_or_else(Default::default, |base| {
            let (ratio, pace) = (cpu / cpu_median(base), pace(samples, base));
            (format!("{ratio:.2}"), format!("{pace:.2}"))
        });
        println!(
            "{name:<58} {:>13.0} {spread:>7} {:>14.2} {:>8.2} {ratio:>6} {pace:>6}",
            1.0 / median,
            unit * median,
            unit * cpu,
        );
    }

    fn print_head(&self) {
        let (operation, unit) = (self.operation, self.unit.symbol());
        println!(
            "\n{:<58} {:>13} {:>7} {:>14} {:>8} {:>6} {:>6}",
            "",
            format!("{operation}s/s"),
            "spread",
            format!("{unit}/{operation}"),
            format!("CPU {unit}"),
            "ratio",
            "pace"
        );
    }
}

fn runtime(workers: usize) -> Arc<Runtime> {
    let runtime = Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    Arc::new(runtime.expect("a runtime starts"))
}

fn sorted(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = samples.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn cpu_median(samples: &[Sample]) -> f64 {
    sorted(samples, |sample| sample.cpu_seconds)[samples.len() / 2]
}

/// The median ratio of a case's rate to the reference's, each round against the reference round beside it.
fn pace(samples: &[Sample], reference: &[Sample]) -> f64 {
    let paces = samples.iter().zip(reference).map(|(sample, base)| base.seconds / sample.seconds);
    let mut paces: Vec<f64> = paces.collect();
    paces.sort_by(f64::total_cmp);
    paces[paces.len() / 2]
}

/// Rounds up to a multiple of [`MULTIPLE`], at least one.
fn multiple(operations: f64) -> u64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and less than a hundred times what a round has done"
    )]
    let operations = operations as u64;
    operations.max(1).next_multiple_of(MULTIPLE)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_case_is_asked_for_operations_that_can_be_shared_out() {
        let done = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&done);
        let options = Options { quick: true, ..Options::default() };
        Bench::new("step", Unit::Nanoseconds, options).run("count", move |operations| {
            assert!(operations > 0 && operations % 64 == 0);
            seen.fetch_add(operations, Ordering::Relaxed);
            async {}
        });
        assert!(done.load(Ordering::Relaxed) > 0);
    }

    #[test]
    #[should_panic(expected = "does not panic")]
    fn a_check_that_fails_ends_the_bench() {
        let bench = Bench::new("step", Unit::Nanoseconds, Options::default());
        bench.measure(1, async { panic!("a wrong answer") });
    }

    #[test]
    fn a_pace_is_that_of_rounds_which_took_turns() {
        let rounds = |seconds: [f64; 3]| {
            seconds.map(|seconds| Sample { seconds, cpu_seconds: 0.0 }).to_vec()
        };
        // The machine was slow in the first round, for both cases.
        let (reference, halved) = (rounds([8.0, 1.0, 2.0]), rounds([16.0, 2.0, 4.0]));
        assert!((pace(&halved, &reference) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn another_number_of_operations_is_the_next_multiple() {
        assert_eq!((multiple(0.3), multiple(64.0), multiple(65.0)), (64, 64, 128));
    }
}

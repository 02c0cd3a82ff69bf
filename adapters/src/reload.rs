//! Reload: compares files with what is in effect, every few seconds and on SIGHUP (decision 42).
//!
//! What changed is read twice, with a pause between: a file that is just being written does not count. A change that
//! cannot be used is reported, and what was in effect before stays.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::signal::unix::Signal;
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::metrics::{RELOAD_BROKEN, RELOADS_TOTAL};

/// How often files are read.
const EVERY: Duration = Duration::from_secs(5);

/// How long a change has to stay as it is before it counts.
const CALM: Duration = Duration::from_millis(250);

/// Whether the last change of some files could be used. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Status {
    /// What the files hold.
    pub what: &'static str,
    is_broken: Arc<AtomicBool>,
}

impl Status {
    /// Whether the last change could not be used; what was in effect before still is.
    pub fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    fn set(&self, is_broken: bool) {
        self.is_broken.store(is_broken, Ordering::Relaxed);
        gauge!(RELOAD_BROKEN, "what" => self.what).set(f64::from(u8::from(is_broken)));
    }
}

/// Files that are watched.
pub(crate) trait Watch: Send + 'static {
    /// Reads the files, and puts a change into effect that was there at the last look already. Returns whether there
    /// is one to look at again soon. Blocks.
    fn look(&mut self) -> bool;

    /// Whether the last change could be used.
    fn status(&self) -> Status;
}

/// Reads the files.
type ReadFiles<C, E> = Box<dyn Fn() -> Result<C, E> + Send>;
/// Puts what they hold into effect.
type ApplyFiles<C, E> = Box<dyn FnMut(&C) -> Result<(), E> + Send>;

/// Files with a content `C`, and what is made of it.
pub(crate) struct Watched<C, E> {
    read: ReadFiles<C, E>,
    apply: ApplyFiles<C, E>,
    seen: Result<C, E>,
    changed: Option<Result<C, E>>,
    status: Status,
}

impl<C: PartialEq, E: Clone + PartialEq + fmt::Display> Watched<C, E> {
    /// Reads the files for the first time. Blocks.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(crate) fn start(
        what: &'static str,
        read: impl Fn() -> Result<C, E> + Send + 'static,
        mut apply: impl FnMut(&C) -> Result<(), E> + Send + 'static,
    ) -> Result<Self, E> {
        let content = read()?;
        apply(&content)?;
        let status = Status { what, is_broken: Arc::default() };
        status.set(false);
        let (read, apply) = (Box::new(read), Box::new(apply));
        Ok(Self { read, apply, seen: Ok(content), changed: None, status })
    }
}

impl<C, E> Watch for Watched<C, E>
where
    C: PartialEq + Send + 'static,
    E: Clone + PartialEq + fmt::Display + Send + 'static,
{
    fn look(&mut self) -> bool {
        let now = (self.read)();
        if now == self.seen {
            self.changed = None;
            return false;
        }
        if self.changed.as_ref() != Some(&now) {
            self.changed = Some(now);
            return true;
        }
        self.changed = None;
        let what = self.status.what;
        let outcome = match now.as_ref().map_err(Clone::clone).and_then(|now| (self.apply)(now)) {
            Ok(()) => {
                info!(what, "read again: what the files say is in effect");
                "ok"
            }
            Err(error) => {
                error!(what, %error, "not usable: what was in effect before stays");
                "broken"
            }
        };
        self.status.set(outcome == "broken");
        counter!(RELOADS_TOTAL, "what" => what, "outcome" => outcome).increment(1);
        self.seen = now;
        false
    }

    fn status(&self) -> Status {
        self.status.clone()
    }
}

/// Looks at the files until `ended`; to be run as a task.
pub(crate) async fn run(
    mut watched: Vec<Box<dyn Watch>>,
    mut hangups: Signal,
    ended: CancellationToken,
) {
    let looking = async {
        let mut ticks = interval(EVERY);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = hangups.recv() => {}
            }
            loop {
                let looked = tokio::task::spawn_blocking(move || {
                    let mut is_changed = false;
                    for files in &mut watched {
                        is_changed |= files.look();
                    }
                    (watched, is_changed)
                });
                let (back, is_changed) = match looked.await {
                    Ok(looked) => looked,
                    Err(ended) => {
                        // Otherwise it was cancelled, as the runtime ends.
                        if ended.is_panic() {
                            error!(
                                "files are not read again any more: reading them ended in a panic"
                            );
                        }
                        return;
                    }
                };
                watched = back;
                if !is_changed {
                    break;
                }
                sleep(CALM).await;
            }
        }
    };
    ended.run_until_cancelled(looking).await;
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn a_change_counts_when_it_stays_and_a_broken_one_keeps_the_former() {
        let file = Arc::new(Mutex::new(Ok::<_, String>(1)));
        let used = Arc::new(Mutex::new(Vec::new()));
        let (read, apply) = (file.clone(), used.clone());
        let mut watched = Watched::start(
            "numbers",
            move || read.lock().clone(),
            move |number| match number {
                0 => Err("zero".to_owned()),
                number => {
                    apply.lock().push(*number);
                    Ok(())
                }
            },
        )
        .unwrap();
        assert!(!watched.look(), "nothing has changed");
        *file.lock() = Ok(2);
        assert!(watched.look());
        *file.lock() = Ok(3);
        assert!(watched.look(), "it changes still");
        assert_eq!(*used.lock(), [1]);
        assert!(!watched.look());
        assert_eq!(*used.lock(), [1, 3]);
        for broken in [Ok(0), Err("unreadable".to_owned())] {
            *file.lock() = broken;
            assert!(watched.look() && !watched.look() && !watched.look());
            assert!(watched.status().is_broken());
        }
        *file.lock() = Ok(3);
        assert!(watched.look() && !watched.look() && !watched.status().is_broken());
        assert_eq!(*used.lock(), [1, 3, 3]);
    }

    #[test]
    fn what_cannot_be_used_at_the_start_ends_it() {
        let zero = Watched::start("numbers", || Ok(0), |_| Err("zero"));
        assert_eq!(zero.err(), Some("zero"));
    }
}

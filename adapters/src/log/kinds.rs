//! Kinds: bounds how many lines of one kind are logged. A kind is one place in the program.
//!
//! In each window of time the first lines of a kind are logged, and the others are counted. When the window is over, one line says
//! how many were left out. Lines below `info`, which are asked for by hand, have no such bound, and neither have those of the audit.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, error, info, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(10);
/// Longest text of a kind that the line repeats, in bytes.
const TEXT_BYTES: usize = 200;

/// There is one log, hence one set of kinds. It has as many entries as the program has places that log.
static KINDS: Kinds = Kinds {
    most: AtomicU32::new(0),
    of_place: Mutex::new(None),
    has_left_out: AtomicBool::new(false),
    left_out: AtomicU64::new(0),
};

struct Kinds {
    /// Lines of one kind in a window; 0: any number.
    most: AtomicU32,
    of_place: Mutex<Option<HashMap<Identifier, Kind>>>,
    /// Whether some kind has left out lines that no line tells of yet.
    has_left_out: AtomicBool,
    /// Lines that were left out since the process started.
    left_out: AtomicU64,
}

#[derive(Debug, Clone)]
struct Kind {
    since: Instant,
    lines: u32,
    left_out: u64,
    level: Level,
    target: &'static str,
    /// The first line that was left out.
    text: String,
}

/// Leaves out lines of which there are too many.
#[derive(Debug)]
pub(crate) struct KindLimit;

impl KindLimit {
    /// At most so many lines of one kind in ten seconds; 0: any number.
    pub(crate) fn new(most: u32) -> Self {
        KINDS.most.store(most, Ordering::Relaxed);
        Self
    }
}

impl<S: Subscriber> Layer<S> for KindLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let most = KINDS.most.load(Ordering::Relaxed);
        let has_bound = most > 0 && is_bounded(event.metadata());
        !has_bound || KINDS.admits(event, most, Instant::now())
    }
}

fn is_bounded(place: &Metadata<'_>) -> bool {
    // What this file and the one above say is rare.
    *place.level() <= Level::INFO
        && place.target() != "audit"
        && !place.target().starts_with(super::TARGET)
}

/// How many lines were left out since the process started.
pub(crate) fn left_out() -> u64 {
    KINDS.left_out.load(Ordering::Relaxed)
}

/// Whether a line about lines that were left out is still to be logged.
pub(super) fn has_left_out() -> bool {
    KINDS.has_left_out.load(Ordering::Relaxed)
}

/// Logs a line for each kind that has left out lines and whose window is over; with `all`, whether it is over or not.
pub(super) fn tell(all: bool) {
    if !has_left_out() {
        return;
    }
    // Logged when the lock is free: whoever logs takes it.
    for Kind { left_out: lines, level, target, text, .. } in KINDS.take(all, Instant::now()) {
        match level {
            Level::ERROR => error!(lines, of = target, text, "lines of one kind are left out"),
            Level::WARN => warn!(lines, of = target, text, "lines of one kind are left out"),
            _ => info!(lines, of = target, text, "lines of one kind are left out"),
        }
    }
}

impl Kinds {
    fn admits(&self, event: &Event<'_>, most: u32, now: Instant) -> bool {
        let place = event.metadata();
        let mut held = self.of_place.lock();
        let kinds = held.get_or_insert_default();
        let kind = kinds.entry(place.callsite()).or_insert_with(|| Kind {
            since: now,
            lines: 0,
            left_out: 0,
            level: *place.level(),
            target: place.target(),
            text: String::new(),
        });
        // What was left out in the last window is told first.
        if kind.left_out == 0 && now.duration_since(kind.since) >= WINDOW {
            (kind.since, kind.lines) = (now, 0);
        }
        if kind.lines < most {
            kind.lines += 1;
            return true;
        }
        kind.left_out += 1;
        let is_first = kind.left_out == 1;
        self.left_out.fetch_add(1, Ordering::Relaxed);
        self.has_left_out.store(true, Ordering::Relaxed);
        drop(held);
        if is_first {
            // Formatted without the lock: what it formats may panic, and a panic is logged.
            let text = text_of(event);
            if let Some(kind) =
                self.of_place.lock().as_mut().and_then(|kinds| kinds.get_mut(&place.callsite()))
            {
                kind.text = text;
            }
            super::wake();
        }
        false
    }

    /// Takes what is to be told, and begins new windows for it.
    fn take(&self, all: bool, now: Instant) -> Vec<Kind> {
        let mut kinds = self.of_place.lock();
        let mut told = Vec::new();
        let mut is_left = false;
        for kind in kinds.iter_mut().flat_map(HashMap::values_mut) {
            if kind.left_out == 0 {
                continue;
            }
            if all || now.duration_since(kind.since) >= WINDOW {
                told.push(kind.clone());
                (kind.since, kind.lines, kind.left_out) = (now, 0, 0);
            } else {
                is_left = true;
            }
        }
        self.has_left_out.store(is_left, Ordering::Relaxed);
        told
    }
}

/// The message of an event, without its fields.
fn text_of(event: &Event<'_>) -> String {
    let mut text = Text(String::new());
    event.record(&mut text);
    text.0.truncate(text.0.floor_char_boundary(TEXT_BYTES));
    text.0
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").unwrap_or_default();
        }
    }
}

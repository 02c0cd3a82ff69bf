//! Recognition: switches off that targets recognise effects, so that a proof can be seen to fail.

use std::sync::atomic::{AtomicBool, Ordering};

static IS_OFF: AtomicBool = AtomicBool::new(false);

/// From now on, in this process, every effect is taken for one that its target has not answered.
pub fn switch_off() {
    IS_OFF.store(true, Ordering::Relaxed);
}

pub(crate) fn is_off() -> bool {
    IS_OFF.load(Ordering::Relaxed)
}

//! Sync: the primitives that loom swaps, so that it can try every interleaving of the demand line.
//!
//! Built with `--cfg pipeline_loom` the mutex is loom's; otherwise it is `parking_lot`'s, which does
//! not poison. Everything here is held for short sections that run no user code.

#[cfg(not(pipeline_loom))]
pub(crate) use parking_lot::Mutex;

#[cfg(pipeline_loom)]
pub(crate) use modelled::Mutex;

#[cfg(pipeline_loom)]
mod modelled {
    /// loom's mutex in the shape of `parking_lot`'s.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Mutex<T> {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("a model that panics while it holds a lock has failed already")
        }
    }
}

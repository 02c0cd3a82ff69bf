//! Sync: the primitives that loom replaces to try every interleaving.
//!
//! With `--cfg pipeline_loom` the mutex is loom's. Otherwise it is `parking_lot`'s, which does not
//! poison. Each lock is held for short sections.

#[cfg(not(pipeline_loom))]
pub(crate) use parking_lot::Mutex;

#[cfg(pipeline_loom)]
pub(crate) use modelled::Mutex;

#[cfg(pipeline_loom)]
mod modelled {
    /// loom's mutex with the interface of `parking_lot`'s.
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

//! Gate: gives an event something that it needs before it is granted, such as a place further down the pipeline.
//!
//! A [`KeyedProducer`](crate::KeyedProducer) with a gate grants an event when four things come together: demand, a permit
//! of its class, a free key, and what the gate gives. An event that the gate refuses waits with its key in one line for
//! all keys, first in first out; it holds neither demand nor a permit meanwhile. Events that need nothing of the gate are
//! granted past the line.

use std::any::Any;
use std::fmt;
use std::task::Waker;

/// An event passes it before it is granted; see the [module](self).
///
/// The producer calls these methods with its lock held. They must be quick, and must not call the producer.
pub trait Gate<T>: Send + Sync {
    /// Whether the event needs something of this gate. Only [`leave`](Gate::leave) may change the answer while the event is
    /// queued.
    fn concerns(&self, event: &T) -> bool;

    /// Takes what the event needs and puts it into the event, which is then granted. When it is not free, it takes nothing
    /// and wakes the waker once as soon as another try may succeed. It must not wake it inside of this method, nor with a lock
    /// held that this method takes.
    fn enter(&self, event: &mut T, waker: &Waker) -> Entry;

    /// Takes out of an event what [`enter`](Gate::enter) gave it. The producer calls this when the key of a parked event is
    /// paused: the event has to enter again after the pause. The producer drops what is returned without its lock.
    fn leave(&self, event: &mut T) -> Option<GivenUp> {
        let _ = event;
        None
    }
}

/// What an event gave back to its gate. It is free for others when this is dropped.
pub type GivenUp = Box<dyn Any + Send>;

/// The answer of a [`Gate`] to one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The event has what it needs.
    Entered,
    /// This event waits; events behind it in the line may enter. Use it for few keys at a time: the gate is asked for each
    /// of them again whenever the line moves.
    Waits,
    /// The class of the event holds as much as it may: this event waits, and so do all others of its class, also those that
    /// need nothing of the gate. Events of other classes may enter.
    ClassFull,
    /// Nothing is free: this event and all behind it in the line wait.
    Full,
}

/// A gate, and the waker by which it tells its producer that the line may move.
pub(crate) struct Gated<T> {
    pub(crate) gate: Box<dyn Gate<T>>,
    pub(crate) waker: Waker,
}

impl<T> Gated<T> {
    pub(crate) fn enter(&self, event: &mut T) -> Entry {
        if self.gate.concerns(event) { self.gate.enter(event, &self.waker) } else { Entry::Entered }
    }
}

impl<T> fmt::Debug for Gated<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gated").finish_non_exhaustive()
    }
}

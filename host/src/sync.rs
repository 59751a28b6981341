//! The atomics, fences and locks of the protocols that the models check: the standard library's.
//!
//! `tests/models` compiles the files that take them from here once more, with a `crate::sync` of its own. That one is loom's:
//! it tries the orders in which threads can take their steps, and the values that the memory model lets a load return. So a
//! file that is modelled names nothing of `std::sync`.

pub(crate) use crossbeam_utils::Backoff;
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

/// As in the standard library.
pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering, fence};
}

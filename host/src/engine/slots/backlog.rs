//! The bytes that wait for the reaper, and their bound.

use crate::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that several threads add to, and that stays below a bound unless it is one addition alone.
pub(super) struct Backlog(AtomicUsize);

impl Backlog {
    pub(super) fn new() -> Backlog {
        Backlog(AtomicUsize::new(0))
    }

    /// Adds bytes. Returns false, and adds nothing, if there are some already and the sum would be over `bytes_max`. It
    /// may refuse bytes that would fit while another thread is being refused.
    pub(super) fn add(&self, bytes: usize, bytes_max: usize) -> bool {
        let before = self.0.fetch_add(bytes, Ordering::AcqRel);
        let fits = before == 0 || before + bytes <= bytes_max;
        if !fits {
            self.remove(bytes);
        }
        fits
    }

    /// Removes bytes that were added.
    pub(super) fn remove(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::AcqRel);
    }
}

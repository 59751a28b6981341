//! The working set of a process's next turn, prefetched when the process is woken.
//!
//! Knows ranges of addresses, never what lies there. A waiting process's turn touches some seventy cache lines, and asks for many of
//! them only when it has another. Prefetched they arrive together, while the process that woke it ends its own turn. A range
//! that is wrong costs time and nothing else.

use std::ops::Range;

const LINE_BYTES: usize = 64;
/// The ranges of a working set.
const RANGES: usize = 5;

/// What a process's next turn touches, in that order.
#[derive(Clone, Copy)]
pub(crate) struct WorkingSet([(usize, usize); RANGES]);

impl WorkingSet {
    /// Of these ranges of addresses, some of which may be empty.
    pub(crate) fn new(ranges: [Range<usize>; RANGES]) -> WorkingSet {
        WorkingSet(ranges.map(|range| (range.start, range.end)))
    }

    /// Has the cache fetch it, without waiting for it.
    pub(super) fn prefetch(&self) {
        for (start, end) in self.0 {
            for address in (start..end).step_by(LINE_BYTES) {
                prefetch_line(address);
            }
        }
    }
}

/// Has the cache fetch the line of this address; where the language can't say that, nothing.
#[inline]
fn prefetch_line(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: it is a hint, which reads nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address as *const i8) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

//! The working set of a process's next turn, prefetched when the process is woken.
//!
//! This file knows ranges of addresses, never what lies there. The turn of a waiting process touches some seventy cache
//! lines, and it asks for many of them only when it has another. A prefetch fetches all of them together, while the
//! thread that woke the process ends its present turn. A wrong range costs time and nothing else.

use std::ops::Range;

const LINE_BYTES: usize = 64;
/// The number of ranges in a working set.
const RANGES: usize = 5;

/// The ranges that a process's next turn touches, in the order in which it touches them.
#[derive(Clone, Copy)]
pub(crate) struct WorkingSet([(usize, usize); RANGES]);

impl WorkingSet {
    /// Makes a working set of these ranges of addresses. A range may be empty.
    pub(crate) fn new(ranges: [Range<usize>; RANGES]) -> WorkingSet {
        WorkingSet(ranges.map(|range| (range.start, range.end)))
    }

    /// Makes the cache fetch all lines, without waiting for them.
    pub(super) fn prefetch(&self) {
        for (start, end) in self.0 {
            for address in (start..end).step_by(LINE_BYTES) {
                prefetch_line(address);
            }
        }
    }
}

/// Makes the cache fetch the line of this address. Does nothing on machines for which Rust has no such instruction.
#[inline]
fn prefetch_line(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint to the processor, which accepts any address and accesses no memory that the
        // program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address as *const i8) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

//! Stretches of the mapping that one page table serves: it goes back to the kernel when nobody in one is awake.
//!
//! Knows how many slots that may hold resident pages lie in each stretch, in whole or in part. The kernel gives up a page
//! table only together with all that it maps (Linux 6.14 and later; before, it keeps it).

use crossbeam_utils::Backoff;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// What one page table maps.
pub(super) const BYTES: usize = 2 << 20;
/// Stands for a count while the stretch is given back. Slots are larger than a page: no stretch has so many.
const IS_LEAVING: u32 = u32::MAX;

/// One count for each stretch, in the first part of the mapping itself: untouched they cost nothing, and are zero.
pub(super) struct Stretches(NonNull<u8>);

impl Stretches {
    /// What the counts take of a mapping of so many bytes.
    pub(super) fn bytes(mapping_bytes: usize) -> usize {
        let counts = mapping_bytes / BYTES * size_of::<AtomicU32>();
        counts.next_multiple_of(BYTES)
    }

    /// For a mapping that begins there.
    ///
    /// # Safety
    ///
    /// As much of it as [`Stretches::bytes`] says is this structure's, and zero; the mapping outlives it.
    pub(super) unsafe fn new(base: NonNull<u8>) -> Stretches {
        Stretches(base)
    }

    /// A slot at these offsets will hold resident pages from now on.
    pub(super) fn wake(&self, offsets: Range<usize>) {
        for stretch in Self::of(offsets) {
            let count = self.count(stretch);
            let mut seen = count.load(Ordering::Relaxed);
            let backoff = Backoff::new();
            loop {
                if seen == IS_LEAVING {
                    // One call to the kernel long.
                    backoff.snooze();
                    seen = count.load(Ordering::Relaxed);
                    continue;
                }
                let next = count.compare_exchange_weak(
                    seen,
                    seen + 1,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                match next {
                    Ok(_) => break,
                    Err(now) => seen = now,
                }
            }
        }
    }

    /// The slot at these offsets holds no resident pages any more.
    ///
    /// # Safety
    ///
    /// Its owner has given all of its pages back, and touches none before [`Stretches::wake`] has returned for it.
    pub(super) unsafe fn sleep(&self, offsets: Range<usize>) {
        for stretch in Self::of(offsets) {
            let count = self.count(stretch);
            if count.fetch_sub(1, Ordering::Release) > 1 {
                continue;
            }
            let is_left =
                count.compare_exchange(0, IS_LEAVING, Ordering::Acquire, Ordering::Relaxed);
            if is_left.is_ok() {
                // SAFETY: the stretch is within the mapping, and whoever has a slot in it has given its pages back and
                // waits, before it touches them again, until the count says that this is over.
                unsafe {
                    libc::madvise(
                        self.0.add(stretch * BYTES).as_ptr().cast(),
                        BYTES,
                        libc::MADV_DONTNEED,
                    );
                }
                count.store(0, Ordering::Release);
            }
        }
    }

    fn of(offsets: Range<usize>) -> Range<usize> {
        offsets.start / BYTES..offsets.end.div_ceil(BYTES)
    }

    fn count(&self, stretch: usize) -> &AtomicU32 {
        // SAFETY: offsets are those of slots, so the count lies in the part of the mapping that holds counts; it is aligned,
        // only used atomically, and zero, which is a valid count, at first.
        unsafe { self.0.cast::<AtomicU32>().add(stretch).as_ref() }
    }
}

//! Stretches of the mapping that one page table serves. The page table goes back to the kernel when no slot in the
//! stretch is awake.
//!
//! This file counts, for each stretch, the slots that lie in it in whole or in part and may hold resident pages. The
//! kernel frees a page table only together with everything that it maps (Linux 6.14 and later; earlier kernels keep
//! it).

use super::awake::Awake;
use std::ops::Range;
use std::ptr::NonNull;

/// The bytes that one page table maps.
pub(super) const BYTES: usize = 2 << 20;

/// One count for each stretch, in the first part of the mapping itself: untouched counts cost nothing, and are zero.
pub(super) struct Stretches(NonNull<u8>);

impl Stretches {
    /// The bytes that the counts take, for a mapping of so many bytes.
    pub(super) fn bytes(mapping_bytes: usize) -> usize {
        let counts = mapping_bytes / BYTES * size_of::<Awake>();
        counts.next_multiple_of(BYTES)
    }

    /// For a mapping that begins at this address.
    ///
    /// # Safety
    ///
    /// The first [`Stretches::bytes`] of the mapping are this structure's, and zero; the mapping outlives it.
    pub(super) unsafe fn new(base: NonNull<u8>) -> Stretches {
        Stretches(base)
    }

    /// The slot at these offsets may hold resident pages from now on.
    pub(super) fn wake(&self, offsets: Range<usize>) {
        for stretch in Self::of(offsets) {
            self.awake(stretch).wake();
        }
    }

    /// The slot at these offsets holds no resident pages any more.
    ///
    /// # Safety
    ///
    /// Its owner has given all of its pages back, and touches none before [`Stretches::wake`] has returned for it.
    pub(super) unsafe fn sleep(&self, offsets: Range<usize>) {
        for stretch in Self::of(offsets) {
            // SAFETY: the stretch is within the mapping. Every owner of a slot in it has given the slot's pages back, and
            // touches them only after `wake`, which waits until this call is over.
            let give_back = || unsafe {
                libc::madvise(
                    self.0.add(stretch * BYTES).as_ptr().cast(),
                    BYTES,
                    libc::MADV_DONTNEED,
                );
            };
            self.awake(stretch).sleep(give_back);
        }
    }

    fn of(offsets: Range<usize>) -> Range<usize> {
        offsets.start / BYTES..offsets.end.div_ceil(BYTES)
    }

    fn awake(&self, stretch: usize) -> &Awake {
        // SAFETY: offsets are those of slots, so the count lies in the part of the mapping that holds counts, as
        // `new`'s caller promised. It is aligned, only used atomically, and at first zero, which is a valid count.
        unsafe { self.0.cast::<Awake>().add(stretch).as_ref() }
    }
}

//! A range of pages within the mapping: cleaned, given back, made resident, made untouchable.

use super::reservation::forbid_huge_pages;
use super::{PAGE_BYTES, Warm};
#[cfg(any(test, debug_assertions))]
use crate::engine::page_map;
use std::ops::Range;
use std::ptr::NonNull;

/// A part of a slot, or all of it. It begins and ends at page boundaries.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Region {
    pub(in crate::engine) start: NonNull<u8>,
    pub(in crate::engine) bytes: usize,
}

// SAFETY: a region is only an address and a size; every function that accesses its memory states its own conditions.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Makes the first `used` bytes zero again. The rest must never have been touched.
    ///
    /// # Safety
    ///
    /// The caller owns the region, and nothing has a reference into it.
    pub(super) unsafe fn clean(self, used: usize, warm: Warm) {
        let Range { start, end } = warm.within(used);
        // SAFETY: `used` is at most the region's size, and the caller owns the region.
        unsafe {
            self.start.add(start).write_bytes(0, end - start);
            self.give_back(0..start);
            self.give_back(end..used);
        }
    }

    /// Gives pages back to the kernel; they read as zero from now on.
    ///
    /// # Safety
    ///
    /// As for [`Region::clean`]; the range is page-aligned and within the region.
    pub(in crate::engine) unsafe fn give_back(self, range: Range<usize>) {
        if !range.is_empty() {
            // SAFETY: the range is within the region.
            let failed = unsafe {
                libc::madvise(
                    self.start.add(range.start).as_ptr().cast(),
                    range.len(),
                    libc::MADV_DONTNEED,
                )
            };
            // It fails only for ranges that aren't mapped.
            assert_eq!(failed, 0, "the kernel keeps pages that were given back");
        }
    }

    /// Maps fresh pages in place of the present ones. Pages that were moved into the region, or out of it, have left a
    /// mapping of their own, which the kernel then joins with its neighbours. Returns false if it can't, for instance
    /// because there are too many mappings.
    ///
    /// # Safety
    ///
    /// As for [`Region::clean`]; the region lies within the mapping of the slots.
    pub(super) unsafe fn map_again(self) -> bool {
        let address = self.start.as_ptr().cast();
        // SAFETY: the caller owns the range, and does not need what it holds.
        unsafe {
            let mapped = libc::mmap(
                address,
                self.bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
                -1,
                0,
            );
            let is_done = mapped == address;
            if is_done {
                forbid_huge_pages(address, self.bytes);
            }
            is_done
        }
    }

    /// Checks that all of it is zero, looking only at pages that may hold anything else.
    ///
    /// Panics if it is not.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn assert_zero(self) {
        let mut touched = Vec::new();
        page_map::touched(self, &mut touched);
        for page in touched {
            let part = self.part(page as usize * PAGE_BYTES..(page as usize + 1) * PAGE_BYTES);
            // SAFETY: the caller owns the region, because it has a free slot.
            let bytes = unsafe { std::slice::from_raw_parts(part.start.as_ptr(), part.bytes) };
            assert!(
                bytes.iter().all(|byte| *byte == 0),
                "page {page} of a free slot is not zero"
            );
        }
    }

    /// The address behind it.
    pub(super) fn end(self) -> usize {
        self.start.as_ptr() as usize + self.bytes
    }

    /// This part of it.
    pub(super) fn part(self, range: Range<usize>) -> Region {
        assert!(range.start <= range.end && range.end <= self.bytes);
        Region {
            // SAFETY: the offset is within the region, by the assertion.
            start: unsafe { self.start.add(range.start) },
            bytes: range.len(),
        }
    }

    /// All of it.
    pub(in crate::engine) fn range(self) -> Range<usize> {
        0..self.bytes
    }

    /// The part between these addresses, widened to whole pages.
    pub(in crate::engine) fn pages(self, addresses: Range<usize>) -> Range<usize> {
        let base = self.start.as_ptr() as usize;
        let start = (addresses.start - base) & !(PAGE_BYTES - 1);
        let end = (addresses.end - base).next_multiple_of(PAGE_BYTES);
        start..end
    }

    /// Makes pages resident that will be written now, with one call instead of a fault for each. If the kernel can't,
    /// the faults do it.
    pub(in crate::engine) fn populate(self, range: Range<usize>) {
        // SAFETY: the range is within the region; the call does not change what its pages hold.
        unsafe {
            libc::madvise(
                self.start.add(range.start).as_ptr().cast(),
                range.len(),
                libc::MADV_POPULATE_WRITE,
            );
        }
    }

    /// Makes the region inaccessible, or accessible again.
    ///
    /// # Safety
    ///
    /// Nothing uses a reference into the region while it is inaccessible.
    pub(in crate::engine) unsafe fn protect(self, protected: bool) {
        let protection = match protected {
            true => libc::PROT_NONE,
            false => libc::PROT_READ | libc::PROT_WRITE,
        };
        // SAFETY: the region is within our mapping.
        let failed = unsafe { libc::mprotect(self.start.as_ptr().cast(), self.bytes, protection) };
        assert_eq!(failed, 0, "too many mappings to poison this slot");
    }
}

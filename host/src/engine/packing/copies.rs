//! Copies of live stacks and arenas, as words, and back.
//!
//! This file knows addresses and words. A stack and an arena hold Rust values with uninitialized padding, so this code
//! never makes a reference to their bytes. It copies them as they are, and packing reads only the copy.

use std::arch::asm;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;

/// Copies the words at these addresses.
///
/// # Safety
///
/// The addresses are mapped and aligned to words, and nothing writes there meanwhile.
pub(super) unsafe fn copy_out(addresses: &Range<usize>, words: &mut Vec<u64>) {
    words.resize(addresses.len() / 8, 0);
    let from = ptr::with_exposed_provenance::<MaybeUninit<u64>>(addresses.start);
    let to = words.as_mut_ptr();
    // SAFETY: the caller vouches for the source; the vector is as long, and another allocation. The copied bytes may be
    // uninitialized. The assembly does nothing, but the compiler must assume that it writes to the memory behind its
    // operand. So the words count as initialized when they are read.
    unsafe {
        to.cast::<MaybeUninit<u64>>()
            .copy_from_nonoverlapping(from, words.len());
        asm!("/* {} */", in(reg) to, options(nostack, preserves_flags));
    }
}

/// Copies words to these addresses. Pointers among them stay usable: when `copy_out` copied them, it exposed the
/// addresses of their targets.
///
/// # Safety
///
/// From `start` on as many words are mapped and aligned, and nothing else uses them.
pub(super) unsafe fn copy_in(words: &[u64], start: usize) {
    let to = ptr::with_exposed_provenance_mut::<u64>(start);
    // SAFETY: the caller vouches for the addresses; the words are another allocation.
    unsafe { to.copy_from_nonoverlapping(words.as_ptr(), words.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_padding_survive_a_copy() {
        #[derive(Clone, Copy, PartialEq, Debug)]
        #[repr(C, align(8))]
        struct Padded(u8, u32, u8);
        let values = [Padded(1, 2, 3), Padded(4, 5, 6)];
        let mut others = [Padded(0, 0, 0); 2];
        let start = values.as_ptr().expose_provenance();
        let to = others.as_mut_ptr().expose_provenance();
        let mut words = vec![7; 1];
        // SAFETY: the ranges are those of the two arrays.
        unsafe {
            copy_out(&(start..start + size_of_val(&values)), &mut words);
            copy_in(&words, to);
        }
        assert_eq!((words.len(), others), (4, values));
    }
}

//! Copies of live stacks and arenas, as words, and back.
//!
//! Knows addresses and words. In a stack and in an arena lie values of Rust's, with padding that nobody has initialized, so no
//! reference to their bytes is ever made: they are copied as they are, and what is compared and written down is the copy.

use std::arch::asm;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;

/// Copies the words at these addresses.
///
/// # Safety
///
/// The addresses are mapped and aligned to words, and nobody writes there meanwhile.
pub(super) unsafe fn copy_out(addresses: &Range<usize>, words: &mut Vec<u64>) {
    words.resize(addresses.len() / 8, 0);
    let from = ptr::with_exposed_provenance::<MaybeUninit<u64>>(addresses.start);
    let to = words.as_mut_ptr();
    // SAFETY: the caller vouches for the source; the vector is as long, and another allocation. What is copied may be
    // uninitialized; the assembly, which does nothing, stands for having written some value there, because the compiler must assume
    // that it writes to what its operand points to. So the words are initialized when they are read.
    unsafe {
        to.cast::<MaybeUninit<u64>>()
            .copy_from_nonoverlapping(from, words.len());
        asm!("/* {} */", in(reg) to, options(nostack, preserves_flags));
    }
}

/// Copies words to these addresses. Pointers among them may be used again: their targets' addresses have been exposed when they
/// were copied out.
///
/// # Safety
///
/// From `start` on as many words are mapped and aligned, and nobody else uses what lies there.
pub(super) unsafe fn copy_in(words: &[u64], start: usize) {
    let to = ptr::with_exposed_provenance_mut::<u64>(start);
    // SAFETY: as the caller's.
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

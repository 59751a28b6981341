//! Below each stack lies a word that no code writes. If it has been written all the same, host code has overflowed the
//! stack.
//!
//! Wasm code stops before it reaches the host's part of a stack, and no host function needs all of that part: nothing
//! runs on a process's stack whose depth a guest's data decides. The canary checks that this holds. A guard page would
//! catch an overflow as it happens. But each way to make one takes a call to the kernel for each process, and a mapping
//! or a page table, and one page table for each hibernated process is as much again as all that such a process keeps.
//! The word costs a comparison for each turn. It is read only when the stack is nearly used up, because a process whose
//! stack is not so deep has not touched the word's page.
//!
//! An overflow hits the end of the process's own memory part. The check makes that part zero again, and the process
//! ends.

use super::{HOST_STACK_BYTES, Home, PAGE_BYTES};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The word is checked when less than this is left of the stack.
const NEAR_BYTES: usize = 2 * HOST_STACK_BYTES;

/// Watches over a stack.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Canary {
    memory_start: usize,
    stack_start: usize,
}

impl Canary {
    /// For the stack of a home, whose process must hold the home.
    pub(in crate::engine) fn of(home: &Home) -> Canary {
        Canary {
            memory_start: home.memory().start.as_ptr().addr(),
            stack_start: home.stack().start,
        }
    }

    /// Whether the stack has been overflowed. `here` is an address in its deepest active frame; `memory` is the
    /// process's first memory. If the stack has been overflowed, this zeroes everything between the memory and the
    /// stack.
    #[inline]
    pub(in crate::engine) fn has_died(
        self,
        here: usize,
        memory: impl FnOnce() -> Range<usize>,
    ) -> bool {
        here.wrapping_sub(self.stack_start) < NEAR_BYTES && self.look(memory)
    }

    #[cold]
    fn look(self, memory: impl FnOnce() -> Range<usize>) -> bool {
        let word = self.stack_start as *const AtomicU64;
        // SAFETY: it is the lowest word of a stack, aligned to a page. The process that owns the stack runs, so its
        // home is held, and nothing else has a reference to the word.
        let word = unsafe { &*word };
        if word.load(Ordering::Relaxed) == 0 {
            return false;
        }
        word.store(0, Ordering::Relaxed);
        let memory = memory();
        let is_at_home = memory.start == self.memory_start;
        let start = if is_at_home {
            memory.end
        } else {
            self.memory_start
        };
        let start = start.next_multiple_of(PAGE_BYTES);
        // SAFETY: the pages lie between the process's memory and its stack, and belong to its home. The frames that
        // were there are gone, because the calling frame is the deepest.
        unsafe {
            libc::madvise(
                start as *mut libc::c_void,
                self.stack_start - start,
                libc::MADV_DONTNEED,
            );
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HomeClass, Slots, Written};
    use super::*;
    use crate::scheduler::Seam;
    use std::sync::Arc;

    #[test]
    fn an_overflow_is_seen_near_the_end_and_leaves_nothing() {
        let slots = Slots::new(256 << 10, false, Arc::new(Seam::real())).expect("there is room");
        let home = slots.home(HomeClass(0), super::super::Warm::NONE, &Written::default());
        let home = home.expect("there is a slot");
        let canary = Canary::of(&home);
        let (memory, stack) = (home.memory(), home.stack());
        let start = memory.start.as_ptr().addr();
        let used = start..start + 2 * PAGE_BYTES;
        assert!(!canary.has_died(stack.start + 100, || used.clone()));
        // SAFETY: the slot is this test's alone.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(memory.start.as_ptr(), memory.bytes + PAGE_BYTES)
        };
        bytes.fill(7);
        assert!(!canary.has_died(stack.end - 100, || used.clone()));
        assert!(canary.has_died(stack.start + 100, || used.clone()));
        assert!(bytes[..used.len()].iter().all(|byte| *byte == 7));
        assert!(
            bytes[used.len()..memory.bytes]
                .iter()
                .all(|byte| *byte == 0)
        );
        assert!(!canary.has_died(stack.start + 100, || used));
        bytes.fill(0);
    }
}

//! The working set of a process's next turn, prefetched when the process is woken.
//!
//! This file knows addresses and numbers of cache lines, never what lies there. The turn of a waiting process touches some seventy
//! lines, and it asks for many of them only when it has another. A prefetch fetches all of them together, while the thread that
//! woke the process ends its present turn. A wrong address costs time and nothing else.

const LINE_BYTES: usize = 64;
/// The future of the execution.
const EXECUTION_LINES: usize = 6;
/// wasmtime's store and the beginning of the instance.
const STORE_LINES: usize = 28;
/// The instance's context, which is made last.
const INSTANCE_LINES: usize = 22;
/// The frames of a process that waits for mail, and of its next call of the contract.
const STACK_LINES: usize = 37;
/// The answer, and the frames of the functions that wait for it, if the guest's language has its stack there.
const ANSWER_LINES: usize = 5;

/// The addresses of what a process's next turn touches, in the order in which it touches them.
#[derive(Clone, Copy)]
pub(crate) struct WorkingSet {
    /// The execution.
    pub(crate) execution: usize,
    /// The beginning of the instance and its store.
    pub(crate) store: usize,
    /// The end of the instance and its store.
    pub(crate) instance_end: usize,
    /// The top of the stack.
    pub(crate) stack_top: usize,
    /// The answer that the process waits for.
    pub(crate) answer: Option<usize>,
}

impl WorkingSet {
    /// Makes the cache fetch all lines, without waiting for them.
    pub(super) fn prefetch(&self) {
        prefetch_lines::<EXECUTION_LINES>(self.execution);
        prefetch_lines::<STORE_LINES>(self.store);
        prefetch_lines::<INSTANCE_LINES>(
            self.instance_end.wrapping_sub(INSTANCE_LINES * LINE_BYTES),
        );
        prefetch_lines::<STACK_LINES>(self.stack_top.wrapping_sub(STACK_LINES * LINE_BYTES));
        if let Some(answer) = self.answer {
            prefetch_lines::<ANSWER_LINES>(answer);
        }
    }
}

/// Makes the cache fetch so many lines from this address on.
#[inline(always)]
fn prefetch_lines<const LINES: usize>(address: usize) {
    for line in 0..LINES {
        prefetch_line(address.wrapping_add(line * LINE_BYTES));
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

//! What of a slot a turn will touch, fetched into the cache before the turn begins.
//!
//! Knows addresses, never what lies there. The turn of a process that waits for mail touches some sixty lines of its slot, and
//! asks for many of them only when it has another; fetched at once they arrive together, while whoever woke the process ends its
//! own turn. Which lines they are was read from a trace of all accesses (valgrind's `lackey`) of two rings of processes, bare
//! and in Rust. If a wasmtime or a compiler puts things elsewhere, that costs time and nothing else.

use super::Home;
use std::ops::Range;

const LINE_BYTES: usize = 64;
/// The stack of a process that waits for mail, and what its next call of the contract takes of it.
const STACK_BYTES: usize = 37 * LINE_BYTES;
/// Lines of the arena: of wasmtime's store, and of the instance, which is made last, those that a turn touches.
const ARENA_LINES: [Range<usize>; 8] = [0..2, 3..8, 9..10, 13..15, 21..25, 27..28, 84..85, 89..106];
/// Where the answer to a wait is written, and the frames of those who wait for it, if the guest's language has its stack there.
const ANSWER_LINES: usize = 5;

impl Home {
    /// Fetches what the next turn touches, in that order. `future` says where the execution lies, and `waits_at` where in the
    /// process's memory the answer is written that it waits for, as it says itself; 0 if nobody knows.
    #[inline]
    pub(in crate::engine) fn approach(&self, future: Range<usize>, waits_at: u32) {
        let top = self.stack().end;
        fetch(future);
        for lines in ARENA_LINES {
            fetch(top + lines.start * LINE_BYTES..top + lines.end * LINE_BYTES);
        }
        fetch(top - STACK_BYTES..top);
        let waits_at = waits_at as usize;
        if waits_at > 0
            && let Some(memory) = self.first_memory()
            && waits_at < memory.bytes
        {
            let answer = memory.start.as_ptr() as usize + waits_at;
            fetch(answer..answer + ANSWER_LINES * LINE_BYTES);
        }
    }
}

/// Brings what lies at these addresses into the cache, without waiting for it.
#[inline]
fn fetch(addresses: Range<usize>) {
    for address in addresses.step_by(LINE_BYTES) {
        fetch_line(address);
    }
}

/// The same for the line that this address is in; where the language can't say that, nothing.
#[inline]
fn fetch_line(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: it is a hint, which reads nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address as *const i8) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

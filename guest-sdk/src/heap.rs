//! The heap of a program for `wasm32-unknown-unknown`: dlmalloc, as in `std`, on memory taken in small steps.
//!
//! `std` takes memory from the host by 64 KiB, behind what the program started with, and writes at both ends of it. For
//! a process that allocates a few bytes, and there may be a hundred thousand of them, that is two more pages of the host
//! to be filled and kept, and a larger memory. Here the heap begins right behind the program's data, in memory that the
//! process has anyway, and touches a page of the host (4 KiB) only when it needs one.
//!
//! A process that talks allocates room for a payload, reads it, and frees it, over and over. The blocks that were freed
//! last are kept for the next of the same size, instead of being merged with their neighbours and cut again.
//!
//! ```text
//! 0          stack top  data           heap base   end            memory size
//! ├── stack ──────┤├─── .rodata .bss ───┤├── heap ──┤─ ─ untouched ─ ┤ ─ ─ memory.grow ─ ─▶
//! ```
//!
//! The feature `heap` turns this on, and is on by default. Without it a program has `std`'s heap, or one of its own.

use std::alloc::{GlobalAlloc, Layout};
use std::arch::wasm32::{memory_grow, memory_size};
use std::cell::{Cell, UnsafeCell};
use std::ptr;

use dlmalloc::{Allocator, Dlmalloc};

/// The unit in which hosts hand out memory to whoever touches it.
const HOST_PAGE_BYTES: usize = 4096;
/// The unit in which wasm memory grows.
const WASM_PAGE_BYTES: usize = 64 * 1024;
/// A heap grows by at least this part of its size, so that a large one does not ask for each page.
const GROWTH_DIVISOR: usize = 8;
/// dlmalloc rounds what it asks for to a multiple of this. Small, since [`Break`] rounds in its own way.
const GRANULARITY_BYTES: usize = 64;

/// Blocks up to this size are kept when they are freed.
const KEPT_BYTES_MAX: usize = 4096;
/// How many.
const KEPT: usize = 4;
/// Kept blocks are aligned to no more than this, which is what dlmalloc aligns everything to.
const ALIGNMENT: usize = 8;

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new({
    let mut dlmalloc = Dlmalloc::new_with_allocator(Break::unused());
    assert!(dlmalloc.set_granularity(GRANULARITY_BYTES));
    Blocks {
        kept: [const { Kept::nothing() }; KEPT],
        oldest: 0,
        dlmalloc,
    }
}));

struct Heap(UnsafeCell<Blocks>);

/// All blocks that there are.
struct Blocks {
    /// Those that were freed last.
    kept: [Kept; KEPT],
    /// Which of them is the next to go.
    oldest: usize,
    dlmalloc: Dlmalloc<Break>,
}

/// A free block of dlmalloc's that was made for so many bytes; for none at all if there is no block.
struct Kept {
    bytes: usize,
    block: *mut u8,
}

// SAFETY: a process is one thread. `lib.rs` leaves this module out if the target has more.
unsafe impl Sync for Heap {}

// SAFETY: a block is dlmalloc's, which fulfils the contract, and was made for just the size that it is handed out for; a
// kept one is nobody's. Each call has the only reference to the blocks: there is one thread, and nothing that is called
// here allocates.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see above; the caller vouches for the layout.
        unsafe {
            let blocks = &mut *self.0.get();
            match blocks.take(layout) {
                Some(block) => block,
                None => blocks.dlmalloc.malloc(layout.size(), layout.align()),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`. New memory is zero already, which a kept block is not.
        unsafe {
            (*self.0.get())
                .dlmalloc
                .calloc(layout.size(), layout.align())
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as for `alloc`; the caller vouches for the block, and won't use it any more.
        unsafe {
            let blocks = &mut *self.0.get();
            match blocks.keep(block, layout) {
                None => {}
                Some((block, layout)) => {
                    (blocks.dlmalloc).free(block, layout.size(), layout.align());
                }
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for `dealloc`.
        unsafe {
            let dlmalloc = &mut (*self.0.get()).dlmalloc;
            dlmalloc.realloc(block, layout.size(), layout.align(), size)
        }
    }
}

impl Blocks {
    /// A kept block for this layout.
    fn take(&mut self, layout: Layout) -> Option<*mut u8> {
        let fits = |kept: &&mut Kept| kept.bytes == layout.size() && layout.align() <= ALIGNMENT;
        let kept = self.kept.iter_mut().find(fits)?;
        kept.bytes = 0;
        Some(kept.block)
    }

    /// Keeps a free block; returns what is to be freed instead, if anything is.
    fn keep(&mut self, block: *mut u8, layout: Layout) -> Option<(*mut u8, Layout)> {
        if layout.size() > KEPT_BYTES_MAX || layout.align() > ALIGNMENT {
            return Some((block, layout));
        }
        let bytes = layout.size();
        let place = match self.kept.iter().position(|kept| kept.bytes == 0) {
            Some(free) => free,
            None => {
                self.oldest = (self.oldest + 1) % KEPT;
                self.oldest
            }
        };
        let gone = std::mem::replace(&mut self.kept[place], Kept { bytes, block });
        let layout = Layout::from_size_align(gone.bytes, ALIGNMENT).ok()?;
        (gone.bytes > 0).then_some((gone.block, layout))
    }
}

impl Kept {
    const fn nothing() -> Self {
        Self {
            bytes: 0,
            block: ptr::null_mut(),
        }
    }
}

/// Where the heap ends, and how far it may go on.
struct Break {
    /// The end of the heap; 0 before the first use. What lies between it and the limit has not been touched.
    end: Cell<usize>,
    /// The end of the memory that is the heap's own.
    limit: Cell<usize>,
}

impl Break {
    const fn unused() -> Self {
        Self {
            end: Cell::new(0),
            limit: Cell::new(0),
        }
    }

    /// Makes the heap longer, up to the end of a page of the host, and returns what is new: its start and its size.
    fn extend(&self, bytes: usize) -> Option<(usize, usize)> {
        if self.end.get() == 0 {
            self.end.set(heap_base());
            self.limit.set(heap_end());
        }
        let mut start = self.end.get();
        let mut end = page_end(start, bytes)?;
        if end > self.limit.get() {
            let memory_end = memory_size(0).checked_mul(WASM_PAGE_BYTES)?;
            if memory_end != self.limit.get() {
                // Somebody else has grown the memory, and owns it: the heap goes on behind that.
                start = memory_end;
                end = page_end(start, bytes)?;
            }
            let pages = (end - memory_end).div_ceil(WASM_PAGE_BYTES);
            if memory_grow(0, pages) == usize::MAX {
                return None;
            }
            // The very last byte of the address space can be in no heap, so this may not overflow where `end` did not.
            self.limit
                .set(memory_end.saturating_add(pages * WASM_PAGE_BYTES));
        }
        self.end.set(end);
        Some((start, end - start))
    }
}

/// The end of the page of the host in which `bytes` from `start` on end.
fn page_end(start: usize, bytes: usize) -> Option<usize> {
    start
        .checked_add(bytes)?
        .checked_next_multiple_of(HOST_PAGE_BYTES)
}

unsafe extern "C" {
    // Defined by the linker: their addresses are the bounds of what memory the program starts with and does not use.
    static __heap_base: u8;
    static __heap_end: u8;
}

fn heap_base() -> usize {
    // A multiple of 16, as the linker's alignment of the data and the stack makes it.
    (&raw const __heap_base) as usize
}

fn heap_end() -> usize {
    (&raw const __heap_end) as usize
}

// SAFETY: `alloc` hands out each byte once: from the linker's `__heap_base`, behind which the program has put nothing, to
// the end of memory.
unsafe impl Allocator for Break {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let used = self.end.get().saturating_sub(heap_base());
        // Where there is no room to be generous, there may be enough.
        let extension = self
            .extend(size.max(used / GROWTH_DIVISOR))
            .or_else(|| self.extend(size));
        match extension {
            Some((start, bytes)) => (start as *mut u8, bytes, 0),
            None => (ptr::null_mut(), 0, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        HOST_PAGE_BYTES
    }
}

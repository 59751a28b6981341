//! The heap of a program for `wasm32-unknown-unknown`: dlmalloc, as in `std`, on memory that grows in small steps.
//!
//! `std` takes memory from the host in steps of 64 KiB, beyond the program's initial memory, and writes at both ends of it. A
//! process that allocates a few bytes then needs two more of the host's pages and a larger memory, and there may be a hundred
//! thousand such processes. This heap begins right after the program's data, in memory that the process has anyway, and touches a
//! host page (4 KiB) only when it needs one.
//!
//! A process that exchanges messages allocates a buffer for a payload, reads it, and frees it, over and over. The heap keeps the
//! most recently freed blocks for allocations of the same size, instead of merging them with their neighbours and splitting them
//! again.
//!
//! ```text
//! 0          stack top  data           heap base   end            memory size
//! ├── stack ──────┤├─── .rodata .bss ───┤├── heap ──┤─ ─ untouched ─ ┤ ─ ─ memory.grow ─ ─▶
//! ```
//!
//! The feature `heap` turns this on, and is on by default. Without it a program uses `std`'s heap, or an allocator of its own.

use std::alloc::{GlobalAlloc, Layout};
use std::arch::wasm32::{memory_grow, memory_size};
use std::cell::{Cell, UnsafeCell};
use std::ptr;

use dlmalloc::{Allocator, Dlmalloc};

/// The size of the pages in which hosts provide memory when it is touched.
const HOST_PAGE_BYTES: usize = 4096;
/// The unit in which wasm memory grows.
const WASM_PAGE_BYTES: usize = 64 * 1024;
/// A heap grows by at least this part of its size, so that a large one does not ask for each page.
const GROWTH_DIVISOR: usize = 8;
/// dlmalloc rounds its requests to a multiple of this. It is small, because [`Break`] rounds in its own way.
const GRANULARITY_BYTES: usize = 64;

/// The heap keeps freed blocks up to this size.
const KEPT_BYTES_MAX: usize = 4096;
/// The number of kept blocks.
const KEPT: usize = 4;
/// Kept blocks have at most this alignment, which dlmalloc gives to every block.
const ALIGNMENT: usize = 8;

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new({
    let mut dlmalloc = Dlmalloc::new_with_allocator(Break::unused());
    assert!(dlmalloc.set_granularity(GRANULARITY_BYTES));
    Blocks {
        kept: [const { Kept::empty() }; KEPT],
        oldest: 0,
        dlmalloc,
    }
}));

struct Heap(UnsafeCell<Blocks>);

/// All blocks of the heap.
struct Blocks {
    /// The most recently freed blocks.
    kept: [Kept; KEPT],
    /// The index of the block to be replaced next.
    oldest: usize,
    dlmalloc: Dlmalloc<Break>,
}

/// A free block of dlmalloc's, and the size that it was allocated with; 0 if there is no block.
struct Kept {
    bytes: usize,
    block: *mut u8,
}

// SAFETY: a process has one thread. `lib.rs` leaves this module out if the target has more.
unsafe impl Sync for Heap {}

// SAFETY: a block comes from dlmalloc, which fulfils the contract, and is handed out only for the size that it was allocated
// with. A kept block is free. Each call has the only reference to the blocks: there is one thread, and nothing that is called
// here allocates.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see above; the caller guarantees that the layout is valid.
        unsafe {
            let blocks = &mut *self.0.get();
            match blocks.take(layout) {
                Some(block) => block,
                None => blocks.dlmalloc.malloc(layout.size(), layout.align()),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`. New memory is zero already; a kept block is not.
        unsafe {
            (*self.0.get())
                .dlmalloc
                .calloc(layout.size(), layout.align())
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as for `alloc`; the caller guarantees that the block is allocated and no longer used.
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
    /// Takes a kept block with this layout.
    fn take(&mut self, layout: Layout) -> Option<*mut u8> {
        let fits = |kept: &&mut Kept| kept.bytes == layout.size() && layout.align() <= ALIGNMENT;
        let kept = self.kept.iter_mut().find(fits)?;
        kept.bytes = 0;
        Some(kept.block)
    }

    /// Keeps a free block. Returns the block to be freed instead, if there is one.
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
    const fn empty() -> Self {
        Self {
            bytes: 0,
            block: ptr::null_mut(),
        }
    }
}

/// The end of the heap, and of the memory into which it can grow.
struct Break {
    /// The end of the heap; 0 before the first use. The memory between it and the limit has not been touched.
    end: Cell<usize>,
    /// The end of the memory that belongs to the heap.
    limit: Cell<usize>,
}

impl Break {
    const fn unused() -> Self {
        Self {
            end: Cell::new(0),
            limit: Cell::new(0),
        }
    }

    /// Extends the heap to the end of a host page. Returns the start and the size of the extension.
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
                // Other code has grown the memory and owns the new part, so the heap continues after it.
                start = memory_end;
                end = page_end(start, bytes)?;
            }
            let pages = (end - memory_end).div_ceil(WASM_PAGE_BYTES);
            if memory_grow(0, pages) == usize::MAX {
                return None;
            }
            // The last byte of the address space can't be in a heap, so this can't overflow if `end` didn't.
            self.limit
                .set(memory_end.saturating_add(pages * WASM_PAGE_BYTES));
        }
        self.end.set(end);
        Some((start, end - start))
    }
}

/// The end of the host page in which `bytes` from `start` on end.
fn page_end(start: usize, bytes: usize) -> Option<usize> {
    start
        .checked_add(bytes)?
        .checked_next_multiple_of(HOST_PAGE_BYTES)
}

unsafe extern "C" {
    // The linker defines these. Their addresses are the bounds of the initial memory that the program doesn't use.
    static __heap_base: u8;
    static __heap_end: u8;
}

fn heap_base() -> usize {
    // The linker's alignment of data and stack makes this a multiple of 16.
    (&raw const __heap_base) as usize
}

fn heap_end() -> usize {
    (&raw const __heap_end) as usize
}

// SAFETY: `alloc` hands out each byte once, from the linker's `__heap_base` to the end of memory. The program has put nothing
// there.
unsafe impl Allocator for Break {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let used = self.end.get().saturating_sub(heap_base());
        // If there is no space for a generous extension, there may be enough for a small one.
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

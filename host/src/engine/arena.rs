//! The global allocator. It puts everything that wasmtime allocates for a process's store into the process's slot.
//!
//! This file knows ranges of addresses, never what lies in them. While a *window* is open on a thread, the allocator
//! puts that thread's allocations into the window's range, one after the other. A window is open only while an instance
//! is made, when no code runs that would allocate for anything else. Allocations in a *zone*, the mapping of a system's
//! slots, are not freed: the slot is used again as a whole, when everything that could use them is gone
//! ([`super::inhabitant`]). Only an allocation that is freed while its own window is still open leaves a *hole* there,
//! which later allocations fill.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The allocator for programs that run processes: the system's allocator, with an addition that lets Atoll pack idle
/// processes whole.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: atoll_rt::Allocator = atoll_rt::Allocator;
/// ```
///
/// Without it everything works as well, but a hibernated process keeps wasmtime's store, some seven kilobytes.
pub struct Allocator;

impl Allocator {
    /// Gives memory that was freed, and that the C library keeps for later, back to the operating system.
    pub fn trim() {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        // SAFETY: it moves no allocation, and may be called at any time.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

/// The addresses of this thread's next allocations. The window is closed if `next` is 0.
#[derive(Clone, Copy)]
struct Window {
    next: usize,
    end: usize,
    start: usize,
    /// The largest freed part before `next`.
    hole: Hole,
}

/// A range of addresses that is not in use; empty if both are the same.
#[derive(Clone, Copy, Default, Debug)]
struct Hole {
    start: usize,
    end: usize,
}

const CLOSED: Window = Window::over(0, 0);

impl Window {
    const fn over(start: usize, end: usize) -> Window {
        Window {
            next: start,
            end,
            start,
            hole: Hole { start: 0, end: 0 },
        }
    }
}

impl Hole {
    fn bytes(self) -> usize {
        self.end - self.start
    }
}

thread_local! {
    static WINDOW: Cell<Window> = const { Cell::new(CLOSED) };
}

// SAFETY: memory comes from the system's allocator, or from a window, whose opener vouches that the range is the
// opener's alone. The allocator recognizes memory from a zone by its address, never hands it to the system's allocator,
// and gives no address in a window out twice.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match allocate(layout) {
            Some(address) => address,
            // SAFETY: the caller's promises are the same.
            None => unsafe { System.alloc(layout) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match allocate(layout) {
            Some(address) => {
                // SAFETY: `allocate` returns memory that fits the layout.
                unsafe { address.write_bytes(0, layout.size()) };
                address
            }
            // SAFETY: the caller's promises are the same.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if !is_in_zone(at as usize) {
            // SAFETY: it is not in a zone, so it came from the system's allocator.
            unsafe { System.dealloc(at, layout) }
        } else if WINDOW.get().next != 0 {
            note_hole(at as usize, layout.size());
        }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if WINDOW.get().next == 0 && !is_in_zone(at as usize) {
            // SAFETY: it is not in a zone, so it came from the system's allocator.
            return unsafe { System.realloc(at, layout, size) };
        }
        // SAFETY: the caller upholds the trait's contract for `realloc`. The new allocation is distinct from the old
        // one, and the copy stays within both; the old one is freed once.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(at, size.min(layout.size()));
                self.dealloc(at, layout);
            }
            new
        }
    }
}

#[inline]
fn allocate(layout: Layout) -> Option<*mut u8> {
    let window = WINDOW.get();
    if window.next == 0 {
        return None;
    }
    let fitted = |start: usize, end: usize| {
        let start = start.next_multiple_of(layout.align());
        let next = start.checked_add(layout.size())?;
        (next <= end).then_some((start, next))
    };
    let hole = window.hole;
    if let Some((start, next)) = fitted(hole.start, hole.end) {
        let hole = Hole {
            start: next,
            ..hole
        };
        WINDOW.set(Window { hole, ..window });
        return Some(start as *mut u8);
    }
    let (start, next) = fitted(window.next, window.end)?;
    WINDOW.set(Window { next, ..window });
    Some(start as *mut u8)
}

/// Notes memory in a zone that was freed. If it lies in the open window, later allocations may use it.
#[cold]
fn note_hole(start: usize, bytes: usize) {
    let window = WINDOW.get();
    let end = start + bytes;
    if start < window.start || end > window.next {
        return;
    }
    if end == window.next {
        let next = start;
        WINDOW.set(Window { next, ..window });
    } else if bytes > window.hole.bytes() {
        let hole = Hole { start, end };
        WINDOW.set(Window { hole, ..window });
    }
}

/// The part of a window that was used.
pub(super) struct Used {
    /// From the window's start to the end of its last allocation.
    pub(super) bytes: usize,
    /// An unused part of that, as offsets from the window's start.
    pub(super) hole: Range<usize>,
}

/// Runs `work` with the window open, and returns how much of the window was used.
///
/// # Safety
///
/// The caller owns the range, which is mapped, and nothing there is in use. The range lies in a zone, or the caller
/// forgets the values that were allocated there instead of freeing them. Nothing that was allocated there is used after
/// the range has been given to another use.
#[inline(always)]
pub(super) unsafe fn within<T>(range: Range<usize>, work: impl FnOnce() -> T) -> (T, Used) {
    /// Closes the window, even if `work` panics.
    struct Close;
    impl Drop for Close {
        fn drop(&mut self) {
            WINDOW.set(CLOSED);
        }
    }
    debug_assert_eq!(WINDOW.get().next, 0, "windows don't nest");
    WINDOW.set(Window::over(range.start, range.end));
    let close = Close;
    let made = work();
    let Window { next, hole, .. } = WINDOW.get();
    drop(close);
    let hole = match hole.bytes() {
        0 => 0..0,
        _ => hole.start - range.start..hole.end - range.start,
    };
    let used = Used {
        bytes: next - range.start,
        hole,
    };
    (made, used)
}

/// Whether this thread allocates from the system.
pub(super) fn is_closed() -> bool {
    WINDOW.get().next == 0
}

/// Runs `work` with the window closed, for allocations that outlive the instance that is being made.
pub(super) fn outside<T>(work: impl FnOnce() -> T) -> T {
    /// Opens the window again, even if `work` panics.
    struct Reopen(Window);
    impl Drop for Reopen {
        fn drop(&mut self) {
            WINDOW.set(self.0);
        }
    }
    let _reopen = Reopen(WINDOW.replace(CLOSED));
    work()
}

/// A reserved part of a window's range, for what wasmtime allocates for one call at a time after the window has been
/// closed.
pub(crate) struct CallPlace {
    start: usize,
}

impl CallPlace {
    /// wasmtime 48 allocates 72 bytes for a call that waits.
    const BYTES: usize = 80;

    /// Reserves one. None if no window is open.
    pub(super) fn reserve() -> Option<CallPlace> {
        let layout = Layout::new::<[u64; CallPlace::BYTES / 8]>();
        let start = allocate(layout)? as usize;
        Some(CallPlace { start })
    }

    /// Puts this thread's next allocation here, if it fits, until [`CallPlace::close`].
    ///
    /// # Safety
    ///
    /// The caller no longer uses the previous allocation here. Until the place is closed, the thread makes no
    /// allocation that outlives the window's range.
    #[inline]
    pub(super) unsafe fn open(&self) {
        debug_assert_eq!(WINDOW.get().next, 0, "windows don't nest");
        WINDOW.set(Window::over(self.start, self.start + CallPlace::BYTES));
    }

    /// True if it was used, or not open.
    #[inline]
    pub(super) fn close(&self) -> bool {
        WINDOW.replace(CLOSED).next != self.start
    }
}

/// How many zones there can be at once. Further systems have none.
const ZONES: usize = 64;
/// A zone's first page in the upper bits, and the logarithm of its size in the lower eight; 0 for none.
static TABLE: [AtomicU64; ZONES] = [const { AtomicU64::new(0) }; ZONES];
/// How many entries of the table were ever in use.
static USED: AtomicUsize = AtomicUsize::new(0);
const PAGE_BITS: u32 = 12;

/// A range in which nothing is freed, as long as this lives.
pub(super) struct Zone(usize);

impl Zone {
    /// None if the program has another allocator, or too many systems.
    ///
    /// # Safety
    ///
    /// The caller owns the range. Nothing there is in use when the zone is dropped.
    pub(super) unsafe fn new(base: NonNull<u8>, bytes: usize) -> Option<Zone> {
        assert!(bytes.is_power_of_two());
        if !is_installed() {
            return None;
        }
        #[cfg(test)]
        if HIDDEN.get() {
            return None;
        }
        let start = base.as_ptr() as u64 >> PAGE_BITS;
        let zone = start << 8 | u64::from(bytes.trailing_zeros());
        let free = (0..ZONES).find(|index| {
            let entry = &TABLE[*index];
            let taken = entry.compare_exchange(0, zone, Ordering::AcqRel, Ordering::Relaxed);
            taken.is_ok()
        })?;
        USED.fetch_max(free + 1, Ordering::AcqRel);
        Some(Zone(free))
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        TABLE[self.0].store(0, Ordering::Release);
    }
}

/// Whether an address lies in a zone. A thread that frees memory in a zone got that memory after the zone was made, so
/// it sees the zone's entry.
#[inline]
fn is_in_zone(address: usize) -> bool {
    let used = USED.load(Ordering::Relaxed);
    TABLE[..used].iter().any(|entry| {
        let zone = entry.load(Ordering::Relaxed);
        let start = zone >> 8 << PAGE_BITS;
        zone != 0 && (address as u64).wrapping_sub(start) >> (zone & 0xff) == 0
    })
}

/// Whether [`Allocator`] is this program's allocator.
fn is_installed() -> bool {
    let mut buffer = [0u64; 4];
    let start = buffer.as_mut_ptr() as usize;
    // SAFETY: the range is a variable of this function, which forgets the value below.
    let (probe, _) = unsafe {
        within(start..start + size_of_val(&buffer), || {
            std::hint::black_box(Box::new(0u64))
        })
    };
    let is_here = (&raw const *probe as usize).wrapping_sub(start) < size_of_val(&buffer);
    if is_here {
        // It is no allocation that could be freed.
        std::mem::forget(probe);
    }
    is_here
}

#[cfg(test)]
thread_local! {
    static HIDDEN: Cell<bool> = const { Cell::new(false) };
}

/// Systems that this thread starts while `work` runs have no zone.
#[cfg(test)]
pub(super) fn as_if_not_installed<T>(work: impl FnOnce() -> T) -> T {
    HIDDEN.set(true);
    let made = work();
    HIDDEN.set(false);
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn allocations_outside_of_the_window_lie_elsewhere() {
        let mut buffer = [0u64; 64];
        let range = buffer.as_mut_ptr_range();
        let range = range.start as usize..range.end as usize;
        let lies_here = |at: *const u64| range.contains(&(at as usize));
        // SAFETY: the range is a variable of this test, which forgets the values.
        let ((inside, elsewhere, after), used) = unsafe {
            within(range.clone(), || {
                let inside = Box::new(1u64);
                (inside, outside(|| Box::new(2u64)), Box::new(3u64))
            })
        };
        assert!(lies_here(&*inside) && !lies_here(&*elsewhere) && lies_here(&*after));
        assert_eq!((used.bytes, *inside, *elsewhere, *after), (16, 1, 2, 3));
        // They are no allocations that could be freed.
        std::mem::forget((inside, after));
        assert!(!lies_here(&*Box::new(4u64)));
    }

    #[test]
    fn a_call_place_holds_one_allocation_at_a_time() {
        let mut buffer = [0u64; 20];
        let range = buffer.as_mut_ptr_range();
        let range = range.start as usize..range.end as usize;
        assert!(CallPlace::reserve().is_none());
        // SAFETY: the range is a variable of this test, which forgets the values.
        let (set_apart, used) = unsafe { within(range.clone(), CallPlace::reserve) };
        let set_apart = set_apart.expect("it fits");
        assert_eq!(used.bytes, CallPlace::BYTES);
        for _ in 0..2 {
            // SAFETY: this test has forgotten the earlier allocation, and will forget this one.
            unsafe { set_apart.open() };
            let first = black_box(Box::new([1u64; 9]));
            let second = black_box(Box::new([2u64; 2]));
            assert!(set_apart.close());
            assert_eq!(&raw const *first as usize, range.start);
            assert!(!range.contains(&(&raw const *second as usize)));
            assert_eq!((first[8], second[1]), (1, 2));
            // It is no allocation that could be freed.
            std::mem::forget(first);
        }
        // SAFETY: nothing is put there.
        unsafe { set_apart.open() };
        assert!(!set_apart.close());
    }

    #[test]
    fn memory_freed_within_the_window_is_used_again() {
        #[repr(align(4096))]
        struct Page([u8; 4096]);
        let mut page = Box::new(Page([0; 4096]));
        let start = NonNull::new(page.0.as_mut_ptr()).expect("it is somewhere");
        // SAFETY: the page is this function's.
        let zone = unsafe { Zone::new(start, 4096) }.expect("there is room for a zone");
        let range = start.as_ptr() as usize..start.as_ptr() as usize + 4096;
        let at = |at: *const u64| at as usize - range.start;
        let work = || {
            let first = black_box(Box::new([1u64; 4]));
            let second = black_box(Box::new([2u64; 6]));
            let third = black_box(Box::new(3u64));
            drop(first);
            drop(second);
            let fills = black_box(Box::new([4u64; 4]));
            let is_larger = black_box(Box::new([5u64; 3]));
            assert_eq!(at(&raw const fills[0]), 32);
            assert_eq!(at(&raw const is_larger[0]), 88);
            // The last one leaves no hole.
            drop(is_larger);
            let after = black_box(Box::new(6u64));
            assert_eq!(at(&raw const *after), 64);
            let again = black_box(Box::new([7u64; 2]));
            assert_eq!(at(&raw const again[0]), 88);
            assert_eq!((*third, fills[3], *after, again[1]), (3, 4, 6, 7));
        };
        // SAFETY: the page is this function's, and lies in a zone.
        let (_, used) = unsafe { within(range.clone(), work) };
        assert_eq!((used.bytes, used.hole), (80, 32..64));
        drop(zone);
    }

    #[test]
    fn an_allocation_that_does_not_fit_lies_elsewhere() {
        let mut buffer = [0u64; 2];
        let start = buffer.as_mut_ptr() as usize;
        // SAFETY: the range is a variable of this test, and nothing fits.
        let (large, used) = unsafe { within(start..start + 16, || vec![7u8; 100]) };
        assert_eq!((used.bytes, large.len()), (0, 100));
    }
}

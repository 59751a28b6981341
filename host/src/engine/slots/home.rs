//! A process's home slot: its parts, and their owners.

use super::presence::Presence;
use super::releases::give_back_together;
use super::{
    ARENA_BYTES, HOME_MEMORY_BYTES, HomeClass, PAGE_BYTES, RELEASED_AT_ONCE, Region, SHELVED_MAX,
    Slots, WARM_FREE_MAX, Warm, Written, lock,
};
use crate::engine::arena::{self, Used};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};

/// A process's home slot. Its owners are the process's memory, its stack and its execution; the slot is free again when
/// all of them are gone.
///
/// Every process has one, and there may be a million, so it is small: it stores addresses in 32 bits, as page numbers
/// from the start of the mapping.
pub(in crate::engine) struct Home {
    slots: Arc<Slots>,
    warm: Warm,
    /// The slot's first page.
    page: u32,
    /// wasmtime gets each part only once.
    pub(super) memory_given: AtomicBool,
    pub(super) stack_given: AtomicBool,
    /// The first page and the size of the process's first memory, here or in a large slot; 0 pages if it has none.
    memory_page: AtomicU32,
    memory_pages: AtomicU32,
    /// How many bytes of the arena hold the instance, and how many are in use.
    arena_instance: AtomicU16,
    arena_used: AtomicU16,
    /// The start and end of an unused part among the instance's bytes.
    arena_hole: [AtomicU16; 2],
    class: HomeClass,
    /// wasmtime will ask for no more memories and stacks.
    is_settled: AtomicBool,
    /// Whether the pages are there, while the process is packed.
    pub(super) presence: Presence,
    /// The process ends, and its first memory is zero because it was packed and has not been unpacked.
    forgot_memory: AtomicBool,
    /// The slot belongs to no process: its instance waits to be used again.
    is_shelved: AtomicBool,
}

// With its count of owners it just fits a size class of the allocator: eight bytes more would cost sixteen for each
// process.
const _: () = assert!(size_of::<Home>() <= 40);

impl Home {
    pub(super) fn new(slots: Arc<Slots>, class: HomeClass, offset: usize, warm: Warm) -> Home {
        Home {
            slots,
            class,
            page: (offset / PAGE_BYTES) as u32,
            warm,
            is_settled: AtomicBool::new(false),
            memory_given: AtomicBool::new(false),
            stack_given: AtomicBool::new(false),
            memory_page: AtomicU32::new(0),
            memory_pages: AtomicU32::new(0),
            arena_instance: AtomicU16::new(0),
            arena_used: AtomicU16::new(0),
            arena_hole: [AtomicU16::new(0), AtomicU16::new(0)],
            presence: Presence::new(),
            forgot_memory: AtomicBool::new(false),
            is_shelved: AtomicBool::new(false),
        }
    }

    pub(in crate::engine) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Makes resident what is written while an instance is made. A single page is left to its fault, because the call
    /// costs as much.
    pub(super) fn populate(&self, written: &Written) {
        if written.arena_bytes > 0 {
            let top = self.stack().end;
            let region = self.region();
            region.populate(region.pages(top - PAGE_BYTES..top + written.arena_bytes));
        }
        let memory = self.memory();
        let base = memory.start.as_ptr() as usize;
        let data = memory.pages(base + written.data.start..base + written.data.end);
        if data.len() > PAGE_BYTES && data.end <= memory.bytes {
            memory.populate(data);
        }
    }

    /// All of the slot.
    pub(in crate::engine) fn region(&self) -> Region {
        let memory = self.memory();
        Region {
            bytes: memory.bytes + self.slots.stack_bytes + ARENA_BYTES,
            ..memory
        }
    }

    /// The part for a linear memory.
    pub(super) fn memory(&self) -> Region {
        let bytes = HOME_MEMORY_BYTES[self.class.index()];
        Region {
            start: self.slots.address(self.offset()),
            bytes,
        }
    }

    /// The addresses of the stack.
    pub(in crate::engine) fn stack(&self) -> Range<usize> {
        let start = self.memory().start.as_ptr() as usize + HOME_MEMORY_BYTES[self.class.index()];
        start..start + self.slots.stack_bytes
    }

    /// Whether wasmtime has asked for the stack.
    pub(in crate::engine) fn has_stack(&self) -> bool {
        self.stack_given.load(Ordering::Acquire)
    }

    /// The addresses of the arena that are in use.
    pub(in crate::engine) fn arena(&self) -> Range<usize> {
        let start = self.stack().end;
        start..start + self.arena_used.load(Ordering::Acquire) as usize
    }

    /// The addresses of the arena that hold the instance.
    pub(in crate::engine) fn instance(&self) -> Range<usize> {
        let start = self.stack().end;
        start..start + self.arena_instance.load(Ordering::Acquire) as usize
    }

    /// Queues the slot. All of its pages will be given back soon.
    ///
    /// # Safety
    ///
    /// The slot's contents are packed, and nothing touches the slot before [`Home::take_back`] has returned.
    pub(in crate::engine) unsafe fn release_soon(self: &Arc<Home>) {
        // SAFETY: the caller promises the same.
        unsafe { self.slots.releases.add(self) };
    }

    /// Takes the slot back for its process, which is about to use it again. Returns true if it still has all its pages.
    pub(in crate::engine) fn take_back(&self) -> bool {
        self.presence.take_back()
    }

    /// Records that no page of the slot is resident any more.
    ///
    /// # Safety
    ///
    /// All of the slot's pages have been given back, and nothing touches them before [`Home::wakes`] has returned.
    pub(in crate::engine) unsafe fn sleeps(&self) {
        // SAFETY: the caller promises the same.
        unsafe { self.slots.stretches.sleep(self.offsets()) };
    }

    /// Records that the slot is about to be used again.
    pub(in crate::engine) fn wakes(&self) {
        self.slots.stretches.wake(self.offsets());
    }

    fn offsets(&self) -> Range<usize> {
        self.offset()..self.offset() + self.region().bytes
    }

    fn offset(&self) -> usize {
        self.page as usize * PAGE_BYTES
    }

    /// Whether wasmtime will ask for no more memories and stacks in this process's turns.
    pub(in crate::engine) fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::Acquire)
    }

    /// Records that wasmtime will ask for no more.
    pub(in crate::engine) fn settle(&self) {
        self.is_settled.store(true, Ordering::Release);
    }

    /// Whether packed slots are made inaccessible.
    pub(in crate::engine) fn poisons(&self) -> bool {
        self.slots.poisons
    }

    /// Makes an instance. This thread's allocations meanwhile lie in the arena, as far as they fit.
    ///
    /// # Safety
    ///
    /// Nothing that lies in the arena is in use, and nothing that `work` leaves there is used when the home has been
    /// dropped.
    pub(in crate::engine) unsafe fn make_instance<T>(&self, work: impl FnOnce() -> T) -> T {
        if !self.slots.has_arenas() {
            return work();
        }
        let start = self.stack().end;
        // SAFETY: the arena is the home's, and lies in the slots' zone; the caller vouches for its contents.
        let (made, used) = unsafe { arena::within(start..start + ARENA_BYTES, work) };
        let Used { bytes, hole } = used;
        self.arena_hole[0].store(hole.start as u16, Ordering::Release);
        self.arena_hole[1].store(hole.end as u16, Ordering::Release);
        self.arena_instance.store(bytes as u16, Ordering::Release);
        self.arena_used.store(bytes as u16, Ordering::Release);
        made
    }

    /// Makes the execution of one process in the same way. The execution is one allocation beside the instance.
    ///
    /// # Safety
    ///
    /// The execution of the process that had the instance before is gone, and the result of `made` is not used when the
    /// home has been dropped.
    #[inline(always)]
    pub(in crate::engine) unsafe fn make_execution<T>(
        &self,
        made: impl FnOnce() -> Box<T>,
    ) -> Box<T> {
        let instance = self.arena_instance.load(Ordering::Acquire) as usize;
        if instance == 0 {
            return made();
        }
        let start = self.stack().end;
        let [hole_start, hole_end] = &self.arena_hole;
        let hole_start = hole_start.load(Ordering::Acquire) as usize;
        let hole_end = hole_end.load(Ordering::Acquire) as usize;
        if hole_start.next_multiple_of(align_of::<T>()) + size_of::<T>() <= hole_end {
            // SAFETY: nothing of the instance lies in the hole; the caller vouches for the rest.
            return unsafe { arena::within(start + hole_start..start + hole_end, made) }.0;
        }
        // SAFETY: the instance lies before the range; the caller vouches for the rest.
        let (made, used) = unsafe { arena::within(start + instance..start + ARENA_BYTES, made) };
        self.arena_used
            .store((instance + used.bytes) as u16, Ordering::Release);
        made
    }

    /// With true: all pages of the process's first memory are gone, and the process needs them no more. With false: the
    /// memory may hold something after all.
    pub(in crate::engine) fn forget_memory(&self, forgot: bool) {
        self.forgot_memory.store(forgot, Ordering::Release);
    }

    pub(in crate::engine) fn forgot_memory(&self) -> bool {
        self.forgot_memory.load(Ordering::Acquire)
    }

    /// Records the region of the process's first memory.
    pub(super) fn memory_is_at(&self, region: Region) {
        let page = self.slots.offset(region.start) / PAGE_BYTES;
        let pages = region.bytes / PAGE_BYTES;
        self.memory_page.store(page as u32, Ordering::Release);
        self.memory_pages.store(pages as u32, Ordering::Release);
    }

    /// All bytes of the process's first memory, wherever it lies, if it has one.
    pub(in crate::engine) fn first_memory(&self) -> Option<Region> {
        let pages = self.memory_pages.load(Ordering::Acquire) as usize;
        let page = self.memory_page.load(Ordering::Acquire) as usize;
        (pages > 0).then(|| Region {
            start: self.slots.address(page * PAGE_BYTES),
            bytes: pages * PAGE_BYTES,
        })
    }
}

impl Home {
    /// Whether this memory lies here.
    pub(in crate::engine) fn holds(&self, memory: &[u8]) -> bool {
        let region = self.memory();
        memory.as_ptr() == region.start.as_ptr() && memory.len() <= region.bytes
    }

    /// Shelves the home: it belongs to no process for now. Returns false, and does nothing, if so many are shelved that
    /// one more would waste memory.
    pub(in crate::engine) fn shelve(&self) -> bool {
        let others = self.slots.shelved.fetch_add(1, Ordering::AcqRel);
        if others >= SHELVED_MAX {
            self.slots.shelved.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        self.is_shelved.store(true, Ordering::Release);
        true
    }

    /// Gives the shelved home to a process.
    pub(in crate::engine) fn use_again(&self) {
        self.is_shelved.store(false, Ordering::Release);
        self.slots.shelved.fetch_sub(1, Ordering::AcqRel);
        self.slots.used_again.fetch_add(1, Ordering::Relaxed);
    }

    /// The pages that stay resident when the slot is free.
    pub(in crate::engine) fn warm(&self) -> Warm {
        self.warm
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        arena::outside(|| self.give_back());
        if *self.is_shelved.get_mut() {
            self.slots.shelved.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Home {
    fn give_back(&mut self) {
        let class = &self.slots.home[self.class.index()];
        if lock(&class.free_slots).free.len() < WARM_FREE_MAX {
            // SAFETY: the last owner is gone, and the slot is not on a free list yet.
            unsafe { self.clean() };
            let mut free_slots = lock(&class.free_slots);
            free_slots.freed += 1;
            return free_slots.free.push(self.offset());
        }
        let mut free_slots = lock(&class.free_slots);
        free_slots.releasing.push(self.offset());
        if free_slots.releasing.len() < RELEASED_AT_ONCE {
            return;
        }
        let mut releasing = std::mem::take(&mut free_slots.releasing);
        drop(free_slots);
        let regions = releasing.iter().map(|offset| Region {
            start: self.slots.address(*offset),
            bytes: class.stride,
        });
        // SAFETY: the slots have been taken off the list, so no other thread can take them, and their last owners are
        // gone.
        unsafe { give_back_together(regions.collect()) };
        for offset in &releasing {
            // SAFETY: the slot's pages have been given back, and it is on no list, so nothing touches it.
            unsafe { self.slots.stretches.sleep(*offset..*offset + class.stride) };
        }
        let mut free_slots = lock(&class.free_slots);
        free_slots.freed += releasing.len();
        free_slots.cold.append(&mut releasing);
    }

    /// Makes the memory that lies here zero again.
    ///
    /// # Safety
    ///
    /// Nothing has a reference into it.
    unsafe fn clean(&self) {
        let at_home = self.memory();
        let memory = self.first_memory();
        let used = memory.filter(|memory| memory.start == at_home.start && !self.forgot_memory());
        if let Some(used) = used {
            // SAFETY: the caller promises the same.
            unsafe { at_home.clean(used.bytes, self.warm) };
        }
    }
}

thread_local! {
    /// The home of the process whose instance or stack is being made on this thread.
    static HOME: RefCell<Option<Arc<Home>>> = const { RefCell::new(None) };
}

/// Runs `work`. The first memory and the stack that wasmtime makes meanwhile are those of this home.
pub(in crate::engine) fn at_home<T>(home: &Arc<Home>, work: impl FnOnce() -> T) -> T {
    /// Forgets the home again, even if `work` panics.
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            HOME.with_borrow_mut(|current| *current = None);
        }
    }
    HOME.with_borrow_mut(|current| *current = Some(home.clone()));
    let _forget = Forget;
    work()
}

/// The current home, if the part that `given` stands for has not been given out and the home `fits`.
pub(super) fn claim(
    given: impl Fn(&Home) -> &AtomicBool,
    fits: impl Fn(&Home) -> bool,
) -> Option<Arc<Home>> {
    HOME.with_borrow(|current| {
        let home = current.as_ref().filter(|home| fits(home))?;
        let first = !given(home).swap(true, Ordering::AcqRel);
        first.then(|| home.clone())
    })
}

//! A process's home slot: its parts, and who has them.

use super::releases::{Presence, give_back_together};
use super::{
    ARENA_BYTES, HOME_MEMORY_BYTES, HomeClass, LEFT_AT_ONCE, PAGE_BYTES, Region, SHELVED_MAX,
    Slots, WARM_FREE_MAX, Warm, Written, lock,
};
use crate::engine::arena::{self, Used};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};

/// A process's home slot. Its memory, its stack, and whoever has its execution hold it; it is free again when all are
/// gone.
///
/// A million sleepers have one each: it counts in pages, in 32 bits, from the start of the mapping.
pub(in crate::engine) struct Home {
    slots: Arc<Slots>,
    warm: Warm,
    /// Where the slot begins.
    page: u32,
    /// Each part is given out once, whoever asks.
    pub(super) memory_given: AtomicBool,
    pub(super) stack_given: AtomicBool,
    /// Where the process's first memory lies, here or in a large slot, and its size; 0 if it has none.
    memory_page: AtomicU32,
    memory_pages: AtomicU32,
    /// Bytes of the arena that hold the instance, and how many are in use.
    arena_instance: AtomicU16,
    arena_used: AtomicU16,
    /// A part of the instance's that nothing lies in.
    arena_hole: [AtomicU16; 2],
    class: HomeClass,
    /// Wasmtime has asked for all memories and stacks that it will.
    is_settled: AtomicBool,
    /// Are its pages there, while its process is packed?
    pub(super) presence: Presence,
    /// The process ends, and its first memory is zero because it was packed and has not been unpacked.
    forgot_memory: AtomicBool,
    /// It is no process's: its instance waits to be used again.
    is_shelved: AtomicBool,
}

// With its count of owners it just fits what the allocator gives out: eight bytes more would be sixteen for each sleeper.
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

    /// Makes resident what is written while an instance is made. For a single page that is no gain.
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

    /// Has wasmtime asked for the stack?
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

    /// Has all pages of the slot given back soon.
    ///
    /// # Safety
    ///
    /// What the slot holds is packed, and nobody touches it before [`Home::comes_back`] has returned.
    pub(in crate::engine) unsafe fn departs(self: &Arc<Home>) {
        // SAFETY: as the caller's.
        unsafe { self.slots.releases.add(self) };
    }

    /// The process is about to use the slot again: true if it has all its pages yet.
    pub(in crate::engine) fn comes_back(&self) -> bool {
        self.presence.come_back()
    }

    /// Nothing of the slot is resident any more.
    ///
    /// # Safety
    ///
    /// All of the slot's pages have been given back, and nobody touches them before [`Home::wakes`] has returned.
    pub(in crate::engine) unsafe fn sleeps(&self) {
        // SAFETY: as the caller's.
        unsafe { self.slots.stretches.sleep(self.offsets()) };
    }

    /// The slot is about to be used again.
    pub(in crate::engine) fn wakes(&self) {
        self.slots.stretches.wake(self.offsets());
    }

    fn offsets(&self) -> Range<usize> {
        self.offset()..self.offset() + self.region().bytes
    }

    fn offset(&self) -> usize {
        self.page as usize * PAGE_BYTES
    }

    /// Will wasmtime ask for no more memories and stacks in this process's turns?
    pub(in crate::engine) fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::Acquire)
    }

    /// It will not.
    pub(in crate::engine) fn settle(&self) {
        self.is_settled.store(true, Ordering::Release);
    }

    /// Packed slots can't be touched.
    pub(in crate::engine) fn poisons(&self) -> bool {
        self.slots.poisons
    }

    /// Makes an instance: what is allocated meanwhile on this thread lies in the arena, as far as it fits.
    ///
    /// # Safety
    ///
    /// Nothing that lies in the arena is in use, and nothing that `work` leaves there is used when the home has been dropped.
    pub(in crate::engine) unsafe fn make_instance<T>(&self, work: impl FnOnce() -> T) -> T {
        if !self.slots.has_arenas() {
            return work();
        }
        let start = self.stack().end;
        // SAFETY: the arena is the home's, and lies in the slots' zone; the caller vouches for what lies in it.
        let (made, used) = unsafe { arena::within(start..start + ARENA_BYTES, work) };
        let Used { bytes, hole } = used;
        self.arena_hole[0].store(hole.start as u16, Ordering::Release);
        self.arena_hole[1].store(hole.end as u16, Ordering::Release);
        self.arena_instance.store(bytes as u16, Ordering::Release);
        self.arena_used.store(bytes as u16, Ordering::Release);
        made
    }

    /// The same for what one process needs beside the instance, and what is one allocation.
    ///
    /// # Safety
    ///
    /// What was made for the process that had the instance before is gone, and what `made` returns is not used when the home has
    /// been dropped.
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
            // SAFETY: nothing of the instance's lies in the hole; the caller vouches for the rest.
            return unsafe { arena::within(start + hole_start..start + hole_end, made) }.0;
        }
        // SAFETY: the instance lies before it; the caller vouches for the rest.
        let (made, used) = unsafe { arena::within(start + instance..start + ARENA_BYTES, made) };
        self.arena_used
            .store((instance + used.bytes) as u16, Ordering::Release);
        made
    }

    /// All pages of the process's first memory are gone, and it needs them no more; or, it may hold something after all.
    pub(in crate::engine) fn forget_memory(&self, forgot: bool) {
        self.forgot_memory.store(forgot, Ordering::Release);
    }

    pub(in crate::engine) fn forgot_memory(&self) -> bool {
        self.forgot_memory.load(Ordering::Acquire)
    }

    /// Where the process's first memory lies now.
    pub(super) fn memory_is_at(&self, region: Region) {
        let page = self.slots.offset(region.start) / PAGE_BYTES;
        let pages = region.bytes / PAGE_BYTES;
        self.memory_page.store(page as u32, Ordering::Release);
        self.memory_pages.store(pages as u32, Ordering::Release);
    }

    /// The process's first memory, if it has one: all its bytes, wherever they lie.
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
    /// Does this memory lie here?
    pub(in crate::engine) fn holds(&self, memory: &[u8]) -> bool {
        let region = self.memory();
        memory.as_ptr() == region.start.as_ptr() && memory.len() <= region.bytes
    }

    /// It is no process's for now. False if there are so many such already that another one would be a waste of memory: then
    /// it is not.
    pub(in crate::engine) fn shelve(&self) -> bool {
        let others = self.slots.shelved.fetch_add(1, Ordering::AcqRel);
        if others >= SHELVED_MAX {
            self.slots.shelved.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        self.is_shelved.store(true, Ordering::Release);
        true
    }

    /// A process takes it, which was no process's.
    pub(in crate::engine) fn use_again(&self) {
        self.is_shelved.store(false, Ordering::Release);
        self.slots.shelved.fetch_sub(1, Ordering::AcqRel);
        self.slots.used_again.fetch_add(1, Ordering::Relaxed);
    }

    /// What stays resident when the slot is free.
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
            // SAFETY: nobody has the slot any more, and nobody has it yet.
            unsafe { self.clean() };
            let mut free_slots = lock(&class.free_slots);
            free_slots.freed += 1;
            return free_slots.free.push(self.offset());
        }
        let mut free_slots = lock(&class.free_slots);
        free_slots.left.push(self.offset());
        if free_slots.left.len() < LEFT_AT_ONCE {
            return;
        }
        let mut left = std::mem::take(&mut free_slots.left);
        drop(free_slots);
        let regions = left.iter().map(|offset| Region {
            start: self.slots.address(*offset),
            bytes: class.stride,
        });
        // SAFETY: nobody has these slots any more, and nobody has them yet.
        unsafe { give_back_together(regions.collect()) };
        for offset in &left {
            // SAFETY: the slot's pages have been given back, and nobody has it.
            unsafe { self.slots.stretches.sleep(*offset..*offset + class.stride) };
        }
        let mut free_slots = lock(&class.free_slots);
        free_slots.freed += left.len();
        free_slots.cold.append(&mut left);
    }

    /// Makes the memory that lies here zero again.
    ///
    /// # Safety
    ///
    /// Nobody has a reference into it.
    unsafe fn clean(&self) {
        let at_home = self.memory();
        let memory = self.first_memory();
        let used = memory.filter(|memory| memory.start == at_home.start && !self.forgot_memory());
        if let Some(used) = used {
            // SAFETY: as the caller's.
            unsafe { at_home.clean(used.bytes, self.warm) };
        }
    }
}

thread_local! {
    /// The home of the process whose instance or stack is being made on this thread.
    static HOME: RefCell<Option<Arc<Home>>> = const { RefCell::new(None) };
}

/// Runs `work`, in which the first memory and the stack that wasmtime makes are those of this home.
pub(in crate::engine) fn at_home<T>(home: &Arc<Home>, work: impl FnOnce() -> T) -> T {
    /// Forgets the home again, however `work` is left.
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            HOME.with_borrow_mut(|current| *current = None);
        }
    }
    HOME.with_borrow_mut(|current| *current = Some(home.clone()));
    let _leave = Leave;
    work()
}

/// The current home, if its part that `given` stands for is still to be had and `fits`.
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

//! The linear memories and native stacks that wasmtime gets, at home or in slots of their own.

use super::blocks::BLOCK_BYTES;
use super::home::claim;
use super::{Home, HomeClass, MIB, OutOfSlots, PAGE_BYTES, Region, Slots, Warm};
use crate::abi::BYTES_PER_REDUCTION;
use crate::engine::arena;
use crate::engine::page_map;
use crate::system::turn_context;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wasmtime::{LinearMemory, MemoryCreator, MemoryType, StackCreator, StackMemory};

/// A memory with at least so many touched bytes moves by remapping its pages instead of copying them. Each remapped
/// memory takes two kernel mappings, of which there are some 65,000. With so much memory for each of them, the mappings
/// can't be used up.
const REMAPPED_BYTES: usize = 16 * MIB;
/// The most memories that may be remapped at once, whatever they hold.
const REMAPPED_MAX: usize = 4096;

/// A large slot.
pub(super) struct Large {
    slots: Arc<Slots>,
    size: usize,
    offset: usize,
    /// Its pages were moved here, so it has mappings of its own.
    is_remapped: bool,
    /// It counts as in use.
    is_in_use: bool,
}

impl Large {
    fn take(slots: &Arc<Slots>, bytes: usize) -> Result<Large, OutOfSlots> {
        let (offset, size) = slots.take_large(bytes)?;
        Ok(Large {
            slots: slots.clone(),
            size,
            offset,
            is_remapped: false,
            is_in_use: true,
        })
    }

    fn memory(&self) -> Region {
        Region {
            start: self.slots.address(self.offset),
            bytes: BLOCK_BYTES[self.size],
        }
    }

    /// Makes the slot zero. Only the first `used` bytes may have been touched.
    ///
    /// # Safety
    ///
    /// As for [`Region::clean`].
    pub(super) unsafe fn clean(&mut self, used: usize) {
        // SAFETY: the caller promises the same.
        unsafe {
            if self.is_remapped && self.memory().map_again() {
                self.is_remapped = false;
                self.slots.remapped.fetch_sub(1, Ordering::AcqRel);
            } else {
                self.memory().clean(used, Warm::NONE);
            }
        }
    }
}

impl Large {
    /// Has the slot cleaned, now or soon. Its process has ended.
    ///
    /// # Safety
    ///
    /// As for [`Region::clean`].
    unsafe fn hand_to_reaper(mut self, used: usize) {
        self.is_used_no_more();
        let slots = self.slots.clone();
        // The reaper's queue may grow, and must not lie in an arena.
        // SAFETY: the memory's only owner has given it to this function.
        let refused = arena::outside(|| unsafe { slots.reaper.take(self, used) });
        if let Err(mut large) = refused {
            // SAFETY: the caller promises the same.
            unsafe { large.clean(used) };
        }
    }

    fn is_used_no_more(&mut self) {
        if std::mem::take(&mut self.is_in_use) {
            self.slots.large_in_use.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        self.is_used_no_more();
        self.slots.give_back_large(self.offset, self.size);
    }
}

/// A memory can't grow by so many bytes: no slot is free that is large enough.
#[derive(Debug)]
pub(in crate::engine) struct NotGrown {
    pub(in crate::engine) grown_bytes: usize,
}

impl std::error::Error for NotGrown {}

impl fmt::Display for NotGrown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.grown_bytes;
        write!(f, "no slot is free for a memory with {bytes} bytes more")
    }
}

/// Gives wasmtime the slots as linear memories.
pub(in crate::engine) struct Memories(pub(in crate::engine) Arc<Slots>);

/// One linear memory.
struct Memory {
    slots: Arc<Slots>,
    /// The home of its process, if it is the process's first memory.
    home: Option<Arc<Home>>,
    /// Its slot if it does not lie at home.
    large: Option<Large>,
    size: usize,
}

// SAFETY: a new memory is zero (the invariant of free slots), and at least `minimum` bytes are accessible. As the whole slot is
// accessible, wasmtime may ask neither for a reservation nor for a guard: it would take both to be inaccessible beyond the
// memory's size. The engine is configured for explicit bounds checks, and this function refuses other requests.
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        _type: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if guard != 0 || reserved.is_some_and(|bytes| bytes > 0) {
            return Err("what lies beyond a memory in its slot is accessible".into());
        }
        // A component can have several memories; the first is the home's.
        let home = claim(|home| &home.memory_given, |_| true);
        let fits_home = home
            .as_ref()
            .is_some_and(|home| home.memory().bytes >= minimum);
        let large = (!fits_home)
            .then(|| Large::take(&self.0, minimum))
            .transpose()
            .map_err(|OutOfSlots| format!("no slot is free for a memory of {minimum} bytes"))?;
        let memory = Memory {
            slots: self.0.clone(),
            home,
            large,
            size: minimum,
        };
        memory.tell_home();
        Ok(Box::new(memory))
    }
}

// SAFETY: the slot is this memory's alone from `new_memory` to its drop, and its addresses stay mapped.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.size
    }

    fn byte_capacity(&self) -> usize {
        self.region().bytes
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        if size > self.byte_capacity() {
            let grown_bytes = size - self.size;
            self.move_to_larger(size)
                .map_err(|OutOfSlots| NotGrown { grown_bytes })?;
        }
        self.size = size;
        self.tell_home();
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.region().start.as_ptr()
    }
}

impl Memory {
    fn region(&self) -> Region {
        match (&self.large, &self.home) {
            (Some(large), _) => large.memory(),
            (None, Some(home)) => home.memory(),
            (None, None) => unreachable!("a memory lies at home or in a large slot"),
        }
    }

    fn warm(&self) -> Warm {
        match (&self.large, &self.home) {
            (None, Some(home)) => home.warm(),
            // The next owner may be another program.
            _ => Warm::NONE,
        }
    }

    fn tell_home(&self) {
        if let Some(home) = &self.home {
            home.memory_is_at(Region {
                bytes: self.size,
                ..self.region()
            });
        }
    }

    fn move_to_larger(&mut self, size: usize) -> Result<(), OutOfSlots> {
        let mut large = Large::take(&self.slots, size)?;
        let from = Region {
            bytes: self.size,
            ..self.region()
        };
        let mut touched = Vec::new();
        page_map::touched(from, &mut touched);
        let touched_bytes = touched.len() * PAGE_BYTES;
        // SAFETY: both regions are this memory's own, distinct, and hold at least `self.size` bytes; wasmtime reads the
        // new address after growth.
        unsafe {
            large.is_remapped = touched_bytes >= REMAPPED_BYTES && self.remap(from, &large);
            if !large.is_remapped {
                copy(from, large.memory(), &touched);
                match &mut self.large {
                    Some(left) => left.clean(self.size),
                    None => from.clean(self.size, self.warm()),
                }
            }
        }
        turn_context::moved(touched_bytes);
        self.large = Some(large);
        Ok(())
    }

    /// Moves the pages themselves, if the kernel can. The old range is mapped anew, empty, as a free slot must be.
    ///
    /// # Safety
    ///
    /// As for [`Region::clean`], for both regions.
    unsafe fn remap(&mut self, from: Region, to: &Large) -> bool {
        if self.slots.remapped.fetch_add(1, Ordering::AcqRel) >= REMAPPED_MAX {
            self.slots.remapped.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        let target = to.memory().start.as_ptr();
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
        let (old, bytes) = (from.start.as_ptr().cast(), from.bytes);
        // SAFETY: the target range is a free slot of our own mapping, whose pages may be replaced.
        let moved = unsafe { libc::mremap(old, bytes, bytes, flags, target) };
        if moved != target.cast() {
            self.slots.remapped.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        // SAFETY: the pages have left the old region, which is an empty mapping that only this memory owns.
        unsafe {
            match &mut self.large {
                Some(left) => left.clean(bytes),
                None => _ = from.map_again(),
            }
        }
        true
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A memory at home is cleaned when the home is given back.
        let Some(large) = self.large.take() else {
            return;
        };
        let is_zero = self.home.as_ref().is_some_and(|home| home.forgot_memory());
        if !is_zero || large.is_remapped {
            // SAFETY: the region is this memory's own, and nothing uses the memory any more.
            unsafe { large.hand_to_reaper(self.size) };
        }
        if let Some(home) = &self.home {
            home.memory_is_at(Region {
                bytes: 0,
                ..home.memory()
            });
        }
    }
}

/// Copies these pages. Pages of zeros are left out: a sparse memory stays sparse.
///
/// # Safety
///
/// As for [`Region::clean`], for both regions; `to` is all zero, and no smaller.
unsafe fn copy(from: Region, to: Region, pages: &[u32]) {
    for page in pages {
        let offset = *page as usize * PAGE_BYTES;
        // SAFETY: the page lies within `from`, and so within `to`.
        unsafe {
            let page = std::slice::from_raw_parts(from.start.add(offset).as_ptr(), PAGE_BYTES);
            if page.iter().any(|byte| *byte != 0) {
                to.start
                    .add(offset)
                    .copy_from_nonoverlapping(from.start.add(offset), PAGE_BYTES);
            }
        }
    }
}

/// Takes the cost of the memories that this thread has moved since the last call, in reductions.
pub(crate) fn moved_reductions() -> u64 {
    turn_context::take_moved() as u64 / BYTES_PER_REDUCTION
}

/// Gives wasmtime the slots as native stacks.
pub(in crate::engine) struct Stacks(pub(in crate::engine) Arc<Slots>);

struct Stack(Arc<Home>);

// SAFETY: a stack is the stack part of one home, page-aligned and mapped for as long as the home is held. It is not
// zeroed: no guest can read it. In place of a guard page, host frames have `HOST_STACK_BYTES` that wasm never uses.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, _zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        if size > self.0.stack_bytes {
            return Err(wasmtime::format_err!(
                "a stack of {size} bytes does not fit a slot"
            ));
        }
        let home = match claim(|home| &home.stack_given, |_| true) {
            Some(home) => home,
            // wasmtime wants a stack outside of a process's own calls, so it gets a slot of its own.
            None => self
                .0
                .home(HomeClass(0), Warm::NONE, &Default::default())
                .map_err(|OutOfSlots| wasmtime::format_err!("no slot is free for a stack"))?,
        };
        Ok(Box::new(Stack(home)))
    }
}

// SAFETY: see `StackCreator` above.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        self.0.stack().end as *mut u8
    }

    fn range(&self) -> Range<usize> {
        self.0.stack()
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let start = self.0.stack().start as *mut u8;
        start..start
    }
}

//! What wasmtime is given: linear memories and native stacks, at home or in slots of their own.

use super::home::claim;
use super::{Home, HomeClass, LARGE_BYTES, MIB, OutOfSlots, PAGE_BYTES, Region, Slots, Warm, lock};
use crate::engine::arena;
use std::ops::Range;
use std::sync::Arc;
use wasmtime::{LinearMemory, MemoryCreator, MemoryType, StackCreator, StackMemory};

/// Memories from this size on move by remapping their pages instead of copying them.
const REMAPPED_BYTES: usize = 16 * MIB;

/// A large slot.
struct Large {
    slots: Arc<Slots>,
    class: usize,
    offset: usize,
}

impl Large {
    fn take(slots: &Arc<Slots>, bytes: usize) -> Result<Large, OutOfSlots> {
        let class = LARGE_BYTES
            .iter()
            .position(|size| *size >= bytes)
            .ok_or(OutOfSlots)?;
        let (offset, _) = slots.take(&slots.large[class])?;
        Ok(Large {
            slots: slots.clone(),
            class,
            offset,
        })
    }

    fn memory(&self) -> Region {
        Region {
            start: self.slots.address(self.offset),
            bytes: LARGE_BYTES[self.class],
        }
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        let room = &self.slots.large[self.class].room;
        // An instance that can't be made is dropped while the arena is open.
        arena::outside(|| lock(room).free.push(self.offset));
    }
}

/// Gives wasmtime the slots as linear memories.
pub(in crate::engine) struct Memories(pub(in crate::engine) Arc<Slots>);

/// One linear memory.
struct Memory {
    slots: Arc<Slots>,
    /// The home of its process, if it is the process's first memory.
    home: Option<Arc<Home>>,
    /// Where it lies if not at home.
    large: Option<Large>,
    size: usize,
}

// SAFETY: a new memory is zero (the invariant of free slots), at least `minimum` bytes are accessible (the whole slot
// is), and no guard is asked for: the engine is configured for explicit bounds checks.
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        _type: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if guard != 0 {
            return Err("slots have no guard pages".into());
        }
        let wanted = minimum.max(reserved.unwrap_or(0));
        // A component can have several memories; the first is the home's.
        let home = claim(|home| &home.memory_given, |_| true);
        let fits_home = home
            .as_ref()
            .is_some_and(|home| home.memory().bytes >= wanted);
        let large = (!fits_home)
            .then(|| Large::take(&self.0, wanted))
            .transpose()
            .map_err(|OutOfSlots| format!("no slot is free for a memory of {wanted} bytes"))?;
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
            self.move_to_larger(size).map_err(|OutOfSlots| {
                wasmtime::format_err!("no slot is free for a memory of {size} bytes")
            })?;
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
            // Who comes next may be another program.
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
        let large = Large::take(&self.slots, size)?;
        let (from, to) = (self.region(), large.memory());
        // SAFETY: both regions are this memory's own, distinct, and hold at least `self.size` bytes; wasmtime reads
        // the new address after growth.
        unsafe {
            if self.size < REMAPPED_BYTES || !remap(from, to, self.size) {
                copy_touched(from, to, self.size);
                from.clean(self.size, self.warm());
            }
        }
        self.large = Some(large);
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // What lies at home is cleaned when the home is given back.
        let Some(large) = &self.large else {
            return;
        };
        let is_zero = self.home.as_ref().is_some_and(|home| home.forgot_memory());
        if !is_zero {
            // SAFETY: the region is this memory's own until its slot is given back, right after this.
            unsafe { large.memory().clean(self.size, Warm::NONE) };
        }
        if let Some(home) = &self.home {
            home.memory_is_at(Region {
                bytes: 0,
                ..home.memory()
            });
        }
    }
}

/// Moves the pages themselves. The old range stays mapped, empty, as a free slot must be.
///
/// # Safety
///
/// As for [`Region::clean`], for both regions.
unsafe fn remap(from: Region, to: Region, bytes: usize) -> bool {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    // SAFETY: the target range is a free slot of our own mapping, whose pages may be replaced.
    let moved = unsafe {
        libc::mremap(
            from.start.as_ptr().cast(),
            bytes,
            bytes,
            flags,
            to.start.as_ptr(),
        )
    };
    moved == to.start.as_ptr().cast()
}

/// Copies page by page, leaving out pages of zeros: a sparse memory stays sparse.
///
/// # Safety
///
/// As for [`Region::clean`], for both regions; `to` is all zero.
unsafe fn copy_touched(from: Region, to: Region, bytes: usize) {
    for offset in (0..bytes).step_by(PAGE_BYTES) {
        let length = PAGE_BYTES.min(bytes - offset);
        // SAFETY: `offset + length` is at most `bytes`, which both regions hold.
        unsafe {
            let page = std::slice::from_raw_parts(from.start.add(offset).as_ptr(), length);
            if page.iter().any(|byte| *byte != 0) {
                to.start
                    .add(offset)
                    .copy_from_nonoverlapping(from.start.add(offset), length);
            }
        }
    }
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
            // wasmtime wants a stack outside of a process's own calls: it gets a slot for it alone.
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

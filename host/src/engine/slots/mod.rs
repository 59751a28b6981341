//! Where processes live: slots of one big mapping, in size classes.
//!
//! wasmtime by itself takes four to five kernel mappings a process, so `vm.max_map_count` would stop it at some 13,000
//! processes. Here one mapping, reserved once and never unmapped, is cut into slots; a hundred thousand processes take
//! no mapping more than one does.
//!
//! ```text
//!   home slot of a process                                  large slot of one that has outgrown its home
//!   ┌────────────────────┬─────────────────┬─────────────┐  ┌───────────────────────────────────┐
//!   │ linear memory      │ native stack    │ store arena │  │ linear memory                     │
//!   │ ──► grows          │     grows ◄──   │             │  │ ──► grows                         │
//!   └────────────────────┴─────────────────┴─────────────┘  └───────────────────────────────────┘
//! ```
//!
//! The arena holds what wasmtime allocates for the process's store ([`super::arena`]). So all of an idle process lies
//! in one place and can be packed ([`super::packing`]).
//!
//! | file | holds |
//! |---|---|
//! | here | the mapping, its classes, and what is free |
//! | `home` | a process's home slot |
//! | `awake` | the number of awake slots in a stretch, and when the stretch may go back |
//! | `backlog` | the bytes that wait for the reaper |
//! | `blocks` | the mapping's address space, given out and taken back |
//! | `canary` | the word below each stack, by which an overflow is seen |
//! | `classes` | the home slots of one size, and which are free |
//! | `reservation` | the mapping itself |
//! | `presence` | whether the pages of a packed slot are there |
//! | `releases` | packed slots, until their pages go back together |
//! | `reaper` | large memories of processes that have ended, until they are clean |
//! | `stretch` | stretches in which no process is awake, whose page tables go back |
//! | `renewal` | memories that are made as new for the next process |
//! | `region` | pages: cleaned, given back, made resident |
//! | `given` | the memories and stacks that wasmtime is given |
//!
//! There are no guard pages: wasm bounds-checks every access, and traps before its frames would take more than
//! `max_wasm_stack` of the stack. Host frames have [`HOST_STACK_BYTES`] above that. If they ever took more, they would
//! run into the linear memory of their own process and no other's, and a word below the stack would show it
//! ([`canary`]).
//!
//! The memory part of a free slot is all zero. Its stack part may hold anything, because no guest can read a stack. Its
//! arena may as well, because wasmtime writes it before it reads it. The last owner of a home cleans the home or gives
//! its pages back. A memory in a large slot is cleaned by the thread that drops it or by the reaper.

mod awake;
mod backlog;
mod blocks;
mod canary;
mod classes;
mod given;
mod home;
mod presence;
mod reaper;
mod region;
mod releases;
mod renewal;
mod reservation;
mod stretch;
#[cfg(test)]
mod tests;

pub(super) use canary::Canary;
pub(crate) use given::moved_reductions;
pub(super) use given::{Memories, NotGrown, Stacks};
pub(super) use home::{Home, at_home};
pub(super) use region::Region;
pub(super) use renewal::{Image, PageSurvey, Renewed};

use super::arena::{self, Zone};
use crate::scheduler::Seam;
use blocks::{BLOCK_BYTES, Blocks};
use classes::{Class, Extent, Whole};
use reaper::Reaper;
use releases::Releases;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use stretch::Stretches;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// Stack that host functions may use above the deepest wasm frame. WASI's deepest calls and the capture of a backtrace
/// stay below a quarter of it.
pub(crate) const HOST_STACK_BYTES: usize = 64 * KIB;

/// The memory part of home slots. A program gets the smallest that holds its first memory and one page of growth.
const HOME_MEMORY_BYTES: [usize; 5] = [64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, MIB];
/// Homes of one size take at least this much of the reservation at a time, if there is as much.
const EXTENT_BYTES: usize = 64 * MIB;
/// Large slots may take three of each four bytes of the reservation, so that small processes can be spawned whatever
/// the large ones do.
const LARGE_QUARTERS_MAX: usize = 3;
/// The most of a slot that stays resident while it is free, see [`Warm`].
const WARM_BYTES_MAX: usize = 64 * KIB;
/// Homes that may be kept for shelved instances, of all programs together: some hundred megabytes.
const SHELVED_MAX: usize = 4096;
/// The arena part of home slots: a store takes some seven kilobytes. The rest is never touched.
const ARENA_BYTES: usize = 16 * KIB;
const _: () = assert!(
    ARENA_BYTES <= u16::MAX as usize,
    "a home counts them in 16 bits"
);
const _: () = assert!(
    WARM_BYTES_MAX / PAGE_BYTES <= u8::MAX as usize,
    "a warm part counts its pages in 8 bits"
);
const _: () = assert!(
    reservation::RESERVATION_BYTES / PAGE_BYTES <= 1 << 32,
    "a home counts pages in 32 bits"
);
pub(super) const PAGE_BYTES: usize = 4 * KIB;

/// The number of abandoned slots whose pages go back together.
const RELEASED_AT_ONCE: usize = 32;
/// Free homes of one class whose pages stay resident, for the next processes. Some hundred megabytes.
const WARM_FREE_MAX: usize = 4096;

/// The mapping and its classes.
pub(crate) struct Slots {
    base: NonNull<u8>,
    bytes: usize,
    /// How many slots are awake in each stretch.
    stretches: Stretches,
    releases: Releases,
    reaper: Reaper,
    /// The free part of the mapping's address space.
    blocks: Mutex<Blocks>,
    stack_bytes: usize,
    home: [Class; HOME_MEMORY_BYTES.len()],
    /// How many large slots are in use, and how much address space they take.
    large_in_use: AtomicUsize,
    large_bytes: AtomicUsize,
    /// How many large slots hold pages that were moved there.
    remapped: AtomicUsize,
    /// Homes of shelved instances.
    shelved: AtomicUsize,
    /// How often a shelved instance was used again.
    used_again: AtomicU64,
    /// Tells the allocator which addresses lie in an arena; none if stores do not lie in slots.
    zone: Option<Zone>,
    /// Packed slots can't be touched: for tests.
    poisons: bool,
    /// The clock by which packing is measured.
    seam: Arc<Seam>,
    pub(super) packed: PackedTally,
}

/// Counters of packing.
#[derive(Default)]
pub(super) struct PackedTally {
    pub(super) packed: AtomicU64,
    pub(super) unpacked: AtomicU64,
    /// How many of the packed ones left their memory where it is.
    pub(super) in_part: AtomicU64,
    /// Bytes that the packed processes take now.
    pub(super) bytes: AtomicU64,
    pub(super) nanoseconds: AtomicU64,
}

// SAFETY: `base` is the address of a mapping that lives as long as the `Slots`. Distinct slots are distinct ranges, and
// `take` and `take_large` hand each to one owner at a time.
unsafe impl Send for Slots {}
// SAFETY: as above; all shared bookkeeping is behind locks.
unsafe impl Sync for Slots {}

/// There is no slot of that size: the reservation is used up.
#[derive(Debug)]
pub(crate) struct OutOfSlots;

/// The pages that every process of a program touches: around its data segments, where its stack ends and its heap
/// begins. When a slot is given back, these pages are overwritten with zeros, and all others go back to the kernel.
/// Each page kept saves the next spawn a page fault, a microsecond or so.
///
/// Every home has one, so it is packed as tightly as possible.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed)]
pub(crate) struct Warm {
    first_page: u32,
    pages: u8,
}

impl Warm {
    /// No pages.
    pub(super) const NONE: Warm = Warm {
        first_page: 0,
        pages: 0,
    };

    /// For a program whose data segments fill this part of its memory.
    pub(crate) fn around(data: &Range<usize>) -> Warm {
        // A stack that grows down to where the data begins ends right below it.
        let start = data.start.saturating_sub(1) & !(PAGE_BYTES - 1);
        let end = data.end.next_multiple_of(PAGE_BYTES) + PAGE_BYTES;
        let end = end.min(start.saturating_add(WARM_BYTES_MAX));
        Warm {
            first_page: (start / PAGE_BYTES) as u32,
            pages: ((end - start) / PAGE_BYTES) as u8,
        }
    }

    /// The pages' numbers, in a memory of so many bytes.
    pub(super) fn pages(self, bytes: usize) -> Vec<u32> {
        let Range { start, end } = self.within(bytes);
        let number = |address: usize| (address / PAGE_BYTES) as u32;
        (number(start)..number(end)).collect()
    }

    /// The pages' bytes, in a memory of so many bytes.
    pub(crate) fn within(self, bytes: usize) -> Range<usize> {
        let address = |page: u32| (page as usize * PAGE_BYTES).min(bytes);
        address(self.first_page)..address(self.first_page + u32::from(self.pages))
    }
}

/// The parts of a home that making an instance writes, as far as they are known.
#[derive(Clone, Default, Debug)]
pub(super) struct Written {
    /// So much of the arena, together with the stack's end beside it; 0 if that is not known.
    pub(super) arena_bytes: usize,
    /// This part of the memory.
    pub(super) data: Range<usize>,
}

/// The size class of the home slots that fit a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HomeClass(u8);

impl HomeClass {
    fn index(self) -> usize {
        self.0.into()
    }
}

impl Slots {
    /// Reserves the mapping. `stack_bytes` is the size of every stack, a multiple of the page size. `poisons` makes
    /// packed slots inaccessible, which costs mappings.
    pub(crate) fn new(
        stack_bytes: usize,
        poisons: bool,
        seam: Arc<Seam>,
    ) -> std::io::Result<Arc<Slots>> {
        assert!(stack_bytes.is_multiple_of(PAGE_BYTES));
        // SAFETY: `sysconf` only returns a number.
        let kernel_page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        if kernel_page_bytes as usize != PAGE_BYTES {
            return Err(std::io::Error::other(format!(
                "pages of {kernel_page_bytes} bytes; Atoll needs a kernel with pages of {PAGE_BYTES}"
            )));
        }
        let (base, bytes) = reservation::reserve()?;
        Ok(Arc::new(Slots {
            base,
            bytes,
            // SAFETY: the mapping is new, so it is zero; the slots are cut from behind this first part, which holds the
            // counts.
            stretches: unsafe { Stretches::new(base) },
            releases: Releases::default(),
            reaper: Reaper::new(),
            blocks: Mutex::new(Blocks::of(Stretches::bytes(bytes)..bytes)),
            stack_bytes,
            home: HOME_MEMORY_BYTES.map(|memory| Class::new(memory + stack_bytes + ARENA_BYTES)),
            large_in_use: AtomicUsize::new(0),
            large_bytes: AtomicUsize::new(0),
            remapped: AtomicUsize::new(0),
            shelved: AtomicUsize::new(0),
            used_again: AtomicU64::new(0),
            // SAFETY: the mapping is this structure's, and everything that has a slot in it holds this structure.
            zone: unsafe { Zone::new(base, bytes) },
            poisons,
            seam,
            packed: PackedTally::default(),
        }))
    }

    /// The time, for measuring.
    pub(super) fn now_ns(&self) -> u64 {
        self.seam.now()
    }

    /// The class for a program whose memory starts with `minimum` bytes and may grow to `maximum`.
    pub(crate) fn home_class(minimum: usize, maximum: Option<usize>) -> HomeClass {
        let wanted = minimum
            .saturating_add(64 * KIB)
            .min(maximum.unwrap_or(usize::MAX));
        let fits = HOME_MEMORY_BYTES.iter().position(|bytes| *bytes >= wanted);
        // A memory that starts larger than any home gets a large slot from the start; its home is only for the stack.
        let otherwise = if minimum > MIB {
            0
        } else {
            HOME_MEMORY_BYTES.len() - 1
        };
        HomeClass(fits.unwrap_or(otherwise) as u8)
    }

    /// Whether a first memory with these bounds, in bytes, lies in its process's home slot when it is made.
    pub(crate) fn is_at_home(minimum: u64, maximum: Option<u64>) -> bool {
        let home = Slots::home_class(minimum as usize, maximum.map(|bytes| bytes as usize));
        minimum <= HOME_MEMORY_BYTES[home.index()] as u64
    }

    /// Takes a home for one process. If its pages are not resident, makes those resident that will be written at once.
    pub(super) fn home(
        self: &Arc<Slots>,
        class: HomeClass,
        warm: Warm,
        written: &Written,
    ) -> Result<Arc<Home>, OutOfSlots> {
        let (offset, is_warm) = self.take(&self.home[class.index()])?;
        let home = Home::new(self.clone(), class, offset, warm);
        #[cfg(any(test, debug_assertions))]
        home.memory().assert_zero();
        if !is_warm {
            home.wakes();
            home.populate(written);
        }
        Ok(Arc::new(home))
    }

    /// How many slots processes use, both homes and large ones.
    pub(crate) fn in_use(&self) -> usize {
        // Read first: a home that is shelved meanwhile is then counted as used, and not subtracted without having been
        // added.
        let shelved = self.shelved.load(Ordering::Acquire);
        let homes = self.home.iter().map(Class::in_use);
        let in_use = homes.sum::<usize>() + self.large_in_use.load(Ordering::Acquire);
        in_use.saturating_sub(shelved)
    }

    /// Whether stores lie in their process's slot.
    pub(super) fn has_arenas(&self) -> bool {
        self.zone.is_some()
    }

    /// How many instances were used again, each time counted.
    pub(crate) fn used_again(&self) -> u64 {
        self.used_again.load(Ordering::Relaxed)
    }

    /// A home slot, and whether its pages may be resident.
    fn take(&self, class: &Class) -> Result<(usize, bool), OutOfSlots> {
        if let Some(taken) = class.take() {
            return Ok(taken);
        }
        // The lists may grow, and must not lie in the arena of an instance that this thread is making.
        arena::outside(|| {
            let extent = self.extent(class.stride).or_else(|| {
                self.reclaim();
                self.extent(class.stride)
            });
            Ok(class.take_of(extent.ok_or(OutOfSlots)?))
        })
    }

    /// A block for slots of this size.
    fn extent(&self, stride: usize) -> Option<Extent> {
        let mut blocks = lock(&self.blocks);
        let least = blocks::size_for(stride)?;
        let wanted = blocks::size_for(stride.max(EXTENT_BYTES))?;
        let mut sizes = (least..=wanted).rev();
        sizes.find_map(|size| {
            let offset = blocks.take(size)?;
            Some(Extent { offset, size })
        })
    }

    /// Takes address space back from classes of homes that have a wholly free extent.
    #[cold]
    fn reclaim(&self) {
        for class in &self.home {
            for Whole { extent, warm } in class.take_whole_extents() {
                let (offset, size) = (extent.offset, extent.size);
                let region = Region {
                    start: self.address(offset),
                    bytes: BLOCK_BYTES[size],
                };
                // SAFETY: all slots in it were free, and `take_whole_extents` has removed them from the lists, so
                // nothing else can take them.
                unsafe { region.give_back(region.range()) };
                for slot in warm {
                    // SAFETY: the slot's pages have been given back above, and nothing else can take it.
                    unsafe { self.stretches.sleep(slot..slot + class.stride) };
                }
                lock(&self.blocks).give_back(offset, size);
            }
        }
    }

    /// A large slot for a memory of so many bytes: its offset and its size.
    fn take_large(&self, bytes: usize) -> Result<(usize, usize), OutOfSlots> {
        let size = blocks::size_for(bytes).ok_or(OutOfSlots)?;
        let bytes = BLOCK_BYTES[size];
        let taken = self.large_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let give_up = || {
            self.large_bytes.fetch_sub(bytes, Ordering::AcqRel);
            OutOfSlots
        };
        if taken > self.bytes / 4 * LARGE_QUARTERS_MAX {
            return Err(give_up());
        }
        // The lists may grow, and must not lie in the arena of an instance that this thread is making.
        let offset = arena::outside(|| {
            let offset = lock(&self.blocks).take(size);
            offset.or_else(|| {
                self.reclaim();
                lock(&self.blocks).take(size)
            })
        });
        let offset = offset.ok_or_else(give_up)?;
        self.large_in_use.fetch_add(1, Ordering::AcqRel);
        Ok((offset, size))
    }

    /// Gives a large slot back. It must read as zero.
    fn give_back_large(&self, offset: usize, size: usize) {
        arena::outside(|| lock(&self.blocks).give_back(offset, size));
        self.large_bytes
            .fetch_sub(BLOCK_BYTES[size], Ordering::AcqRel);
    }

    /// The offset of an address in the mapping.
    fn offset(&self, address: NonNull<u8>) -> usize {
        address.as_ptr() as usize - self.base.as_ptr() as usize
    }

    fn address(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset < self.bytes);
        // SAFETY: offsets come from `take` and `take_large`, which stay within the mapping.
        unsafe { self.base.add(offset) }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // The zone goes before the mapping does, because another mapping may then get the addresses.
        drop(self.zone.take());
        // SAFETY: every slot's owner holds an `Arc` of this, so no slot is in use; the range is the one that was
        // mapped.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

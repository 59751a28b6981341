//! Where processes live: slots of one big mapping, in size classes.
//!
//! wasmtime by itself takes four to five kernel mappings a process, so `vm.max_map_count` ends it at some 13,000.
//! Here one mapping, reserved once and never unmapped, is cut into slots; a hundred thousand processes take no mapping
//! more than one does.
//!
//! ```text
//!   home slot of a process                          large slot of one that has outgrown its home
//!   ┌──────────────────────┬───────────────────┐    ┌──────────────────────────────────────────┐
//!   │ linear memory        │ native stack      │    │ linear memory                            │
//!   │ ──► grows            │       grows ◄──   │    │ ──► grows                                │
//!   └──────────────────────┴───────────────────┘    └──────────────────────────────────────────┘
//! ```
//!
//! There are no guard pages, and none are needed: wasm bounds-checks every access, and traps before its frames would
//! take more than `max_wasm_stack` of the stack. Host frames have [`HOST_STACK_BYTES`] above that; if one ever took
//! more, it would run into the linear memory of its own process and no other's.
//!
//! What a free slot holds: its memory part is all zero; its stack part may hold anything, because no guest can read a
//! stack. That is an invariant of [`Region`]'s drop, which cleans what it gives back.

use std::cell::RefCell;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType, StackCreator, StackMemory};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// Stack that host functions may use above the deepest wasm frame. WASI's deepest calls and the capture of a
/// backtrace stay below a quarter of it.
pub(crate) const HOST_STACK_BYTES: usize = 64 * KIB;

/// The memory part of home slots. A program gets the smallest that holds its first memory and one page of growth.
const HOME_MEMORY_BYTES: [usize; 5] = [64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, MIB];
/// Large slots. Each step is four times the last, so that a memory that grows page by page moves seldom.
const LARGE_BYTES: [usize; 6] = [4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, GIB, 4 * GIB];

/// Address space to reserve: room for sixteen million small processes. It costs nothing until it is touched.
const RESERVATION_BYTES: usize = 16 << 40;
/// Below this much there is no point in going on.
const RESERVATION_BYTES_MIN: usize = 16 * GIB;
/// A class takes at least this much of the reservation at a time.
const EXTENT_BYTES: usize = 64 * MIB;
/// The most of a slot that stays resident while it is free, see [`Warm`].
const WARM_BYTES_MAX: usize = 64 * KIB;
/// Homes that may be kept for instances that wait to be used again, of all programs together: some hundred megabytes.
const SHELVED_MAX: usize = 4096;
/// Memories from this size on move by remapping their pages instead of copying them.
const REMAPPED_BYTES: usize = 16 * MIB;
const PAGE_BYTES: usize = 4 * KIB;

/// The mapping and its classes.
pub(crate) struct Slots {
    base: NonNull<u8>,
    bytes: usize,
    /// How much of the mapping has been given to classes.
    taken: Mutex<usize>,
    stack_bytes: usize,
    home: [Class; HOME_MEMORY_BYTES.len()],
    large: [Class; LARGE_BYTES.len()],
    /// Homes of instances that wait to be used again.
    shelved: AtomicUsize,
    /// How often one was.
    used_again: AtomicU64,
}

// SAFETY: `base` is the address of a mapping that lives as long as the `Slots`; distinct slots are distinct ranges,
// and each is handed to one owner at a time.
unsafe impl Send for Slots {}
// SAFETY: as above; all shared bookkeeping is behind locks.
unsafe impl Sync for Slots {}

/// Slots of one size.
struct Class {
    stride: usize,
    room: Mutex<Room>,
}

#[derive(Default)]
struct Room {
    /// Offsets of slots that were used and given back; the newest first, because it is warm.
    free: Vec<usize>,
    /// What is left of the extent that was taken last.
    fresh: Range<usize>,
    /// How many slots were ever given out.
    made: usize,
}

/// There is no slot of that size: the reservation is used up.
#[derive(Debug)]
pub(crate) struct OutOfSlots;

/// The pages that every process of a program touches: around its data segments, where its stack ends and its heap
/// begins. When a slot is given back they are written with zeros, and all others go back to the kernel: a page kept is a
/// page fault, a microsecond or so, saved at the next spawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Warm {
    start: usize,
    end: usize,
}

impl Warm {
    /// For a program whose data segments fill this part of its memory.
    pub(crate) fn around(data: &Range<usize>) -> Warm {
        // A stack that grows down to where the data begins ends right below it.
        let start = data.start.saturating_sub(1) & !(PAGE_BYTES - 1);
        let end = data.end.next_multiple_of(PAGE_BYTES) + PAGE_BYTES;
        Warm {
            start,
            end: end.min(start.saturating_add(WARM_BYTES_MAX)),
        }
    }

    /// The same pages of a memory that is so large.
    pub(crate) fn within(self, bytes: usize) -> Range<usize> {
        self.start.min(bytes)..self.end.min(bytes)
    }
}

/// Which home slots fit a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HomeClass(usize);

impl Slots {
    /// Reserves the mapping; `stack_bytes` is the size of every stack, a multiple of the page size.
    pub(crate) fn new(stack_bytes: usize) -> std::io::Result<Arc<Slots>> {
        assert!(stack_bytes.is_multiple_of(PAGE_BYTES));
        let mut bytes = RESERVATION_BYTES;
        let base = loop {
            match reserve(bytes) {
                Ok(base) => break base,
                // Address space may be limited (`ulimit -v`) or strictly accounted: make do with less.
                Err(error) if bytes / 2 < RESERVATION_BYTES_MIN => return Err(error),
                Err(_) => bytes /= 2,
            }
        };
        let class = |stride: usize| Class {
            stride,
            room: Mutex::default(),
        };
        Ok(Arc::new(Slots {
            base,
            bytes,
            taken: Mutex::new(0),
            stack_bytes,
            home: HOME_MEMORY_BYTES.map(|memory| class(memory + stack_bytes)),
            large: LARGE_BYTES.map(class),
            shelved: AtomicUsize::new(0),
            used_again: AtomicU64::new(0),
        }))
    }

    /// The class for a program whose memory starts with `minimum` bytes and may grow to `maximum`.
    pub(crate) fn home_class(minimum: usize, maximum: Option<usize>) -> HomeClass {
        let wanted = minimum
            .saturating_add(64 * KIB)
            .min(maximum.unwrap_or(usize::MAX));
        let fits = HOME_MEMORY_BYTES.iter().position(|bytes| *bytes >= wanted);
        // A memory that starts larger than any home has a large slot from the start; its home is for the stack.
        HomeClass(fits.unwrap_or(if minimum > MIB {
            0
        } else {
            HOME_MEMORY_BYTES.len() - 1
        }))
    }

    /// Does a first memory with these bounds, in bytes, lie in its process's home slot when it is made?
    pub(crate) fn is_at_home(minimum: u64, maximum: Option<u64>) -> bool {
        let home = Slots::home_class(minimum as usize, maximum.map(|bytes| bytes as usize));
        minimum <= HOME_MEMORY_BYTES[home.0] as u64
    }

    /// Takes a home for one process.
    pub(crate) fn home(
        self: &Arc<Slots>,
        class: HomeClass,
        warm: Warm,
    ) -> Result<Arc<Home>, OutOfSlots> {
        let offset = self.take(&self.home[class.0])?;
        Ok(Arc::new(Home {
            slots: self.clone(),
            class,
            offset,
            warm,
            memory_given: AtomicBool::new(false),
            stack_given: AtomicBool::new(false),
        }))
    }

    /// How many slots are in use by processes, homes and large ones.
    pub(crate) fn in_use(&self) -> usize {
        // First: one that is shelved meanwhile is then counted as used, not the other way about.
        let shelved = self.shelved.load(Ordering::Acquire);
        let classes = self.home.iter().chain(&self.large);
        let in_use = classes.map(|class| {
            let room = lock(&class.room);
            room.made - room.free.len()
        });
        in_use.sum::<usize>().saturating_sub(shelved)
    }

    /// How many instances were used again, each time counted.
    pub(crate) fn used_again(&self) -> u64 {
        self.used_again.load(Ordering::Relaxed)
    }

    fn take(&self, class: &Class) -> Result<usize, OutOfSlots> {
        let mut room = lock(&class.room);
        if let Some(offset) = room.free.pop() {
            return Ok(offset);
        }
        if room.fresh.len() < class.stride {
            let wanted = EXTENT_BYTES.max(class.stride);
            let mut taken = lock(&self.taken);
            if self.bytes - *taken < wanted {
                return Err(OutOfSlots);
            }
            room.fresh = *taken..*taken + wanted;
            *taken += wanted;
        }
        let offset = room.fresh.start;
        room.fresh.start += class.stride;
        room.made += 1;
        Ok(offset)
    }

    fn address(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset < self.bytes);
        // SAFETY: offsets come from `take`, which stays within the mapping.
        unsafe { self.base.add(offset) }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: every slot's owner holds an `Arc` of this, so none is left; the range is the one that was mapped.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

fn reserve(bytes: usize) -> std::io::Result<NonNull<u8>> {
    // SAFETY: a new private anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    // A huge page would make every small process resident with 2 MiB. Where the kernel has none, there is nothing
    // to prevent.
    // SAFETY: the range was mapped just now.
    unsafe { libc::madvise(address, bytes, libc::MADV_NOHUGEPAGE) };
    NonNull::new(address.cast()).ok_or_else(|| std::io::Error::other("mmap returned address 0"))
}

/// A process's home slot. Its memory and its stack each hold it; it is free again when both are gone.
pub(crate) struct Home {
    slots: Arc<Slots>,
    class: HomeClass,
    offset: usize,
    warm: Warm,
    /// Each part is given out once, whoever asks.
    memory_given: AtomicBool,
    stack_given: AtomicBool,
}

impl Home {
    fn memory(&self) -> Region {
        let bytes = HOME_MEMORY_BYTES[self.class.0];
        Region {
            start: self.slots.address(self.offset),
            bytes,
        }
    }

    fn stack(&self) -> Range<usize> {
        let start = self.memory().start.as_ptr() as usize + HOME_MEMORY_BYTES[self.class.0];
        start..start + self.slots.stack_bytes
    }
}

impl Home {
    /// Makes the memory that lies here what it was at first: this image in the warm part, zero everywhere else. False if
    /// it is not this memory that lies here.
    pub(crate) fn renew(&self, memory: &mut [u8], image: &[u8]) -> bool {
        let region = self.memory();
        let warm = self.warm.within(memory.len());
        let is_here = memory.as_ptr() == region.start.as_ptr() && memory.len() <= region.bytes;
        if !is_here || image.len() != warm.len() {
            return false;
        }
        memory[warm.clone()].copy_from_slice(image);
        // SAFETY: the ranges are within `memory`, which is ours alone while this runs, and within the region; both begin
        // and end at pages, because memories do. That they read as zero afterwards is what is wanted.
        unsafe {
            region.give_back(0..warm.start);
            region.give_back(warm.end..memory.len());
        }
        true
    }

    #[cfg(any(test, debug_assertions))]
    pub(crate) fn warm(&self) -> Warm {
        self.warm
    }
}

/// Says that a home is no process's, as long as it lives.
pub(crate) struct Shelved(Arc<Slots>);

impl Shelved {
    /// None if there are so many already that another one would be a waste of memory.
    pub(crate) fn new(home: &Home) -> Option<Shelved> {
        let shelved = Shelved(home.slots.clone());
        let others = home.slots.shelved.fetch_add(1, Ordering::AcqRel);
        (others < SHELVED_MAX).then_some(shelved)
    }

    /// A process takes it.
    pub(crate) fn use_again(self) {
        self.0.used_again.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Shelved {
    fn drop(&mut self) {
        self.0.shelved.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        lock(&self.slots.home[self.class.0].room)
            .free
            .push(self.offset);
    }
}

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
        let offset = slots.take(&slots.large[class])?;
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
        lock(&self.slots.large[self.class].room)
            .free
            .push(self.offset);
    }
}

/// The memory part of a slot.
#[derive(Clone, Copy)]
struct Region {
    start: NonNull<u8>,
    bytes: usize,
}

impl Region {
    /// Makes the first `used` bytes zero again; the rest was never touched.
    ///
    /// # Safety
    ///
    /// The caller owns the region, and nobody has a reference into it.
    unsafe fn clean(self, used: usize, warm: Warm) {
        let Range { start, end } = warm.within(used);
        // SAFETY: `used` is at most the region's size, and the region is the caller's.
        unsafe {
            self.start.add(start).write_bytes(0, end - start);
            self.give_back(0..start);
            self.give_back(end..used);
        }
    }

    /// Gives pages back to the kernel; they read as zero from now on.
    ///
    /// # Safety
    ///
    /// As for [`Region::clean`]; the range is page-aligned and within the region.
    unsafe fn give_back(self, range: Range<usize>) {
        if !range.is_empty() {
            // SAFETY: the range is within the region.
            let failed = unsafe {
                libc::madvise(
                    self.start.add(range.start).as_ptr().cast(),
                    range.len(),
                    libc::MADV_DONTNEED,
                )
            };
            // It fails only for ranges that aren't mapped.
            assert_eq!(failed, 0, "the kernel keeps pages that were given back");
        }
    }
}

thread_local! {
    /// The home of the process whose instance or stack is being made on this thread.
    static HOME: RefCell<Option<Arc<Home>>> = const { RefCell::new(None) };
}

/// Runs `work`, in which the first memory and the stack that wasmtime makes are those of this home.
pub(crate) fn at_home<T>(home: &Arc<Home>, work: impl FnOnce() -> T) -> T {
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
fn claim(given: impl Fn(&Home) -> &AtomicBool, fits: impl Fn(&Home) -> bool) -> Option<Arc<Home>> {
    HOME.with_borrow(|current| {
        let home = current.as_ref().filter(|home| fits(home))?;
        let first = !given(home).swap(true, Ordering::AcqRel);
        first.then(|| home.clone())
    })
}

/// Gives wasmtime the slots as linear memories.
pub(crate) struct Memories(pub(crate) Arc<Slots>);

/// One linear memory, at home or in a large slot.
struct Memory {
    slots: Arc<Slots>,
    place: Place,
    size: usize,
}

enum Place {
    Home(Arc<Home>),
    Large(Large),
}

impl Place {
    fn region(&self) -> Region {
        match self {
            Place::Home(home) => home.memory(),
            Place::Large(large) => large.memory(),
        }
    }

    fn warm(&self) -> Warm {
        match self {
            Place::Home(home) => home.warm,
            // Who comes next may be another program.
            Place::Large(_) => Warm { start: 0, end: 0 },
        }
    }
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
        // A component can have several memories; only the first that fits is at home.
        let home = claim(
            |home| &home.memory_given,
            |home| home.memory().bytes >= wanted,
        );
        let place = match home {
            Some(home) => Place::Home(home),
            None => Large::take(&self.0, wanted)
                .map(Place::Large)
                .map_err(|OutOfSlots| format!("no slot is free for a memory of {wanted} bytes"))?,
        };
        Ok(Box::new(Memory {
            slots: self.0.clone(),
            place,
            size: minimum,
        }))
    }
}

// SAFETY: the slot is this memory's alone from `new_memory` to its drop, and its addresses stay mapped.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.size
    }

    fn byte_capacity(&self) -> usize {
        self.place.region().bytes
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        if size > self.byte_capacity() {
            self.move_to_larger(size).map_err(|OutOfSlots| {
                wasmtime::format_err!("no slot is free for a memory of {size} bytes")
            })?;
        }
        self.size = size;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.place.region().start.as_ptr()
    }
}

impl Memory {
    fn move_to_larger(&mut self, size: usize) -> Result<(), OutOfSlots> {
        let large = Large::take(&self.slots, size)?;
        let (from, to) = (self.place.region(), large.memory());
        // SAFETY: both regions are this memory's own, distinct, and hold at least `self.size` bytes; wasmtime reads
        // the new address after growth.
        unsafe {
            if self.size < REMAPPED_BYTES || !remap(from, to, self.size) {
                copy_touched(from, to, self.size);
                from.clean(self.size, self.place.warm());
            }
        }
        self.place = Place::Large(large);
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the region is this memory's own until `place` is dropped, right after this.
        unsafe { self.place.region().clean(self.size, self.place.warm()) };
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
pub(crate) struct Stacks(pub(crate) Arc<Slots>);

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
                .home(HomeClass(0), Warm { start: 0, end: 0 })
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

//! Packing: an idle process as the few bytes in which it differs from others of its program.
//!
//! This file knows the parts of a slot as words, and puts them back at the same addresses, so no pointer into a slot
//! has to be changed. It never sees what the words mean. [`super::inhabitant`] says why it is sound.
//!
//! Packing takes the stack from its stack pointer to its top, the used part of the arena, and the pages of the memory
//! that hold something. It writes each part as deltas to a *template*: another process of the program, if possible one
//! with a stack and an arena of the same size, which in most cases waited at the same place. An address within the
//! template's slot corresponds to the same offset in the packed slot. The same holds for addresses within the
//! neighbouring slots, because uninitialized fields often still hold pointers of the process that was made before.

mod copies;
mod template;

pub(super) use template::Templates;

use super::page_map;
use super::slots::{Home, PAGE_BYTES, Region};
use super::words::{Reader, Recent, put, put_deltas};
use crate::broken::{Rule, breaks};
use copies::{copy_in, copy_out};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use template::{TEMPLATE_PAGES_MAX, Template};

/// A process that differs from its template by more bytes may become a template itself.
const GOOD_BYTES: usize = 256;
/// A memory that holds more pages than this stays where it is: packing it would gain little and take long.
const PACKED_PAGES_MAX: usize = 64;
/// Packing does not look into the pages of a memory of which more than this many may hold something.
const LOOKED_AT_PAGES_MAX: usize = 2 * PACKED_PAGES_MAX;
/// Packing does not ask the kernel about the pages of a memory larger than this.
const LOOKED_AT_BYTES_MAX: usize = 16 << 20;

const PAGE_WORDS: usize = PAGE_BYTES / 8;
type Page = [u64; PAGE_WORDS];
const ZEROS: Page = [0; PAGE_WORDS];

/// wasmtime keeps the stack pointer of a suspended stack so far below its top (wasmtime-internal-fiber, unix.rs).
const SAVED_POINTER_BELOW_TOP: usize = 16;

/// The encodings of a memory.
mod memory {
    /// The memory stays where it is, or there is none.
    pub(super) const NOT_PACKED: u64 = 0;
    /// The same pages as the template's.
    pub(super) const SAME_PAGES: u64 = 1;
    /// Other pages, whose numbers follow.
    pub(super) const OTHER_PAGES: u64 = 2;
}

/// A packed process.
pub(super) struct Packed {
    code: Box<[u8]>,
    template: Option<Arc<Template>>,
    /// No page of the slot is resident, or none will be soon.
    is_whole: bool,
    /// The memory is packed as well.
    has_memory: bool,
    #[cfg(any(test, debug_assertions))]
    checksum: u64,
}

/// How much of a process is unpacked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UnpackScope {
    All,
    /// For a process that ends: none of its own code runs again, so its memory may be zero.
    NotMemory,
}

/// The parts of a slot that are packed.
struct Parts {
    stack: Range<usize>,
    arena: Range<usize>,
    memory: Option<Region>,
    /// The pages of the memory that hold something; none if it is left where it is.
    pages: Vec<u32>,
}

/// The buffers of packing and unpacking, which each thread keeps.
#[derive(Default)]
struct Scratch {
    code: Vec<u8>,
    /// Copies of the stack and the arena.
    stack: Vec<u64>,
    arena: Vec<u64>,
    /// The expected words of a part, or its unpacked ones.
    words: Vec<u64>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Packed {
    /// Packs the contents of a waiting process's slot.
    ///
    /// # Safety
    ///
    /// Nothing touches the slot, nor a memory of its process, before [`Packed::unpack`] is called for the same home.
    pub(super) unsafe fn pack(home: &Arc<Home>, templates: &Templates) -> Option<Packed> {
        let started_ns = home.slots().now_ns();
        // SAFETY: the caller promises the same.
        let (packed, parts) = unsafe { Packed::of(home, templates) }?;
        let tally = &home.slots().packed;
        if parts.memory.is_none() && home.first_memory().is_some() {
            tally.in_part.fetch_add(1, Ordering::Relaxed);
        }
        tally.packed.fetch_add(1, Ordering::Relaxed);
        add(&tally.bytes, packed.bytes());
        let is_whole = if parts.are_all_of(home) && !home.poisons() {
            // SAFETY: the caller has the slot, and `packed` holds the contents of its pages now.
            unsafe { home.release_soon() };
            true
        } else {
            // SAFETY: as above.
            unsafe { parts.give_back(home) }
        };
        add(&tally.nanoseconds, home.slots().now_ns() - started_ns);
        Some(Packed { is_whole, ..packed })
    }

    /// Does the same, but the pages go back to the kernel at once, and no statistic counts it.
    ///
    /// # Safety
    ///
    /// As for [`Packed::pack`], with [`Packed::put_back`].
    pub(super) unsafe fn pack_now(home: &Home, templates: &Templates) -> Option<Packed> {
        // SAFETY: the caller promises the same.
        let (packed, parts) = unsafe { Packed::of(home, templates) }?;
        // SAFETY: the caller has the slot, and `packed` holds the contents of its pages now.
        let is_whole = unsafe { parts.give_back(home) };
        Some(Packed { is_whole, ..packed })
    }

    /// Packs the slot's contents and leaves them in place.
    ///
    /// # Safety
    ///
    /// Nothing writes to the slot, nor to a memory of its process, meanwhile.
    unsafe fn of(home: &Home, templates: &Templates) -> Option<(Packed, Parts)> {
        // SAFETY: the caller promises the same.
        let mut parts = unsafe { Parts::find(home) }?;
        // SAFETY: the caller promises the same.
        let packed = SCRATCH.with_borrow_mut(|scratch| unsafe {
            scratch.copy(&parts);
            parts.encode(home, templates, scratch)
        });
        Some((packed, parts))
    }

    /// Puts everything back at its addresses.
    ///
    /// # Safety
    ///
    /// The process was packed from this home, which nothing has touched since.
    pub(super) unsafe fn unpack(self, home: &Home, scope: UnpackScope) {
        let started_ns = home.slots().now_ns();
        let bytes = self.bytes();
        if !home.take_back() {
            // SAFETY: the caller promises the same, and `take_back` says that the pages are gone.
            unsafe { self.put_back(home, scope) };
        }
        let tally = &home.slots().packed;
        tally.unpacked.fetch_add(1, Ordering::Relaxed);
        tally.bytes.fetch_sub(bytes, Ordering::Relaxed);
        add(&tally.nanoseconds, home.slots().now_ns() - started_ns);
    }

    /// Does the same for a process whose slot has lost its pages; no statistic counts it.
    ///
    /// # Safety
    ///
    /// As for [`Packed::unpack`].
    pub(super) unsafe fn put_back(self, home: &Home, scope: UnpackScope) {
        let slot = home.region();
        if self.is_whole {
            home.wakes();
        }
        if home.poisons() {
            // SAFETY: it gives access back.
            unsafe { slot.protect(false) };
        }
        let mut reader = Reader::new(&self.code);
        let mut length = || reader.number() as usize;
        let top = home.stack().end;
        let (stack_words, arena_words) = (length(), length());
        slot.populate(slot.pages(top - stack_words * 8..top + arena_words * 8));
        let base = slot.start.as_ptr() as u64;
        let template = self.template.as_deref();
        SCRATCH.with_borrow_mut(|Scratch { words, .. }| {
            words.resize(stack_words, 0);
            Template::expect_stack(template, words, base);
            reader.apply_deltas(words);
            // SAFETY: the caller has the stack, which is as long.
            unsafe { copy_in(words, top - stack_words * 8) };
            words.resize(arena_words, 0);
            Template::expect_arena(template, words, base);
            reader.apply_deltas(words);
            // SAFETY: the caller has the arena, which is as long.
            unsafe { copy_in(words, top) };
        });
        match scope {
            // SAFETY: the caller has the memory.
            UnpackScope::All => unsafe { self.unpack_memory(home, reader) },
            UnpackScope::NotMemory if self.has_memory => home.forget_memory(true),
            UnpackScope::NotMemory => {}
        }
        #[cfg(any(test, debug_assertions))]
        // SAFETY: the caller has the slot.
        unsafe {
            let mut parts = Parts::find(home).expect("it could be packed");
            if !self.has_memory {
                parts.pages.clear();
            } else if scope == UnpackScope::NotMemory {
                assert!(parts.pages.is_empty(), "what is forgotten is zero");
                return;
            }
            let checksum = SCRATCH.with_borrow_mut(|scratch| {
                scratch.copy(&parts);
                parts.checksum(scratch)
            });
            assert_eq!(checksum, self.checksum);
        }
    }

    /// # Safety
    ///
    /// As for [`Packed::unpack`].
    unsafe fn unpack_memory(&self, home: &Home, mut reader: Reader<'_>) {
        let template = self.template.as_deref();
        let kind = reader.number();
        let pages: Vec<u32> = match (kind, template) {
            (memory::SAME_PAGES, Some(template)) => template.page_numbers().collect(),
            (memory::OTHER_PAGES, _) => (0..reader.number())
                .map(|_| reader.number() as u32)
                .collect(),
            _ => return,
        };
        let region = home.first_memory().expect("its memory was packed");
        for run in pages.chunk_by(|left, right| left + 1 == *right) {
            let start = run[0] as usize * PAGE_BYTES;
            region.populate(start..start + run.len() * PAGE_BYTES);
        }
        let lost = usize::from(pages.len() > 2 && breaks(Rule::PageLost));
        for page in pages.into_iter().skip(lost) {
            // SAFETY: the page is within the memory, which the caller has.
            let words = unsafe { guest_words_mut(&page_range(region, page)) };
            match template.and_then(|template| template.page(page)) {
                // A page that was given back is zero.
                None => {}
                Some(expected) => words.copy_from_slice(expected),
            }
            reader.apply_deltas(words);
        }
    }

    /// Whether all of the process is packed, including its memory.
    pub(super) fn is_all(&self) -> bool {
        self.is_whole && self.has_memory
    }

    fn bytes(&self) -> u64 {
        (self.code.len() + size_of::<Packed>()) as u64
    }
}

impl Parts {
    /// Finds the parts. None if the slot's contents are not those of a waiting process.
    ///
    /// # Safety
    ///
    /// As for [`Packed::pack`].
    unsafe fn find(home: &Home) -> Option<Parts> {
        let stack = home.stack();
        let saved = std::ptr::with_exposed_provenance::<usize>(stack.end - SAVED_POINTER_BELOW_TOP);
        // SAFETY: it is within the stack, which the kernel has mapped.
        let pointer = unsafe { saved.read() };
        let is_valid = stack.contains(&pointer) && pointer.is_multiple_of(8);
        if !home.has_stack() || !is_valid {
            return None;
        }
        let arena = home.arena();
        let mut parts = Parts {
            stack: pointer..stack.end,
            arena: arena.start..arena.end.next_multiple_of(8),
            memory: home.first_memory(),
            pages: Vec::new(),
        };
        let mut is_small = true;
        let looked_at = parts
            .memory
            .filter(|region| region.bytes <= LOOKED_AT_BYTES_MAX);
        if let Some(region) = looked_at {
            page_map::touched(region, &mut parts.pages);
            is_small = parts.pages.len() <= LOOKED_AT_PAGES_MAX;
            if !is_small {
                parts.pages.clear();
            }
            // SAFETY: the pages are within the memory, which the caller has.
            parts
                .pages
                .retain(|page| unsafe { guest_words(&page_range(region, *page)) } != ZEROS);
        }
        if looked_at.is_none() || !is_small || parts.pages.len() > PACKED_PAGES_MAX {
            parts.memory = None;
            parts.pages.clear();
        }
        Some(parts)
    }

    /// # Safety
    ///
    /// As for [`Packed::pack`].
    unsafe fn encode(
        &mut self,
        home: &Home,
        templates: &Templates,
        scratch: &mut Scratch,
    ) -> Packed {
        let mut template = templates.find(self);
        // SAFETY: the caller promises the same.
        let mut of_memory = unsafe { self.write(home, template.as_deref(), scratch) };
        let is_good = template.is_some() && scratch.code.len() <= GOOD_BYTES;
        if !is_good && self.pages.len() <= TEMPLATE_PAGES_MAX && templates.is_time_for_another() {
            // SAFETY: the caller promises the same.
            let new = templates.add(unsafe { self.template(home, scratch) });
            // SAFETY: the caller promises the same.
            of_memory = unsafe { self.write(home, Some(&new), scratch) };
            template = Some(new);
        }
        if !self.pages.is_empty() && of_memory > self.pages.len() * PAGE_BYTES / 2 {
            // Packed, the memory would take more than half of its present size.
            self.memory = None;
            self.pages.clear();
            // SAFETY: the caller promises the same.
            unsafe { self.write(home, template.as_deref(), scratch) };
        }
        Packed {
            code: scratch.code.as_slice().into(),
            template,
            is_whole: false,
            has_memory: self.memory.is_some(),
            #[cfg(any(test, debug_assertions))]
            // SAFETY: the caller promises the same.
            checksum: unsafe { self.checksum(scratch) },
        }
    }

    /// Encodes all parts, and returns the number of bytes that the memory takes of that.
    ///
    /// # Safety
    ///
    /// As for [`Packed::pack`].
    unsafe fn write(
        &self,
        home: &Home,
        template: Option<&Template>,
        scratch: &mut Scratch,
    ) -> usize {
        let Scratch {
            code,
            stack,
            arena,
            words,
        } = scratch;
        code.clear();
        let mut recent = Recent::default();
        put(code, stack.len() as u64);
        put(code, arena.len() as u64);
        let base = home.region().start.as_ptr() as u64;
        words.resize(stack.len(), 0);
        Template::expect_stack(template, words, base);
        put_deltas(code, &mut recent, stack, words);
        words.resize(arena.len(), 0);
        Template::expect_arena(template, words, base);
        put_deltas(code, &mut recent, arena, words);
        let before = code.len();
        let Some(region) = self.memory else {
            put(code, memory::NOT_PACKED);
            return 0;
        };
        let same = template.is_some_and(|template| {
            let pages = self.pages.iter().copied();
            template.page_numbers().eq(pages)
        });
        if same {
            put(code, memory::SAME_PAGES);
        } else {
            put(code, memory::OTHER_PAGES);
            put(code, self.pages.len() as u64);
            self.pages.iter().for_each(|page| put(code, (*page).into()));
        }
        for page in &self.pages {
            // SAFETY: the page is within the memory, which the caller has.
            let words = unsafe { guest_words(&page_range(region, *page)) };
            let expected = template.and_then(|template| template.page(*page));
            let expected = expected.unwrap_or(&ZEROS);
            put_deltas(code, &mut recent, words, expected);
        }
        code.len() - before
    }

    /// The checksum of the copies of the stack and the arena, and of every page of the memory if that is packed.
    ///
    /// # Safety
    ///
    /// As for [`Packed::pack`].
    #[cfg(any(test, debug_assertions))]
    unsafe fn checksum(&self, scratch: &Scratch) -> u64 {
        use std::hash::{DefaultHasher, Hasher};
        let mut hasher = DefaultHasher::new();
        let mut add = |words: &[u64]| words.iter().for_each(|word| hasher.write_u64(*word));
        add(&scratch.stack);
        add(&scratch.arena);
        for page in &self.pages {
            let region = self.memory.expect("it has pages");
            // SAFETY: the page is within the memory, which the caller has.
            add(unsafe { guest_words(&page_range(region, *page)) });
        }
        hasher.finish()
    }

    /// Makes a template of this process.
    ///
    /// # Safety
    ///
    /// As for [`Packed::pack`].
    unsafe fn template(&self, home: &Home, scratch: &Scratch) -> Template {
        let page = |page: &u32| {
            let region = self.memory.expect("it has pages");
            // SAFETY: the page is within the memory, which the caller has.
            let words = unsafe { guest_words(&page_range(region, *page)) };
            (*page, words.try_into().expect("a page is so long"))
        };
        let pages = self.pages.iter().map(page).collect();
        Template::new(&home.region(), &scratch.stack, &scratch.arena, pages)
    }

    /// Whether these parts are all of the process: no part lies outside of the slot or stays in place.
    fn are_all_of(&self, home: &Home) -> bool {
        let is_at_home = |region: Region| region.start == home.region().start;
        match (home.first_memory(), self.memory) {
            (None, _) => true,
            (Some(_), memory) => memory.is_some_and(is_at_home),
        }
    }

    /// Gives the pages of all parts back to the kernel. Returns true if that was the whole slot, which then sleeps.
    ///
    /// # Safety
    ///
    /// As for [`Packed::pack`].
    unsafe fn give_back(&self, home: &Home) -> bool {
        let slot = home.region();
        let is_at_home = |region: Region| region.start == slot.start;
        let stays = |region| is_at_home(region) && self.memory.is_none();
        let is_whole = !home.first_memory().is_some_and(stays);
        // SAFETY: the caller has the slot and the memory.
        unsafe {
            match is_whole {
                true => slot.give_back(slot.range()),
                false => slot.give_back(slot.pages(home.stack().start..self.arena.end)),
            }
            if let Some(elsewhere) = self.memory.filter(|region| !is_at_home(*region)) {
                elsewhere.give_back(elsewhere.range());
            }
            if home.poisons() {
                slot.protect(true);
            }
            if is_whole {
                home.sleeps();
            }
        }
        is_whole
    }
}

impl Scratch {
    /// Copies the stack and the arena.
    ///
    /// # Safety
    ///
    /// As for [`Packed::pack`].
    unsafe fn copy(&mut self, parts: &Parts) {
        // SAFETY: the caller promises the same; both parts are mapped and aligned.
        unsafe {
            copy_out(&parts.stack, &mut self.stack);
            copy_out(&parts.arena, &mut self.arena);
        }
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn page_range(memory: Region, page: u32) -> Range<usize> {
    let start = memory.start.as_ptr() as usize + page as usize * PAGE_BYTES;
    start..start + PAGE_BYTES
}

/// The words of a guest's memory at these addresses: no Rust value lies there, and every byte is initialized.
///
/// # Safety
///
/// The addresses are mapped and aligned, and nothing writes there as long as the result is used.
unsafe fn guest_words<'a>(addresses: &Range<usize>) -> &'a [u64] {
    let start = std::ptr::with_exposed_provenance(addresses.start);
    // SAFETY: the caller vouches for the addresses.
    unsafe { std::slice::from_raw_parts(start, addresses.len() / 8) }
}

/// The same for writing.
///
/// # Safety
///
/// The addresses are mapped and aligned, and nothing else uses them as long as the result is used.
unsafe fn guest_words_mut<'a>(addresses: &Range<usize>) -> &'a mut [u64] {
    let start = std::ptr::with_exposed_provenance_mut(addresses.start);
    // SAFETY: the caller vouches for the addresses.
    unsafe { std::slice::from_raw_parts_mut(start, addresses.len() / 8) }
}

#[cfg(test)]
mod tests;

//! Packing: an idle process as the few bytes in which it differs from others of its program.
//!
//! Knows the parts of a slot as words, and puts them back at the same addresses: nothing that points into a slot has to
//! be changed. Never sees what the words mean. What makes it sound is said at [`super::inhabitant`].
//!
//! What is packed: the stack from its stack pointer to its top, the arena as far as it is used, and the pages of the
//! memory that hold something. Each is compared with a *template*: another process of the program, if possible one with a
//! stack and an arena of the same size, which for most means that it waited at the same place. Addresses within the
//! template's slot stand for the same places in the other; so do those within the slots beside it, because what is in
//! fields that nobody has written is often left from the process that was made before.

use super::page_map;
use super::slots::{Home, PAGE_BYTES, Region};
use super::words::{Reader, Recent, put, put_words};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Templates of a program that new ones are compared with. A process keeps its template, but new ones become fewer and fewer
/// ([`Templates::is_time_for_another`]).
const TEMPLATES_MAX: usize = 8;
/// Pages that a template may hold.
const TEMPLATE_PAGES_MAX: usize = 32;
/// Who differs by more bytes from its template may become one itself.
const GOOD_BYTES: usize = 256;
/// A memory that holds more than so many pages stays where it is: packing it would gain little and take long.
const PACKED_PAGES_MAX: usize = 64;
/// Of more pages that may hold something nobody looks whether they do.
const LOOKED_AT_PAGES_MAX: usize = 2 * PACKED_PAGES_MAX;
/// A larger memory is not even looked at.
const LOOKED_AT_BYTES_MAX: usize = 16 << 20;

const PAGE_WORDS: usize = PAGE_BYTES / 8;
type Page = [u64; PAGE_WORDS];
const ZEROS: Page = [0; PAGE_WORDS];

/// What is written of a memory.
mod memory {
    /// It stays where it is, or there is none.
    pub(super) const LEFT: u64 = 0;
    /// The pages that the template has.
    pub(super) const SAME_PAGES: u64 = 1;
    /// Others, whose numbers follow.
    pub(super) const OTHER_PAGES: u64 = 2;
}

/// Templates of one program.
#[derive(Default)]
pub(super) struct Templates {
    /// The newest last.
    list: Mutex<Vec<Arc<Template>>>,
    strangers: Mutex<Strangers>,
}

/// Processes that differed much from every template.
#[derive(Default)]
struct Strangers {
    /// Since one of them became a template.
    count: u64,
    /// How many became one.
    templates: u64,
}

struct Template {
    /// Where its slot began.
    base: u64,
    stack: Expected,
    arena: Expected,
    pages: Box<[(u32, Page)]>,
}

/// A part of a template.
struct Expected {
    words: Box<[u64]>,
    /// Which of them are addresses within the template's slot or those beside it, in their order.
    addresses: Box<[u32]>,
}

/// A packed process.
pub(super) struct Packed {
    code: Box<[u8]>,
    template: Option<Arc<Template>>,
    /// Nothing of the slot is resident.
    is_whole: bool,
    /// The memory is packed as well.
    has_memory: bool,
    #[cfg(any(test, debug_assertions))]
    checksum: u64,
}

/// How much of a process is unpacked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
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

thread_local! {
    /// Kept for their memory.
    static CODE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static EXPECTED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Packed {
    /// Packs what lies in the slot of a process that waits.
    ///
    /// # Safety
    ///
    /// Nobody touches the slot, nor a memory of its process, before [`Packed::unpack`] is called for the same home.
    pub(super) unsafe fn pack(home: &Arc<Home>, templates: &Templates) -> Option<Packed> {
        let started_ns = home.slots().now_ns();
        // SAFETY: the slot is the caller's, and so nobody writes to it.
        let mut parts = unsafe { Parts::find(home) }?;
        // SAFETY: as above.
        let packed = unsafe { parts.encode(home, templates) };
        let tally = &home.slots().packed;
        if parts.memory.is_none() && home.first_memory().is_some() {
            tally.in_part.fetch_add(1, Ordering::Relaxed);
        }
        tally.packed.fetch_add(1, Ordering::Relaxed);
        add(&tally.bytes, packed.bytes());
        let is_whole = if parts.are_all_of(home) && !home.poisons() {
            home.departs();
            true
        } else {
            // SAFETY: the slot is the caller's; what its pages hold is in `packed` now.
            let is_whole = unsafe { parts.give_back(home) };
            if is_whole {
                home.sleeps();
            }
            is_whole
        };
        let packed = Packed { is_whole, ..packed };
        add(&tally.nanoseconds, home.slots().now_ns() - started_ns);
        Some(packed)
    }

    /// Puts everything back where it was.
    ///
    /// # Safety
    ///
    /// The home is the one that it was packed from, and untouched since.
    pub(super) unsafe fn unpack(self, home: &Home, extent: Extent) {
        let started_ns = home.slots().now_ns();
        let tally = &home.slots().packed;
        let slot = home.region();
        let bytes = self.bytes();
        let tell = || {
            tally.unpacked.fetch_add(1, Ordering::Relaxed);
            tally.bytes.fetch_sub(bytes, Ordering::Relaxed);
            add(&tally.nanoseconds, home.slots().now_ns() - started_ns);
        };
        if home.comes_back() {
            return tell();
        }
        if self.is_whole {
            home.wakes();
        }
        if home.poisons() {
            // SAFETY: it gives access back.
            unsafe { slot.protect(false) };
        }
        let mut reader = Reader::new(&self.code);
        let mut length = || reader.number() as usize * 8;
        let top = home.stack().end;
        let stack = top - length()..top;
        let arena = top..top + length();
        slot.populate(slot.pages(stack.start..arena.end));
        let base = slot.start.as_ptr() as u64;
        let template = self.template.as_deref();
        // SAFETY: both ranges are within the slot, which is the caller's, aligned, and don't overlap.
        let (stack, arena) = unsafe { (words_mut(&stack), words_mut(&arena)) };
        match template {
            Some(template) => {
                template.expect_stack(stack, base);
                template.expect_arena(arena, base);
            }
            None => {
                stack.fill(0);
                arena.fill(0);
            }
        }
        reader.correct(stack);
        reader.correct(arena);
        match extent {
            // SAFETY: the memory is the caller's.
            Extent::All => unsafe { self.unpack_memory(home, reader) },
            Extent::NotMemory if self.has_memory => home.forget_memory(true),
            Extent::NotMemory => {}
        }
        #[cfg(any(test, debug_assertions))]
        // SAFETY: the slot is the caller's.
        unsafe {
            let mut parts = Parts::find(home).expect("it could be packed");
            if !self.has_memory {
                parts.pages.clear();
            } else if extent == Extent::NotMemory {
                assert!(parts.pages.is_empty(), "what is forgotten is zero");
                return tell();
            }
            assert_eq!(parts.checksum(), self.checksum);
        }
        tell();
    }

    /// # Safety
    ///
    /// As for [`Packed::unpack`].
    unsafe fn unpack_memory(&self, home: &Home, mut reader: Reader<'_>) {
        let template = self.template.as_deref();
        let kind = reader.number();
        let pages: Vec<u32> = match (kind, template) {
            (memory::SAME_PAGES, Some(template)) => {
                template.pages.iter().map(|(page, _)| *page).collect()
            }
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
        for page in pages {
            // SAFETY: the page is within the memory, which is the caller's.
            let words = unsafe { words_mut(&page_range(region, page)) };
            match template.and_then(|template| template.page(page)) {
                // A page that was given back is zero.
                None => {}
                Some(expected) => words.copy_from_slice(expected),
            }
            reader.correct(words);
        }
    }

    fn bytes(&self) -> u64 {
        (self.code.len() + size_of::<Packed>()) as u64
    }
}

impl Parts {
    /// None if the slot does not hold what a waiting process's slot holds.
    ///
    /// # Safety
    ///
    /// As for [`Packed::pack`].
    unsafe fn find(home: &Home) -> Option<Parts> {
        let stack = home.stack();
        // wasmtime keeps the stack pointer of a suspended stack here (wasmtime-internal-fiber, unix.rs).
        // SAFETY: it is within the stack, which the kernel has mapped.
        let pointer = unsafe { *((stack.end - 16) as *const usize) };
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
            // SAFETY: the pages are within the memory, which is the caller's.
            parts
                .pages
                .retain(|page| unsafe { words(&page_range(region, *page)) } != ZEROS);
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
    unsafe fn encode(&mut self, home: &Home, templates: &Templates) -> Packed {
        CODE.with_borrow_mut(|code| {
            let mut template = templates.find(self);
            // SAFETY: as the caller's.
            let mut of_memory = unsafe { self.write(home, template.as_deref(), code) };
            let is_good = template.is_some() && code.len() <= GOOD_BYTES;
            if !is_good && self.pages.len() <= TEMPLATE_PAGES_MAX && templates.is_time_for_another()
            {
                // SAFETY: as the caller's.
                let new = templates.add(unsafe { self.template(home) });
                // SAFETY: as the caller's.
                of_memory = unsafe { self.write(home, Some(&new), code) };
                template = Some(new);
            }
            if !self.pages.is_empty() && of_memory > self.pages.len() * PAGE_BYTES / 2 {
                // Packed it would take as much room as it is, or more.
                self.memory = None;
                self.pages.clear();
                // SAFETY: as the caller's.
                unsafe { self.write(home, template.as_deref(), code) };
            }
            Packed {
                code: code.as_slice().into(),
                template,
                is_whole: false,
                has_memory: self.memory.is_some(),
                #[cfg(any(test, debug_assertions))]
                // SAFETY: as the caller's.
                checksum: unsafe { self.checksum() },
            }
        })
    }

    /// Writes all parts, and says how many bytes of that are the memory's.
    ///
    /// # Safety
    ///
    /// As for [`Packed::pack`].
    unsafe fn write(&self, home: &Home, template: Option<&Template>, code: &mut Vec<u8>) -> usize {
        code.clear();
        let mut recent = Recent::default();
        put(code, self.stack.len() as u64 / 8);
        put(code, self.arena.len() as u64 / 8);
        let base = home.region().start.as_ptr() as u64;
        // SAFETY: both are within the slot, which is the caller's.
        let (stack, arena) = unsafe { (words(&self.stack), words(&self.arena)) };
        EXPECTED.with_borrow_mut(|expected| {
            let mut put_part = |words: &[u64], expect: &dyn Fn(&Template, &mut [u64])| {
                expected.resize(words.len(), 0);
                match template {
                    Some(template) => expect(template, expected),
                    None => expected.fill(0),
                }
                put_words(code, &mut recent, words, expected);
            };
            put_part(stack, &|template, words| template.expect_stack(words, base));
            put_part(arena, &|template, words| template.expect_arena(words, base));
        });
        let before = code.len();
        let Some(region) = self.memory else {
            put(code, memory::LEFT);
            return 0;
        };
        let same = template.is_some_and(|template| {
            let pages = template.pages.iter().map(|(page, _)| *page);
            pages.eq(self.pages.iter().copied())
        });
        if same {
            put(code, memory::SAME_PAGES);
        } else {
            put(code, memory::OTHER_PAGES);
            put(code, self.pages.len() as u64);
            self.pages.iter().for_each(|page| put(code, (*page).into()));
        }
        for page in &self.pages {
            // SAFETY: the page is within the memory, which is the caller's.
            let words = unsafe { words(&page_range(region, *page)) };
            let expected = template.and_then(|template| template.page(*page));
            let expected = expected.unwrap_or(&ZEROS);
            put_words(code, &mut recent, words, expected);
        }
        code.len() - before
    }

    /// Of the stack, the arena, and every page of the memory if that is packed.
    ///
    /// # Safety
    ///
    /// As for [`Packed::pack`].
    #[cfg(any(test, debug_assertions))]
    unsafe fn checksum(&self) -> u64 {
        use std::hash::{DefaultHasher, Hasher};
        let mut hasher = DefaultHasher::new();
        let mut add = |range: &Range<usize>| {
            // SAFETY: the range is within the slot or the memory, which are the caller's.
            let words = unsafe { words(range) };
            words.iter().for_each(|word| hasher.write_u64(*word));
        };
        add(&self.stack);
        add(&self.arena);
        for page in &self.pages {
            let region = self.memory.expect("it has pages");
            add(&page_range(region, *page));
        }
        hasher.finish()
    }

    /// A template that is like this.
    ///
    /// # Safety
    ///
    /// As for [`Packed::pack`].
    unsafe fn template(&self, home: &Home) -> Template {
        let slot = home.region();
        let base = slot.start.as_ptr() as u64;
        let page = |page: &u32| {
            let region = self.memory.expect("it has pages");
            // SAFETY: the page is within the memory, which is the caller's.
            let words = unsafe { words(&page_range(region, *page)) };
            (*page, words.try_into().expect("a page is so long"))
        };
        let near = base - slot.bytes as u64..base + 2 * slot.bytes as u64;
        Template {
            // SAFETY: both are within the slot, which is the caller's.
            stack: Expected::new(unsafe { words(&self.stack) }, &near),
            // SAFETY: as above.
            arena: Expected::new(unsafe { words(&self.arena) }, &near),
            base,
            pages: self.pages.iter().map(page).collect(),
        }
    }

    /// Does nothing of the process lie elsewhere, or stay where it is?
    fn are_all_of(&self, home: &Home) -> bool {
        let is_at_home = |region: Region| region.start == home.region().start;
        match (home.first_memory(), self.memory) {
            (None, _) => true,
            (Some(_), memory) => memory.is_some_and(is_at_home),
        }
    }

    /// Gives the pages of all parts back to the kernel: true if that was the whole slot.
    ///
    /// # Safety
    ///
    /// As for [`Packed::pack`].
    unsafe fn give_back(&self, home: &Home) -> bool {
        let slot = home.region();
        let is_at_home = |region: Region| region.start == slot.start;
        let stays = |region| is_at_home(region) && self.memory.is_none();
        let is_whole = !home.first_memory().is_some_and(stays);
        // SAFETY: the slot is the caller's, and so is the memory.
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
        }
        is_whole
    }
}

impl Templates {
    /// The newest of the same shape, or else the newest that is not quite so.
    fn find(&self, parts: &Parts) -> Option<Arc<Template>> {
        let list = lock(&self.list);
        let has_arena =
            |template: &&Arc<Template>| template.arena.words.len() == parts.arena.len() / 8;
        let is_same = |template: &&Arc<Template>| {
            has_arena(template) && template.stack.words.len() == parts.stack.len() / 8
        };
        let newest = || list.iter().rev();
        let found = newest().find(is_same).or_else(|| newest().find(has_arena));
        found.or(list.last()).cloned()
    }

    /// Is it time for a new template, now that a process differs much from those that there are? After every one more
    /// such processes must come before there is another: a million that have nothing in common make some thousand. While
    /// another thread makes the first one, it is not waited for.
    fn is_time_for_another(&self) -> bool {
        let mut strangers = lock(&self.strangers);
        strangers.count += 1;
        if strangers.count <= strangers.templates && !lock(&self.list).is_empty() {
            return false;
        }
        strangers.count = 0;
        strangers.templates += 1;
        true
    }

    fn add(&self, template: Template) -> Arc<Template> {
        let template = Arc::new(template);
        let mut list = lock(&self.list);
        if list.len() >= TEMPLATES_MAX {
            list.remove(0);
        }
        list.push(template.clone());
        template
    }
}

impl Template {
    /// What a stack would be, whose top is the template's, in the slot that begins at `base`.
    fn expect_stack(&self, words: &mut [u64], base: u64) {
        let first = self.stack.words.len() as isize - words.len() as isize;
        self.stack.write(words, first, self.moved(base));
    }

    /// The same of an arena, whose start is the template's.
    fn expect_arena(&self, words: &mut [u64], base: u64) {
        self.arena.write(words, 0, self.moved(base));
    }

    fn moved(&self, base: u64) -> u64 {
        base.wrapping_sub(self.base)
    }

    fn page(&self, number: u32) -> Option<&Page> {
        let index = self.pages.binary_search_by_key(&number, |(page, _)| *page);
        Some(&self.pages[index.ok()?].1)
    }
}

impl Expected {
    fn new(words: &[u64], near: &Range<u64>) -> Expected {
        // The end belongs to it: pointers to the end of a part do.
        let is_address = |word: u64| word.wrapping_sub(near.start) <= near.end - near.start;
        let indexed = words.iter().zip(0..);
        let addresses = indexed.filter(|(word, _)| is_address(**word));
        Expected {
            addresses: addresses.map(|(_, index)| index).collect(),
            words: words.into(),
        }
    }

    /// Writes its words from `first` on, and zeros where it has none; addresses are moved so far.
    fn write(&self, into: &mut [u64], first: isize, moved: u64) {
        let (from, to) = (first.max(0) as usize, (-first).max(0) as usize);
        let to = to.min(into.len());
        let own = self.words.get(from..).unwrap_or_default();
        let count = own.len().min(into.len() - to);
        into[..to].fill(0);
        into[to..to + count].copy_from_slice(&own[..count]);
        into[to + count..].fill(0);
        for address in self.addresses.iter().map(|address| *address as usize) {
            if (from..from + count).contains(&address) {
                let word = &mut into[address - from + to];
                *word = word.wrapping_add(moved);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn page_range(memory: Region, page: u32) -> Range<usize> {
    let start = memory.start.as_ptr() as usize + page as usize * PAGE_BYTES;
    start..start + PAGE_BYTES
}

/// The words at these addresses.
///
/// # Safety
///
/// They are mapped and aligned, and nobody writes there as long as the result is used.
unsafe fn words<'a>(addresses: &Range<usize>) -> &'a [u64] {
    // SAFETY: as the caller's.
    unsafe { std::slice::from_raw_parts(addresses.start as *const u64, addresses.len() / 8) }
}

/// The same for writing.
///
/// # Safety
///
/// They are mapped and aligned, and nobody else uses them as long as the result is used.
unsafe fn words_mut<'a>(addresses: &Range<usize>) -> &'a mut [u64] {
    // SAFETY: as the caller's.
    unsafe { std::slice::from_raw_parts_mut(addresses.start as *mut u64, addresses.len() / 8) }
}

#[cfg(test)]
mod tests;

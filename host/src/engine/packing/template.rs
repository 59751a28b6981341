//! Templates: processes of a program with which packing compares others.
//!
//! This file knows words, and which of them are addresses near a slot; never what else they mean.

use super::{Page, Parts};
use crate::engine::slots::Region;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most templates of a program. A template that drops out stays with the processes that use it. New templates
/// become ever rarer ([`Templates::is_time_for_another`]).
const TEMPLATES_MAX: usize = 8;
/// The most pages that a template may hold.
pub(super) const TEMPLATE_PAGES_MAX: usize = 32;

/// The templates of one program.
#[derive(Default)]
pub(in crate::engine) struct Templates {
    /// The newest last.
    list: Mutex<Vec<Arc<Template>>>,
    strangers: Mutex<Strangers>,
}

/// Counts processes that differed much from every template.
#[derive(Default)]
struct Strangers {
    /// Processes since one of them became a template.
    count: u64,
    /// How many became a template.
    templates: u64,
}

pub(super) struct Template {
    /// The address of its slot.
    base: u64,
    stack: Expected,
    arena: Expected,
    pages: Box<[(u32, Page)]>,
}

/// A part of a template.
struct Expected {
    words: Box<[u64]>,
    /// The indexes of the words that are addresses within the template's slot or its neighbours, in ascending order.
    addresses: Box<[u32]>,
}

impl Templates {
    /// The newest template with a stack and an arena of the same size, or else with an arena of the same size, or else
    /// the newest.
    pub(super) fn find(&self, parts: &Parts) -> Option<Arc<Template>> {
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

    /// Whether to make a new template, when a process differs much from all existing ones. Each new template takes one
    /// more such process than the one before, so a million processes that have nothing in common make some thousand.
    /// While another thread makes the first template, this one does not wait for it.
    pub(super) fn is_time_for_another(&self) -> bool {
        let mut strangers = lock(&self.strangers);
        strangers.count += 1;
        if strangers.count <= strangers.templates && !lock(&self.list).is_empty() {
            return false;
        }
        strangers.count = 0;
        strangers.templates += 1;
        true
    }

    pub(super) fn add(&self, template: Template) -> Arc<Template> {
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
    /// A template of these words and pages, which lie in this slot.
    pub(super) fn new(
        slot: &Region,
        stack: &[u64],
        arena: &[u64],
        pages: Box<[(u32, Page)]>,
    ) -> Template {
        let base = slot.start.as_ptr() as u64;
        let bytes = slot.bytes as u64;
        let near = base - bytes..base + 2 * bytes;
        Template {
            base,
            stack: Expected::new(stack, &near),
            arena: Expected::new(arena, &near),
            pages,
        }
    }

    /// Writes the expected words of a stack in the slot that begins at `base`. The template's stack and this one are
    /// aligned at their ends. Without a template the words are zeros.
    pub(super) fn expect_stack(template: Option<&Template>, words: &mut [u64], base: u64) {
        let Some(template) = template else {
            return words.fill(0);
        };
        let first = template.stack.words.len() as isize - words.len() as isize;
        template.stack.write(words, first, template.moved(base));
    }

    /// Does the same for an arena, aligned at its start.
    pub(super) fn expect_arena(template: Option<&Template>, words: &mut [u64], base: u64) {
        match template {
            Some(template) => template.arena.write(words, 0, template.moved(base)),
            None => words.fill(0),
        }
    }

    /// The numbers of the template's pages.
    pub(super) fn page_numbers(&self) -> impl Iterator<Item = u32> {
        self.pages.iter().map(|(page, _)| *page)
    }

    fn moved(&self, base: u64) -> u64 {
        base.wrapping_sub(self.base)
    }

    pub(super) fn page(&self, number: u32) -> Option<&Page> {
        let index = self.pages.binary_search_by_key(&number, |(page, _)| *page);
        Some(&self.pages[index.ok()?].1)
    }
}

impl Expected {
    fn new(words: &[u64], near: &Range<u64>) -> Expected {
        // The end is included, because a pointer to the end of a part is an address, too.
        let is_address = |word: u64| word.wrapping_sub(near.start) <= near.end - near.start;
        let indexed = words.iter().zip(0..);
        let addresses = indexed.filter(|(word, _)| is_address(**word));
        Expected {
            addresses: addresses.map(|(_, index)| index).collect(),
            words: words.into(),
        }
    }

    /// Writes the template's words from index `first` on, and zeros where it has none. It adds `moved` to addresses.
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

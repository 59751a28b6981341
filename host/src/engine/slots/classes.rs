//! The home slots of one size: which are free, and in what state.
//!
//! Slots are cut from extents, blocks of the reservation. An extent keeps its size as long as any of its slots is in
//! use. When all of them are free, and another size needs address space, the extent is taken back.

use super::blocks::BLOCK_BYTES;
use super::lock;
use std::ops::Range;
use std::sync::Mutex;

/// Home slots of one size.
pub(super) struct Class {
    pub(super) stride: usize,
    pub(super) free_slots: Mutex<FreeSlots>,
}

#[derive(Default)]
pub(super) struct FreeSlots {
    /// Offsets of slots that were used and given back. The newest is taken first, because it is in the cache.
    pub(super) free: Vec<usize>,
    /// Offsets of free slots whose pages have been given back.
    pub(super) cold: Vec<usize>,
    /// Offsets of free slots whose pages will be given back soon. They may hold anything.
    pub(super) releasing: Vec<usize>,
    /// The blocks that the slots are cut from.
    extents: Vec<Extent>,
    /// The uncut rest of the extent that was taken last.
    fresh: Range<usize>,
    /// How many slots were ever given out, of the present extents.
    made: usize,
    /// How many slots have become free since the last search for whole extents.
    pub(super) freed: usize,
}

/// A block that slots are cut from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Extent {
    pub(super) offset: usize,
    /// Its size, as an index into [`BLOCK_BYTES`].
    pub(super) size: usize,
}

impl Extent {
    fn range(self) -> Range<usize> {
        self.offset..self.offset + BLOCK_BYTES[self.size]
    }
}

/// An extent of which no slot is in use.
pub(super) struct Whole {
    pub(super) extent: Extent,
    /// Those of its slots whose pages may be resident.
    pub(super) warm: Vec<usize>,
}

impl Class {
    pub(super) fn new(stride: usize) -> Class {
        Class {
            stride,
            free_slots: Mutex::default(),
        }
    }

    pub(super) fn in_use(&self) -> usize {
        let free_slots = lock(&self.free_slots);
        free_slots.made - free_slots.free.len() - free_slots.cold.len() - free_slots.releasing.len()
    }

    /// A slot, and whether its pages may be resident. None if another extent is needed.
    pub(super) fn take(&self) -> Option<(usize, bool)> {
        let mut free_slots = lock(&self.free_slots);
        if let Some(offset) = free_slots.free.pop() {
            return Some((offset, true));
        }
        if let Some(offset) = free_slots.cold.pop() {
            return Some((offset, false));
        }
        (free_slots.fresh.len() >= self.stride).then(|| (free_slots.cut(self.stride), false))
    }

    /// The first slot of another extent.
    pub(super) fn take_of(&self, extent: Extent) -> (usize, bool) {
        let mut free_slots = lock(&self.free_slots);
        free_slots.extents.push(extent);
        let before = std::mem::replace(&mut free_slots.fresh, extent.range());
        let first = free_slots.cut(self.stride);
        if before.len() >= self.stride {
            // Another thread has added an extent meanwhile, and further slots are cut from that one. The slots of this
            // one are free.
            while free_slots.fresh.len() >= self.stride {
                let slot = free_slots.cut(self.stride);
                free_slots.cold.push(slot);
            }
            free_slots.fresh = before;
        }
        (first, false)
    }

    /// Takes out the extents that are wholly free. It searches only if enough slots have become free, because a search
    /// takes a step for each free slot.
    pub(super) fn take_whole_extents(&self) -> Vec<Whole> {
        let mut free_slots = lock(&self.free_slots);
        let free_slots = &mut *free_slots;
        let slots = |extent: &Extent| extent.range().len() / self.stride;
        let fewest = free_slots.extents.iter().map(slots).min();
        if fewest.is_none_or(|fewest| free_slots.freed < fewest) {
            return Vec::new();
        }
        free_slots.freed = 0;
        free_slots.extents.sort_unstable();
        let extents = std::mem::take(&mut free_slots.extents);
        let extent_index =
            |offset: &usize| extents.partition_point(|extent| extent.offset <= *offset) - 1;
        let mut free = vec![0; extents.len()];
        for offset in free_slots.free.iter().chain(&free_slots.cold) {
            free[extent_index(offset)] += 1;
        }
        let is_cut = |extent: &Extent| extent.range().contains(&free_slots.fresh.start);
        if let Some(last) = extents.iter().position(is_cut) {
            free[last] += free_slots.fresh.len() / self.stride;
        }
        let mut whole: Vec<Option<Whole>> = (extents.iter().zip(free))
            .map(|(extent, free)| {
                let (extent, warm) = (*extent, Vec::new());
                (free == slots(&extent)).then_some(Whole { extent, warm })
            })
            .collect();
        let before = free_slots.free.len() + free_slots.cold.len();
        free_slots
            .free
            .retain(|offset| match &mut whole[extent_index(offset)] {
                Some(whole) => {
                    whole.warm.push(*offset);
                    false
                }
                None => true,
            });
        free_slots
            .cold
            .retain(|offset| whole[extent_index(offset)].is_none());
        free_slots.made -= before - free_slots.free.len() - free_slots.cold.len();
        let stays = |(extent, whole): (&Extent, &Option<Whole>)| whole.is_none().then_some(*extent);
        free_slots.extents = extents.iter().zip(&whole).filter_map(stays).collect();
        let whole: Vec<Whole> = whole.into_iter().flatten().collect();
        if whole.iter().any(|whole| is_cut(&whole.extent)) {
            free_slots.fresh = 0..0;
        }
        whole
    }
}

impl FreeSlots {
    /// Cuts a slot off the uncut rest.
    fn cut(&mut self, stride: usize) -> usize {
        let offset = self.fresh.start;
        self.fresh.start += stride;
        self.made += 1;
        offset
    }
}

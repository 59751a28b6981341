//! The home slots of one size: which are free, and in what state.
//!
//! Slots are cut from extents, blocks of the reservation. An extent stays with its size as long as anybody has a slot of it;
//! when all of them are free, and another size needs address space, it is taken back.

use super::blocks::BLOCK_BYTES;
use super::lock;
use std::ops::Range;
use std::sync::Mutex;

/// Home slots of one size.
pub(super) struct Class {
    pub(super) stride: usize,
    pub(super) room: Mutex<Room>,
}

#[derive(Default)]
pub(super) struct Room {
    /// Offsets of slots that were used and given back; the newest first, because it is warm.
    pub(super) free: Vec<usize>,
    /// The same, of slots whose pages have been given back.
    pub(super) cold: Vec<usize>,
    /// The same, of slots whose pages will be given back soon, and which hold anything.
    pub(super) left: Vec<usize>,
    /// The slots are cut from this.
    extents: Vec<Extent>,
    /// What is left of the extent that was taken last.
    fresh: Range<usize>,
    /// How many slots were ever given out, of the extents that there are.
    made: usize,
    /// How many slots have become free since whole extents were looked for.
    pub(super) freed: usize,
}

/// A block that slots are cut from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Extent {
    pub(super) offset: usize,
    /// Its size, as blocks have it.
    pub(super) size: usize,
}

impl Extent {
    fn range(self) -> Range<usize> {
        self.offset..self.offset + BLOCK_BYTES[self.size]
    }
}

/// An extent that nobody has a slot of.
pub(super) struct Whole {
    pub(super) extent: Extent,
    /// Those of its slots whose pages may be resident.
    pub(super) warm: Vec<usize>,
}

impl Class {
    pub(super) fn new(stride: usize) -> Class {
        Class {
            stride,
            room: Mutex::default(),
        }
    }

    pub(super) fn in_use(&self) -> usize {
        let room = lock(&self.room);
        room.made - room.free.len() - room.cold.len() - room.left.len()
    }

    /// A slot, and whether its pages may be resident. None if another extent is needed.
    pub(super) fn take(&self) -> Option<(usize, bool)> {
        let mut room = lock(&self.room);
        if let Some(offset) = room.free.pop() {
            return Some((offset, true));
        }
        if let Some(offset) = room.cold.pop() {
            return Some((offset, false));
        }
        (room.fresh.len() >= self.stride).then(|| (room.cut(self.stride), false))
    }

    /// The first slot of another extent.
    pub(super) fn take_of(&self, extent: Extent) -> (usize, bool) {
        let mut room = lock(&self.room);
        room.extents.push(extent);
        let before = std::mem::replace(&mut room.fresh, extent.range());
        let first = room.cut(self.stride);
        if before.len() >= self.stride {
            // Another thread has added an extent meanwhile, which is cut on; the slots of this one are free.
            while room.fresh.len() >= self.stride {
                let slot = room.cut(self.stride);
                room.cold.push(slot);
            }
            room.fresh = before;
        }
        (first, false)
    }

    /// Takes out the extents that are free as a whole. It looks only if there may be one: to look costs a step for each free
    /// slot.
    pub(super) fn take_whole_extents(&self) -> Vec<Whole> {
        let mut room = lock(&self.room);
        let room = &mut *room;
        let slots = |extent: &Extent| extent.range().len() / self.stride;
        let fewest = room.extents.iter().map(slots).min();
        if fewest.is_none_or(|fewest| room.freed < fewest) {
            return Vec::new();
        }
        room.freed = 0;
        room.extents.sort_unstable();
        let extents = std::mem::take(&mut room.extents);
        let place = |offset: &usize| extents.partition_point(|extent| extent.offset <= *offset) - 1;
        let mut free = vec![0; extents.len()];
        for offset in room.free.iter().chain(&room.cold) {
            free[place(offset)] += 1;
        }
        let is_cut = |extent: &Extent| extent.range().contains(&room.fresh.start);
        if let Some(last) = extents.iter().position(is_cut) {
            free[last] += room.fresh.len() / self.stride;
        }
        let mut whole: Vec<Option<Whole>> = (extents.iter().zip(free))
            .map(|(extent, free)| {
                let (extent, warm) = (*extent, Vec::new());
                (free == slots(&extent)).then_some(Whole { extent, warm })
            })
            .collect();
        let before = room.free.len() + room.cold.len();
        room.free.retain(|offset| match &mut whole[place(offset)] {
            Some(whole) => {
                whole.warm.push(*offset);
                false
            }
            None => true,
        });
        room.cold.retain(|offset| whole[place(offset)].is_none());
        room.made -= before - room.free.len() - room.cold.len();
        let stays = |(extent, whole): (&Extent, &Option<Whole>)| whole.is_none().then_some(*extent);
        room.extents = extents.iter().zip(&whole).filter_map(stays).collect();
        let whole: Vec<Whole> = whole.into_iter().flatten().collect();
        if whole.iter().any(|whole| is_cut(&whole.extent)) {
            room.fresh = 0..0;
        }
        whole
    }
}

impl Room {
    /// Cuts a slot off what is left.
    fn cut(&mut self, stride: usize) -> usize {
        let offset = self.fresh.start;
        self.fresh.start += stride;
        self.made += 1;
        offset
    }
}

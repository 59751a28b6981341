//! The reservation's address space: given out in blocks, and taken back whole.
//!
//! Blocks come in the sizes of [`BLOCK_BYTES`], each four times the one before, and lie at multiples of their size. If
//! no block of the wanted size is free, a larger one is cut in four; four free neighbours become one again. So address
//! space that was taken in one size can later be taken in every other size. This file knows offsets only: the owner
//! decides what is mapped there and what it holds. A free block reads as zero.

use super::{GIB, MIB};
use std::collections::BTreeSet;
use std::ops::Range;

/// The sizes of blocks.
pub(super) const BLOCK_BYTES: [usize; 6] = [4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, GIB, 4 * GIB];
/// How many blocks of one size make one of the next.
const NEIGHBOURS: usize = 4;

/// The offsets of the free blocks, by size.
pub(super) struct Blocks([BTreeSet<usize>; BLOCK_BYTES.len()]);

/// The smallest size of at least so many bytes.
pub(super) fn size_for(bytes: usize) -> Option<usize> {
    BLOCK_BYTES.iter().position(|size| *size >= bytes)
}

impl Blocks {
    /// Makes this part of the reservation free, in the largest blocks that fit.
    pub(super) fn of(part: Range<usize>) -> Blocks {
        let mut blocks = Blocks(Default::default());
        let mut start = part.start.next_multiple_of(BLOCK_BYTES[0]);
        loop {
            let fits = |bytes: usize| {
                start.is_multiple_of(bytes)
                    && start.checked_add(bytes).is_some_and(|end| end <= part.end)
            };
            let Some(size) = BLOCK_BYTES.iter().rposition(|bytes| fits(*bytes)) else {
                return blocks;
            };
            blocks.0[size].insert(start);
            start += BLOCK_BYTES[size];
        }
    }

    /// Takes a block of this size. It takes the one with the lowest address, so that those at the end stay whole.
    pub(super) fn take(&mut self, size: usize) -> Option<usize> {
        let from = (size..BLOCK_BYTES.len()).find(|larger| !self.0[*larger].is_empty())?;
        let offset = self.0[from].pop_first()?;
        // The blocks that are cut off are neighbours, three of each size below.
        for cut in (size..from).rev() {
            let rest = (1..NEIGHBOURS).map(|nth| offset + nth * BLOCK_BYTES[cut]);
            self.0[cut].extend(rest);
        }
        Some(offset)
    }

    /// Takes a block back.
    pub(super) fn give_back(&mut self, mut offset: usize, mut size: usize) {
        while let Some(larger) = BLOCK_BYTES.get(size + 1) {
            let first = offset - offset % larger;
            let bytes = BLOCK_BYTES[size];
            let others = (0..NEIGHBOURS)
                .map(|nth| first + nth * bytes)
                .filter(|neighbour| *neighbour != offset);
            if !others.clone().all(|other| self.0[size].contains(&other)) {
                break;
            }
            others.for_each(|other| {
                self.0[size].remove(&other);
            });
            (offset, size) = (first, size + 1);
        }
        let is_new = self.0[size].insert(offset);
        debug_assert!(is_new, "a block is given back once");
    }

    #[cfg(test)]
    fn free_bytes(&self) -> usize {
        let of_size = self.0.iter().zip(BLOCK_BYTES);
        of_size.map(|(free, bytes)| free.len() * bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_space_of_one_size_can_be_had_in_every_other_again() {
        let part = 2 * MIB..9 * GIB;
        let mut blocks = Blocks::of(part.clone());
        let all = blocks.free_bytes();
        assert!(all > 9 * GIB - 8 * MIB);
        for size in (0..BLOCK_BYTES.len()).chain((0..BLOCK_BYTES.len()).rev()) {
            let mut taken = Vec::new();
            while let Some(offset) = blocks.take(size) {
                let end = offset + BLOCK_BYTES[size];
                assert!(offset >= part.start && end <= part.end);
                assert!(offset.is_multiple_of(BLOCK_BYTES[size]));
                taken.push(offset);
            }
            assert_eq!(taken.len(), all_of(&part, size));
            let distinct: BTreeSet<usize> = taken.iter().copied().collect();
            assert_eq!(distinct.len(), taken.len());
            // In an order that is neither that of taking nor its reverse.
            for start in 0..3 {
                for offset in taken.iter().skip(start).step_by(3) {
                    blocks.give_back(*offset, size);
                }
            }
            assert_eq!(blocks.free_bytes(), all);
        }
    }

    /// How many blocks of a size lie in a part.
    fn all_of(part: &Range<usize>, size: usize) -> usize {
        let bytes = BLOCK_BYTES[size];
        part.end / bytes - part.start.div_ceil(bytes)
    }

    #[test]
    fn a_small_block_is_cut_from_the_smallest_that_there_is() {
        let mut blocks = Blocks::of(0..4 * GIB + 64 * MIB);
        assert_eq!(blocks.take(0), Some(4 * GIB));
        assert_eq!(blocks.take(5), Some(0));
        assert_eq!(blocks.take(1), Some(4 * GIB + 16 * MIB));
        assert_eq!(blocks.take(2), None);
        assert_eq!(Blocks::of(0..MIB).take(0), None);
    }
}

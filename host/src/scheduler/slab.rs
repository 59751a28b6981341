//! The memory of a timer wheel: nodes addressed by a 32-bit index, in chunks.
//!
//! One growing vector would not do: when it doubles at half a million timers, it copies tens of megabytes while the
//! wheel is locked, and it can't free its memory while one late timer is alive. A chunk never moves, and it is freed
//! when its last node is removed.
//!
//! The slab knows nothing of time. It never checks whether an index is stale: the wheel's serial numbers do that.

/// Names a node while it is in the slab. The index is reused afterwards.
pub(super) type NodeIndex = u32;

/// No node: the end of a list.
pub(super) const NO_NODE: NodeIndex = NodeIndex::MAX;

/// The bits of an index that count within its chunk. 512 nodes of some 48 bytes are 24 KiB, which is cheap to
/// allocate in the middle of a turn. Two thousand chunks hold a million timers.
const CHUNK_BITS: u32 = 9;
const CHUNK_NODES: usize = 1 << CHUNK_BITS;

/// One element of a chunk.
enum Entry<T> {
    /// Free. Holds the offset of the next free element in the same chunk.
    Free(Option<u16>),
    /// In use.
    Used(T),
}

/// One chunk, allocated or not.
struct Chunk<T> {
    /// Empty while the chunk isn't allocated.
    entries: Box<[Entry<T>]>,
    /// The offset of the first free element.
    free: Option<u16>,
    /// The number of entries in use.
    used_count: usize,
}

/// Nodes by index; see the top of the file.
pub(super) struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// The indexes of all chunks that aren't full, allocated or not. The next node comes from the last of them.
    open: Vec<u32>,
    /// The chunk that emptied last. It keeps its memory until another chunk empties, so that a timer that is armed
    /// and cancelled again and again does not allocate each time.
    spare: Option<u32>,
    /// The number of nodes in use, in all chunks.
    used_count: usize,
}

impl<T> Slab<T> {
    /// An empty slab. Allocates nothing.
    pub(super) fn new() -> Self {
        Slab {
            chunks: Vec::new(),
            open: Vec::new(),
            spare: None,
            used_count: 0,
        }
    }

    /// Inserts a node and returns its index.
    ///
    /// # Panics
    /// If four billion nodes are in use, long after memory has run out.
    pub(super) fn insert(&mut self, value: T) -> NodeIndex {
        let chunk_index = self
            .open
            .last()
            .copied()
            .unwrap_or_else(|| self.add_chunk());
        let chunk = &mut self.chunks[chunk_index as usize];
        if chunk.entries.is_empty() {
            chunk.allocate();
        }
        let place = chunk.free.expect("an open chunk has a free place");
        let entry = &mut chunk.entries[usize::from(place)];
        let Entry::Free(next_free) = *entry else {
            unreachable!("the free list names only free places");
        };
        *entry = Entry::Used(value);
        chunk.free = next_free;
        chunk.used_count += 1;
        self.used_count += 1;
        if chunk.free.is_none() {
            self.open.pop();
        }
        (chunk_index << CHUNK_BITS) | u32::from(place)
    }

    /// Removes a node.
    ///
    /// # Panics
    /// If no node has this index.
    pub(super) fn remove(&mut self, index: NodeIndex) -> T {
        let chunk_index = index >> CHUNK_BITS;
        let chunk = &mut self.chunks[chunk_index as usize];
        let was_full = chunk.free.is_none();
        let place = (index as usize) % CHUNK_NODES;
        let entry = std::mem::replace(&mut chunk.entries[place], Entry::Free(chunk.free));
        let Entry::Used(value) = entry else {
            panic!("removed a timer node that is not in use");
        };
        chunk.free = Some(place as u16);
        chunk.used_count -= 1;
        self.used_count -= 1;
        if was_full {
            self.open.push(chunk_index);
        }
        if chunk.used_count == 0 {
            self.release_spare_for(chunk_index);
        }
        value
    }

    /// The number of nodes.
    pub(super) fn len(&self) -> usize {
        self.used_count
    }

    /// The node at `index`, if there is one.
    pub(super) fn get(&self, index: NodeIndex) -> Option<&T> {
        let chunk = self.chunks.get((index >> CHUNK_BITS) as usize)?;
        match chunk.entries.get(index as usize % CHUNK_NODES)? {
            Entry::Used(value) => Some(value),
            Entry::Free(_) => None,
        }
    }

    /// The node at `index`, which the caller knows to exist.
    ///
    /// # Panics
    /// If no node has this index.
    pub(super) fn get_mut(&mut self, index: NodeIndex) -> &mut T {
        let chunk = &mut self.chunks[(index >> CHUNK_BITS) as usize];
        match &mut chunk.entries[index as usize % CHUNK_NODES] {
            Entry::Used(value) => value,
            Entry::Free(_) => panic!("used a timer node that is free"),
        }
    }

    /// Makes a chunk that has just emptied the spare one. Frees the previous spare chunk, unless it is in use again.
    fn release_spare_for(&mut self, chunk_index: u32) {
        let Some(before) = self.spare.replace(chunk_index) else {
            return;
        };
        let chunk = &mut self.chunks[before as usize];
        if before != chunk_index && chunk.used_count == 0 {
            chunk.release();
        }
    }

    /// Adds a chunk, not allocated yet, to the open ones.
    fn add_chunk(&mut self) -> u32 {
        let chunk_index = self.chunks.len();
        // One chunk less than would fit, so that no index equals NO_NODE.
        assert!(chunk_index < (NO_NODE >> CHUNK_BITS) as usize);
        self.chunks.push(Chunk {
            entries: Box::default(),
            free: None,
            used_count: 0,
        });
        self.open.push(chunk_index as u32);
        chunk_index as u32
    }
}

impl<T> Chunk<T> {
    /// Allocates the entries, all free, each linked to the next.
    fn allocate(&mut self) {
        self.entries = (1..=CHUNK_NODES)
            .map(|next| Entry::Free((next < CHUNK_NODES).then_some(next as u16)))
            .collect();
        self.free = Some(0);
    }

    /// Frees the memory. The chunk stays open, and is allocated again when it is needed.
    fn release(&mut self) {
        self.entries = Box::default();
        self.free = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocated_chunks<T>(slab: &Slab<T>) -> usize {
        slab.chunks
            .iter()
            .filter(|chunk| !chunk.entries.is_empty())
            .count()
    }

    #[test]
    fn nodes_keep_their_values_and_places_are_reused() {
        let mut slab = Slab::new();
        let first: Vec<_> = (0..3 * CHUNK_NODES)
            .map(|value| slab.insert(value))
            .collect();
        assert!(
            first
                .iter()
                .enumerate()
                .all(|(value, &index)| slab.get(index) == Some(&value))
        );
        for &index in first.iter().step_by(2) {
            slab.remove(index);
        }
        assert_eq!(slab.get(first[0]), None);
        assert_eq!(slab.get(first[1]), Some(&1));
        for value in 0..3 * CHUNK_NODES / 2 {
            slab.insert(value);
        }
        assert_eq!(
            slab.chunks.len(),
            3,
            "freed places are used before a new chunk"
        );
    }

    #[test]
    fn memory_goes_back_when_a_chunk_empties_and_comes_again() {
        let mut slab = Slab::new();
        for _round in 0..3 {
            let indexes: Vec<_> = (0..8 * CHUNK_NODES)
                .map(|value| slab.insert(value))
                .collect();
            assert_eq!(allocated_chunks(&slab), 8);
            let (kept, rest) = indexes.split_first().expect("not empty");
            for &index in rest {
                slab.remove(index);
            }
            assert!(allocated_chunks(&slab) <= 2);
            assert_eq!(slab.get(*kept), Some(&0));
            slab.remove(*kept);
        }
        assert!(slab.chunks.len() <= 9);
    }

    #[test]
    fn one_node_put_in_and_taken_out_again_allocates_once() {
        let mut slab = Slab::new();
        let index = slab.insert('a');
        assert_eq!(slab.remove(index), 'a');
        assert_eq!(allocated_chunks(&slab), 1);
        assert_eq!(slab.insert('b'), index);
    }
}

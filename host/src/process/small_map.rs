//! A map that is a short list while it has few entries, which is nearly always.
//!
//! Most processes have one or two links and one monitor at a time; some have ten thousand. The list needs no
//! allocation for its first entries, and searching it takes nanoseconds. A hash table takes over before the list
//! would get slow. The keys come from guests, so each table hashes with a secret of its own, and no guest sees a
//! hash.

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::Hash;

/// The number of entries that are kept without an allocation.
const INLINE: usize = 2;
/// With more entries than this the map becomes a hash table. It becomes a list again only when it is empty.
const LIST_MAX: usize = 16;

#[derive(Debug)]
pub(crate) enum SmallMap<K, V> {
    List(SmallVec<[(K, V); INLINE]>),
    Table(HashMap<K, V, RandomState>),
}

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> Self {
        SmallMap::List(SmallVec::new())
    }
}

impl<K: Eq + Hash, V> SmallMap<K, V> {
    pub(crate) fn len(&self) -> usize {
        match self {
            SmallMap::List(list) => list.len(),
            SmallMap::Table(table) => table.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        match self {
            SmallMap::List(list) => list
                .iter()
                .find(|(listed, _)| listed == key)
                .map(|(_, value)| value),
            SmallMap::Table(table) => table.get(key),
        }
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self {
            SmallMap::List(list) => list
                .iter_mut()
                .find(|(listed, _)| listed == key)
                .map(|(_, value)| value),
            SmallMap::Table(table) => table.get_mut(key),
        }
    }

    /// Sets the key's value. Returns the old value, if there was one.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let list = match self {
            SmallMap::Table(table) => return table.insert(key, value),
            SmallMap::List(list) => list,
        };
        if let Some((_, present)) = list.iter_mut().find(|(listed, _)| *listed == key) {
            return Some(std::mem::replace(present, value));
        }
        if list.len() < LIST_MAX {
            list.push((key, value));
        } else {
            let entries = list.drain(..).chain([(key, value)]);
            *self = SmallMap::Table(entries.collect());
        }
        None
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        match self {
            SmallMap::List(list) => {
                let place = list.iter().position(|(listed, _)| listed == key)?;
                Some(list.swap_remove(place).1)
            }
            SmallMap::Table(table) => {
                let removed = table.remove(key);
                // Free the memory of a table that was large once.
                if table.is_empty() {
                    *self = SmallMap::default();
                }
                removed
            }
        }
    }

    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = (&K, &V)> + '_> {
        match self {
            SmallMap::List(list) => Box::new(list.iter().map(|(key, value)| (key, value))),
            SmallMap::Table(table) => Box::new(table.iter()),
        }
    }

    /// Removes all entries and hands each to `take`.
    #[inline]
    pub(crate) fn drain_into(&mut self, mut take: impl FnMut(K, V)) {
        match self {
            SmallMap::List(list) if list.is_empty() => {}
            SmallMap::List(list) => list.drain(..).for_each(|(key, value)| take(key, value)),
            SmallMap::Table(table) => table.drain().for_each(|(key, value)| take(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn behaves_like_a_map_at_every_size() {
        let (mut map, mut model) = (SmallMap::default(), BTreeMap::new());
        let mut state = 7u64;
        for step in 0..20_000u64 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            // Phases that fill the map beyond the list alternate with phases that empty it.
            let (key, fills) = ((state >> 40) % 40, (step / 500) % 2 == 0);
            if (state >> 33) % 4 < if fills { 3 } else { 1 } {
                assert_eq!(map.insert(key, step), model.insert(key, step));
            } else {
                assert_eq!(map.remove(&key), model.remove(&key));
            }
            assert_eq!(map.len(), model.len());
            assert_eq!(map.get(&key), model.get(&key));
        }
        let mut left = BTreeMap::new();
        map.drain_into(|key, value| {
            left.insert(key, value);
        });
        assert_eq!(left, model);
    }
}

//! The process table: finds the entry of a pid, and holds what is kept of each process.
//!
//! An entry is never freed, only used again under a new id. So finding a process takes no lock of the table and no
//! reference count: decipher the id, index the table, lock the entry, compare the id. Everything that others may touch
//! of a process is in its [`Control`](super::control::Control), behind the entry's lock. That lock is held for a few instructions, and never
//! while guest code or a destructor runs.

use super::control::{ControlGuard, Entry, Liveness, Phase, Relax};
use crate::process::{Mint, Pid};
use spin::mutex::SpinMutex;
use std::sync::OnceLock;

/// Bits of a raw id that index the table; the rest are the entry's generation.
const INDEX_BITS: u32 = 24;
/// The most processes that a system can be configured for.
pub(crate) const PROCESSES_MAX: u32 = 1 << INDEX_BITS;
const GENERATION_MAX: u32 = (1 << (crate::process::ID_BITS - INDEX_BITS)) - 1;
/// Entries are allocated in chunks of this many, as they are needed.
const CHUNK: usize = 1024;

pub(crate) struct Table {
    mint: Mint,
    limit: u32,
    pool: SpinMutex<EntryPool, Relax>,
    chunks: Box<[OnceLock<Box<Chunk>>]>,
}

/// The free entries, and the counts of entries.
#[derive(Default)]
struct EntryPool {
    live: u32,
    /// Free entries that were in use before. The newest comes first, because its memory is still in the cache.
    free: Vec<u32>,
    /// The number of entries that were ever in use.
    used: u32,
}

type Chunk = [Entry; CHUNK];

/// The entries of two processes, the first of which is the one that asks.
pub(crate) enum FoundBoth<'a> {
    Alive {
        own: ControlGuard<'a>,
        other: ControlGuard<'a>,
        other_index: u32,
        other_entry: &'a Entry,
    },
    Doomed,
    Gone(ControlGuard<'a>),
}

/// No entry is free.
pub(crate) struct TableFull;

impl Table {
    pub(crate) fn new(mint: Mint, limit: u32) -> Table {
        let limit = limit.min(PROCESSES_MAX);
        let chunks = (limit as usize).div_ceil(CHUNK);
        Table {
            mint,
            limit,
            pool: SpinMutex::default(),
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The number of processes, including mailboxes of the host.
    pub(crate) fn live(&self) -> u32 {
        self.pool.lock().live
    }

    /// Reserves an entry for a new process. It stays [`Phase::Absent`] until the caller changes its phase.
    pub(crate) fn reserve(&self) -> Result<(u32, Pid), TableFull> {
        let index = self.pool.lock().take(self.limit).ok_or(TableFull)?;
        let entry = self.entry(index);
        let mut control = entry.control();
        control.generation += 1;
        let raw = u64::from(control.generation) << INDEX_BITS | u64::from(index);
        let pid = self.pid(self.mint.encipher(raw));
        entry.begin(&mut control, pid);
        Ok((index, pid))
    }

    /// Frees an entry whose control the caller has emptied.
    pub(crate) fn release(&self, index: u32, mut control: ControlGuard<'_>) {
        debug_assert!(control.body.is_none() && control.ties.is_none());
        control.phase = Phase::Absent;
        control.id = 0;
        let exhausted = control.generation == GENERATION_MAX;
        drop(control);
        let mut pool = self.pool.lock();
        pool.live -= 1;
        if !exhausted {
            pool.free.push(index);
        }
    }

    /// The entry with this index, which must have been reserved before.
    #[inline]
    pub(crate) fn entry(&self, index: u32) -> &Entry {
        let chunk = self.chunks[index as usize / CHUNK].get_or_init(new_chunk);
        &chunk[index as usize % CHUNK]
    }

    /// Finds and locks the living process of a pid. None if it has ended or has a pending exit.
    #[inline]
    pub(crate) fn find(&self, pid: Pid) -> Option<(u32, &Entry, ControlGuard<'_>)> {
        let (index, entry) = self.place(pid)?;
        let control = entry.control();
        control.is_alive(pid).then_some((index, entry, control))
    }

    /// Like [`Table::find`], for a caller that knows the entry's index.
    #[inline]
    pub(crate) fn find_at(&self, index: u32, pid: Pid) -> Option<(&Entry, ControlGuard<'_>)> {
        let entry = self.entry(index);
        let control = entry.control();
        control.is_alive(pid).then_some((entry, control))
    }

    /// Is a process alive, doomed or gone?
    pub(crate) fn liveness(&self, pid: Pid) -> Liveness {
        match self.place(pid) {
            Some((_, entry)) => entry.control().liveness(pid),
            None => Liveness::Gone,
        }
    }

    /// Locks a process's own entry and that of another process, in the order of their indexes: so two processes that
    /// lock each other's entries can't deadlock.
    pub(crate) fn find_both(&self, own_index: u32, other: Pid) -> FoundBoth<'_> {
        let own_entry = self.entry(own_index);
        // If the index is the own one, the pid is of a process that had this entry before.
        let place = self.place(other).filter(|(index, _)| *index != own_index);
        let Some((other_index, other_entry)) = place else {
            return FoundBoth::Gone(own_entry.control());
        };
        let (own, other_control) = if own_index < other_index {
            let own = own_entry.control();
            (own, other_entry.control())
        } else {
            let other_control = other_entry.control();
            (own_entry.control(), other_control)
        };
        match other_control.liveness(other) {
            Liveness::Alive => FoundBoth::Alive {
                own,
                other: other_control,
                other_index,
                other_entry,
            },
            Liveness::Doomed => FoundBoth::Doomed,
            Liveness::Gone => FoundBoth::Gone(own),
        }
    }

    /// The entry in which the process of a pid is, or was.
    #[inline]
    fn place(&self, pid: Pid) -> Option<(u32, &Entry)> {
        let index = self.index(pid)?;
        Some((index, self.entry(index)))
    }

    /// The index of a pid's entry, which was reserved at some time.
    #[inline]
    pub(crate) fn index(&self, pid: Pid) -> Option<u32> {
        let raw = self.mint.decipher(pid.id)?;
        let index = (raw & u64::from(PROCESSES_MAX - 1)) as u32;
        self.chunks.get(index as usize / CHUNK)?.get()?;
        Some(index)
    }

    /// The pid with this id.
    pub(crate) fn pid(&self, id: u64) -> Pid {
        Pid {
            node: self.mint.tag(id),
            id,
        }
    }

    /// The number of entries that were ever in use.
    pub(crate) fn used(&self) -> u32 {
        self.pool.lock().used
    }

    /// Every entry that was ever in use, with its index.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, &Entry)> {
        (0..self.used()).map(|index| (index, self.entry(index)))
    }
}

impl EntryPool {
    /// Takes the index of a free entry. None if `limit` processes live, or if every entry has been through all its
    /// generations: 2^29 processes each.
    fn take(&mut self, limit: u32) -> Option<u32> {
        if self.live >= limit {
            return None;
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.used < limit => {
                self.used += 1;
                self.used - 1
            }
            None => return None,
        };
        self.live += 1;
        Some(index)
    }
}

fn new_chunk() -> Box<Chunk> {
    let entries: Box<[Entry]> = (0..CHUNK).map(|_| Entry::empty()).collect();
    match entries.try_into() {
        Ok(chunk) => chunk,
        Err(_) => unreachable!("they were counted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(limit: u32) -> Table {
        let mut keys = [3, 5, 7, 11, 13, 17, 19, 23].into_iter();
        Table::new(Mint::new(|| keys.next().unwrap_or(0)), limit)
    }

    #[test]
    fn an_id_is_never_used_twice_and_never_found_again() {
        let table = table(4);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let Ok((index, pid)) = table.reserve() else {
                panic!("an entry is free")
            };
            assert!(seen.insert(pid), "{pid} was used twice");
            table.entry(index).control().phase = Phase::Waiting;
            assert!(table.find(pid).is_some());
            table.release(index, table.entry(index).control());
            assert!(table.find(pid).is_none());
        }
    }

    #[test]
    fn the_limit_holds_and_entries_come_back() {
        let table = table(3);
        let indexes: Vec<u32> = (0..3)
            .filter_map(|_| table.reserve().ok())
            .map(|(index, _)| index)
            .collect();
        assert_eq!(indexes.len(), 3);
        assert!(table.reserve().is_err());
        assert_eq!(table.live(), 3);
        table.release(indexes[1], table.entry(indexes[1]).control());
        assert!(table.reserve().is_ok());
        assert!(table.reserve().is_err());
    }

    #[test]
    fn pids_that_were_made_up_lead_nowhere() {
        let table = table(3);
        let Ok((index, pid)) = table.reserve() else {
            panic!("an entry is free")
        };
        table.entry(index).control().phase = Phase::Waiting;
        for wrong in [
            Pid {
                node: pid.node ^ 1,
                ..pid
            },
            Pid {
                id: pid.id ^ 1,
                ..pid
            },
            Pid { id: 0, ..pid },
            Pid {
                id: u64::MAX,
                ..pid
            },
        ] {
            assert!(table.find(wrong).is_none(), "{wrong:?}");
        }
    }
}

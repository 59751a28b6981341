//! The process table: where a pid leads, and what is kept of each process.
//!
//! An entry is never freed, only used again under a new id, so that finding a process takes no lock and no reference
//! count: decipher the id, index the table, lock the entry, compare the id. All that others may touch of a process is
//! in its [`Control`], behind that one lock, which is held for a few instructions and never while guest code or a
//! destructor runs.

use super::program::{Body, Runnable};
use crate::process::{Cipher, Event, ExitReason, Pid};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use tokio::sync::oneshot;

/// Bits of a raw id that index the table; the rest are the entry's generation.
const INDEX_BITS: u32 = 24;
/// The most processes that a system can be configured for.
pub(crate) const PROCESSES_MAX: u32 = 1 << INDEX_BITS;
const GENERATION_MAX: u32 = (1 << (crate::process::ID_BITS - INDEX_BITS)) - 1;
/// Entries come into being in chunks of this many, as they are needed.
const CHUNK: usize = 1024;

pub(crate) struct Table {
    node: u64,
    cipher: Cipher,
    limit: u32,
    live: AtomicU32,
    /// Entries that were in use once; the newest first, because its memory is still in the cache.
    free: Mutex<Vec<u32>>,
    /// How many entries were ever in use.
    used: AtomicU32,
    chunks: Box<[OnceLock<Box<[Entry]>>]>,
}

/// One process, or room for one.
pub(crate) struct Entry {
    control: Mutex<Control>,
    /// Something is in `arrived`. Written under the lock; read without it, to see that there is nothing to lock for.
    pub(crate) has_mail: AtomicBool,
}

/// What others may touch of a process.
pub(crate) struct Control {
    /// Its id; 0 while the entry is free, which no id is.
    pub(crate) id: u64,
    generation: u32,
    pub(crate) phase: Phase,
    /// What the process said it waits for when it last stopped running.
    pub(crate) awaits: Awaits,
    /// Its waker was called since it began to run.
    pub(crate) woken: bool,
    /// The number of the wait that has a timer armed; 0 for none.
    pub(crate) alarm: u32,
    /// That timer has run out.
    pub(crate) expired: bool,
    /// It is to end with this reason before it runs again.
    pub(crate) ending: Option<ExitReason>,
    /// What arrived since the receiver looked last.
    pub(crate) arrived: VecDeque<Option<Event>>,
    /// What the mailbox holds, in bytes: what has arrived, and what the receiver has taken over to search.
    pub(crate) mailbox_bytes: u64,
    pub(crate) mailbox_bytes_max: u64,
    /// Its execution, while it is not running.
    pub(crate) body: Option<Body>,
    /// Wakes it when a host call of its is complete; for guests of programs that can make such calls, and for
    /// mailboxes of the host.
    pub(crate) waker: Option<Waker>,
    pub(crate) identity: Option<Identity>,
    pub(crate) watchers: Vec<oneshot::Sender<ExitReason>>,
}

/// What a guest process is, for reports.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) program: Arc<dyn Runnable>,
    pub(crate) function: u32,
    pub(crate) label: Option<Box<str>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// No process, or one that is being made or unmade.
    Absent,
    /// A mailbox of the host's: nothing to run.
    Host,
    /// Not in a run queue; something must happen first.
    Waiting,
    /// In a run queue.
    Scheduled,
    /// A scheduler is running it.
    Running,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Awaits {
    /// The end of a host call, or nothing but its turn.
    Host,
    /// Something in the mailbox, or a timeout.
    Mail,
}

/// What is to be done, once the lock is released, for a process that something happened to.
#[must_use]
pub(crate) enum Nudge {
    Nothing,
    Schedule,
    Wake(Waker),
}

impl Control {
    /// Something happened that ends a wait for mail.
    pub(crate) fn mail(&mut self) -> Nudge {
        match self.phase {
            Phase::Waiting if self.awaits == Awaits::Mail => self.schedule(),
            Phase::Host => self.waker.take().map_or(Nudge::Nothing, Nudge::Wake),
            _ => Nudge::Nothing,
        }
    }

    /// A host call may be complete.
    pub(crate) fn wake(&mut self) -> Nudge {
        if self.phase == Phase::Waiting && self.awaits == Awaits::Host {
            return self.schedule();
        }
        self.woken = true;
        Nudge::Nothing
    }

    /// The process must end, whatever it does now. The first reason stays.
    pub(crate) fn end_with(&mut self, reason: ExitReason) -> Nudge {
        self.ending.get_or_insert(reason);
        match self.phase {
            Phase::Waiting => self.schedule(),
            _ => Nudge::Nothing,
        }
    }

    fn schedule(&mut self) -> Nudge {
        self.phase = Phase::Scheduled;
        Nudge::Schedule
    }
}

/// Why no entry could be had.
pub(crate) struct TableFull;

impl Table {
    pub(crate) fn new(node: u64, cipher: Cipher, limit: u32) -> Table {
        let limit = limit.min(PROCESSES_MAX);
        let chunks = (limit as usize).div_ceil(CHUNK);
        Table {
            node,
            cipher,
            limit,
            live: AtomicU32::new(0),
            free: Mutex::new(Vec::new()),
            used: AtomicU32::new(0),
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The number of processes, mailboxes of the host included.
    pub(crate) fn live(&self) -> u32 {
        self.live.load(Ordering::Acquire)
    }

    /// Takes an entry for a new process, which stays [`Phase::Absent`] until the caller says otherwise.
    pub(crate) fn reserve(&self) -> Result<(u32, Pid), TableFull> {
        if self.live.fetch_add(1, Ordering::AcqRel) >= self.limit {
            self.live.fetch_sub(1, Ordering::AcqRel);
            return Err(TableFull);
        }
        let index = lock(&self.free).pop();
        let index = index.unwrap_or_else(|| self.used.fetch_add(1, Ordering::AcqRel));
        if index >= self.limit {
            // Every entry has been through all its generations: 2^29 processes each.
            self.used.fetch_sub(1, Ordering::AcqRel);
            self.live.fetch_sub(1, Ordering::AcqRel);
            return Err(TableFull);
        }
        let entry = self.entry(index);
        let mut control = entry.control();
        control.generation += 1;
        let raw = u64::from(control.generation) << INDEX_BITS | u64::from(index);
        control.id = self.cipher.encipher(raw);
        control.mailbox_bytes = 0;
        entry.has_mail.store(false, Ordering::Relaxed);
        let id = control.id;
        Ok((
            index,
            Pid {
                node: self.node,
                id,
            },
        ))
    }

    /// Gives an entry back, whose control has been emptied by the caller.
    pub(crate) fn release(&self, index: u32) {
        let mut control = self.entry(index).control();
        debug_assert!(control.body.is_none() && control.phase == Phase::Absent);
        control.id = 0;
        let exhausted = control.generation == GENERATION_MAX;
        drop(control);
        if !exhausted {
            lock(&self.free).push(index);
        }
        self.live.fetch_sub(1, Ordering::AcqRel);
    }

    /// The entry with this index, which must have been reserved at some time.
    #[inline]
    pub(crate) fn entry(&self, index: u32) -> &Entry {
        let chunk = self.chunks[index as usize / CHUNK].get_or_init(new_chunk);
        &chunk[index as usize % CHUNK]
    }

    /// The living process behind a pid, locked.
    #[inline]
    pub(crate) fn find(&self, pid: Pid) -> Option<(u32, &Entry, MutexGuard<'_, Control>)> {
        if pid.node != self.node {
            return None;
        }
        let raw = self.cipher.decipher(pid.id)?;
        let index = (raw & u64::from(PROCESSES_MAX - 1)) as u32;
        let entry = &self.chunks.get(index as usize / CHUNK)?.get()?[index as usize % CHUNK];
        let control = entry.control();
        // A free entry's id is 0, which must not be found even if some raw id enciphers to 0.
        (control.id == pid.id && control.phase != Phase::Absent).then_some((index, entry, control))
    }

    /// Every entry that was ever in use, with its index.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, &Entry)> {
        let used = self.used.load(Ordering::Acquire).min(self.limit);
        (0..used).map(|index| (index, self.entry(index)))
    }
}

impl Entry {
    #[inline]
    pub(crate) fn control(&self) -> MutexGuard<'_, Control> {
        lock(&self.control)
    }
}

fn new_chunk() -> Box<[Entry]> {
    let empty = || Entry {
        control: Mutex::new(Control {
            id: 0,
            generation: 0,
            phase: Phase::Absent,
            awaits: Awaits::Host,
            woken: false,
            alarm: 0,
            expired: false,
            ending: None,
            arrived: VecDeque::new(),
            mailbox_bytes: 0,
            mailbox_bytes_max: 0,
            body: None,
            waker: None,
            identity: None,
            watchers: Vec::new(),
        }),
        has_mail: AtomicBool::new(false),
    };
    (0..CHUNK).map(|_| empty()).collect()
}

/// Locks, whatever a panicking holder may have left: no holder leaves a half-made change behind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(limit: u32) -> Table {
        Table::new(7, Cipher::new([3, 5, 7, 11, 13, 17]), limit)
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
            table.entry(index).control().phase = Phase::Absent;
            table.release(index);
            assert!(table.find(pid).is_none());
        }
    }

    #[test]
    fn the_limit_holds_and_room_comes_back() {
        let table = table(3);
        let indexes: Vec<u32> = (0..3)
            .filter_map(|_| table.reserve().ok())
            .map(|(index, _)| index)
            .collect();
        assert_eq!(indexes.len(), 3);
        assert!(table.reserve().is_err());
        assert_eq!(table.live(), 3);
        table.release(indexes[1]);
        assert!(table.reserve().is_ok());
        assert!(table.reserve().is_err());
    }

    #[test]
    fn pids_of_other_nodes_and_made_up_ones_lead_nowhere() {
        let table = table(3);
        let Ok((index, pid)) = table.reserve() else {
            panic!("an entry is free")
        };
        table.entry(index).control().phase = Phase::Waiting;
        for wrong in [
            Pid { node: 8, ..pid },
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

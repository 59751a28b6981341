//! The tables of names and of groups, as data. A domain has its own ones or those of the domain around it.

use super::locks::{lock, lock_write};
use crate::process::{Pid, Reference};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The longest name of a process or group. A name is a handle, not a text.
const NAME_BYTES_MAX: usize = 255;

/// Is this text a valid name for a process or a group?
pub(super) fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
}

/// Cuts a text that may be a name to the bytes that the host keeps. No name is longer.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(NAME_BYTES_MAX)]
}

/// Names of processes.
#[derive(Default)]
pub(crate) struct Names(RwLock<NameTable>);

#[derive(Default)]
pub(super) struct NameTable {
    by_name: HashMap<Arc<str>, Pid>,
    /// The same names, sorted.
    pub(super) sorted: BTreeSet<Arc<str>>,
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.read().by_name.len()
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, NameTable> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, NameTable> {
        lock_write(&self.0)
    }
}

impl NameTable {
    pub(super) fn get(&self, name: &str) -> Option<Pid> {
        self.by_name.get(name).copied()
    }

    pub(super) fn insert(&mut self, name: Arc<str>, pid: Pid) {
        self.sorted.insert(name.clone());
        self.by_name.insert(name, pid);
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Pid> {
        self.sorted.remove(name);
        self.by_name.remove(name)
    }
}

/// The reason for which a name was not registered: the contract's `register-error`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Another process has the name.
    #[error("another process has this name")]
    Taken,
    /// The process already has a name.
    #[error("the process has a name already")]
    AlreadyNamed,
    /// There is no such process.
    #[error("there is no such process")]
    NoProc,
    /// The name is empty, or longer than 255 bytes.
    #[error("a name has 1 to 255 bytes")]
    BadName,
}

/// Groups of processes.
#[derive(Default)]
pub(crate) struct Groups(Mutex<GroupTable>);

#[derive(Default)]
pub(super) struct GroupTable {
    pub(super) by_name: HashMap<Arc<str>, Group>,
    /// The names of the groups that have members, sorted.
    pub(super) sorted: BTreeSet<Arc<str>>,
}

/// A group with members or monitors.
#[derive(Default)]
pub(super) struct Group {
    pub(super) members: HashMap<Pid, u32>,
    /// The number of joins, all members together.
    pub(super) entries: usize,
    pub(super) monitors: HashMap<Reference, Pid>,
    /// The number of monitors that each process has.
    pub(super) monitoring: HashMap<Pid, u32>,
}

impl Groups {
    /// The number of groups that have members.
    pub(super) fn len(&self) -> usize {
        self.lock().sorted.len()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, GroupTable> {
        lock(&self.0)
    }
}

impl Group {
    /// The members, each as often as it has joined.
    pub(super) fn list(&self) -> Vec<Pid> {
        let times = |(&pid, &times): (&Pid, &u32)| std::iter::repeat_n(pid, times as usize);
        self.members.iter().flat_map(times).collect()
    }
}

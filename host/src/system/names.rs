//! Names for processes. OTP: `register/2`, `whereis/1`.
//!
//! One map for the whole system. A process notes its name among its ties, so that its teardown removes the name from
//! the map. The map's lock is taken before a process's.

use super::Shared;
use super::current::{Current, LISTED_AT_ONCE};
use super::table::lock_write;
use crate::broken::{Rule, breaks};
use crate::process::Pid;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::Poll;

/// The longest name. A name is a handle, not a text.
const NAME_BYTES_MAX: usize = 255;

#[derive(Default)]
pub(crate) struct Names(RwLock<Table>);

#[derive(Default)]
struct Table {
    by_name: HashMap<Arc<str>, Pid>,
    /// The same names, sorted.
    sorted: BTreeSet<Arc<str>>,
}

impl Table {
    fn get(&self, name: &str) -> Option<Pid> {
        self.by_name.get(name).copied()
    }

    fn insert(&mut self, name: Arc<str>, pid: Pid) {
        self.sorted.insert(name.clone());
        self.by_name.insert(name, pid);
    }

    fn remove(&mut self, name: &str) -> Option<Pid> {
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

/// Is this text a valid name for a process or a group?
pub(super) fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
}

/// Cuts a text that may be a name to the bytes that the host keeps. No name is longer.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(NAME_BYTES_MAX)]
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.read().by_name.len()
    }

    /// Removes a name, if this process has it.
    pub(super) fn remove(&self, name: &str, pid: Pid) {
        if breaks(Rule::NamesSurvive) {
            return;
        }
        let mut names = lock_write(&self.0);
        if names.get(name) == Some(pid) {
            names.remove(name);
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// OTP: `register/2`.
    pub(crate) fn register(&self, name: &str, pid: Pid) -> Result<(), RegisterError> {
        if !is_name(name) {
            return Err(RegisterError::BadName);
        }
        let mut names = lock_write(&self.names.0);
        let is_taken = self.has_holder(&names, name);
        let Some((_, _, mut control)) = self.table.find(pid) else {
            return Err(RegisterError::NoProc);
        };
        if is_taken {
            return Err(RegisterError::Taken);
        }
        let ties = control.ties();
        if ties.name.is_some() {
            return Err(RegisterError::AlreadyNamed);
        }
        let name: Arc<str> = name.into();
        ties.name = Some(name.clone());
        names.insert(name, pid);
        Ok(())
    }

    /// OTP: `unregister/1`.
    pub(crate) fn unregister(&self, name: &str) -> bool {
        let mut names = lock_write(&self.names.0);
        let Some(pid) = names.remove(name) else {
            return false;
        };
        if let Some((_, _, mut control)) = self.table.find(pid)
            && let Some(ties) = control.ties.as_mut()
        {
            ties.name = None;
        }
        true
    }

    /// Registers a name for a process that `publish` makes visible, both in one step. Does not call `publish` if the
    /// name is taken.
    pub(super) fn register_newborn(
        &self,
        name: Arc<str>,
        pid: Pid,
        publish: impl FnOnce(),
    ) -> Result<(), RegisterError> {
        let mut names = lock_write(&self.names.0);
        if self.has_holder(&names, &name) {
            return Err(RegisterError::Taken);
        }
        publish();
        names.insert(name, pid);
        Ok(())
    }

    /// OTP: `whereis/1`.
    pub(crate) fn whereis(&self, name: &str) -> Option<Pid> {
        let holder = self.names.read().get(name);
        holder.filter(|pid| self.keeps_name(*pid))
    }

    fn has_holder(&self, names: &Table, name: &str) -> bool {
        names.get(name).is_some_and(|pid| self.keeps_name(pid))
    }

    /// Does a process keep its name? A process with a pending exit counts as dead for all others, so its name is
    /// free, even though its teardown has not removed it yet.
    fn keeps_name(&self, holder: Pid) -> bool {
        breaks(Rule::NamesSurvive) || self.is_alive(holder)
    }

    /// The next names after `last`, sorted: [`LISTED_AT_ONCE`] of them, or fewer if there are no more.
    fn registered_after(&self, last: Option<&Arc<str>>) -> Vec<Arc<str>> {
        let names = self.names.read();
        let start = last.map_or(Bound::Unbounded, |last| Bound::Excluded(last.clone()));
        let rest = names.sorted.range((start, Bound::Unbounded));
        let held = rest.filter(|name| self.has_holder(&names, name));
        held.take(LISTED_AT_ONCE).cloned().collect()
    }
}

impl Current {
    /// OTP: `register/2`.
    pub(crate) fn register(&mut self, name: &str, pid: Pid) -> Result<(), RegisterError> {
        self.charge_tie();
        self.shared.register(name, pid)
    }

    /// OTP: `unregister/1`.
    pub(crate) fn unregister(&mut self, name: &str) -> bool {
        self.charge_tie();
        self.shared.unregister(name)
    }

    /// OTP: `whereis/1`.
    pub(crate) fn whereis(&mut self, name: &str) -> Option<Pid> {
        self.charge_tie();
        self.shared.whereis(name)
    }

    /// All names, sorted. They are gathered in pieces: the process must ask again while this is pending. OTP:
    /// `registered/0`.
    pub(crate) fn registered(&mut self) -> Poll<Vec<Arc<str>>> {
        let shared = self.shared.clone();
        self.list(|last| shared.registered_after(last))
    }
}

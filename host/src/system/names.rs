//! Names for processes. OTP: `register/2`, `whereis/1`.
//!
//! A process sees the names of its domain, and has its own name there. It notes its name among its ties, so that its
//! teardown removes it. The table's lock is taken before a process's.

use super::Shared;
use super::current::{Current, LISTED_AT_ONCE};
use super::domain::Domain;
use super::namespace::{NameTable, RegisterError, is_name};
use crate::broken::{Rule, breaks};
use crate::process::Pid;
use std::ops::Bound;
use std::sync::Arc;
use std::task::Poll;

impl Shared {
    /// OTP: `register/2`.
    pub(crate) fn register(
        &self,
        domain: &Domain,
        name: &str,
        pid: Pid,
    ) -> Result<(), RegisterError> {
        if !is_name(name) {
            return Err(RegisterError::BadName);
        }
        let mut names = domain.names.write();
        let is_taken = self.has_holder(&names, name);
        let Some((_, _, mut control)) = self.table.find(pid) else {
            return Err(RegisterError::NoProc);
        };
        // Processes of a tree with names of its own are not there for the others' names.
        if !Arc::ptr_eq(&control.domain_or(&self.domain).names, &domain.names) {
            return Err(RegisterError::NoProc);
        }
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

    /// Takes a name away, if the process that has it is one of `holder`, or if that is none. OTP: `unregister/1`.
    fn unregister(&self, domain: &Domain, name: &str, holder: Option<Pid>) -> bool {
        let mut names = domain.names.write();
        if holder.is_some() && names.get(name) != holder {
            return false;
        }
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
        domain: &Domain,
        name: Arc<str>,
        pid: Pid,
        publish: impl FnOnce(),
    ) -> Result<(), RegisterError> {
        let mut names = domain.names.write();
        if self.has_holder(&names, &name) {
            return Err(RegisterError::Taken);
        }
        publish();
        names.insert(name, pid);
        Ok(())
    }

    /// Removes the name of a process that has ended.
    pub(super) fn forget_name(&self, domain: &Domain, name: &str, pid: Pid) {
        if breaks(Rule::NamesSurvive) {
            return;
        }
        let mut names = domain.names.write();
        if names.get(name) == Some(pid) {
            names.remove(name);
        }
    }

    /// OTP: `whereis/1`.
    pub(crate) fn whereis(&self, domain: &Domain, name: &str) -> Option<Pid> {
        let holder = domain.names.read().get(name);
        holder.filter(|pid| self.keeps_name(*pid))
    }

    fn has_holder(&self, names: &NameTable, name: &str) -> bool {
        names.get(name).is_some_and(|pid| self.keeps_name(pid))
    }

    /// Does a process keep its name? A process with a pending exit counts as dead for all others, so its name is
    /// free, even though its teardown has not removed it yet.
    fn keeps_name(&self, holder: Pid) -> bool {
        breaks(Rule::NamesSurvive) || self.is_alive(holder)
    }

    /// The next names after `last`, sorted: [`LISTED_AT_ONCE`] of them, or fewer if there are no more.
    fn registered_after(&self, domain: &Domain, last: Option<&Arc<str>>) -> Vec<Arc<str>> {
        let names = domain.names.read();
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
        if !self.has_power_over(pid) {
            return Err(RegisterError::NoProc);
        }
        self.shared.register(self.domain(), name, pid)
    }

    /// OTP: `unregister/1`.
    pub(crate) fn unregister(&mut self, name: &str) -> bool {
        self.charge_tie();
        let holder = self.whereis_now(name);
        if holder.is_some_and(|holder| !self.has_power_over(holder)) {
            return false;
        }
        self.shared.unregister(self.domain(), name, holder)
    }

    /// OTP: `whereis/1`.
    pub(crate) fn whereis(&mut self, name: &str) -> Option<Pid> {
        self.charge_tie();
        self.whereis_now(name)
    }

    /// All names, sorted. They are gathered in pieces: the process must ask again while this is pending. OTP:
    /// `registered/0`.
    pub(crate) fn registered(&mut self) -> Poll<Vec<Arc<str>>> {
        let (shared, domain) = (self.shared.clone(), self.domain().clone());
        self.list(|last| shared.registered_after(&domain, last))
    }
}

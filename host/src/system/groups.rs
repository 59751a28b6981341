//! Groups of processes, by name. OTP: `pg`.
//!
//! A process sees the groups of its domain, and is a member of those only. It notes its memberships and its monitors of groups among its ties, so that
//! its teardown removes them. The table's lock is taken before a process's. [`MONITORS_MAX`] bounds the cost of one
//! change.

use super::Shared;
use super::current::{Current, LISTED_AT_ONCE};
use super::domain::Domain;
use super::namespace::{Group, is_name};
use crate::process::{Budget, Event, ExitReason, GroupChange, Kinds, Pid, Reference};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Bound;
use std::sync::Arc;
use std::task::Poll;

/// Joins that one process may have, in all groups together. Its teardown has to undo each of them.
const MEMBERSHIPS_MAX: u32 = 1024;
/// Monitors of one group that one process may have, so that no process uses up the limit that all share.
const OWN_MONITORS_MAX: u32 = 4096;
/// Entries that a group's list of members may have. The list is copied in one go.
const MEMBERS_MAX: usize = 1 << 18;
/// Monitors that one group may have. Each change tells all of them, which takes some milliseconds at most.
const MONITORS_MAX: usize = 1 << 16;

/// The reason for which a process did not join: the contract's `join-error`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum JoinError {
    NoProc,
    BadName,
    TooMany,
}

impl Shared {
    /// Makes a process a member. Returns how many monitors were told. OTP: `pg:join/2`.
    fn join(&self, domain: &Domain, name: &str, pid: Pid) -> Result<usize, JoinError> {
        if !is_name(name) {
            return Err(JoinError::BadName);
        }
        let groups = &mut *domain.groups.lock();
        let name: Arc<str> = match groups.by_name.get_key_value(name) {
            Some((_, group)) if group.entries >= MEMBERS_MAX => return Err(JoinError::TooMany),
            Some((name, _)) => name.clone(),
            None => name.into(),
        };
        {
            let Some((_, _, mut control)) = self.table.find(pid) else {
                return Err(JoinError::NoProc);
            };
            // Processes of a tree with groups of its own are not there for the others' groups.
            if !Arc::ptr_eq(&control.domain_or(&self.domain).groups, &domain.groups) {
                return Err(JoinError::NoProc);
            }
            let ties = control.ties();
            let memberships: u32 = ties.groups.iter().map(|(_, times)| times).sum();
            if memberships >= MEMBERSHIPS_MAX {
                return Err(JoinError::TooMany);
            }
            match ties.groups.get_mut(&name) {
                Some(times) => *times += 1,
                None => {
                    ties.groups.insert(name.clone(), 1);
                }
            }
        }
        groups.sorted.insert(name.clone());
        let group = groups.by_name.entry(name).or_default();
        *group.members.entry(pid).or_default() += 1;
        group.entries += 1;
        Ok(self.tell(group, GroupChange::Joined, pid))
    }

    /// Undoes one join. Returns how many monitors were told, or none if the process was no member. OTP: `pg:leave/2`.
    fn leave(&self, domain: &Domain, name: &str, pid: Pid) -> Option<usize> {
        let groups = &mut *domain.groups.lock();
        let name = groups.by_name.get_key_value(name)?.0.clone();
        let group = groups.by_name.get_mut(&name)?;
        let times = group.members.get_mut(&pid)?;
        *times -= 1;
        group.entries -= 1;
        if *times == 0 {
            group.members.remove(&pid);
        }
        if group.members.is_empty() {
            groups.sorted.remove(&name);
        }
        if let Some((_, _, mut control)) = self.table.find(pid)
            && let Some(ties) = control.ties.as_mut()
            && let Some(times) = ties.groups.get_mut(&name)
        {
            *times -= 1;
            if *times == 0 {
                ties.groups.remove(&name);
            }
        }
        let told = self.tell(group, GroupChange::Left, pid);
        drop_if_empty(&mut groups.by_name, &name);
        Some(told)
    }

    /// Undoes one join of a process that has ended. Returns how many monitors were told.
    pub(super) fn leave_at_teardown(&self, domain: &Domain, name: &str, pid: Pid) -> usize {
        self.leave(domain, name, pid).unwrap_or(0)
    }

    /// Removes a monitor of a group.
    pub(super) fn forget_group_monitor(&self, domain: &Domain, name: &str, monitor: Reference) {
        let groups = &mut domain.groups.lock().by_name;
        if let Some(group) = groups.get_mut(name) {
            if let Some(process) = group.monitors.remove(&monitor)
                && let Entry::Occupied(mut own) = group.monitoring.entry(process)
            {
                *own.get_mut() -= 1;
                if *own.get() == 0 {
                    own.remove();
                }
            }
            drop_if_empty(groups, name);
        }
    }

    fn tell(&self, group: &Group, change: GroupChange, process: Pid) -> usize {
        for (&monitor, &to) in &group.monitors {
            self.deliver(
                to,
                Event::Group {
                    monitor,
                    change,
                    process,
                },
            );
        }
        group.monitors.len()
    }

    /// The next groups after `last` that have members, sorted, as [`Shared::registered_after`].
    fn groups_after(&self, domain: &Domain, last: Option<&Arc<str>>) -> Vec<Arc<str>> {
        let groups = domain.groups.lock();
        let start = last.map_or(Bound::Unbounded, |last| Bound::Excluded(last.clone()));
        let rest = groups.sorted.range((start, Bound::Unbounded));
        rest.take(LISTED_AT_ONCE).cloned().collect()
    }
}

fn drop_if_empty(groups: &mut HashMap<Arc<str>, Group>, name: &str) {
    let is_empty = |group: &Group| group.members.is_empty() && group.monitors.is_empty();
    if groups.get(name).is_some_and(is_empty) {
        groups.remove(name);
    }
}

impl Current {
    /// OTP: `pg:join/2`.
    pub(crate) fn join(&mut self, name: &str, pid: Pid) -> Result<(), JoinError> {
        self.charge_tie();
        if !self.has_power_over(pid) {
            return Err(JoinError::NoProc);
        }
        let told = self.shared.join(self.domain(), name, pid)?;
        self.charge_ties(told);
        Ok(())
    }

    /// The groups that have members, sorted. Pending until all are gathered: the process must ask again. OTP:
    /// `pg:which_groups/0`.
    pub(crate) fn which_groups(&mut self) -> Poll<Vec<Arc<str>>> {
        let (shared, domain) = (self.shared.clone(), self.domain().clone());
        self.list(|last| shared.groups_after(&domain, last))
    }

    /// The members, each as often as it has joined. OTP: `pg:get_members/1`.
    pub(crate) fn members(&self, name: &str) -> Vec<Pid> {
        let groups = &self.domain().groups.lock().by_name;
        groups.get(name).map_or_else(Vec::new, Group::list)
    }

    /// OTP: `pg:leave/2`.
    pub(crate) fn leave(&mut self, name: &str, pid: Pid) -> bool {
        self.charge_tie();
        if !self.has_power_over(pid) {
            return false;
        }
        let told = self.shared.leave(self.domain(), name, pid);
        self.charge_ties(told.unwrap_or(0));
        told.is_some()
    }

    /// Monitors a group's membership. Returns a reference and the present members. If the group has too many
    /// monitors, the process gets a down-signal that says so. OTP: `pg:monitor/1`.
    pub(crate) fn monitor_group(&mut self, name: &str) -> (Reference, Vec<Pid>) {
        self.charge_tie();
        let monitor = self.make_reference();
        let domain = self.domain().clone();
        let groups = &mut domain.groups.lock().by_name;
        let entry = self.entry();
        let mut control = entry.control();
        let group = groups.get(name);
        let is_full = group.is_some_and(|group| group.monitors.len() >= MONITORS_MAX);
        let own = group.and_then(|group| group.monitoring.get(&self.pid));
        if !is_name(name) {
            // No group has or will ever have such a name.
            return (monitor, Vec::new());
        }
        if is_full || own.is_some_and(|own| *own >= OWN_MONITORS_MAX) {
            let event = Event::Down {
                monitor,
                target: name.into(),
                reason: ExitReason::Exhausted(Budget::Resources),
            };
            // The process is in its turn, so it needs no wake action.
            let _ = control.receive(&self.shared.domain, entry, event);
            return (monitor, Vec::new());
        }
        if !self.shared.may_tie(entry, &mut control) {
            return (monitor, Vec::new());
        }
        let name: Arc<str> = match groups.get_key_value(name) {
            Some((name, _)) => name.clone(),
            None => name.into(),
        };
        control.ties().group_monitors.insert(monitor, name.clone());
        drop(control);
        let group = groups.entry(name).or_default();
        group.monitors.insert(monitor, self.pid);
        *group.monitoring.entry(self.pid).or_default() += 1;
        (monitor, group.list())
    }

    /// OTP: `pg:demonitor/1`.
    pub(crate) fn demonitor_group(&mut self, monitor: Reference) -> bool {
        self.charge_tie();
        let name = {
            let mut control = self.entry().control();
            let ties = control.ties.as_mut();
            ties.and_then(|ties| ties.group_monitors.remove(&monitor))
        };
        let Some(name) = name else { return false };
        (self.shared).forget_group_monitor(self.domain(), &name, monitor);
        self.discard_all(monitor, Kinds::GROUP);
        true
    }
}

//! Everything that ties a process to others: links, monitors, aliases, its name, groups, timers, suspensions.
//!
//! This file keeps the books of one process; `system` makes both sides agree. Most processes have no ties, so the
//! ties are one box, which is allocated with the first tie.

use super::{Destination, Pid, Reference, SmallMap};
use std::sync::Arc;

/// The ties of one process. `T` is the type of a timer, which this room does not know.
#[derive(Debug)]
pub(crate) struct Ties<T> {
    /// The processes that it is linked to, and which side made each link. The other process has this one among its
    /// links, too, until one of the two begins its teardown.
    links: SmallMap<Pid, LinkedBy>,
    /// The number of links that this process made itself.
    own_links: usize,
    /// Its monitors. An entry is removed when its down-signal is put into the mailbox.
    pub(crate) monitors: SmallMap<Reference, Monitored>,
    /// The monitors that other processes have on it, each with its owner.
    pub(crate) monitored_by: SmallMap<Reference, Pid>,
    /// The references by which others can send it a reply.
    pub(crate) aliases: SmallMap<Reference, AliasUse>,
    /// Timers that it has started.
    pub(crate) timers: SmallMap<Reference, Box<T>>,
    /// The bytes that its timers hold: payloads and names.
    pub(crate) timer_bytes: u64,
    /// Its monitors of groups, each with the group's name.
    pub(crate) group_monitors: SmallMap<Reference, Arc<str>>,
    /// The groups that it is a member of, and how many times it has joined each.
    pub(crate) groups: SmallMap<Arc<str>, u32>,
    /// The processes that it has suspended, and how many times.
    pub(crate) suspending: SmallMap<Pid, u32>,
    pub(crate) name: Option<Arc<str>>,
}

/// The target of a monitor.
#[derive(Debug)]
pub(crate) struct Monitored {
    /// The process.
    pub(crate) process: Pid,
    /// The name by which the process was found, if it was named.
    pub(crate) name: Option<Arc<str>>,
}

impl Monitored {
    /// The target as the caller of `monitor` named it.
    pub(crate) fn target(&self) -> Destination {
        match &self.name {
            Some(name) => Destination::Name((&**name).into()),
            None => Destination::Process(self.process),
        }
    }
}

/// The side that made a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkedBy {
    Itself,
    TheOther,
}

/// The things that end together with an alias.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AliasUse {
    /// The alias alone: it allows one reply.
    Reply,
    /// The monitor with the same reference: both belong to a call.
    Call,
}

impl<T> Default for Ties<T> {
    fn default() -> Self {
        Ties {
            links: SmallMap::default(),
            own_links: 0,
            monitors: SmallMap::default(),
            monitored_by: SmallMap::default(),
            aliases: SmallMap::default(),
            timers: SmallMap::default(),
            timer_bytes: 0,
            group_monitors: SmallMap::default(),
            groups: SmallMap::default(),
            suspending: SmallMap::default(),
            name: None,
        }
    }
}

impl<T> Ties<T> {
    /// Links the process to another one, unless they are linked already.
    pub(crate) fn link(&mut self, other: Pid, by: LinkedBy) {
        if !self.links.contains(&other) {
            self.links.insert(other, by);
            self.own_links += usize::from(by == LinkedBy::Itself);
        }
    }

    /// Removes the link to another process. Returns whether there was one.
    pub(crate) fn unlink(&mut self, other: &Pid) -> bool {
        let by = self.links.remove(other);
        self.own_links -= usize::from(by == Some(LinkedBy::Itself));
        by.is_some()
    }

    pub(crate) fn is_linked(&self, other: &Pid) -> bool {
        self.links.contains(other)
    }

    /// The processes that it is linked to.
    pub(crate) fn linked(&self) -> impl Iterator<Item = Pid> {
        self.links.iter().map(|(pid, _)| *pid)
    }

    /// Removes all links and hands each to `each`.
    pub(crate) fn drain_links_into(&mut self, mut each: impl FnMut(Pid)) {
        self.own_links = 0;
        self.links.drain_into(|other, _| each(other));
    }

    pub(crate) fn links(&self) -> usize {
        self.links.len()
    }

    /// The number of entries that the process has made itself. Only these count towards its limit: monitors on it,
    /// and links that others made, count towards the limit of their maker.
    pub(crate) fn count(&self) -> usize {
        self.own_links
            + self.monitors.len()
            + self.aliases.len()
            + self.timers.len()
            + self.group_monitors.len()
            + self.suspending.len()
    }
}

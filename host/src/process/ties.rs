//! What ties a process to others: links, monitors, aliases, its name, groups, timers, suspensions.
//!
//! Pure bookkeeping of one process's side; that both sides agree is the business of `system`. Most processes have none of
//! it, so it is one box, made when it is first needed.

use super::{Destination, Pid, Reference, SmallMap};
use std::sync::Arc;

/// The ties of one process. `T` is a timer, which this room does not know.
#[derive(Debug)]
pub(crate) struct Ties<T> {
    /// Processes that it is linked to, and who has made the link. Each has this one among its own links, until one of them
    /// begins to end.
    links: SmallMap<Pid, LinkedBy>,
    /// How many of the links it has made itself.
    own_links: usize,
    /// What it monitors. An entry goes when its down-signal is put into the mailbox.
    pub(crate) monitors: SmallMap<Reference, Monitored>,
    /// Who monitors it.
    pub(crate) monitored_by: SmallMap<Reference, Pid>,
    /// References by which it can be sent a reply.
    pub(crate) aliases: SmallMap<Reference, AliasUse>,
    /// Timers that it has started.
    pub(crate) timers: SmallMap<Reference, Box<T>>,
    /// Bytes that its timers hold: payloads and names.
    pub(crate) timer_bytes: u64,
    /// Monitors of groups that it has.
    pub(crate) group_monitors: SmallMap<Reference, Arc<str>>,
    /// Groups that it is a member of, and how often it has joined.
    pub(crate) groups: SmallMap<Arc<str>, u32>,
    /// Processes that it has suspended, and how often.
    pub(crate) suspending: SmallMap<Pid, u32>,
    pub(crate) name: Option<Arc<str>>,
}

/// What a monitor is on.
#[derive(Debug)]
pub(crate) struct Monitored {
    /// The process.
    pub(crate) process: Pid,
    /// The name by which it was found, if it was.
    pub(crate) name: Option<Arc<str>>,
}

impl Monitored {
    /// As it was said when the monitor began.
    pub(crate) fn target(&self) -> Destination {
        match &self.name {
            Some(name) => Destination::Name((&**name).into()),
            None => Destination::Process(self.process),
        }
    }
}

/// Names the side that made a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkedBy {
    Itself,
    TheOther,
}

/// What ends with an alias.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AliasUse {
    /// Nothing else.
    Reply,
    /// The monitor of the same reference: both belong to a call.
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
    /// Links it to another process, if it is not.
    pub(crate) fn link(&mut self, other: Pid, by: LinkedBy) {
        if !self.links.contains(&other) {
            self.links.insert(other, by);
            self.own_links += usize::from(by == LinkedBy::Itself);
        }
    }

    /// It is linked to that process no more. Was it?
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

    /// Takes all of them.
    pub(crate) fn drain_links_into(&mut self, mut each: impl FnMut(Pid)) {
        self.own_links = 0;
        self.links.drain_into(|other, _| each(other));
    }

    pub(crate) fn links(&self) -> usize {
        self.links.len()
    }

    /// How many entries the process has made itself: what its limit counts. What others have made is counted there: who
    /// monitors it, and links to it.
    pub(crate) fn count(&self) -> usize {
        self.own_links
            + self.monitors.len()
            + self.aliases.len()
            + self.timers.len()
            + self.group_monitors.len()
            + self.suspending.len()
    }
}

//! Spawning: from a request to a process in a run queue, or to an error without side effects.

use super::control::{Awaits, Control, Entry, Identity, Phase, Said};
use super::domain::{Domain, Membership};
use super::farewell::Watchers;
use super::limits::Limits;
use super::namespace::{RegisterError, is_name};
use super::program::{Body, NewProcess, Runnable, SpawnError};
use super::rights::{Rights, TreeOptions};
use super::{Program, Shared};
use crate::process::{ExitReason, LinkedBy, Monitored, Pid, Reference};
use crate::scheduler::Priority;
use crate::wasi::NetGrant;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// Labels are cut to this many bytes.
const LABEL_BYTES_MAX: usize = 255;

/// A request to spawn: a function of a program, with an argument and limits. OTP: `spawn_opt/4`.
#[derive(Clone)]
pub struct Spawn {
    pub(crate) program: Arc<dyn Runnable>,
    /// None if the program has no such function.
    pub(crate) function: Option<u32>,
    pub(crate) argument: Box<[u8]>,
    pub(crate) options: SpawnOptions,
}

/// The options of one spawn.
#[derive(Clone, Default)]
pub(crate) struct SpawnOptions {
    /// It begins a tree, with these limits and rights.
    pub(crate) tree: Option<Box<TreeOptions>>,
    pub(crate) label: Option<Box<str>>,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) priority: Priority,
    /// Link it to its parent.
    pub(crate) link: bool,
    /// The parent's monitors on the new process.
    pub(crate) monitors: smallvec::SmallVec<[Reference; 1]>,
}

impl Program {
    /// The options with which a process of the program begins that the host or another program spawns.
    pub(crate) fn tree_options(&self) -> Option<Box<TreeOptions>> {
        self.options
            .as_ref()
            .map(|options| Box::new((**options).clone()))
    }
}

impl SpawnOptions {
    /// The options of its tree. There is one from now on.
    pub(crate) fn tree(&mut self) -> &mut TreeOptions {
        self.tree.get_or_insert_default()
    }
}

/// The process that spawns another.
#[derive(Clone)]
pub(crate) struct Parent {
    pub(crate) index: u32,
    pub(crate) pid: Pid,
    /// None for the system's own domain.
    pub(crate) domain: Option<Arc<Domain>>,
}

impl Spawn {
    /// Spawns the entry of a program, with an empty argument and the system's limits.
    pub fn new(program: &Program) -> Spawn {
        Spawn {
            program: program.runnable.clone(),
            function: program.runnable.function(""),
            argument: Box::default(),
            options: SpawnOptions {
                tree: program.tree_options(),
                ..SpawnOptions::default()
            },
        }
    }

    /// Spawns another function: the name of an export that takes and returns nothing.
    pub fn function(mut self, name: impl AsRef<str>) -> Spawn {
        self.function = self.program.function(name.as_ref());
        self
    }

    /// Sets the bytes that the process reads with `lifecycle.argument`.
    pub fn argument(mut self, bytes: impl Into<Box<[u8]>>) -> Spawn {
        self.argument = bytes.into();
        self
    }

    /// Sets limits for the process and for all that it spawns, its tree. The system's limits hold as well.
    pub fn limits(mut self, limits: Limits) -> Spawn {
        let tree = self.options.tree();
        tree.limits = tree.limits.and(&limits);
        self
    }

    /// Makes the process the root of a tree, so that [`System::kill_tree`](crate::System::kill_tree) can end it with
    /// all that it has spawned. A process with limits is one anyway.
    pub fn tree(mut self) -> Spawn {
        self.options.tree();
        self
    }

    /// Makes the process the root of a tree with these options. Called again, it adds to them: of each limit the smaller
    /// one holds, of each right what all calls leave.
    pub fn within(mut self, options: TreeOptions) -> Spawn {
        let tree = self.options.tree();
        *tree = tree.and(options);
        self
    }

    /// Withholds rights from the process and from all that it spawns.
    pub fn without(mut self, rights: Rights) -> Spawn {
        self.options.tree().without |= rights;
        self
    }

    /// Passes on only these of the directories that the system grants, by the paths that guests see.
    pub fn directories<P: AsRef<str>>(self, paths: impl IntoIterator<Item = P>) -> Spawn {
        let paths = paths.into_iter().map(|path| path.as_ref().into());
        self.within(TreeOptions {
            directories: Some(paths.collect()),
            ..TreeOptions::default()
        })
    }

    /// Passes on only these of the network addresses that the system grants.
    pub fn network(self, addresses: NetGrant) -> Spawn {
        self.within(TreeOptions {
            network: Some(addresses),
            ..TreeOptions::default()
        })
    }

    /// Lets the process and all that it spawns spawn only these programs, beside their own.
    pub fn programs<P: AsRef<str>>(self, names: impl IntoIterator<Item = P>) -> Spawn {
        let names = names.into_iter().map(|name| name.as_ref().into());
        self.within(TreeOptions {
            programs: Some(names.collect()),
            ..TreeOptions::default()
        })
    }

    /// Gives the process, and all that it spawns, names and groups of their own.
    pub fn own_names(mut self) -> Spawn {
        self.options.tree().own_names = true;
        self
    }

    /// Registers the process under this name. OTP: `register/2`.
    pub fn name(mut self, name: &str) -> Spawn {
        self.options.name = Some(name.into());
        self
    }

    /// Sets how urgently the process wants to run. The default is [`Priority::Normal`].
    pub fn priority(mut self, priority: Priority) -> Spawn {
        self.options.priority = priority;
        self
    }

    /// Sets a text that identifies the process in reports.
    pub fn label(mut self, text: &str) -> Spawn {
        self.options.label = Some(label(text));
        self
    }
}

/// Cuts a label to its maximum length.
pub(crate) fn label(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(LABEL_BYTES_MAX)].into()
}

/// Gives the entry back if it is dropped, that is, if the spawn fails.
struct Reservation<'a> {
    shared: &'a Shared,
    index: u32,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let table = &self.shared.table;
        table.release(self.index, table.entry(self.index).control());
    }
}

/// A process that has been made but is not visible to others yet.
struct Newborn {
    body: Body,
    member: Option<Membership>,
    identity: Identity,
    watcher: Option<oneshot::Sender<ExitReason>>,
    options: PublishOptions,
}

/// The options that take effect when a new process is published.
struct PublishOptions {
    name: Option<Arc<str>>,
    priority: Priority,
    link: bool,
    monitors: smallvec::SmallVec<[Reference; 1]>,
}

impl Shared {
    /// Spawns a process. If it returns a pid, the process exists.
    pub(crate) fn spawn(
        self: &Arc<Shared>,
        spawn: Spawn,
        parent: Option<Parent>,
    ) -> Result<Pid, SpawnError> {
        let (pid, _) = self.spawn_watched(spawn, parent, None)?;
        Ok(pid)
    }

    /// Like [`Shared::spawn`], with a watcher that learns of the end even if the process ends before this returns. Returns
    /// the process's domain, too, if that is not the system's own.
    pub(crate) fn spawn_watched(
        self: &Arc<Shared>,
        spawn: Spawn,
        parent: Option<Parent>,
        watcher: Option<oneshot::Sender<ExitReason>>,
    ) -> Result<(Pid, Option<Arc<Domain>>), SpawnError> {
        let around = parent.as_ref().and_then(|parent| parent.domain.clone());
        let function = self.check_spawn(&spawn, &around)?;
        let Spawn {
            program,
            argument,
            mut options,
            ..
        } = spawn;
        let (index, pid) = self
            .table
            .reserve()
            .map_err(|_| SpawnError::TooManyProcesses)?;
        let reservation = Reservation {
            shared: self,
            index,
        };
        let member = self.member(pid, options.tree.as_deref(), around, &*program)?;
        let process = NewProcess {
            shared: self.clone(),
            program: program.clone(),
            index,
            pid,
            argument,
            domain: member.as_ref().map(|member| member.domain().clone()),
        };
        let domain = watcher.as_ref().and_then(|_| process.domain.clone());
        let body = program.start(function, process)?;
        let label = options.label.take();
        let identity = self.identity(program, function, parent.as_ref(), label);
        let priority = options.priority;
        let newborn = newborn(body, member, identity, watcher, options);
        self.publish_named(index, pid, parent, newborn)?;
        std::mem::forget(reservation);
        self.counters.spawned.fetch_add(1, Ordering::Relaxed);
        self.scheduler.schedule(index, priority);
        Ok((pid, domain))
    }

    /// Refuses a wrong request before an entry is reserved. Returns the function to spawn.
    #[inline]
    fn check_spawn(&self, spawn: &Spawn, around: &Option<Arc<Domain>>) -> Result<u32, SpawnError> {
        if spawn.argument.len() as u64 > self.config.max_message {
            return Err(SpawnError::ArgumentTooLarge);
        }
        let function = spawn.function.ok_or(SpawnError::UnknownFunction)?;
        if let Some(name) = &spawn.options.name {
            if !is_name(name) {
                return Err(SpawnError::Other(RegisterError::BadName.to_string()));
            }
            // This check avoids making an instance in vain. The decisive one comes at the end.
            let tree = spawn.options.tree.as_ref();
            let sees_others = tree.is_none_or(|tree| !tree.own_names);
            let domain = around.as_ref().unwrap_or(&self.domain);
            if sees_others && self.whereis(domain, name).is_some() {
                return Err(SpawnError::NameTaken);
            }
        }
        if self.stopping.load(Ordering::Acquire) {
            return Err(SpawnError::Other("the system is shutting down".into()));
        }
        Ok(function)
    }

    /// Puts together the identity of a new process, for reports.
    #[inline]
    fn identity(
        &self,
        program: Arc<dyn Runnable>,
        function: u32,
        parent: Option<&Parent>,
        label: Option<Box<str>>,
    ) -> Identity {
        Identity {
            program,
            function,
            parent: parent.map_or(0, |parent| parent.pid.id),
            spawned_at_ns: self.scheduler.now(),
            said: label.map(|label| {
                Box::new(Said {
                    label: Some(label),
                    current_function: None,
                })
            }),
        }
    }

    /// Gives a new process its place: in a domain of its own if it has limits, or else in its parent's. None for the
    /// system's own domain.
    #[inline]
    fn member(
        &self,
        pid: Pid,
        options: Option<&TreeOptions>,
        around: Option<Arc<Domain>>,
        program: &dyn Runnable,
    ) -> Result<Option<Membership>, SpawnError> {
        let domain = match options {
            Some(options) => {
                let around = around.as_ref().unwrap_or(&self.domain);
                let within = around.within(pid, options, self.scheduler.now());
                let too_deep = "there are too many trees within one another";
                Some(within.ok_or_else(|| SpawnError::Other(too_deep.into()))?)
            }
            None => around,
        };
        let Some(domain) = domain else {
            return Ok(None);
        };
        let lacking = program.needs() - domain.capabilities.rights;
        if !lacking.is_empty() {
            return Err(SpawnError::NotGranted(lacking.to_string()));
        }
        if domain.has_ended() {
            return Err(SpawnError::Other("the tree has been ended".into()));
        }
        let member = Membership::of(domain);
        Ok(Some(member.ok_or(SpawnError::TooManyProcesses)?))
    }

    /// Publishes a process, and registers its name if it has one.
    #[inline]
    fn publish_named(
        self: &Arc<Shared>,
        index: u32,
        pid: Pid,
        parent: Option<Parent>,
        newborn: Newborn,
    ) -> Result<(), SpawnError> {
        match newborn.options.name.clone() {
            None => {
                self.publish(index, pid, parent, newborn);
                Ok(())
            }
            Some(name) => {
                let member = newborn.member.as_ref();
                let domain = member
                    .map_or(&self.domain, |member| member.domain())
                    .clone();
                let publish = || self.publish(index, pid, parent, newborn);
                self.register_newborn(&domain, name, pid, publish)
                    .map_err(|_| SpawnError::NameTaken)
            }
        }
    }

    /// Makes a process visible, with its links, monitors and options, in one step.
    fn publish(self: &Arc<Shared>, index: u32, pid: Pid, parent: Option<Parent>, newborn: Newborn) {
        self.guests.fetch_add(1, Ordering::AcqRel);
        let entry = self.table.entry(index);
        let is_tied = newborn.options.link || !newborn.options.monitors.is_empty();
        match parent.filter(|_| is_tied) {
            None => self.fill(entry, &mut entry.control(), newborn),
            Some(parent) => {
                // Locked in the order of the indexes, as wherever two entries are locked.
                let parent_entry = self.table.entry(parent.index);
                let (mut own, mut child) = if parent.index < index {
                    let own = parent_entry.control();
                    (own, entry.control())
                } else {
                    let child = entry.control();
                    (parent_entry.control(), child)
                };
                if newborn.options.link {
                    own.ties().link(pid, LinkedBy::Itself);
                    child.ties().link(parent.pid, LinkedBy::TheOther);
                }
                for &monitor in &newborn.options.monitors {
                    let monitored = Monitored {
                        process: pid,
                        name: None,
                    };
                    own.ties().monitors.insert(monitor, monitored);
                    child.ties().monitored_by.insert(monitor, parent.pid);
                }
                drop(own);
                self.fill(entry, &mut child, newborn);
            }
        }
    }

    fn fill(&self, entry: &Entry, control: &mut Control, newborn: Newborn) {
        control.phase = Phase::Scheduled;
        control.awaits = Awaits::Host;
        control.domain = newborn.member;
        control.open_mailbox(&self.domain);
        control.priority = newborn.options.priority;
        if newborn.options.name.is_some() {
            control.ties().name = newborn.options.name;
        }
        control.body = Some(newborn.body);
        control.has_host_calls = newborn.identity.program.has_host_calls();
        control.watchers = newborn
            .watcher
            .map(|watcher| Box::new(Watchers(vec![watcher])));
        control.identity = Some(newborn.identity);
        let member = control.domain.as_ref();
        let is_late = member.is_some_and(|member| member.domain().has_ended());
        if is_late || self.stopping.load(Ordering::Acquire) {
            // A stop may have looked at this entry before there was a process in it. The process will be scheduled
            // anyway.
            let _ = control.end_with(entry, ExitReason::Killed, false);
        }
    }
}

/// Puts together everything that is needed to publish a new process.
#[inline]
fn newborn(
    body: Body,
    member: Option<Membership>,
    identity: Identity,
    watcher: Option<oneshot::Sender<ExitReason>>,
    options: SpawnOptions,
) -> Newborn {
    Newborn {
        body,
        member,
        identity,
        watcher,
        options: PublishOptions {
            name: options.name,
            priority: options.priority,
            link: options.link,
            monitors: options.monitors,
        },
    }
}

//! Spawning: from a request to a process in a run queue, or to an error without side effects.

use super::control::{Awaits, Control, Entry, Identity, Phase, Said};
use super::farewell::Watchers;
use super::names::{RegisterError, is_name};
use super::program::{Body, Limits, NewProcess, Runnable, SpawnError};
use super::{Program, Shared};
use crate::process::{ExitReason, LinkedBy, Monitored, Pid, Reference};
use crate::scheduler::Priority;
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
    pub(crate) memory_bytes_max: Option<u64>,
    pub(crate) mailbox_bytes_max: Option<u64>,
    pub(crate) label: Option<Box<str>>,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) priority: Priority,
    /// Link it to its parent.
    pub(crate) link: bool,
    /// The parent's monitors on the new process.
    pub(crate) monitors: smallvec::SmallVec<[Reference; 1]>,
}

/// The process that spawns another.
#[derive(Clone, Copy)]
pub(crate) struct Parent {
    pub(crate) index: u32,
    pub(crate) pid: Pid,
}

impl Spawn {
    /// Spawns the entry of a program, with an empty argument and the system's limits.
    pub fn new(program: &Program) -> Spawn {
        Spawn {
            program: program.0.clone(),
            function: program.0.function(""),
            argument: Box::default(),
            options: SpawnOptions::default(),
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

    /// Sets the most bytes that its linear memories may hold together. The system's limit holds as well.
    pub fn max_memory(mut self, bytes: u64) -> Spawn {
        self.options.memory_bytes_max = Some(bytes);
        self
    }

    /// Sets the most bytes that may wait in its mailbox. The system's limit holds as well.
    pub fn max_mailbox(mut self, bytes: u64) -> Spawn {
        self.options.mailbox_bytes_max = Some(bytes);
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
    mailbox_bytes_max: u64,
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
        self.spawn_watched(spawn, parent, None)
    }

    /// Like [`Shared::spawn`], with a watcher that learns of the end even if the process ends before this returns.
    pub(crate) fn spawn_watched(
        self: &Arc<Shared>,
        spawn: Spawn,
        parent: Option<Parent>,
        watcher: Option<oneshot::Sender<ExitReason>>,
    ) -> Result<Pid, SpawnError> {
        let function = self.check_spawn(&spawn)?;
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
        let limits = Limits {
            memory_bytes_max: options
                .memory_bytes_max
                .unwrap_or(u64::MAX)
                .min(self.config.max_memory),
        };
        let process = NewProcess {
            shared: self.clone(),
            program: program.clone(),
            index,
            pid,
            argument,
            limits,
        };
        let body = program.start(function, process)?;
        let label = options.label.take();
        let identity = self.identity(program, function, parent, label);
        let priority = options.priority;
        let newborn = self.newborn(body, identity, watcher, options);
        self.publish_named(index, pid, parent, newborn)?;
        std::mem::forget(reservation);
        self.counters.spawned.fetch_add(1, Ordering::Relaxed);
        self.scheduler.schedule(index, priority);
        Ok(pid)
    }

    /// Refuses a wrong request before an entry is reserved. Returns the function to spawn.
    #[inline]
    fn check_spawn(&self, spawn: &Spawn) -> Result<u32, SpawnError> {
        if spawn.argument.len() as u64 > self.config.max_message {
            return Err(SpawnError::ArgumentTooLarge);
        }
        let function = spawn.function.ok_or(SpawnError::UnknownFunction)?;
        if let Some(name) = &spawn.options.name {
            if !is_name(name) {
                return Err(SpawnError::Other(RegisterError::BadName.to_string()));
            }
            // This check avoids making an instance in vain. The decisive one comes at the end.
            if self.whereis(name).is_some() {
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
        parent: Option<Parent>,
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

    /// Puts together everything that is needed to publish a new process.
    #[inline]
    fn newborn(
        &self,
        body: Body,
        identity: Identity,
        watcher: Option<oneshot::Sender<ExitReason>>,
        options: SpawnOptions,
    ) -> Newborn {
        Newborn {
            body,
            mailbox_bytes_max: options
                .mailbox_bytes_max
                .unwrap_or(u64::MAX)
                .min(self.config.max_mailbox),
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
                let publish = || self.publish(index, pid, parent, newborn);
                self.register_newborn(name, pid, publish)
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
        control.mailbox_bytes_max = newborn.mailbox_bytes_max;
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
        if self.stopping.load(Ordering::Acquire) {
            // A stop may have looked at this entry before there was a process in it. The process will be scheduled
            // anyway.
            let _ = control.end_with(entry, ExitReason::Killed, false);
        }
    }
}

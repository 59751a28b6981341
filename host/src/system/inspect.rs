//! Information about processes. OTP: `process_info/1`, `processes/0`, `erlang:suspend_process/1`.
//!
//! The information is taken from the process's entry, under its lock. A process in its turn is shown as it was when
//! the turn began, and is not interrupted.

use super::Shared;
use super::control::{Awaits, Control, Entry, Identity, Liveness, Phase};
use super::current::Current;
use super::domain::TreeInfo;
use super::report::{Counters, Hibernation};
use super::turn_context;
use crate::process::{Destination, Pid};
use crate::scheduler::Priority;
use std::fmt;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

/// The activity of a process: the contract's `status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Status {
    /// It is in its turn.
    Running,
    /// It waits for its turn.
    Runnable,
    /// It waits for an event in its mailbox.
    Waiting,
    /// It waits for a host call to complete: a file, a socket, its output.
    WaitingForHost,
    /// It is suspended.
    Suspended,
    /// It is ending.
    Exiting,
    /// It is a mailbox of the host.
    Host,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Running => "running",
            Status::Runnable => "runnable",
            Status::Waiting => "waiting",
            Status::WaitingForHost => "host call",
            Status::Suspended => "suspended",
            Status::Exiting => "exiting",
            Status::Host => "host",
        })
    }
}

/// A snapshot of a process: the contract's `process-info`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProcessInfo {
    /// The process.
    pub pid: Pid,
    /// Its activity.
    pub status: Status,
    /// How urgently it wants to run.
    pub priority: Priority,
    /// Does it trap exits?
    pub traps_exits: bool,
    /// Has it asked to be hibernated in its next wait?
    pub hibernates: bool,
    /// Reductions so far, up to the end of its last turn. For a component that waits they are an estimate.
    pub reductions: u64,
    /// Bytes that its linear memories hold.
    pub memory_bytes: u64,
    /// Events that wait in its mailbox.
    pub mailbox_events: u64,
    /// Bytes that wait in its mailbox.
    pub mailbox_bytes: u64,
    /// Messages that were dropped because its mailbox had no room for them.
    pub mailbox_dropped: u64,
    /// Timers that it has started and that still run.
    pub timers: usize,
    /// How long ago it was spawned.
    pub age: Duration,
    /// The process that spawned it. None if the host did.
    pub parent: Option<Pid>,
    /// Its registered name.
    pub name: Option<String>,
    /// The label that it was spawned with.
    pub label: Option<String>,
    /// Its program.
    pub program: String,
    /// The function that it was spawned with.
    pub function: String,
    /// The innermost guest function in which it was last seen waiting. The same as `function` if it was not seen.
    pub current_function: String,
    /// The processes that it is linked to.
    pub links: Vec<Pid>,
    /// The targets of its monitors.
    pub monitors: Vec<Destination>,
    /// The processes that monitor it.
    pub monitored_by: Vec<Pid>,
    /// The tree with a budget that it belongs to. None if it belongs to no such tree.
    pub tree: Option<TreeInfo>,
}

/// The resources that a system holds for its processes. All of them are freed when the processes end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Holdings {
    /// Processes, including those that are ending, without mailboxes of the host.
    pub processes: u32,
    /// Slots with a process's memory and stack.
    pub slots: usize,
    /// Registered names.
    pub names: usize,
    /// Groups that have members.
    pub groups: usize,
    /// Links, each counted at both ends.
    pub links: usize,
    /// Monitors of processes and of groups.
    pub monitors: usize,
    /// References by which a reply would still be delivered.
    pub aliases: usize,
    /// Timers that run, including those of `receive`.
    pub timers: usize,
    /// WASI contexts. Each holds the files, sockets and other handles that one process has open.
    pub contexts: usize,
}

impl Control {
    fn status(&self) -> Status {
        match self.phase {
            Phase::Host => Status::Host,
            Phase::Absent | Phase::Exiting => Status::Exiting,
            _ if self.pending_exit.is_some() => Status::Exiting,
            Phase::Running if !self.seems_to_wait => Status::Running,
            _ if self.suspensions > 0 => Status::Suspended,
            _ if self.is_out_of_credit => Status::Runnable,
            _ if self.seems_to_wait => Status::Waiting,
            Phase::Running | Phase::Scheduled => Status::Runnable,
            Phase::Waiting if self.awaits == Awaits::Mail => Status::Waiting,
            Phase::Waiting => Status::WaitingForHost,
        }
    }
}

impl Shared {
    /// Every process that is alive.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        self.alive(|control| control.pid())
    }

    pub(crate) fn reductions(&self) -> Vec<(Pid, u64)> {
        let mut reductions = self.alive(|control| {
            let is_guest = control.phase != Phase::Host;
            is_guest.then(|| (control.pid(), control.reductions))
        });
        reductions.retain(Option::is_some);
        reductions.into_iter().flatten().collect()
    }

    fn alive<T>(&self, tell: impl Fn(&Control) -> T) -> Vec<T> {
        let entries = self.table.entries();
        let told = entries.filter_map(|(_, entry)| {
            let control = entry.control();
            let is_alive = !matches!(control.phase, Phase::Absent | Phase::Exiting);
            (is_alive && control.pending_exit.is_none()).then(|| tell(&control))
        });
        told.collect()
    }

    /// Asks a process that waits for mail which function it is in. The process gets a turn, in which it looks, and
    /// waits on.
    pub(crate) fn ask_where(&self, pid: Pid) {
        if let Some((index, entry, mut control)) = self.table.find(pid)
            && control.status() == Status::Waiting
            && !control.seems_to_wait
            // Asking must not wake a hibernated process. Its last answer still holds.
            && !control.is_hibernated()
        {
            entry.is_asked.store(true, Ordering::Release);
            let wake_action = control.mail();
            control.seems_to_wait = true;
            drop(control);
            self.carry_out(index, wake_action);
        }
    }

    /// Is a process that was asked which function it is in about to answer?
    pub(crate) fn is_about_to_say(&self, pid: Pid) -> bool {
        self.table.find(pid).is_some_and(|(_, entry, control)| {
            let is_underway = matches!(control.phase, Phase::Running | Phase::Scheduled);
            is_underway && entry.is_asked.load(Ordering::Acquire)
        })
    }

    /// The process that spawned this one. None if the host did.
    pub(super) fn parent(&self, identity: &Identity) -> Option<Pid> {
        (identity.parent != 0).then(|| self.table.pid(identity.parent))
    }

    /// Describes a process and its state.
    pub(crate) fn info(&self, pid: Pid) -> Option<ProcessInfo> {
        let (_, entry, control) = self.table.find(pid)?;
        Some(self.info_of(pid, entry, &control))
    }

    fn info_of(&self, pid: Pid, entry: &Entry, control: &Control) -> ProcessInfo {
        let identity = control.identity.as_ref();
        let function = identity.map_or(String::new(), |identity| {
            identity.program.function_name(identity.function).to_owned()
        });
        let said = identity.and_then(|identity| identity.said.as_deref());
        let seen_in = said.and_then(|said| said.current_function.as_deref());
        let ties = control.ties.as_deref();
        let age_ns = identity.map_or(0, |identity| {
            self.scheduler.now().saturating_sub(identity.spawned_at_ns)
        });
        ProcessInfo {
            pid,
            status: control.status(),
            priority: control.priority,
            traps_exits: control.traps_exits,
            hibernates: control.hibernates,
            reductions: control.reductions,
            memory_bytes: entry.memory_bytes(),
            mailbox_events: control.mailbox_events,
            mailbox_bytes: control.mailbox_bytes,
            mailbox_dropped: control.mailbox_dropped.into(),
            timers: ties.map_or(0, |ties| ties.timers.len()),
            age: Duration::from_nanos(self.config.coarse(age_ns)),
            parent: identity.and_then(|identity| self.parent(identity)),
            name: ties.and_then(|ties| ties.name.as_deref().map(str::to_owned)),
            label: said.and_then(|said| said.label.as_deref().map(str::to_owned)),
            program: identity.map_or(String::new(), |identity| identity.program.name().to_owned()),
            current_function: seen_in.unwrap_or(&function).to_owned(),
            function,
            links: ties.map_or_else(Vec::new, |ties| ties.linked().collect()),
            monitors: ties.map_or_else(Vec::new, |ties| {
                ties.monitors
                    .iter()
                    .map(|(_, monitored)| monitored.target())
                    .collect()
            }),
            monitored_by: ties.map_or_else(Vec::new, |ties| {
                ties.monitored_by.iter().map(|(_, &pid)| pid).collect()
            }),
            tree: control.domain_or(&self.domain).info(),
        }
    }

    /// The names and the groups of all domains.
    fn count_names(&self) -> (usize, usize) {
        let own = self.domain.all();
        let own = own.iter().filter(|domain| domain.has_own_names());
        let all = own.chain([&self.domain]);
        all.fold((0, 0), |(names, groups), domain| {
            (names + domain.names.len(), groups + domain.groups.len())
        })
    }

    pub(crate) fn counters(&self) -> Counters {
        let (names, groups) = self.count_names();
        Counters {
            processes: self.table.live(),
            spawned: self.counters.spawned.load(Ordering::Relaxed),
            crashed: self.counters.crashed.load(Ordering::Relaxed),
            reductions: self.counters.reductions.load(Ordering::Relaxed),
            names,
            groups,
            timers: self.scheduler.timers_armed(),
            // The engine knows these two.
            recycled: 0,
            hibernation: Hibernation::default(),
            schedulers: self.scheduler.counters(),
        }
    }

    /// The resources in use, except those that only the engine knows.
    pub(crate) fn holdings(&self) -> Holdings {
        let (names, groups) = self.count_names();
        let mut holdings = Holdings {
            processes: self.guests.load(Ordering::Acquire),
            names,
            groups,
            timers: self.scheduler.timers_armed(),
            ..Holdings::default()
        };
        for (_, entry) in self.table.entries() {
            let control = entry.control();
            if let Some(ties) = control.ties.as_deref() {
                holdings.links += ties.links();
                holdings.monitors += ties.monitors.len() + ties.group_monitors.len();
                holdings.aliases += ties.aliases.len();
            }
        }
        holdings
    }

    /// Undoes this many suspensions of a process. Returns false if the process has ended.
    pub(super) fn resume(&self, process: Pid, times: u32) -> bool {
        let Some((index, _, mut control)) = self.table.find(process) else {
            return false;
        };
        control.suspensions = control.suspensions.saturating_sub(times);
        if control.suspensions == 0 {
            let wake_action = control.let_go();
            drop(control);
            self.carry_out(index, wake_action);
        }
        true
    }
}

impl Current {
    /// OTP: `process_info/1`. Pending while the other process is about to say which function it is in: ask again
    /// then.
    pub(crate) fn info(&mut self, pid: Pid) -> Poll<Option<ProcessInfo>> {
        if self.asked_where != Some(pid) {
            self.charge_tie();
            self.asked_where = Some(pid);
            self.shared.ask_where(pid);
        }
        if pid != self.pid && self.shared.is_about_to_say(pid) {
            return Poll::Pending;
        }
        self.asked_where = None;
        let mut info = self.shared.info(pid);
        if pid == self.pid
            && let Some(info) = &mut info
        {
            // The entry learns only at the end of the turn which events were received in it.
            let (events, bytes) = turn_context::taken_so_far();
            info.mailbox_events -= events;
            info.mailbox_bytes -= bytes;
        }
        Poll::Ready(info)
    }

    /// Was this process asked which function it is in?
    pub(crate) fn is_asked_where(&self) -> bool {
        self.entry().is_asked.load(Ordering::Acquire)
    }

    /// Answers the question which function this process is in.
    pub(crate) fn tell_where(&mut self, function: Option<String>) {
        let entry = self.entry();
        let mut control = entry.control();
        entry.is_asked.store(false, Ordering::Release);
        if let Some(identity) = control.identity.as_mut() {
            let said = identity.said.get_or_insert_default();
            said.current_function = function.map(Into::into);
        }
    }

    /// OTP: `is_process_alive/1`. Pending while the other process is in its last turn: ask again then.
    pub(crate) fn is_alive(&self, pid: Pid) -> Poll<bool> {
        if pid == self.pid {
            return Poll::Ready(true);
        }
        match self.shared.table.liveness(pid) {
            Liveness::Alive => Poll::Ready(true),
            Liveness::Doomed => Poll::Pending,
            Liveness::Gone => Poll::Ready(false),
        }
    }

    /// OTP: `erlang:suspend_process/1`. Pending while the other process is in its turn: ask again then.
    pub(crate) fn suspend(&mut self, process: Pid) -> Poll<bool> {
        self.charge_tie();
        if process == self.pid {
            return Poll::Ready(false);
        }
        if !std::mem::take(&mut self.is_suspending) {
            let found = match self.has_power_over(process) {
                true => self.shared.table.find(process),
                false => None,
            };
            match found {
                Some((_, _, mut control)) if control.phase != Phase::Host => {
                    control.suspensions += 1;
                }
                _ => return Poll::Ready(false),
            }
            let own_entry = self.entry();
            let mut own = own_entry.control();
            if self.shared.may_tie(own_entry, &mut own) {
                let suspending = &mut own.ties().suspending;
                match suspending.get_mut(&process) {
                    Some(times) => *times += 1,
                    None => {
                        suspending.insert(process, 1);
                    }
                }
            } else {
                drop(own);
                self.shared.resume(process, 1);
                return Poll::Ready(false);
            }
        }
        let found = self.shared.table.find(process);
        if found.is_some_and(|(_, _, control)| control.phase == Phase::Running) {
            self.is_suspending = true;
            return Poll::Pending;
        }
        Poll::Ready(true)
    }

    /// OTP: `erlang:resume_process/1`.
    pub(crate) fn resume(&mut self, process: Pid) -> bool {
        self.charge_tie();
        {
            let mut own = self.entry().control();
            let Some(ties) = own.ties.as_mut() else {
                return false;
            };
            let Some(times) = ties.suspending.get_mut(&process) else {
                return false;
            };
            *times -= 1;
            if *times == 0 {
                ties.suspending.remove(&process);
            }
        }
        self.shared.resume(process, 1)
    }
}

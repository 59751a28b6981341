//! Exit signals, links and monitors. OTP: Reference Manual, "Processes"; `link/1`, `monitor/2`, `exit/2`.
//!
//! A signal takes effect when it is sent: the sender changes the receiver's entry, under its lock. So signals from
//! one process to another keep their order, among themselves and with messages. There is no queue of signals that a
//! busy process would have to work off.
//!
//! ```text
//!   exit-process ──────────────► receive_exit ──► trapped: an event     ┐
//!   teardown, to linked ───────► … if still linked ──► or the end       ├─ under the receiver's lock
//!   teardown, to monitoring ───► receive_down … if still monitored      ┘
//! ```
//!
//! A link is an entry on both sides, and so is a monitor. Both are made and removed with both processes locked, so
//! the two sides never disagree while both processes live. The teardown of a process removes its own side first. If
//! the other process has no such entry any more, its `unlink` or `demonitor` came first, and it is told nothing.

use super::Shared;
use super::alarm::Timer;
use super::control::{Control, Entry, Phase, WakeAction};
use super::current::Current;
use super::domain::Domain;
use super::namespace;
use super::program::SpawnError;
use super::table::FoundBoth;
use crate::broken::{Rule, breaks};
use crate::process::{
    Budget, Destination, Event, ExitReason, Kinds, LinkedBy, Monitored, Pid, Reference, Ties,
};
use std::sync::Arc;
use std::task::Poll;

/// The origin of an exit signal. It decides the meaning of `normal` and `kill`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ExitOrigin {
    /// Another process sent it.
    Sent,
    /// The process sent it to itself.
    SentToSelf,
    /// A linked process ended.
    Link,
}

impl Control {
    /// Handles an exit signal. OTP: "Receiving Exit Signals".
    pub(super) fn receive_exit(
        &mut self,
        system: &Domain,
        entry: &Entry,
        sender: Pid,
        reason: ExitReason,
        origin: ExitOrigin,
    ) -> WakeAction {
        let is_kill = origin != ExitOrigin::Link
            && reason == ExitReason::Kill
            && !breaks(Rule::KillIsTrappable);
        if is_kill && self.phase != Phase::Host {
            return self.end_with(entry, ExitReason::Killed, false);
        }
        if self.traps_exits || self.phase == Phase::Host {
            return self.receive(system, entry, Event::Exit { sender, reason });
        }
        let is_harmless = reason == ExitReason::Normal
            && origin != ExitOrigin::SentToSelf
            && !breaks(Rule::NormalExitKills);
        if is_harmless {
            return WakeAction::Nothing;
        }
        self.end_with(entry, reason, false)
    }
}

impl Shared {
    /// Sends an exit signal. OTP: `exit/2`.
    pub(crate) fn send_exit(&self, from: Pid, to: Pid, reason: ExitReason) {
        if let Some((index, entry, mut control)) = self.table.find(to) {
            let origin = if from == to {
                ExitOrigin::SentToSelf
            } else {
                ExitOrigin::Sent
            };
            let wake_action = control.receive_exit(&self.domain, entry, from, reason, origin);
            drop(control);
            self.carry_out(index, wake_action);
        }
    }

    /// Tells a process that another one, to which it may be linked, has ended.
    pub(super) fn tell_linked(&self, to: Pid, ended: Pid, reason: &ExitReason) {
        let Some((index, entry, mut control)) = self.table.find(to) else {
            return;
        };
        let ties = control.ties.as_mut();
        let was_linked = ties.is_some_and(|ties| ties.unlink(&ended));
        if was_linked {
            let wake_action =
                control.receive_exit(&self.domain, entry, ended, reason.clone(), ExitOrigin::Link);
            drop(control);
            self.carry_out(index, wake_action);
        }
    }

    /// Tells a process that another one, which it may monitor, has ended.
    pub(super) fn tell_down(&self, to: Pid, monitor: Reference, reason: &ExitReason) {
        let Some((index, entry, mut control)) = self.table.find(to) else {
            return;
        };
        let Some(ties) = control.ties.as_mut() else {
            return;
        };
        if let Some(monitored) = ties.monitors.remove(&monitor) {
            let is_lost = breaks(Rule::DownIsLost) && !ties.monitors.is_empty();
            if is_lost {
                return;
            }
            let event = Event::Down {
                monitor,
                target: monitored.target(),
                reason: reason.clone(),
            };
            let wake_action = control.receive(&self.domain, entry, event);
            drop(control);
            self.carry_out(index, wake_action);
        }
    }

    /// Removes a monitor's entry from the monitored process.
    pub(super) fn forget_monitored_by(&self, process: Pid, monitor: Reference) {
        if let Some((_, _, mut control)) = self.table.find(process)
            && let Some(ties) = control.ties.as_mut()
        {
            ties.monitored_by.remove(&monitor);
        }
    }

    /// May this process have one more link, monitor or other tie? If not, it ends.
    pub(super) fn may_tie(&self, entry: &Entry, control: &mut Control) -> bool {
        self.may_have_ties(entry, control, 1)
    }

    /// The same for so many more.
    fn may_have_ties(&self, entry: &Entry, control: &mut Control, more: usize) -> bool {
        let count = control.ties.as_ref().map_or(0, |ties| ties.count());
        if count + more <= control.each(&self.domain).ties_max {
            return true;
        }
        // The process is in its turn, so it needs no wake action.
        let _ = control.end_with(entry, ExitReason::Exhausted(Budget::Resources), true);
        false
    }
}

impl Current {
    /// May a process be spawned with this link and these monitors? A process that would have more ties than it may ends.
    pub(crate) fn check_ties(&self, link: bool, monitors: &[Reference]) -> Result<(), SpawnError> {
        if !link && monitors.is_empty() {
            return Ok(());
        }
        let entry = self.entry();
        let mut control = entry.control();
        let is_used = |ties: &Ties<Timer>| {
            let mut monitors = monitors.iter();
            monitors.any(|monitor| ties.monitors.contains(monitor))
        };
        if control.ties.as_deref().is_some_and(is_used) {
            return Err(SpawnError::Other(
                "the reference is that of another monitor".into(),
            ));
        }
        let more = usize::from(link) + monitors.len();
        match self.shared.may_have_ties(entry, &mut control, more) {
            true => Ok(()),
            false => Err(SpawnError::Other("the process has too many ties".into())),
        }
    }

    /// OTP: `process_flag(trap_exit, …)`.
    pub(crate) fn trap_exits(&mut self, traps: bool) -> bool {
        std::mem::replace(&mut self.entry().control().traps_exits, traps)
    }

    /// OTP: `exit/2`.
    pub(crate) fn exit_process(&mut self, to: Pid, reason: ExitReason) {
        self.charge_copy(reason.len());
        if !self.has_power_over(to) {
            return;
        }
        self.shared.send_exit(self.pid, to, reason);
    }

    /// OTP: `link/1`. Pending while the other process is in its last turn: ask again then.
    pub(crate) fn link(&mut self, other: Pid) -> Poll<()> {
        self.charge_tie();
        if other == self.pid {
            return Poll::Ready(());
        }
        let entry = self.entry();
        let found = match self.has_power_over(other) {
            true => self.shared.table.find_both(self.index(), other),
            false => FoundBoth::Gone(entry.control()),
        };
        match found {
            FoundBoth::Alive {
                mut own,
                other: mut theirs,
                ..
            } => {
                if self.shared.may_tie(entry, &mut own) {
                    own.ties().link(other, LinkedBy::Itself);
                    if !breaks(Rule::LinkOneWay) {
                        theirs.ties().link(self.pid, LinkedBy::TheOther);
                    }
                }
            }
            FoundBoth::Doomed => return Poll::Pending,
            // If the link to an ending process is still there, that process's teardown will tell this one.
            FoundBoth::Gone(mut own) => {
                let is_linked = own.ties.as_ref().is_some_and(|ties| ties.is_linked(&other));
                if !is_linked {
                    let wake_action = own.receive_exit(
                        &self.shared.domain,
                        entry,
                        other,
                        ExitReason::NoProc,
                        ExitOrigin::Link,
                    );
                    drop(own);
                    self.shared.carry_out(self.index(), wake_action);
                }
            }
        }
        Poll::Ready(())
    }

    /// OTP: `unlink/1`.
    pub(crate) fn unlink(&mut self, other: Pid) {
        self.charge_tie();
        if breaks(Rule::UnlinkIsLate) {
            return;
        }
        match self.shared.table.find_both(self.index(), other) {
            FoundBoth::Alive {
                mut own,
                other: mut theirs,
                ..
            } => {
                cut_link(&mut own, other);
                cut_link(&mut theirs, self.pid);
            }
            FoundBoth::Doomed => cut_link(&mut self.entry().control(), other),
            FoundBoth::Gone(mut own) => cut_link(&mut own, other),
        }
    }

    /// OTP: `monitor/2`. Pending while the other process is in its last turn: ask again then.
    pub(crate) fn monitor(&mut self, target: &Destination) -> Poll<Reference> {
        self.charge_tie();
        let (process, name): (Option<Pid>, Option<Arc<str>>) = match target {
            Destination::Process(pid) => (Some(*pid), None),
            Destination::Name(name) => (self.whereis_now(name), Some(namespace::cut(name).into())),
        };
        if process == Some(self.pid) {
            return Poll::Ready(self.make_reference());
        }
        let entry = self.entry();
        let found = match process {
            Some(process) => self.shared.table.find_both(self.index(), process),
            None => FoundBoth::Gone(entry.control()),
        };
        // The reference is made under the locks, so no event that carries it can have arrived before.
        let reference = self.shared.make_reference();
        match (found, process) {
            (
                FoundBoth::Alive {
                    mut own,
                    other: mut theirs,
                    ..
                },
                Some(process),
            ) => {
                if self.shared.may_tie(entry, &mut own) {
                    let monitored = Monitored { process, name };
                    own.ties().monitors.insert(reference, monitored);
                    theirs.ties().monitored_by.insert(reference, self.pid);
                }
            }
            (FoundBoth::Doomed, _) => return Poll::Pending,
            (FoundBoth::Gone(mut own), _) => {
                let event = Event::Down {
                    monitor: reference,
                    target: match target {
                        Destination::Process(pid) => (*pid).into(),
                        Destination::Name(name) => namespace::cut(name).into(),
                    },
                    reason: ExitReason::NoProc,
                };
                let wake_action = own.receive(&self.shared.domain, entry, event);
                drop(own);
                self.shared.carry_out(self.index(), wake_action);
            }
            (FoundBoth::Alive { .. }, None) => unreachable!("nobody is found without a pid"),
        }
        self.mark_reference(reference);
        Poll::Ready(reference)
    }

    /// OTP: `demonitor/2` with `info`, and with `flush` if that is asked for.
    pub(crate) fn demonitor(&mut self, monitor: Reference, flush: bool) -> bool {
        self.charge_tie();
        let removed = {
            let mut control = self.entry().control();
            let ties = control.ties.as_mut();
            ties.and_then(|ties| ties.monitors.remove(&monitor))
        };
        match removed {
            Some(monitored) => {
                self.shared.forget_monitored_by(monitored.process, monitor);
                true
            }
            None => {
                if flush {
                    self.discard(monitor, Kinds::DOWN);
                }
                false
            }
        }
    }
}

fn cut_link(control: &mut Control, other: Pid) {
    if let Some(ties) = control.ties.as_mut() {
        ties.unlink(&other);
    }
}

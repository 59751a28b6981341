//! The teardown of a process: all its ties are removed, and the processes that depend on them are told.
//!
//! Others can rely on this order. First the execution goes (store, slot, handles), then the name. Then, one by one,
//! go its timers, its groups, its monitors and its suspensions of others. Then linked processes are told, then the
//! processes that monitor it. Then its entry is free. So a process that has received a down-signal finds the name
//! free, and every linked process has been sent its exit signal.
//!
//! Ten thousand links are some milliseconds of work. Other processes must not wait for that, so a long teardown takes
//! several turns, in pieces of [`STEPS_PER_TURN`].

use super::Shared;
use super::control::{Ending, Phase, Watchers};
use super::program::End;
use super::report::CrashReport;
use super::table::ControlGuard;
use super::timers::Timer;
use crate::process::{ExitReason, Pid, Reference, Ties};
use crate::scheduler::{After, TimerKey};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Steps after which other processes get a turn: about as long as a turn of guest code.
const STEPS_PER_TURN: usize = 256;

/// The rest of a teardown that takes several turns.
pub(crate) struct Farewell {
    pid: Pid,
    reason: ExitReason,
    /// The next step is the last element.
    steps: Steps,
    watchers: Option<Box<Watchers>>,
}

/// Most processes need at most one step.
type Steps = SmallVec<[Step; 1]>;

fn tell_watchers(watchers: Option<Box<Watchers>>, reason: &ExitReason) {
    for watcher in watchers.into_iter().flat_map(|watchers| watchers.0) {
        // If the host no longer waits for this end, the send fails, and that is fine.
        let _ = watcher.send(reason.clone());
    }
}

/// One tie to remove, or one process to tell.
#[derive(Clone)]
enum Step {
    Down(Pid, Reference),
    Unlink(Pid),
    Resume(Pid, u32),
    ForgetMonitor(Pid, Reference),
    ForgetGroupMonitor(Arc<str>, Reference),
    /// Undo one join.
    Leave(Arc<str>),
    Cancel(TimerKey),
}

impl Shared {
    /// Tears down a process whose execution is gone.
    pub(super) fn finish(&self, index: u32, mut control: ControlGuard<'_>, end: End) -> After {
        let pid = self.table.pid(control.id);
        control.phase = Phase::Exiting;
        control.pending_exit = None;
        control.alarm = 0;
        control.expired = false;
        let priority = control.priority;
        let arrived = control.arrived.take();
        let ties = control.ties.take();
        let identity = control.identity.take();
        let watchers = control.watchers.take();
        let Ending { reason, is_crash } = end.ending;
        self.counters
            .reductions
            .fetch_add(end.reductions, Ordering::Relaxed);
        if ties.is_none() && !is_crash {
            return self.finish_teardown(index, control, watchers, &reason);
        }
        drop(control);
        drop(arrived);
        if is_crash {
            self.counters.crashed.fetch_add(1, Ordering::Relaxed);
            if let Some(identity) = identity {
                (self.config.on_crash)(&CrashReport {
                    pid,
                    program: identity.program.name().to_owned(),
                    function: identity.program.function_name(identity.function).to_owned(),
                    label: identity.said.and_then(|said| said.label).map(String::from),
                    reason: reason.clone(),
                    backtrace: end.backtrace,
                });
            }
        }
        let steps = ties.map_or_else(Steps::new, |ties| self.steps(pid, ties));
        let farewell = Farewell {
            pid,
            reason,
            steps,
            watchers,
        };
        self.go_on_ending(index, farewell, priority)
    }

    /// Does the next steps of a teardown: all that are left, if they are few.
    pub(super) fn go_on_ending(
        &self,
        index: u32,
        mut farewell: Farewell,
        priority: crate::scheduler::Priority,
    ) -> After {
        let mut steps_left = STEPS_PER_TURN;
        while let Some(step) = farewell.steps.pop() {
            let done = self.step(farewell.pid, &farewell.reason, step);
            steps_left = steps_left.saturating_sub(done);
            if steps_left == 0 && !farewell.steps.is_empty() {
                self.table.entry(index).control().farewell = Some(Box::new(farewell));
                return After::Again(priority);
            }
        }
        let control = self.table.entry(index).control();
        self.finish_teardown(index, control, farewell.watchers, &farewell.reason)
    }

    /// Finishes a teardown: frees the entry and tells the host.
    fn finish_teardown(
        &self,
        index: u32,
        control: ControlGuard<'_>,
        watchers: Option<Box<Watchers>>,
        reason: &ExitReason,
    ) -> After {
        self.table.release(index, control);
        tell_watchers(watchers, reason);
        let left = self.guests.fetch_sub(1, Ordering::AcqRel) - 1;
        self.exit_observer.process_ended(left);
        After::Parked
    }

    /// Ends a mailbox of the host at once, with reason `normal`. It has no execution and is in no queue.
    pub(crate) fn close_mailbox(&self, index: u32) {
        let mut control = self.table.entry(index).control();
        let pid = self.table.pid(control.id);
        control.phase = Phase::Exiting;
        control.alarm = 0;
        control.expired = false;
        let left = (control.arrived.take(), control.waker.take());
        let watchers = control.watchers.take();
        let ties = control.ties.take();
        drop(control);
        drop(left);
        let steps = ties.map_or_else(Steps::new, |ties| self.steps(pid, ties));
        for step in steps.into_iter().rev() {
            self.step(pid, &ExitReason::Normal, step);
        }
        self.table.release(index, self.table.entry(index).control());
        tell_watchers(watchers, &ExitReason::Normal);
    }

    /// The steps of a teardown. The first step is the last element.
    fn steps(&self, pid: Pid, mut ties: Box<Ties<Timer>>) -> Steps {
        if let Some(name) = &ties.name {
            self.names.remove(name, pid);
        }
        let mut steps = Steps::with_capacity(ties.count() + ties.links() + ties.monitored_by.len());
        ties.monitored_by
            .drain_into(|monitor, watcher| steps.push(Step::Down(watcher, monitor)));
        ties.drain_links_into(|other| steps.push(Step::Unlink(other)));
        ties.suspending
            .drain_into(|other, times| steps.push(Step::Resume(other, times)));
        ties.monitors.drain_into(|monitor, monitored| {
            steps.push(Step::ForgetMonitor(monitored.process, monitor));
        });
        ties.group_monitors
            .drain_into(|monitor, group| steps.push(Step::ForgetGroupMonitor(group, monitor)));
        ties.groups.drain_into(|group, times| {
            let leave = Step::Leave(group);
            steps.extend(std::iter::repeat_n(leave, times as usize));
        });
        ties.timers
            .drain_into(|_, timer| steps.push(Step::Cancel(timer.key)));
        steps
    }

    /// Does one step. Returns how many steps its work counts for.
    fn step(&self, pid: Pid, reason: &ExitReason, step: Step) -> usize {
        match step {
            Step::Down(watcher, monitor) => self.tell_down(watcher, monitor, reason),
            Step::Unlink(other) => self.tell_linked(other, pid, reason),
            Step::Resume(other, times) => {
                self.resume(other, times);
            }
            Step::ForgetMonitor(process, monitor) => self.forget_monitored_by(process, monitor),
            Step::ForgetGroupMonitor(group, monitor) => self.forget_group_monitor(&group, monitor),
            Step::Leave(group) => return 1 + self.leave_at_teardown(&group, pid),
            Step::Cancel(key) => {
                self.scheduler.cancel(key);
            }
        }
        1
    }
}

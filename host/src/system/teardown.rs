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
use super::alarm::Timer;
use super::control::{ControlGuard, Phase};
use super::farewell::{self, Farewell, Step, Steps, Watchers, tell_watchers};
use super::program::{End, Ending};
use super::report::CrashReport;
use crate::process::{ExitReason, Pid, Ties};
use crate::scheduler::After;
use std::sync::atomic::Ordering;

/// Steps after which other processes get a turn: about as long as a turn of guest code.
const STEPS_PER_TURN: usize = 256;

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

    /// The steps of a teardown. Its first act is to give back the name.
    fn steps(&self, pid: Pid, ties: Box<Ties<Timer>>) -> Steps {
        if let Some(name) = &ties.name {
            self.names.remove(name, pid);
        }
        farewell::steps(ties)
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

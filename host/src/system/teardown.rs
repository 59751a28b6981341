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
use super::domain::Domain;
use super::farewell::{self, Farewell, Step, Steps, Watchers, tell_watchers};
use super::program::{End, Ending};
use super::report::CrashReport;
use crate::process::{ExitReason, Ties};
use crate::scheduler::After;
use std::sync::atomic::Ordering;

/// Steps after which other processes get a turn: about as long as a turn of guest code.
const STEPS_PER_TURN: usize = 256;

impl Shared {
    /// Tears down a process whose execution is gone.
    pub(super) fn finish(&self, index: u32, mut control: ControlGuard<'_>, end: End) -> After {
        let pid = control.pid();
        control.phase = Phase::Exiting;
        control.pending_exit = None;
        control.alarm = 0;
        control.expired = false;
        let priority = control.priority;
        control.close_mailbox(&self.domain);
        control.spend(end.reductions);
        let arrived = control.arrived.take();
        let ties = control.ties.take();
        let identity = control.identity.take();
        let domain = control
            .domain
            .as_ref()
            .map(|member| member.domain().clone());
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
        let farewell = Farewell {
            pid,
            reason,
            steps: Steps::new(),
            domain,
            watchers,
        };
        let farewell = self.with_steps(farewell, ties);
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
            let done = self.step(&farewell, step);
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
        mut control: ControlGuard<'_>,
        watchers: Option<Box<Watchers>>,
        reason: &ExitReason,
    ) -> After {
        let member = control.domain.take();
        self.table.release(index, control);
        drop(member);
        tell_watchers(watchers, reason);
        let left = self.guests.fetch_sub(1, Ordering::AcqRel) - 1;
        self.exit_observer.process_ended(left);
        After::Parked
    }

    /// Ends a mailbox of the host at once, with reason `normal`. It has no execution and is in no queue.
    pub(crate) fn close_mailbox(&self, index: u32) {
        let mut control = self.table.entry(index).control();
        let pid = control.pid();
        control.phase = Phase::Exiting;
        control.alarm = 0;
        control.expired = false;
        let left = (control.arrived.take(), control.waker.take());
        let watchers = control.watchers.take();
        control.close_mailbox(&self.domain);
        let ties = control.ties.take();
        drop(control);
        drop(left);
        let farewell = Farewell {
            pid,
            reason: ExitReason::Normal,
            steps: Steps::new(),
            domain: None,
            watchers,
        };
        let mut farewell = self.with_steps(farewell, ties);
        while let Some(step) = farewell.steps.pop() {
            self.step(&farewell, step);
        }
        self.table.release(index, self.table.entry(index).control());
        tell_watchers(farewell.watchers, &ExitReason::Normal);
    }

    /// Adds the steps of a teardown. Its first act is to give back the name.
    fn with_steps(&self, mut farewell: Farewell, ties: Option<Box<Ties<Timer>>>) -> Farewell {
        let Some(ties) = ties else { return farewell };
        if let Some(name) = &ties.name {
            self.forget_name(self.domain_of(&farewell), name, farewell.pid);
        }
        farewell.steps = farewell::steps(ties);
        farewell
    }

    fn domain_of<'a>(&'a self, farewell: &'a Farewell) -> &'a Domain {
        farewell.domain.as_ref().unwrap_or(&self.domain)
    }

    /// Does one step. Returns how many steps its work counts for.
    fn step(&self, farewell: &Farewell, step: Step) -> usize {
        let Farewell { pid, reason, .. } = farewell;
        let domain = self.domain_of(farewell);
        match step {
            Step::Down(watcher, monitor) => self.tell_down(watcher, monitor, reason),
            Step::Unlink(other) => self.tell_linked(other, *pid, reason),
            Step::Resume(other, times) => {
                self.resume(other, times);
            }
            Step::ForgetMonitor(process, monitor) => self.forget_monitored_by(process, monitor),
            Step::ForgetGroupMonitor(group, monitor) => {
                self.forget_group_monitor(domain, &group, monitor);
            }
            Step::Leave(group) => return 1 + self.leave_at_teardown(domain, &group, *pid),
            Step::Cancel(key) => {
                self.scheduler.cancel(key);
            }
        }
        1
    }
}

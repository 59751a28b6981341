//! One turn of a process: from the run queue into its code and out again, and the end of it.

use super::current::Alarm;
use super::program::End;
use super::report::CrashReport;
use super::table::{Awaits, Phase, lock};
use super::{Shared, handover};
use crate::process::{ExitReason, Pid};
use crate::scheduler::{After, Task, Work};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

impl Work for Shared {
    type Timer = Alarm;

    fn run(&self, task: Task) -> After {
        let entry = self.table.entry(task);
        let mut control = entry.control();
        debug_assert_eq!(control.phase, Phase::Scheduled);
        let Some(mut body) = control.body.take() else {
            return After::Parked;
        };
        if let Some(reason) = control.ending.take() {
            control.phase = Phase::Running;
            drop(control);
            // Dropping a suspended execution unwinds its host frames and frees what it owns.
            drop(body);
            self.finish(task, End::told(reason));
            return After::Parked;
        }
        control.phase = Phase::Running;
        control.woken = false;
        handover::begin(&mut control.arrived);
        entry.has_mail.store(false, Ordering::Relaxed);
        let waker = control.waker.take();
        drop(control);

        let mut context = Context::from_waker(waker.as_ref().unwrap_or(Waker::noop()));
        // A panic in host code is a defect of ours; it ends the process that met it and nobody else.
        let polled =
            std::panic::catch_unwind(AssertUnwindSafe(|| body.as_mut().poll(&mut context)));
        let end = match polled {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(end)) => Some(end),
            Err(_) => Some(End::told(ExitReason::Trap(
                "the host failed; this is a defect of Atoll".into(),
            ))),
        };
        if let Some(end) = end {
            drop(body);
            handover::end(&mut entry.control().arrived);
            self.finish(task, end);
            return After::Parked;
        }

        let mut control = entry.control();
        let has_host_calls = waker.is_some();
        let left = handover::end(&mut control.arrived);
        control.mailbox_bytes -= left.taken_bytes;
        control.awaits = if left.awaits_mail {
            Awaits::Mail
        } else {
            Awaits::Host
        };
        control.waker = waker;
        control.body = Some(body);
        let runnable = control.ending.is_some()
            || match control.awaits {
                Awaits::Mail => !control.arrived.is_empty() || control.expired,
                // Without host calls to wait for, it can only have used up its slice. With them, a used-up slice
                // has called the waker.
                Awaits::Host => !has_host_calls || control.woken,
            };
        if runnable {
            control.phase = Phase::Scheduled;
            After::Again
        } else {
            control.phase = Phase::Waiting;
            After::Parked
        }
    }

    fn fire(&self, alarm: Alarm) {
        let Some((index, _, mut control)) = self.table.find(alarm.pid) else {
            return;
        };
        if control.alarm == alarm.number {
            control.expired = true;
            let nudge = control.mail();
            drop(control);
            self.carry_out(index, nudge);
        }
    }
}

impl End {
    /// The end of a process that did not get to say anything.
    fn told(reason: ExitReason) -> End {
        End {
            reason,
            reductions: 0,
            backtrace: Vec::new(),
        }
    }
}

impl Shared {
    /// Removes every trace of a process whose execution is gone, and tells who wants to know.
    fn finish(&self, index: u32, end: End) {
        let entry = self.table.entry(index);
        let mut control = entry.control();
        let id = control.id;
        control.phase = Phase::Absent;
        control.ending = None;
        control.alarm = 0;
        control.expired = false;
        let arrived = std::mem::take(&mut control.arrived);
        let identity = control.identity.take();
        let waker = control.waker.take();
        let watchers = std::mem::take(&mut control.watchers);
        drop(control);
        drop((arrived, waker));

        self.counters
            .reductions
            .fetch_add(end.reductions, Ordering::Relaxed);
        if end.reason.is_crash() {
            self.counters.crashed.fetch_add(1, Ordering::Relaxed);
            if let Some(identity) = identity {
                (self.config.on_crash)(&CrashReport {
                    pid: Pid {
                        node: self.node,
                        id,
                    },
                    program: identity.program.name().to_owned(),
                    function: identity.program.function_name(identity.function).to_owned(),
                    label: identity.label.map(String::from),
                    reason: end.reason.clone(),
                    backtrace: end.backtrace,
                });
            }
        }
        self.table.release(index);
        for watcher in watchers {
            // A watcher that has gone needs no answer.
            let _ = watcher.send(end.reason.clone());
        }
        if self.guests.fetch_sub(1, Ordering::AcqRel) == 1 && self.stopping.load(Ordering::Acquire)
        {
            drop(lock(&self.all_gone.0));
            self.all_gone.1.notify_all();
        }
    }

    /// The waker of a process whose program can wait in host calls.
    pub(super) fn waker(self: &Arc<Shared>, index: u32, pid: Pid) -> Waker {
        Waker::from(Arc::new(HostCallWaker {
            shared: Arc::downgrade(self),
            index,
            pid,
        }))
    }
}

/// Schedules a process when a host call of its is complete. I/O drivers may hold it long after the process is gone.
struct HostCallWaker {
    shared: Weak<Shared>,
    index: u32,
    pid: Pid,
}

impl Wake for HostCallWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let mut control = shared.table.entry(self.index).control();
        if control.id == self.pid.id {
            let nudge = control.wake();
            drop(control);
            shared.carry_out(self.index, nudge);
        }
    }
}

//! One turn of a process: from the run queue into its code and out again.

use super::Shared;
use super::alarm::{Alarm, AlarmOf};
use super::control::{Awaits, Control, ControlGuard, Entry, Phase, idleness};
use super::program::{Body, End, Ending};
use super::turn_context::{self, TurnOutcome};
use super::waker::{self, TurnWaker};
use crate::process::ExitReason;
use crate::scheduler::{After, Task, Work};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

impl Work for Shared {
    type Timer = Alarm;

    fn run(&self, task: Task) -> After {
        let entry = self.table.entry(task);
        let mut control = entry.control();
        if let Some(farewell) = control.farewell.take() {
            let priority = control.priority;
            drop(control);
            return self.go_on_ending(task, *farewell, priority);
        }
        debug_assert_eq!(control.phase, Phase::Scheduled);
        if control.domain.is_some() {
            return self.run_in_domain(task, entry, control);
        }
        self.give_turn(task, entry, control)
    }

    fn fire(&self, alarm: Alarm) {
        let number = match alarm.of {
            AlarmOf::Wait(number) => number,
            AlarmOf::Timer(id) => {
                let timer = self.reference(id);
                return self.fire_timer(alarm.pid, timer);
            }
            AlarmOf::Rate => return self.fire_rate(alarm.pid),
        };
        let Some((index, _, mut control)) = self.table.find(alarm.pid) else {
            return;
        };
        if control.alarm == number {
            control.expired = true;
            control.seems_to_wait = false;
            let wake_action = control.mail();
            drop(control);
            self.carry_out(index, wake_action);
        }
    }
}

impl Shared {
    /// Gives a process its turn, unless it is suspended, owes turns or has a pending exit.
    #[inline(always)]
    pub(super) fn give_turn(
        &self,
        task: Task,
        entry: &Entry,
        mut control: ControlGuard<'_>,
    ) -> After {
        if let Some(after) = withhold_turn(&mut control) {
            return after;
        }
        let Some(mut body) = control.body.take() else {
            return After::Parked;
        };
        if let Some(ending) = &control.pending_exit {
            let ending = (**ending).clone();
            return self.end_as_told(task, control, ending, body);
        }
        let waker = self.begin_turn(task, entry, &mut control);
        drop(control);

        let has_host_calls = waker.is_some();
        if let Some(end) = poll_body(&mut body, waker) {
            drop(body);
            let mut control = entry.control();
            turn_context::end(&mut control.arrived);
            return self.finish(task, control, end);
        }
        self.end_turn(entry, body, has_host_calls)
    }
}

fn host_failed() -> Ending {
    Ending {
        reason: ExitReason::Trap("the host failed; this is a defect of Atoll".into()),
        is_crash: true,
    }
}

/// Withholds the turn of a process that is suspended or owes turns, and returns what the scheduler does with it
/// instead.
#[inline]
fn withhold_turn(control: &mut Control) -> Option<After> {
    if control.suspensions > 0 && control.pending_exit.is_none() {
        control.phase = Phase::Waiting;
        control.is_held_back = true;
        return Some(After::Parked);
    }
    if control.owed_turns > 0 && control.pending_exit.is_none() {
        control.owed_turns -= 1;
        return Some(After::Again(control.priority));
    }
    None
}

/// Runs a process's code until it gives up its turn. Returns how the process ended, if it did.
#[inline]
fn poll_body(body: &mut Body, waker: Option<TurnWaker>) -> Option<End> {
    let waked = waker.as_ref().map_or(Waker::noop(), |waker| &waker.waker);
    let mut context = Context::from_waker(waked);
    // A panic in host code is a defect of ours; it ends only the process in whose turn it happened. The end goes into a
    // variable of this function: most turns end without one, so no result is passed on.
    let mut end = None;
    let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
        if let Poll::Ready(ended) = body.poll(&mut context) {
            end = Some(ended);
        }
    }));
    waker::keep(waker);
    if polled.is_err() {
        end = Some(End::told(host_failed(), 0));
    }
    end
}

/// Whether a process that has had its turn wants the next one at once.
#[inline]
fn is_runnable(control: &Control, has_host_calls: bool, was_woken: bool) -> bool {
    match control.awaits {
        Awaits::Mail => !control.waits_for_mail(),
        // Without host calls to wait for, the process can only have used up its slice. With them, a process that has
        // used up its slice has called the waker.
        Awaits::Host => {
            control.pending_exit.is_some() || !has_host_calls || control.woken || was_woken
        }
    }
}

impl Shared {
    /// Ends a process that was told to end before it got this turn.
    fn end_as_told(
        &self,
        task: Task,
        control: ControlGuard<'_>,
        ending: Ending,
        body: Body,
    ) -> After {
        // Others still see the process as scheduled: they drop what they would send to it, and do not wait for it.
        let reductions = control.reductions;
        let awaits_mail = control.awaits == Awaits::Mail;
        drop(control);
        // A panic in host code does not keep the process from ending.
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| body.end(awaits_mail)));
        let control = self.table.entry(task).control();
        self.finish(task, control, End::told(ending, reductions))
    }

    /// Begins a turn with the mail that has arrived. Makes the turn's waker, if the program can wait in host calls.
    #[inline]
    fn begin_turn(&self, task: Task, entry: &Entry, control: &mut Control) -> Option<TurnWaker> {
        if control.awaits == Awaits::Mail {
            // The process's hint to hibernate was for that wait, which is over.
            control.hibernates = false;
        }
        control.phase = Phase::Running;
        control.woken = false;
        entry.idleness.store(idleness::NONE, Ordering::Relaxed);
        turn_context::begin(control.pid(), control.arrived.as_deref_mut());
        entry.has_mail.store(false, Ordering::Relaxed);
        control
            .has_host_calls
            .then(|| self.waker(task, control.pid()))
    }

    /// Ends a turn that the process has survived, and returns what the scheduler does with it.
    #[inline]
    fn end_turn(&self, entry: &Entry, mut body: Body, has_host_calls: bool) -> After {
        let mut control = entry.control();
        control.seems_to_wait = false;
        let outcome = turn_context::end(&mut control.arrived);
        self.note_turn(&mut control, &outcome);
        if control.waits_for_mail() {
            if self.hibernates_at_once(&control) {
                control.seems_to_wait = true;
                drop(control);
                body.hibernate();
                control = entry.control();
                control.seems_to_wait = false;
                control.shrink();
            } else {
                entry.idleness.store(idleness::JUST_NOW, Ordering::Relaxed);
            }
        }
        control.body = Some(body);
        if is_runnable(&control, has_host_calls, outcome.woken) {
            control.phase = Phase::Scheduled;
            After::Again(control.priority)
        } else {
            control.phase = Phase::Waiting;
            After::Parked
        }
    }

    /// Notes the results of a turn: what it has taken out of the mailbox, what the process waits for, what it owes.
    #[inline]
    fn note_turn(&self, control: &mut Control, outcome: &TurnOutcome) {
        control.mailbox_bytes -= outcome.taken_bytes;
        control.mailbox_events -= outcome.taken_events;
        control.awaits = if outcome.awaits_mail {
            Awaits::Mail
        } else {
            Awaits::Host
        };
        control.owed_turns = u16::try_from(outcome.owed_turns).unwrap_or(u16::MAX);
        self.count_reductions(control, outcome.reductions);
        control.give_back_room(&self.domain);
    }

    /// Notes what a turn has cost: what the process has reported, or else the slice that it has used up.
    fn count_reductions(&self, control: &mut Control, said: u64) {
        if said > 0 {
            control.spend(said);
        } else if control.awaits == Awaits::Host {
            let reductions = control.reductions + u64::from(self.config.reductions);
            control.spend(reductions);
        }
    }
}

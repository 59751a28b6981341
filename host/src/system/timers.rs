//! Timers that processes start. OTP: `erlang:send_after/3`, `erlang:start_timer/3`.
//!
//! The scheduler's wheel holds a deadline and an [`Alarm`]. The message and its receiver are among the ties of the
//! process that started the timer. The side that removes the timer from the ties decides its fate: a timer that is
//! cancelled before its alarm gets there sends nothing, and the owner's teardown removes all its timers.

use super::Shared;
use super::alarm::{Alarm, AlarmOf, Sends, Timer, held_bytes};
use super::control::{Control, beyond_free};
use super::current::Current;
use super::domain::Domain;
use super::namespace::is_name;
use crate::broken::{Rule, breaks};
use crate::process::{Budget, Destination, Event, ExitReason, Pid, Reference};

impl Control {
    /// Takes a timer out of the ties.
    fn take_timer(&mut self, system: &Domain, timer: Reference) -> Option<Box<Timer>> {
        let ties = self.ties.as_mut()?;
        let taken = ties.timers.remove(&timer)?;
        let before = ties.timer_bytes;
        ties.timer_bytes -= taken.held_bytes();
        let after = ties.timer_bytes;
        self.hold_timers(system, before, after);
        Some(taken)
    }

    /// Changes how many bytes its timers hold. Returns false if the domain has too little memory left.
    fn hold_timers(&self, system: &Domain, before: u64, after: u64) -> bool {
        let (before, after) = (beyond_free(before), beyond_free(after));
        before == after || self.domain_or(system).hold_mailbox(before, after)
    }
}

impl Shared {
    /// Fires a timer of a process.
    pub(super) fn fire_timer(&self, owner: Pid, timer: Reference) {
        let Some((_, _, mut control)) = self.table.find(owner) else {
            return;
        };
        let Some(taken) = control.take_timer(&self.domain, timer) else {
            return;
        };
        let domain = match &taken.to {
            Destination::Name(_) => control
                .domain
                .as_ref()
                .map(|member| member.domain().clone()),
            Destination::Process(_) => None,
        };
        drop(control);
        let domain = domain.as_ref().unwrap_or(&self.domain);
        let to = match taken.to {
            Destination::Process(pid) => Some(pid),
            Destination::Name(name) => self.whereis(domain, &name),
        };
        let Some(to) = to else { return };
        let event = match taken.sends {
            Sends::Message(message) => Event::Message(message.from(owner)),
            Sends::Signal(tag) => Event::Timer { timer, tag },
        };
        self.deliver(to, event);
    }
}

impl Current {
    /// Starts a timer. The caller has checked the payload's size.
    pub(crate) fn start_timer(
        &mut self,
        delay_ns: u64,
        to: Destination,
        sends: Sends,
    ) -> Reference {
        let reference = self.make_reference();
        // No process has a name that is too long, or the empty name.
        let to = match to {
            Destination::Name(name) if !is_name(&name) => Destination::Name("".into()),
            to => to,
        };
        let deadline_ns = self.shared.scheduler.now().saturating_add(delay_ns);
        let entry = self.entry();
        let mut control = entry.control();
        if !self.shared.may_tie(entry, &mut control) {
            return reference;
        }
        let bytes_max = control.each(&self.shared.domain).mailbox_bytes_max;
        let ties = control.ties();
        let held_bytes = held_bytes(&to, &sends);
        // The bytes in timers have the same limit as the bytes in a mailbox.
        let before = ties.timer_bytes;
        let is_there = before + held_bytes <= bytes_max
            && control.hold_timers(&self.shared.domain, before, before + held_bytes);
        if !is_there {
            let _ = control.end_with(entry, ExitReason::Exhausted(Budget::Resources), true);
            return reference;
        }
        control.ties().timer_bytes += held_bytes;
        // The timer is armed under the lock, so that an alarm which goes off at once finds the timer in the ties.
        let key = self.shared.scheduler.arm(
            deadline_ns,
            Alarm {
                pid: self.pid,
                of: AlarmOf::Timer(reference.id),
            },
        );
        let timer = Timer {
            key,
            deadline_ns,
            to,
            sends,
        };
        control.ties().timers.insert(reference, Box::new(timer));
        drop(control);
        self.charge_copy(held_bytes as usize);
        self.charge_tie();
        reference
    }

    /// Cancels a timer of this process. Returns the time that was left. OTP: `erlang:cancel_timer/1`.
    pub(crate) fn cancel_timer(&mut self, timer: Reference) -> Option<u64> {
        self.charge_tie();
        if breaks(Rule::TimerUncancellable) {
            return self.read_timer(timer);
        }
        let cancelled = {
            let mut control = self.entry().control();
            control.take_timer(&self.shared.domain, timer)?
        };
        // If the alarm is on its way already, it will find no timer.
        self.shared.scheduler.cancel(cancelled.key);
        Some(self.left_ns(cancelled.deadline_ns))
    }

    /// The time that is left of a timer of this process. OTP: `erlang:read_timer/1`.
    pub(crate) fn read_timer(&mut self, timer: Reference) -> Option<u64> {
        self.charge_tie();
        let control = self.entry().control();
        let deadline_ns = control.ties.as_ref()?.timers.get(&timer)?.deadline_ns;
        Some(self.left_ns(deadline_ns))
    }

    fn left_ns(&self, deadline_ns: u64) -> u64 {
        let left_ns = deadline_ns.saturating_sub(self.shared.scheduler.now());
        self.shared.config.coarse(left_ns)
    }
}

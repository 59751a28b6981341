//! Who has waited long enough to be hibernated.
//!
//! Knows how long processes have been waiting; never what hibernation does
//! ([`Execution::hibernate`](super::program::Execution::hibernate)). The runtime has the table looked at now and
//! then: who waited already at the look before is hibernated. While that is done the process counts as running, so that
//! what is sent to it meanwhile is noticed afterwards, as at the end of a turn.

use super::Shared;
use super::control::{Awaits, Control, Phase};
use super::table::{Entry, idleness};
use std::sync::atomic::Ordering;

impl Shared {
    /// Is this process, whose turn has ended, to be hibernated now?
    #[inline]
    pub(super) fn hibernates_at_once(&self, control: &Control) -> bool {
        match self.config.hibernate_after {
            None => false,
            Some(after) => control.hibernates || after.is_zero(),
        }
    }

    /// Hibernates those who have waited since the look before the last one that was due, or all that wait if memory is short.
    pub(crate) fn hibernate_idle(&self, is_short: bool) {
        for (index, entry) in self.table.entries() {
            self.look_at(index, entry, is_short);
        }
    }

    fn look_at(&self, index: u32, entry: &Entry, is_short: bool) {
        match entry.idleness.load(Ordering::Relaxed) {
            idleness::NONE => return,
            idleness::JUST_NOW if !is_short => {
                // Who begins a turn meanwhile says so; then this says nothing.
                let _ = entry.idleness.compare_exchange(
                    idleness::JUST_NOW,
                    idleness::FOR_A_LOOK,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                return;
            }
            _ => {}
        }
        let mut control = entry.control();
        let is_idle = control.phase == Phase::Waiting && control.waits_for_mail();
        let Some(mut body) = control.body.take_if(|_| is_idle) else {
            return;
        };
        control.phase = Phase::Running;
        control.seems_to_wait = true;
        entry.idleness.store(idleness::NONE, Ordering::Relaxed);
        drop(control);
        body.hibernate();
        let mut control = entry.control();
        debug_assert_eq!(control.awaits, Awaits::Mail);
        control.shrink();
        control.seems_to_wait = false;
        control.body = Some(body);
        control.phase = Phase::Waiting;
        if control.waits_for_mail() {
            return;
        }
        // What came meanwhile did nothing, because the process seemed to run.
        let nudge = match control.ending {
            Some(_) => control.end_again(),
            None => control.mail(),
        };
        drop(control);
        self.carry_out(index, nudge);
    }
}

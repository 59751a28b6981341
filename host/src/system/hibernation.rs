//! The choice of processes that have waited long enough to be hibernated.
//!
//! This file knows how long processes have been waiting. It never sees what hibernation does
//! ([`Execution::hibernate`](super::program::Execution::hibernate)). The runtime has the table scanned now and then.
//! A process that was waiting at the previous scan already is hibernated. It counts as running meanwhile, so events
//! that arrive for it are noticed afterwards, as at the end of a turn.

use super::Shared;
use super::control::{Awaits, Control, Entry, Phase, idleness};
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

    /// Hibernates the processes that were waiting at the previous scan already, or all waiting ones if memory is
    /// short.
    pub(crate) fn hibernate_idle(&self, is_short: bool) {
        for (index, entry) in self.table.entries() {
            self.hibernate_if_idle(index, entry, is_short);
        }
    }

    fn hibernate_if_idle(&self, index: u32, entry: &Entry, is_short: bool) {
        match entry.idleness.load(Ordering::Relaxed) {
            idleness::NONE => return,
            idleness::JUST_NOW if !is_short => {
                // If the process begins a turn meanwhile, it changes the hint, and this exchange fails.
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
        // The process seemed to run, so a signal that came meanwhile did not wake it.
        let wake_action = match control.pending_exit {
            Some(_) => control.end_again(),
            None => control.mail(),
        };
        drop(control);
        self.carry_out(index, wake_action);
    }
}

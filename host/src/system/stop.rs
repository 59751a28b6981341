//! The end of all processes: either processes without a living parent are told to shut down, or all processes are
//! killed.
//!
//! This file never waits: the schedulers carry out the ends. [`crate::runtime`] does the waiting.

use super::Shared;
use super::control::Phase;
use crate::process::{ExitReason, Pid};
use std::collections::HashSet;
use std::sync::atomic::Ordering;

impl Shared {
    /// The number of guest processes that are left.
    pub(crate) fn guests_left(&self) -> u32 {
        // A read that writes is ordered with the last process's: either this sees that it has ended, or that process sees
        // that it has to tell.
        self.guests.fetch_add(0, Ordering::AcqRel)
    }

    /// Sends `shutdown` to every process that has no living parent and was not sent it before.
    pub(crate) fn tell_roots(&self, told: &mut HashSet<Pid>) {
        for (_, entry) in self.table.entries() {
            let (pid, parent) = {
                let control = entry.control();
                match &control.identity {
                    Some(identity) if control.pending_exit.is_none() => {
                        (control.pid(), self.parent(identity))
                    }
                    _ => continue,
                }
            };
            if parent.is_some_and(|parent| self.is_alive(parent)) || !told.insert(pid) {
                continue;
            }
            self.send_exit(parent.unwrap_or(pid), pid, ExitReason::Shutdown);
        }
    }

    /// Tells every guest process to end, and prevents further spawns. Returns how many were not about to end already.
    pub(crate) fn end_all(&self) -> usize {
        self.stopping.store(true, Ordering::Release);
        let mut killed = 0;
        for (index, entry) in self.table.entries() {
            let mut control = entry.control();
            if matches!(control.phase, Phase::Absent | Phase::Host | Phase::Exiting) {
                continue;
            }
            killed += usize::from(control.pending_exit.is_none());
            let wake_action = control.end_with(entry, ExitReason::Killed, false);
            drop(control);
            self.carry_out(index, wake_action);
        }
        killed
    }
}

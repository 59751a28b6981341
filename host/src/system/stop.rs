//! The end of a whole system: in order first, by force then.
//!
//! Both are asked for by a thread of the host, which waits; the schedulers go on meanwhile, because ends are work of theirs.

use super::Shared;
use super::control::Phase;
use super::table::lock;
use crate::process::{ExitReason, Pid};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets a thread wait until few enough guest processes are left.
#[derive(Default)]
pub(super) struct Departures {
    /// Whoever waits wants to know when no more than this many are left.
    wanted: AtomicU32,
    lock: Mutex<()>,
    told: Condvar,
}

impl Departures {
    /// A process has ended; so many are left.
    pub(super) fn one_left(&self, left: u32) {
        if left <= self.wanted.load(Ordering::Acquire) {
            drop(lock(&self.lock));
            self.told.notify_all();
        }
    }

    /// Waits until `left` is no more than `wanted`, or the deadline has come. True if it is.
    fn wait(&self, left: &AtomicU32, wanted: u32, deadline: Option<Instant>) -> bool {
        let mut guard = lock(&self.lock);
        self.wanted.store(wanted, Ordering::SeqCst);
        loop {
            if left.load(Ordering::SeqCst) <= wanted {
                return true;
            }
            guard = match deadline {
                None => self
                    .told
                    .wait(guard)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let time_left = deadline.saturating_duration_since(Instant::now());
                    if time_left.is_zero() {
                        return false;
                    }
                    let waited = self.told.wait_timeout(guard, time_left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Shared {
    /// See [`System::stop`](super::System::stop).
    pub(super) fn stop_in_order(&self, grace: Duration) -> bool {
        // A grace time beyond what a clock can say is for ever.
        let deadline = Instant::now().checked_add(grace);
        let mut told = HashSet::new();
        loop {
            let before = self.guests.load(Ordering::Acquire);
            if before == 0 {
                return true;
            }
            let scan_start = Instant::now();
            self.tell_roots(&mut told);
            // Every end may leave others without a parent; but looking for them takes half of the time at most.
            let pause = scan_start.elapsed();
            let pause_end = Instant::now() + pause;
            let pause_end = deadline.map_or(pause_end, |deadline| deadline.min(pause_end));
            if self.departures.wait(&self.guests, 0, Some(pause_end)) {
                return true;
            }
            if !self.departures.wait(&self.guests, before - 1, deadline) {
                return false;
            }
        }
    }

    /// Sends `shutdown` to every process that has no living parent and was not sent it before.
    fn tell_roots(&self, told: &mut HashSet<Pid>) {
        for (_, entry) in self.table.entries() {
            let (pid, parent) = {
                let control = entry.control();
                match &control.identity {
                    Some(identity) if control.ending.is_none() => {
                        (self.table.pid(control.id), self.parent(identity))
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

    /// Ends every guest process and waits until none is left. None is spawned any more. Says how many were not about
    /// to end already.
    pub(super) fn kill_all(&self) -> usize {
        self.stopping.store(true, Ordering::Release);
        let mut killed = 0;
        for (index, entry) in self.table.entries() {
            let mut control = entry.control();
            if matches!(control.phase, Phase::Absent | Phase::Host | Phase::Exiting) {
                continue;
            }
            killed += usize::from(control.ending.is_none());
            let nudge = control.end_with(entry, ExitReason::Killed, false);
            drop(control);
            self.carry_out(index, nudge);
        }
        self.departures.wait(&self.guests, 0, None);
        killed
    }
}

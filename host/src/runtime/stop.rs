//! Waits for the end of processes: of all in order, or of all that are left.
//!
//! A thread of the host waits here. The schedulers go on meanwhile, because they carry out the ends.

use crate::scheduler::Seam;
use crate::system::Shared;
use crate::system::locks::lock;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Lets one thread wait until few enough guest processes are left.
pub(super) struct ShutdownWaiter {
    seam: Arc<Seam>,
    /// The waiting thread is woken when no more than this many are left.
    wanted: AtomicU32,
    lock: Mutex<()>,
    told: Condvar,
}

impl crate::system::ExitObserver for ShutdownWaiter {
    fn process_ended(&self, left: u32) {
        if left <= self.wanted.load(Ordering::Acquire) {
            drop(lock(&self.lock));
            self.told.notify_all();
        }
    }
}

impl ShutdownWaiter {
    pub(super) fn new(seam: &Arc<Seam>) -> ShutdownWaiter {
        ShutdownWaiter {
            seam: seam.clone(),
            wanted: AtomicU32::new(0),
            lock: Mutex::new(()),
            told: Condvar::new(),
        }
    }

    /// Waits until no more than `wanted` processes are left, or until the deadline (by the seam's clock). Returns
    /// true in the first case.
    fn wait(&self, shared: &Shared, wanted: u32, deadline_ns: u64) -> bool {
        let mut guard = lock(&self.lock);
        self.wanted.store(wanted, Ordering::SeqCst);
        loop {
            if shared.guests_left() <= wanted {
                return true;
            }
            let left_ns = deadline_ns.saturating_sub(self.seam.now());
            if left_ns == 0 {
                return false;
            }
            let waited = self
                .told
                .wait_timeout(guard, Duration::from_nanos(left_ns))
                .unwrap_or_else(PoisonError::into_inner);
            guard = waited.0;
        }
    }

    /// See [`System::stop`](super::System::stop).
    pub(super) fn stop_in_order(&self, shared: &Shared, grace: Duration) -> bool {
        let now = || self.seam.now();
        // A grace time that is too long for the clock means forever.
        let grace_ns = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
        let deadline_ns = now().saturating_add(grace_ns);
        let mut told = HashSet::new();
        loop {
            let before = shared.guests_left();
            if before == 0 {
                return true;
            }
            let scan_start_ns = now();
            shared.tell_roots(&mut told);
            // Every end may leave other processes without a parent. But the scans for them take half of the time at
            // most.
            let scan_end_ns = now();
            let pause_end_ns = scan_end_ns + (scan_end_ns - scan_start_ns);
            if self.wait(shared, 0, pause_end_ns.min(deadline_ns)) {
                return true;
            }
            if !self.wait(shared, before - 1, deadline_ns) {
                return false;
            }
        }
    }

    /// Ends every guest process and waits until none is left. Returns how many were not about to end already.
    pub(super) fn kill_all(&self, shared: &Shared) -> usize {
        let killed = shared.end_all();
        self.wait(shared, 0, u64::MAX);
        killed
    }
}

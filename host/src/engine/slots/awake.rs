//! The number of awake slots in a stretch, and the moment at which the stretch may be given back.
//!
//! This file knows one number, never which pages it stands for. A slot is awake while it may hold resident pages. When
//! none is, the thread that put the last one to sleep gives the stretch back; slots that wake meanwhile wait for that.

use crate::sync::Backoff;
use crate::sync::atomic::{AtomicU32, Ordering};

/// Stands for the number while the stretch is given back. Slots are larger than a page, so no stretch has so many.
const GIVING_BACK: u32 = u32::MAX;

/// The number of awake slots: none in memory that is zero.
#[derive(Default)]
#[repr(transparent)]
pub(super) struct Awake(AtomicU32);

impl Awake {
    /// One more slot may hold resident pages from now on.
    pub(super) fn wake(&self) {
        let mut seen = self.0.load(Ordering::Relaxed);
        let backoff = Backoff::new();
        loop {
            if seen == GIVING_BACK {
                // This waits for one call to the kernel.
                backoff.snooze();
                seen = self.0.load(Ordering::Relaxed);
                continue;
            }
            let next =
                self.0
                    .compare_exchange_weak(seen, seen + 1, Ordering::Acquire, Ordering::Relaxed);
            match next {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
    }

    /// One slot holds no resident pages any more. If it was the last, `give_back` is called while no slot can wake.
    pub(super) fn sleep(&self, give_back: impl FnOnce()) {
        if self.0.fetch_sub(1, Ordering::Release) > 1 {
            return;
        }
        let is_last = self
            .0
            .compare_exchange(0, GIVING_BACK, Ordering::Acquire, Ordering::Relaxed);
        if is_last.is_ok() {
            give_back();
            self.0.store(0, Ordering::Release);
        }
    }
}

//! Whether the pages of a packed process's slot are there, are being given back, or are gone.
//!
//! This file knows the states and who may change them, never what the pages hold. The process's owner queues the slot and
//! takes it back; a thread that gives pages back ([`super::releases`]) moves a queued slot on. Both may try at once.
//!
//! ```text
//!   owner:     HERE ── queue ──► QUEUED ── take_back: true ──► HERE
//!   releaser:                    QUEUED ── begin_release ──► RELEASING ── released ──► GONE
//!   owner:                                       take_back: waits ────────────────────► HERE, false
//! ```

use crate::sync::Backoff;
use crate::sync::atomic::{AtomicU8, Ordering};

/// The state of a packed process's slot.
pub(super) struct Presence(AtomicU8);

/// In use, or given back by its owner.
const HERE: u8 = 0;
/// Packed; the pages are unchanged.
const QUEUED: u8 = 1;
/// The pages are being given back.
const RELEASING: u8 = 2;
/// The pages have been given back.
const GONE: u8 = 3;

impl Presence {
    pub(super) fn new() -> Presence {
        Presence(AtomicU8::new(HERE))
    }

    /// The slot's contents are packed, and its process touches it only after [`Presence::take_back`].
    pub(super) fn queue(&self) {
        self.0.store(QUEUED, Ordering::Release);
    }

    /// Lets the caller give back the pages, if the slot is still queued. It must call [`Presence::released`] then.
    pub(super) fn begin_release(&self) -> bool {
        let changed =
            self.0
                .compare_exchange(QUEUED, RELEASING, Ordering::Acquire, Ordering::Relaxed);
        changed.is_ok()
    }

    /// The pages have been given back.
    pub(super) fn released(&self) {
        self.0.store(GONE, Ordering::Release);
    }

    /// Takes the slot back for its process, which is about to use it again. Returns true if the pages are unchanged.
    pub(super) fn take_back(&self) -> bool {
        let take_from = |from| {
            let changed = self
                .0
                .compare_exchange(from, HERE, Ordering::Acquire, Ordering::Acquire);
            changed.is_ok()
        };
        let backoff = Backoff::new();
        loop {
            if take_from(QUEUED) {
                return true;
            }
            if take_from(GONE) || take_from(HERE) {
                return false;
            }
            // This waits for one call to the kernel.
            backoff.snooze();
        }
    }
}

//! The waker of a turn: it schedules the process again when a host call that it waits in is complete.
//!
//! A thread keeps the waker of its last turn that had one for the next such turn: making one is an allocation.

use super::{Shared, turn_context};
use crate::process::Pid;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

thread_local! {
    // It has nothing to drop, like the turn's context: [`keep`] frees it.
    static KEPT: Cell<ManuallyDrop<Option<TurnWaker>>> = const { Cell::new(ManuallyDrop::new(None)) };
}

/// Takes the waker that [`keep`] kept.
fn take() -> Option<TurnWaker> {
    KEPT.with(|kept| ManuallyDrop::into_inner(kept.replace(ManuallyDrop::new(None))))
}

/// Keeps a waker for the next turn that needs one, in place of the one that was kept before.
#[inline]
pub(super) fn keep(waker: Option<TurnWaker>) {
    let replaced = KEPT.with(|kept| kept.replace(ManuallyDrop::new(waker)));
    drop(ManuallyDrop::into_inner(replaced));
}

/// Frees the waker that is kept. The thread must give no turns afterwards.
pub(crate) fn free() {
    keep(None);
}

impl Shared {
    /// A waker for the turn of a process whose program can wait in host calls. It is this thread's last one, unless a
    /// host call has kept a copy of that.
    pub(super) fn waker(&self, index: u32, pid: Pid) -> TurnWaker {
        let last = take().filter(|last| last.is_free());
        let waker = last.unwrap_or_else(|| {
            let state = Arc::new(HostCallWaker {
                shared: self.this.clone(),
                index: AtomicU32::new(0),
                node: AtomicU64::new(0),
                id: AtomicU64::new(0),
            });
            TurnWaker {
                waker: Waker::from(state.clone()),
                state,
            }
        });
        waker.state.index.store(index, Ordering::Relaxed);
        waker.state.node.store(pid.node, Ordering::Relaxed);
        waker.state.id.store(pid.id, Ordering::Relaxed);
        waker
    }
}

/// The waker of a turn, and its state.
pub(super) struct TurnWaker {
    pub(super) waker: Waker,
    state: Arc<HostCallWaker>,
}

impl TurnWaker {
    /// Whether no copy of the waker is left.
    fn is_free(&self) -> bool {
        let is_free = Arc::strong_count(&self.state) == 2;
        // Everything that was done with a copy happens before what this thread does now.
        fence(Ordering::Acquire);
        is_free
    }
}

/// Schedules a process when one of its host calls is complete. I/O drivers may hold it long after the process is gone.
struct HostCallWaker {
    shared: Weak<Shared>,
    /// The process that it wakes. It changes only while there is no copy.
    index: AtomicU32,
    node: AtomicU64,
    id: AtomicU64,
}

impl Wake for HostCallWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let pid = Pid {
            node: self.node.load(Ordering::Relaxed),
            id: self.id.load(Ordering::Relaxed),
        };
        if turn_context::wake(pid) {
            return;
        }
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let index = self.index.load(Ordering::Relaxed);
        let mut control = shared.table.entry(index).control();
        if control.pid() == pid {
            let wake_action = control.wake();
            drop(control);
            shared.carry_out(index, wake_action);
        }
    }
}

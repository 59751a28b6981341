//! Giving up a turn, and going on.
//!
//! A raw function that can't go on answers "again". The glue in the module then calls [`pause`], which ends the turn, and
//! asks again in the next one. A module whose slice is used up calls it as well.

use super::Guest;
use crate::engine::state::{is_stack_whole, overflowed};
use crate::engine::{current_function, moved_reductions};
use crate::system::handover;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use wasmtime::Result;

/// The answer of a raw function when the process must give up its turn and ask again.
pub(super) const AGAIN: i32 = -1;
/// The same for functions that may leave lists.
pub(super) const AGAIN_LISTS: i64 = -1;

/// Gives up the turn in order to wait. If another process has asked where this one is, it is told now: a backtrace takes
/// microseconds, so the host takes none unasked. The event that the process waits for is written to the address `answer`
/// of its memory.
pub(super) fn wait(guest: &mut Guest<'_>, answer: u32) -> i64 {
    if guest.data().current.is_asked_where() {
        let function = current_function(guest);
        guest.data_mut().current.tell_where(function);
    }
    guest.data().is_to_wait(answer);
    AGAIN_LISTS
}

/// The reductions that memories which had to move have cost the process since it asked last.
pub(super) fn moved() -> i64 {
    moved_reductions() as i64
}

/// The thing that ends when a call of [`pause`] is polled.
#[derive(Clone, Copy)]
enum Ends {
    /// It has been polled: its process is in its next turn.
    Nothing,
    Turn,
    /// Its stack has been overflowed.
    Process,
}

thread_local! {
    static ENDS: Cell<Ends> = const { Cell::new(Ends::Nothing) };
}

/// Ends the turn of a process that has so much left of its slice; it is at the beginning of the next one then.
pub(super) fn pause(mut guest: Guest<'_>, left: i64) -> Pause {
    let is_whole = is_stack_whole(&guest, std::ptr::from_ref(&left).addr());
    let state = guest.data_mut();
    let counted = state.pauses(left);
    // The process pays with later turns for work that went beyond its slice.
    let slice = i64::from(state.current.shared.config.reductions);
    if left < -slice {
        handover::owes(left.unsigned_abs() / slice.unsigned_abs());
    }
    state.current.pauses();
    handover::reductions(counted + state.current.charged());
    ENDS.set(match is_whole {
        true => Ends::Turn,
        false => Ends::Process,
    });
    Pause
}

/// Is there in the next turn, if there is one. It takes no room, so that it takes no allocation.
pub(super) struct Pause;

impl Future for Pause {
    type Output = Result<()>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match ENDS.replace(Ends::Nothing) {
            Ends::Nothing => return Poll::Ready(Ok(())),
            Ends::Turn => {}
            Ends::Process => return Poll::Ready(Err(overflowed())),
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

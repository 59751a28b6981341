//! Giving up a turn, and going on.
//!
//! A raw function that can't go on answers "again". The glue in the module then calls [`pause`], which ends the turn,
//! and asks the function again in the next turn. A module whose slice is used up calls [`pause`] as well.

use super::Guest;
use crate::engine::state::{is_stack_intact, stack_overflow};
use crate::engine::{current_function, moved_reductions};
use crate::system::turn_context::{self, Pausing};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use wasmtime::Result;

/// The answer of a raw function when the process must give up its turn and ask again.
pub(super) const AGAIN: i32 = -1;
/// The same for functions that may leave lists.
pub(super) const AGAIN_LISTS: i64 = -1;

/// Gives up the turn in order to wait. If the process's current function has been requested, the host reports it here:
/// a backtrace takes microseconds, so the host takes none unasked. The host will write what the process waits for to
/// the address `answer` of the process's memory.
pub(super) fn wait(guest: &mut Guest<'_>, answer: u32) -> i64 {
    if guest.data().current.is_asked_where() {
        let function = current_function(guest);
        guest.data_mut().current.tell_where(function);
    }
    // SAFETY: the calling function answers "again", because it answers what this returns.
    unsafe { guest.data().prepare_to_wait(answer) };
    AGAIN_LISTS
}

/// The cost to the process of memories that had to move since the last call of this function, in reductions.
pub(super) fn moved() -> i64 {
    moved_reductions() as i64
}

/// Ends the turn of a process that has `left` reductions left of its slice. The next turn begins with a full slice.
pub(super) fn pause(mut guest: Guest<'_>, left: i64) -> Pause {
    let is_intact = is_stack_intact(&guest, std::ptr::from_ref(&left).addr());
    let state = guest.data_mut();
    let counted = state.pauses(left);
    // The process pays with later turns for work that went beyond its slice.
    let slice = i64::from(state.current.shared.config.reductions);
    if left < -slice {
        turn_context::owes(left.unsigned_abs() / slice.unsigned_abs());
    }
    state.current.pauses();
    turn_context::reductions(counted + state.current.charged());
    turn_context::replace_pausing(match is_intact {
        true => Pausing::EndsTurn,
        false => Pausing::EndsProcess,
    });
    Pause
}

/// Completes in the next turn, if there is one. It is zero-sized, so boxing it takes no allocation.
pub(super) struct Pause;

impl Future for Pause {
    type Output = Result<()>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match turn_context::replace_pausing(Pausing::Over) {
            Pausing::Over => return Poll::Ready(Ok(())),
            Pausing::EndsTurn => {}
            Pausing::EndsProcess => return Poll::Ready(Err(stack_overflow())),
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

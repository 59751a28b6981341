//! A process's execution in its slot: awake, or packed.
//!
//! Knows a future and the home that it lives in. Whatever touches what lies in the slot goes through here: a turn
//! ([`Execution::poll`]) and the end (`drop`). Both unpack first.
//!
//! # Why a process can be packed
//!
//! 1. *Who may touch it.* A waiting process's execution is owned by its entry in the process table, as a value that is
//!    taken out under the entry's lock by whoever runs, packs or ends it. So one thread at a time has it, and none while it
//!    waits.
//! 2. *What points into a slot.* The execution (to the future, in the arena), what lies in the slot itself, and the
//!    guest's own allocations in wasmtime's store that were made later and lie elsewhere. All of them are reached through
//!    the execution alone. Nothing of wasmtime's that several stores share points to one: the arena's window is open
//!    only while a store and its instance are made, after the first instance of a program and the first of a thread
//!    have made what is made once.
//! 3. *What runs meanwhile.* Packed is only who waits for mail. The one host call that is under way is `pause`, whose future
//!    is nothing but a type, and is nowhere registered: so no driver of I/O holds a node of a list that lies on the stack.
//!    What wasmtime allocates for that call lies in the arena ([`super::arena::CallPlace`]), where nothing else is allocated
//!    until the call is over.
//! 4. *Addresses stay.* A slot is packed and unpacked in place, so what points into it from elsewhere stays right.
//! 5. *When a slot is used again.* When the execution, the memory and the stack have let go of the home; the execution
//!    lets go last, when all that lies in the arena has been dropped.
//!
//! Debug builds compare checksums of what was packed and unpacked; with [`Config::poison`](crate::Config::poison) a
//! packed slot can't be touched at all.

use super::arena;
use super::packing::{Extent, Packed, Templates};
use super::recycling::{Made, Recycling};
use super::self_test::SelfTest;
use super::slots::{Home, at_home};
use super::state::without_backtrace;
use crate::system::program::{End, Execution};
use crate::system::turn_context;
use crate::system::working_set::WorkingSet;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// What the processes of a program leave for those that come after them.
pub(super) struct Legacy {
    pub(super) templates: Templates,
    /// Says whether processes can be packed.
    pub(super) self_test: Arc<SelfTest>,
    /// None if instances are used once.
    pub(super) recycling: Option<Recycling>,
}

/// What a process's own future ends with: how, and the instance if another process may have it.
pub(super) type Outcome = (End, Option<Made>);

/// See the top of the file.
pub(super) struct Inhabitant<F> {
    /// None when it has ended. Its allocation may lie in the home's arena.
    future: Option<Pin<Box<F>>>,
    rest: Rest,
    legacy: Arc<Legacy>,
    /// Dropped last.
    home: Arc<Home>,
}

/// How an execution is between its turns.
enum Rest {
    Awake(Stop),
    Packed(Packed),
}

// A million sleepers have one each.
const _: () = assert!(size_of::<Rest>() == size_of::<Packed>());

/// Where a process's last turn stopped.
#[derive(Clone, Copy, Default)]
struct Stop {
    /// The number that its thread gave the turn.
    turn: u32,
    /// Where in its memory the answer is written that it waits for; 0 if that is not known.
    answer_at: u32,
}

/// For about as many turns of others, what a process touched stays in the cache.
const CACHED_TURNS: u32 = 16;
/// The stack of a process that waits for mail, and what its next call of the contract takes of it.
const STACK_TOUCHED_BYTES: usize = 2368;
/// wasmtime's store and the first of the instance, which lie at the arena's start.
const STORE_TOUCHED_BYTES: usize = 1792;
/// The instance's context, which is made last.
const INSTANCE_TOUCHED_BYTES: usize = 1408;
/// The answer, and the frames of those who wait for it, if the guest's language has its stack there.
const ANSWER_TOUCHED_BYTES: usize = 320;

impl Stop {
    /// The turn that this thread gives now stops here.
    #[inline(always)]
    fn now() -> Stop {
        Stop {
            turn: turn_context::number(),
            answer_at: turn_context::answer_at(),
        }
    }

    /// Is it so little ago that all is in the cache still? If it was on another thread, the answer is any.
    #[inline]
    fn is_recent(self) -> bool {
        turn_context::number().wrapping_sub(self.turn) < CACHED_TURNS
    }
}

/// The working set of a process in this home whose execution is the future at `future`.
fn working_set(home: &Home, future: Range<usize>, answer_at: u32) -> WorkingSet {
    let top = home.stack().end;
    let instance = home.instance();
    let answer_at = answer_at as usize;
    let memory = home
        .first_memory()
        .filter(|memory| (1..memory.bytes).contains(&answer_at));
    let answer = memory.map_or(0..0, |memory| {
        let start = memory.start.addr().get() + answer_at;
        start..start + ANSWER_TOUCHED_BYTES
    });
    WorkingSet::new([
        future,
        instance.start..(instance.start + STORE_TOUCHED_BYTES).min(instance.end),
        instance
            .end
            .saturating_sub(INSTANCE_TOUCHED_BYTES)
            .max(instance.start)..instance.end,
        top - STACK_TOUCHED_BYTES..top,
        answer,
    ])
}

impl<F: Future<Output = Outcome> + Send> Inhabitant<F> {
    /// An execution in this home.
    #[inline(always)]
    pub(super) fn new(home: Arc<Home>, legacy: Arc<Legacy>, future: F) -> Inhabitant<F> {
        // SAFETY: the execution that had the instance before is gone, as it has put it back; this one drops the future before the
        // home.
        let future = unsafe { home.make_execution(|| Box::new(future)) };
        Inhabitant {
            future: Some(Box::into_pin(future)),
            rest: Rest::Awake(Stop::default()),
            legacy,
            home,
        }
    }
}

impl<F> Inhabitant<F> {
    #[inline]
    fn unpack(&mut self, extent: Extent) {
        if let Rest::Awake(_) = self.rest {
            return;
        }
        if let Rest::Packed(packed) =
            std::mem::replace(&mut self.rest, Rest::Awake(Stop::default()))
        {
            // SAFETY: it was packed from this home, and nobody has touched it since: see the top of the file.
            unsafe { packed.unpack(&self.home, extent) };
        }
    }
}

impl<F: Future<Output = Outcome> + Send> Inhabitant<F> {
    /// The future's next value; when it is ready, it is gone, and the instance is another process's if it can be.
    #[inline(always)]
    fn poll_future(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let future = self.future.as_mut().expect("it has not ended");
        let polled = if self.home.is_settled() {
            future.as_mut().poll(context)
        } else {
            // A program of several memories asks for them when it likes.
            if self.legacy.recycling.is_some() {
                self.home.settle();
            }
            at_home(&self.home, || future.as_mut().poll(context))
        };
        debug_assert!(arena::is_closed(), "what others allocate would lie here");
        let Poll::Ready((end, made)) = polled else {
            self.rest = Rest::Awake(Stop::now());
            return Poll::Pending;
        };
        self.future = None;
        if let (Some(recycling), Some(made)) = (&self.legacy.recycling, made) {
            recycling.put_back(made);
        }
        Poll::Ready(end)
    }
}

impl<F: Future<Output = Outcome> + Send> Execution for Inhabitant<F> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        self.unpack(Extent::All);
        self.poll_future(context)
    }

    fn working_set(&self) -> Option<WorkingSet> {
        match (&self.rest, &self.future) {
            (Rest::Awake(stop), Some(future)) if !stop.is_recent() => {
                let start = (&raw const **future).addr();
                let future = start..start + size_of::<F>();
                Some(working_set(&self.home, future, stop.answer_at))
            }
            _ => None,
        }
    }

    fn end(mut self: Box<Self>, awaits_mail: bool) {
        // On the flattened path who waits for mail does it in a loop of the rewriter's, and asks again first thing; who is told
        // to end then gets an error for an answer. So none of the guest's own code runs, and it unwinds like a process
        // that exits, which leaves its instance to others. Anybody else is dropped, wherever it is.
        if awaits_mail && self.legacy.recycling.is_some() {
            self.unpack(Extent::NotMemory);
            let mut context = Context::from_waker(Waker::noop());
            let ended = without_backtrace(|| self.poll_future(&mut context));
            debug_assert!(ended.is_ready(), "a process that was told to end goes on");
            if ended.is_pending() {
                // Whatever ran may have written to the memory.
                self.home.forget_memory(false);
            }
        }
    }

    fn hibernate(&mut self) {
        if matches!(self.rest, Rest::Awake(_)) && self.legacy.self_test.passes() {
            // SAFETY: the process waits for mail, and this is its execution: see the top of the file.
            let packed = unsafe { Packed::pack(&self.home, &self.legacy.templates) };
            if let Some(packed) = packed {
                self.rest = Rest::Packed(packed);
            }
        }
    }

    fn is_hibernated(&self) -> bool {
        matches!(self.rest, Rest::Packed(_))
    }
}

impl<F> Drop for Inhabitant<F> {
    fn drop(&mut self) {
        self.unpack(Extent::NotMemory);
        self.future = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_recent_for_some_turns() {
        turn_context::await_answer_at(64);
        let mut stop = Stop::now();
        assert_eq!(stop.answer_at, 64);
        assert!(stop.is_recent());
        stop.turn = stop.turn.wrapping_sub(CACHED_TURNS - 1);
        assert!(stop.is_recent());
        stop.turn = stop.turn.wrapping_sub(1);
        assert!(!stop.is_recent());
    }
}

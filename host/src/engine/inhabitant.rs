//! A process's execution in its slot: awake, or packed.
//!
//! This file knows a future and the home that it lives in. Everything that touches the slot's contents goes through
//! here: a turn ([`Execution::poll`]) and the end (`drop`). Both unpack first.
//!
//! # Why a process can be packed
//!
//! 1. *Only one thread touches a waiting process.* The process's entry in the process table owns its execution. A thread that
//!    runs, packs or ends the process takes the execution out of the entry under the entry's lock. So at most one thread has
//!    it, and none while the process waits.
//! 2. *All pointers into a slot are reached through the execution.* They lie in the execution (to the future, in the arena),
//!    in the slot itself, and in later allocations of the guest in wasmtime's store, which lie elsewhere. No structure that
//!    wasmtime shares between stores points into a slot: the arena's window is open only while a store and its instance are
//!    made, and only after the first instance of a program and the first of a thread have made everything that is made once.
//! 3. *No host call is registered meanwhile.* Only processes that wait for mail are packed. The one host call that is under
//!    way is `pause`, whose future has no fields and is registered nowhere, so no I/O driver holds a node of a list that lies
//!    on the stack. wasmtime's allocation for that call lies in the arena ([`super::arena::CallPlace`]), where nothing else is
//!    allocated until the call is over.
//! 4. *Addresses stay.* A slot is packed and unpacked in place, so pointers into it from elsewhere stay valid.
//! 5. *A slot is used again only after its last user.* The execution, the memory and the stack each hold the home. The
//!    execution releases it last, when everything that lies in the arena has been dropped.
//!
//! Debug builds compare checksums of each process before and after. With [`Config::poison`](crate::Config::poison) a
//! packed slot can't be touched at all.

use super::arena;
use super::packing::{Packed, Templates, UnpackScope};
use super::recycling::{Made, Recycling};
use super::self_test::SelfTest;
use super::slots::{Home, at_home};
use super::state::without_backtrace;
use crate::system::program::{End, Execution};
use crate::system::turn_context;
use crate::system::working_set::WorkingSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The state that the processes of a program leave for later ones.
pub(super) struct Legacy {
    pub(super) templates: Templates,
    /// Says whether processes can be packed.
    pub(super) self_test: Arc<SelfTest>,
    /// None if instances are used once.
    pub(super) recycling: Option<Recycling>,
}

/// The result of a process's own future: how it ended, and the instance if another process may have it.
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

/// The state of an execution between its turns.
enum Rest {
    Awake(Stop),
    Packed(Packed),
}

// A million hibernated processes have one each.
const _: () = assert!(size_of::<Rest>() == size_of::<Packed>());

/// The turn in which a process last stopped.
#[derive(Clone, Copy, Default)]
struct Stop {
    /// The number that its thread gave the turn.
    turn: u32,
    /// The address in its memory of the answer that it waits for; 0 if that is not known.
    answer_at: u32,
}

/// After about as many turns of others, a process's working set has left the cache.
const CACHED_TURNS: u32 = 16;

impl Stop {
    /// The present turn of this thread.
    #[inline(always)]
    fn now() -> Stop {
        Stop {
            turn: turn_context::number(),
            answer_at: turn_context::answer_at(),
        }
    }

    /// Whether the stop was so recent that everything is still in the cache. If it was on another thread, the answer
    /// may be wrong.
    #[inline]
    fn is_recent(self) -> bool {
        turn_context::number().wrapping_sub(self.turn) < CACHED_TURNS
    }
}

/// The working set of a process in this home whose execution lies at `execution`.
fn working_set(home: &Home, execution: usize, answer_at: u32) -> WorkingSet {
    let instance = home.instance();
    let answer_at = answer_at as usize;
    let memory = home
        .first_memory()
        .filter(|memory| (1..memory.bytes).contains(&answer_at));
    WorkingSet {
        execution,
        store: instance.start,
        instance_end: instance.end,
        stack_top: home.stack().end,
        answer: memory.map(|memory| memory.start.addr().get() + answer_at),
    }
}

impl<F: Future<Output = Outcome> + Send> Inhabitant<F> {
    /// Makes an execution in this home.
    #[inline(always)]
    pub(super) fn new(home: Arc<Home>, legacy: Arc<Legacy>, future: F) -> Inhabitant<F> {
        // SAFETY: an execution that had the instance before has put it back, and so is gone. This execution drops the
        // future before the home.
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
    fn unpack(&mut self, scope: UnpackScope) {
        if let Rest::Awake(_) = self.rest {
            return;
        }
        if let Rest::Packed(packed) =
            std::mem::replace(&mut self.rest, Rest::Awake(Stop::default()))
        {
            // SAFETY: it was packed from this home, and nothing has touched the home since: see the top of the file.
            unsafe { packed.unpack(&self.home, scope) };
        }
    }
}

impl<F: Future<Output = Outcome> + Send> Inhabitant<F> {
    /// Polls the future. When it is ready, this drops it, and puts the instance back for another process if that is
    /// possible.
    #[inline(always)]
    fn poll_future(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let future = self.future.as_mut().expect("it has not ended");
        let polled = if self.home.is_settled() {
            future.as_mut().poll(context)
        } else {
            // A program of several memories may ask for them at any time.
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
        self.unpack(UnpackScope::All);
        self.poll_future(context)
    }

    fn working_set(&self) -> Option<WorkingSet> {
        match (&self.rest, &self.future) {
            (Rest::Awake(stop), Some(future)) if !stop.is_recent() => {
                let execution = (&raw const **future).addr();
                Some(working_set(&self.home, execution, stop.answer_at))
            }
            _ => None,
        }
    }

    fn end(mut self: Box<Self>, awaits_mail: bool) {
        // On the flattened path a process that waits for mail does so in a loop of the rewriter's glue, which asks
        // again first thing. If the process was told to end, it gets an error for an answer. So none of the guest's own
        // code runs, and the process unwinds like one that exits, so its instance can be recycled. All other
        // processes are dropped where they are.
        if awaits_mail && self.legacy.recycling.is_some() {
            self.unpack(UnpackScope::NotMemory);
            let mut context = Context::from_waker(Waker::noop());
            let ended = without_backtrace(|| self.poll_future(&mut context));
            debug_assert!(ended.is_ready(), "a process that was told to end goes on");
            if ended.is_pending() {
                // The code that ran may have written to the memory.
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
        self.unpack(UnpackScope::NotMemory);
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

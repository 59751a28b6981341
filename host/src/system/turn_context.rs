//! The context of the turn that a thread gives. Through it the turn and the code that runs in it tell one another what
//! they need, without a lock.
//!
//! A turn locks the process's entry when it begins and when it ends, and not in between. Everything that the process
//! would have to lock its entry for travels here: the mail that was in the inbox when the turn began, what the process
//! has taken out of the mailbox, whether it waits for mail now, and the turns that it owes. All of it belongs to one
//! thread.

use crate::process::{Event, Pid};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;

/// Events on their way from an entry to the queue that the receiver searches.
pub(crate) type Arrived = VecDeque<Option<Event>>;

thread_local! {
    // It has nothing to drop: a thread-local variable with a destructor would check at each use whether it is
    // initialized.
    static TURN: Turn = const {
        Turn {
            arrived: RefCell::new(ManuallyDrop::new(VecDeque::new())),
            number: Cell::new(0),
            process: Cell::new(Pid::NOBODY),
            taken_bytes: Cell::new(0),
            taken_events: Cell::new(0),
            awaits_mail: Cell::new(false),
            answer_at: Cell::new(0),
            woken: Cell::new(false),
            reductions: Cell::new(0),
            owed_turns: Cell::new(0),
            moved_bytes: Cell::new(0),
            pausing: Cell::new(Pausing::Over),
        }
    };
}

struct Turn {
    /// The mail that the turn began with. Between turns it holds no events but keeps its buffer, which [`free`] frees.
    arrived: RefCell<ManuallyDrop<Arrived>>,
    /// How many turns the thread has given.
    number: Cell<u32>,
    /// The process whose turn it is.
    process: Cell<Pid>,
    taken_bytes: Cell<u64>,
    taken_events: Cell<u64>,
    awaits_mail: Cell<bool>,
    answer_at: Cell<u32>,
    woken: Cell<bool>,
    reductions: Cell<u64>,
    owed_turns: Cell<u64>,
    moved_bytes: Cell<usize>,
    pausing: Cell<Pausing>,
}

/// How far a call of `pause`, which ends the turn, has got. The call is a future without fields, so that it takes no
/// allocation.
#[derive(Clone, Copy)]
pub(crate) enum Pausing {
    /// The future has been polled: its process is in its next turn.
    Over,
    /// The next poll of the future ends the turn.
    EndsTurn,
    /// The next poll of the future ends the process, whose stack has been overflowed.
    EndsProcess,
}

/// The results of a turn.
pub(super) struct TurnOutcome {
    pub(super) awaits_mail: bool,
    pub(super) taken_bytes: u64,
    pub(super) taken_events: u64,
    /// All reductions of the process so far, if it reported them in this turn; 0 if not.
    pub(super) reductions: u64,
    /// Its waker was called within the turn.
    pub(super) woken: bool,
    /// The turns that the scheduler will withhold from the process, because of what this one has cost.
    pub(super) owed_turns: u64,
}

/// Begins a process's turn. It takes all events out of `arrived`.
#[inline]
pub(super) fn begin(process: Pid, arrived: Option<&mut Arrived>) {
    TURN.with(|turn| {
        debug_assert!(turn.arrived.borrow().is_empty());
        if let Some(arrived) = arrived {
            std::mem::swap(&mut **turn.arrived.borrow_mut(), arrived);
        }
        turn.number.set(turn.number.get().wrapping_add(1));
        turn.process.set(process);
        turn.woken.set(false);
        turn.taken_bytes.set(0);
        turn.taken_events.set(0);
        turn.reductions.set(0);
        turn.awaits_mail.set(false);
        turn.answer_at.set(0);
    });
}

/// Ends a turn. Events that the process did not ask for go back to the front of `arrived`.
#[inline]
pub(super) fn end(arrived: &mut Option<Box<Arrived>>) -> TurnOutcome {
    TURN.with(|turn| {
        let mut unasked = turn.arrived.borrow_mut();
        if !unasked.is_empty() {
            let arrived = &mut **arrived.get_or_insert_default();
            unasked.append(arrived);
            std::mem::swap(&mut **unasked, arrived);
        }
        turn.process.set(Pid::NOBODY);
        TurnOutcome {
            awaits_mail: turn.awaits_mail.get(),
            taken_bytes: turn.taken_bytes.get(),
            taken_events: turn.taken_events.get(),
            reductions: turn.reductions.get(),
            woken: turn.woken.get(),
            owed_turns: turn.owed_turns.take(),
        }
    })
}

/// Frees what the context keeps between turns. The thread must give no turns afterwards.
pub(crate) fn free() {
    TURN.with(|turn| {
        drop(std::mem::take(&mut **turn.arrived.borrow_mut()));
    });
}

/// How many turns this thread has given, including the present one.
#[inline]
pub(crate) fn number() -> u32 {
    TURN.with(|turn| turn.number.get())
}

/// Wakes a process if this thread is giving it a turn: the end of the turn will see it.
#[inline]
pub(super) fn wake(process: Pid) -> bool {
    TURN.with(|turn| {
        let is_its_turn = turn.process.get() == process;
        if is_its_turn {
            turn.woken.set(true);
        }
        is_its_turn
    })
}

/// Hands the mail that the turn began with to `receive`, if the process has not asked for it yet.
#[inline]
pub(super) fn mail(receive: impl FnOnce(&mut Arrived)) -> bool {
    TURN.with(|turn| {
        let mut arrived = turn.arrived.borrow_mut();
        let any = !arrived.is_empty();
        if any {
            receive(&mut arrived);
        }
        any
    })
}

/// Takes over the empty buffer of a process's queue, for the next turn, if the context has none.
#[inline]
pub(super) fn give_buffer(buffer: Arrived) {
    TURN.with(|turn| {
        let mut arrived = turn.arrived.borrow_mut();
        if arrived.capacity() == 0 {
            **arrived = buffer;
        }
    });
}

/// The process has taken an event of so many bytes out of its mailbox.
#[inline]
pub(super) fn taken(bytes: u64) {
    TURN.with(|turn| {
        turn.taken_bytes.set(turn.taken_bytes.get() + bytes);
        turn.taken_events.set(turn.taken_events.get() + 1);
    });
}

/// How many events the process has taken out of its mailbox in this turn, and their bytes.
pub(super) fn taken_so_far() -> (u64, u64) {
    TURN.with(|turn| (turn.taken_events.get(), turn.taken_bytes.get()))
}

/// Returns the same and resets it: the caller tells the entry now, so the end of the turn does not tell it again.
pub(super) fn tell_taken() -> (u64, u64) {
    TURN.with(|turn| (turn.taken_events.take(), turn.taken_bytes.take()))
}

/// The process has used so many reductions since its start.
#[inline]
pub(crate) fn reductions(count: u64) {
    TURN.with(|turn| turn.reductions.set(count));
}

/// The host's work for the process took so many slices more than the process has given up.
#[inline]
pub(crate) fn owes(turns: u64) {
    TURN.with(|turn| {
        turn.owed_turns
            .set(turn.owed_turns.get().saturating_add(turns))
    });
}

/// The process waits for mail: it gives up its turn now.
#[inline]
pub(super) fn await_mail() {
    TURN.with(|turn| turn.awaits_mail.set(true));
}

/// The process is about to wait for an answer, which the host will write to this address of the process's memory.
#[inline]
pub(crate) fn await_answer_at(address: u32) {
    TURN.with(|turn| turn.answer_at.set(address));
}

/// The address that was passed to [`await_answer_at`] in this turn; 0 if there was none.
#[inline]
pub(crate) fn answer_at() -> u32 {
    TURN.with(|turn| turn.answer_at.get())
}

/// Memories with so many bytes had to move. No process has paid for that yet.
pub(crate) fn moved(bytes: usize) {
    TURN.with(|turn| {
        turn.moved_bytes
            .set(turn.moved_bytes.get().saturating_add(bytes))
    });
}

/// Takes the bytes that have moved since the last call of this function.
pub(crate) fn take_moved() -> usize {
    TURN.with(|turn| turn.moved_bytes.take())
}

/// Sets what the next poll of `pause` does, and returns what this one is to do.
#[inline]
pub(crate) fn replace_pausing(pausing: Pausing) -> Pausing {
    TURN.with(|turn| turn.pausing.replace(pausing))
}

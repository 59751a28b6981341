//! What a turn and the code that runs in it tell one another, without a lock: both are on the same thread.
//!
//! A turn begins with a look at the process's entry, under its lock, and ends with one. What the process would
//! otherwise have to lock the entry for in between travels here: the mail that was there when the turn began, what was
//! taken out of the mailbox, and whether the process now waits for mail.

use crate::process::{Event, Pid};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;

/// Events on their way from an entry to the queue that the receiver searches.
pub(crate) type Arrived = VecDeque<Option<Event>>;

thread_local! {
    // Nothing to be dropped: a thread-local variable with a destructor asks at each use whether it is there yet.
    static TURN: Turn = const {
        Turn { arrived: RefCell::new(ManuallyDrop::new(VecDeque::new())), taken_bytes: Cell::new(0),
            taken_events: Cell::new(0), awaits_mail: Cell::new(false), reductions: Cell::new(0),
            whose: Cell::new(Pid::NOBODY), woken: Cell::new(false), owed_turns: Cell::new(0)
        }
    };
}

struct Turn {
    /// Between turns it holds nothing but room. [`leave`] frees that.
    arrived: RefCell<ManuallyDrop<Arrived>>,
    taken_bytes: Cell<u64>,
    taken_events: Cell<u64>,
    awaits_mail: Cell<bool>,
    reductions: Cell<u64>,
    /// The process whose turn it is.
    whose: Cell<Pid>,
    woken: Cell<bool>,
    owed_turns: Cell<u64>,
}

/// What a turn leaves behind.
pub(super) struct Left {
    pub(super) awaits_mail: bool,
    pub(super) taken_bytes: u64,
    pub(super) taken_events: u64,
    /// All reductions so far, if the process had occasion to say; 0 if not.
    pub(super) reductions: u64,
    /// Its waker was called within the turn.
    pub(super) woken: bool,
    /// The turns that it is not to have, because of what this one has cost.
    pub(super) owed_turns: u64,
}

/// Begins a process's turn; `arrived` is left empty.
#[inline]
pub(super) fn begin(whose: Pid, arrived: Option<&mut Arrived>) {
    TURN.with(|turn| {
        debug_assert!(turn.arrived.borrow().is_empty());
        if let Some(arrived) = arrived {
            std::mem::swap(&mut **turn.arrived.borrow_mut(), arrived);
        }
        turn.whose.set(whose);
        turn.woken.set(false);
        turn.taken_bytes.set(0);
        turn.taken_events.set(0);
        turn.reductions.set(0);
        turn.awaits_mail.set(false);
    });
}

/// Ends a turn. What nobody asked for goes back to the front of `arrived`.
#[inline]
pub(super) fn end(arrived: &mut Option<Box<Arrived>>) -> Left {
    TURN.with(|turn| {
        let mut unasked = turn.arrived.borrow_mut();
        if !unasked.is_empty() {
            let arrived = &mut **arrived.get_or_insert_default();
            unasked.append(arrived);
            std::mem::swap(&mut **unasked, arrived);
        }
        turn.whose.set(Pid::NOBODY);
        Left {
            awaits_mail: turn.awaits_mail.get(),
            taken_bytes: turn.taken_bytes.get(),
            taken_events: turn.taken_events.get(),
            reductions: turn.reductions.get(),
            woken: turn.woken.get(),
            owed_turns: turn.owed_turns.take(),
        }
    })
}

/// The thread will give no more turns.
pub(crate) fn leave() {
    TURN.with(|turn| drop(std::mem::take(&mut **turn.arrived.borrow_mut())));
}

/// Wakes a process, if it is its turn on this very thread: the turn's end will see it.
#[inline]
pub(super) fn wake(process: Pid) -> bool {
    TURN.with(|turn| {
        let is_its_turn = turn.whose.get() == process;
        if is_its_turn {
            turn.woken.set(true);
        }
        is_its_turn
    })
}

/// Hands the mail that the turn began with to `receive`, if it was not asked for yet.
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

/// Takes the room that a process's queue has for events, and holds none: it will be the next turn's.
#[inline]
pub(super) fn give_room(room: Arrived) {
    TURN.with(|turn| {
        let mut arrived = turn.arrived.borrow_mut();
        if arrived.capacity() == 0 {
            **arrived = room;
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

/// What the process has taken out of its mailbox in this turn: events, and their bytes.
pub(super) fn taken_so_far() -> (u64, u64) {
    TURN.with(|turn| (turn.taken_events.get(), turn.taken_bytes.get()))
}

/// The same, which the entry is told now: the turn's end will not tell it again.
pub(super) fn tell_taken() -> (u64, u64) {
    TURN.with(|turn| (turn.taken_events.take(), turn.taken_bytes.take()))
}

/// The process has used so many reductions since its start.
#[inline]
pub(crate) fn reductions(count: u64) {
    TURN.with(|turn| turn.reductions.set(count));
}

/// The host has worked for the process for so many slices more than it has given up.
#[inline]
pub(crate) fn owes(turns: u64) {
    TURN.with(|turn| {
        turn.owed_turns
            .set(turn.owed_turns.get().saturating_add(turns))
    });
}

/// The process waits for mail: it will give up its turn now.
#[inline]
pub(super) fn await_mail() {
    TURN.with(|turn| turn.awaits_mail.set(true));
}

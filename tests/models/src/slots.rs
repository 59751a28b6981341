//! Slots whose pages go back to the kernel while their processes wake. `Presence`, `Awake` and `Backlog` are the host's; around
//! them stand the steps of `Releases::add` (`engine/slots/releases.rs`), `Stretches` (`stretch.rs`) and `Home`.
//!
//! The pages of a slot are a cell, of which loom tells when two threads touch it at once or without one having seen what the
//! other did.

use crate::awake::Awake;
use crate::backlog::Backlog;
use crate::flaws::{Flaw, Model};
use crate::presence::Presence;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::sync::{Arc, Mutex};
use loom::thread;

pub const MODELS: &[Model] = &[
    Model {
        name: "a stretch goes back only while none of its slots is awake",
        run: || stretch(2),
        preemptions_max: None,
        notices: &[Flaw::Acquire, Flaw::Release, Flaw::Addition],
    },
    Model {
        name: "three slots share a stretch",
        run: || stretch(3),
        preemptions_max: Some(3),
        notices: &[Flaw::Acquire, Flaw::Release, Flaw::Addition],
    },
    Model {
        name: "a slot is taken back while its pages go",
        run: a_slot_is_taken_back_while_its_pages_go,
        preemptions_max: None,
        notices: &[Flaw::Acquire, Flaw::Release],
    },
    Model {
        name: "a slot is packed again while an earlier release is under way",
        run: a_slot_is_packed_again,
        preemptions_max: Some(3),
        notices: &[Flaw::Acquire, Flaw::Release, Flaw::Addition],
    },
    Model {
        name: "the reaper's backlog stays below its bound",
        run: the_backlog_stays_below_its_bound,
        preemptions_max: None,
        notices: &[Flaw::Addition],
    },
];

/// The pages of a slot.
struct Pages(UnsafeCell<()>);

impl Pages {
    fn new() -> Pages {
        Pages(UnsafeCell::new(()))
    }

    /// Reads and writes the pages, or gives them back.
    fn touch(&self) {
        self.0.with_mut(|_| ());
    }
}

/// So many slots in one stretch. The process of each sleeps and wakes again, and touches its pages before and after.
fn stretch(slots: usize) {
    let shared = Arc::new((
        Awake::default(),
        (0..slots).map(|_| Pages::new()).collect::<Vec<_>>(),
    ));
    (0..slots).for_each(|_| shared.0.wake());
    let live = |slot: usize| {
        let shared = shared.clone();
        move || {
            let (awake, pages) = &*shared;
            pages[slot].touch();
            awake.sleep(|| pages.iter().for_each(Pages::touch));
            awake.wake();
            pages[slot].touch();
        }
    };
    let others: Vec<_> = (1..slots).map(|slot| thread::spawn(live(slot))).collect();
    live(0)();
    for other in others {
        other.join().expect("no thread panics");
    }
}

struct Slot {
    presence: Presence,
    awake: Awake,
    pages: Pages,
    /// The queue of slots that are to be released, which is a lock around a list in the host.
    queue: Mutex<usize>,
}

impl Slot {
    fn new() -> Arc<Slot> {
        let slot = Slot {
            presence: Presence::new(),
            awake: Awake::default(),
            pages: Pages::new(),
            queue: Mutex::new(0),
        };
        slot.awake.wake();
        Arc::new(slot)
    }

    /// The process is packed: `Home::release_soon`.
    fn pack(&self) {
        self.pages.touch();
        self.presence.queue();
        *self.queue.lock().expect("no thread panics") += 1;
    }

    /// `Releases::add`, by the thread that fills the queue.
    fn release(&self) {
        let queued = std::mem::take(&mut *self.queue.lock().expect("no thread panics"));
        for _ in 0..queued {
            if self.presence.begin_release() {
                self.pages.touch();
                self.presence.released();
                self.awake.sleep(|| self.pages.touch());
            }
        }
    }

    /// The process wakes: `Home::take_back`, and `Home::wakes` if the pages are gone.
    fn unpack(&self) {
        if !self.presence.take_back() {
            self.awake.wake();
        }
        self.pages.touch();
    }
}

fn a_slot_is_taken_back_while_its_pages_go() {
    let slot = Slot::new();
    slot.pack();
    let releaser = thread::spawn({
        let slot = slot.clone();
        move || slot.release()
    });
    slot.unpack();
    releaser.join().expect("no thread panics");
}

fn a_slot_is_packed_again() {
    let slot = Slot::new();
    slot.pack();
    let releasers: Vec<_> = (0..2)
        .map(|_| {
            let slot = slot.clone();
            thread::spawn(move || slot.release())
        })
        .collect();
    slot.unpack();
    slot.pack();
    slot.unpack();
    for releaser in releasers {
        releaser.join().expect("no thread panics");
    }
}

fn the_backlog_stays_below_its_bound() {
    const MOST: usize = 3;
    let shared = Arc::new((Backlog::new(), AtomicUsize::new(0)));
    let add = |bytes: usize| {
        let shared = shared.clone();
        move || {
            let (backlog, accepted) = &*shared;
            if backlog.add(bytes, MOST) {
                let sum = accepted.fetch_add(bytes, Relaxed) + bytes;
                assert!(sum <= MOST || sum == bytes, "{sum} bytes wait");
                accepted.fetch_sub(bytes, Relaxed);
                backlog.remove(bytes);
            }
        }
    };
    let others = [thread::spawn(add(2)), thread::spawn(add(5))];
    add(2)();
    for other in others {
        other.join().expect("no thread panics");
    }
    // All is removed again: what is larger than the bound fits if it is alone.
    assert!(shared.0.add(5, MOST));
}

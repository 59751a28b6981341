//! A timer that is armed from outside while the owner of the wheel goes to sleep. This is a model and not the code: it mirrors
//! `Scheduler::arm` (`scheduler/mod.rs`) and `Worker::park` and `fire_due` (`scheduler/worker.rs`). The clock stands still, and
//! each deadline is due.

use crate::flaws::{Flaw, Model, has};
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::sync::{Arc, Mutex, Notify};
use loom::thread;

pub const MODELS: &[Model] = &[Model {
    name: "a timer wakes the owner of its wheel",
    run: a_timer_wakes_the_owner_of_its_wheel,
    preemptions_max: None,
    notices: &[Flaw::Note],
}];

const NEVER: u64 = u64::MAX;
const DEADLINE: u64 = 7;

struct Lane {
    timers: Mutex<Timers>,
    next_deadline: AtomicU64,
    parker: Notify,
}

struct Timers {
    /// The only timer of the wheel.
    deadline: u64,
    asleep_until: u64,
}

fn a_timer_wakes_the_owner_of_its_wheel() {
    let lane = Arc::new(Lane {
        timers: Mutex::new(Timers {
            deadline: NEVER,
            asleep_until: 0,
        }),
        next_deadline: AtomicU64::new(NEVER),
        parker: Notify::new(),
    });
    let owner = thread::spawn({
        let lane = lane.clone();
        move || {
            while !lane.fires() {
                lane.park();
            }
        }
    });
    lane.arm(DEADLINE);
    owner.join().expect("the owner does not panic");
}

impl Lane {
    /// `Scheduler::arm`.
    fn arm(&self, deadline: u64) {
        let mut timers = self.timers.lock().expect("no thread panics");
        timers.deadline = deadline;
        if deadline < self.next_deadline.load(Relaxed) {
            self.next_deadline.store(deadline, Relaxed);
        }
        let must_wake = deadline < timers.asleep_until;
        if must_wake {
            timers.asleep_until = deadline;
        }
        drop(timers);
        if must_wake {
            self.parker.notify();
        }
    }

    /// `Worker::look_at_clock` and `fire_due`: whether the timer has fired.
    fn fires(&self) -> bool {
        if self.next_deadline.load(Relaxed) == NEVER {
            return false;
        }
        let timers = self.timers.lock().expect("no thread panics");
        timers.deadline != NEVER
    }

    /// `Worker::park`. Sleeping until a deadline returns at once: the clock has reached it.
    fn park(&self) {
        let mut timers = self.timers.lock().expect("no thread panics");
        let deadline = timers.deadline;
        if deadline != NEVER {
            return;
        }
        if has(Flaw::Note) {
            drop(timers);
            timers = self.timers.lock().expect("no thread panics");
        }
        timers.asleep_until = deadline;
        drop(timers);
        self.parker.wait();
        self.timers.lock().expect("no thread panics").asleep_until = 0;
    }
}

//! The scheduler: runs tasks on one thread per core, and timers beside them.
//!
//! It knows tasks by number, three priorities, cores, queues, stealing, parking and deadlines. It never sees what
//! a task is: whoever owns the tasks implements [`Work`], and says with [`Scheduler::schedule`] that one can run.
//!
//! ```text
//!   any thread                      scheduler thread (one per core)                 owner of the tasks
//!   ──────────                      ───────────────────────────────                 ──────────────────
//!   schedule ──► injectors ──┐      worker: pick ──► run one turn ───────────────►  Work::run
//!      └── wakes a sleeper   ├────►   ▲        own queues, in order ◄── Again ────────┘   │
//!   other workers' queues ───┘        │        (parked: gone until scheduled)  ◄─ Parked ─┘
//!                                     ├── schedule, called within a turn: own queues ◄────┘
//!   arm, cancel ──► a wheel ────► worker: deadlines due? ────────────────────────►  Work::fire
//!                                     │
//!   stop ─────────────────────► nothing to do: search, then sleep until woken or the wheel's deadline
//! ```
//!
//! | file | holds |
//! |---|---|
//! | here | what all threads share, and the operations of any thread |
//! | `worker` | one scheduler thread: what runs next, the clock, sleeping |
//! | `priority` | the priorities, and how turns are shared among them |
//! | `queues` | the queues of each thread and the injectors, one for each priority |
//! | `thief` | what is taken from other threads' queues, and what isn't |
//! | `sleepers` | who sleeps and who is to be woken, and why no wake-up is lost |
//! | `wheel`, `slab` | deadlines |
//! | `seam` | time, randomness and sleeping |
//!
//! What can be relied on: a task gets one turn for each time that it was scheduled or returned
//! [`After::Again`]; the tasks of a queue run in the order in which they came; every fourth turn of a priority
//! belongs to what was scheduled with it from outside, if there is such; a timer never fires early; nobody
//! spins while there is nothing to do.
//!
//! # Priorities
//!
//! Of eight turns, seven go to `High` tasks as long as there are any that can run; of the turns that are left,
//! seven of eight go to `Normal` ones and one to `Low` ones. So nobody starves: a `Low` task at the front of its
//! queue has its turn after 63 others at the latest. Only turns that two sides could have had are counted, so a
//! priority that is alone loses nothing. Each thread shares its own turns like this, among what waits in its
//! queues and in the injectors; between threads, who has nothing to do takes the most urgent first, and who is
//! busy evens out each priority now and then.

mod priority;
mod queues;
mod seam;
mod slab;
mod sleepers;
#[cfg(test)]
mod tests;
mod thief;
#[cfg(test)]
mod virtual_world;
mod wheel;
mod worker;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_utils::CachePadded;
use crossbeam_utils::sync::{Parker, Unparker};

pub use priority::Priority;
pub use seam::{Seam, World};
#[cfg(test)]
pub(crate) use virtual_world::VirtualWorld;

use queues::{Injectors, Queues, Stealers};
use sleepers::Sleepers;
use wheel::{NEVER, Wheel, WheelKey};

/// Names a task. What it stands for, and when a number may be used again, is its owner's business.
pub type Task = u32;

/// More scheduler threads than any machine has cores for; the sleepers are counted in 16 bits.
pub const SCHEDULERS_MAX: usize = 1024;

/// What becomes of a task after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It wants to go on: to the back of the queue of this priority.
    Again(Priority),
    /// It waits, or is no more: somebody will schedule it, or nobody.
    Parked,
}

/// The owner of the tasks.
pub trait Work: Send + Sync + 'static {
    /// What is handed back when a timer runs out.
    type Timer: Copy + Send + 'static;

    /// One turn of a task, on a scheduler thread.
    ///
    /// The scheduler runs whatever is scheduled, as often as it is: that a task isn't scheduled while it is in
    /// a queue or in a turn is for its owner to see to. From the moment it is scheduled it may run, on another
    /// thread, even if the turn that made this possible has not returned.
    ///
    /// Must not panic: the whole program ends if it does.
    fn run(&self, task: Task) -> After;

    /// A timer has run out; called on a scheduler thread between turns. Whatever it calls of the scheduler
    /// is allowed. Must not panic.
    fn fire(&self, timer: Self::Timer);
}

/// What a scheduler is made from.
pub struct Options {
    /// How many threads, 1 to [`SCHEDULERS_MAX`].
    pub schedulers: usize,
    /// Where time and randomness come from.
    pub seam: Arc<Seam>,
}

/// Names an armed timer; never reused by the same scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    lane: u32,
    key: WheelKey,
}

/// What one scheduler thread has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Turns begun.
    pub turns: u64,
    /// How often it took tasks, one or several, from another scheduler's queue.
    pub steals: u64,
    /// How often it went to sleep.
    pub parks: u64,
    /// Timers that ran out on it.
    pub timers_fired: u64,
}

/// A pool of scheduler threads with their queues and timer wheels, shared by whoever schedules.
pub struct Scheduler<W: Work> {
    /// Unlike an address, never used again: a thread of a scheduler that is gone is not one of ours.
    id: u64,
    seam: Arc<Seam>,
    /// Tasks scheduled by threads that have no queue of their own here.
    injectors: Injectors,
    sleepers: CachePadded<Sleepers>,
    lanes: Box<[CachePadded<Lane<W::Timer>>]>,
    stopping: AtomicBool,
    /// The owners' ends of the lanes, until the threads take them.
    seats: Mutex<Vec<Seat>>,
    /// Which lane the next timer that is armed from outside goes to.
    next_lane: AtomicUsize,
}

/// What others may touch of one scheduler thread.
struct Lane<T> {
    stealers: Stealers,
    unparker: Unparker,
    timers: Mutex<Timers<T>>,
    /// Not after the wheel's next deadline; written with `timers` locked. Lets the owner see that nothing is
    /// due without the lock.
    next_deadline_ns: AtomicU64,
    counts: Counts,
}

/// A wheel, and what who arms a timer must know of the thread that serves it.
struct Timers<T> {
    wheel: Wheel<T>,
    /// Until when the owner sleeps; 0 while it is awake.
    asleep_until_ns: u64,
}

/// [`Counters`] as they are kept: each is written by one thread only, which also remembers the value. Thieves
/// read `turns`, too: while it stays the same, the owner is in the same turn.
#[derive(Default)]
struct Counts {
    turns: AtomicU64,
    steals: AtomicU64,
    parks: AtomicU64,
    timers_fired: AtomicU64,
}

/// What one scheduler thread alone may touch.
struct Seat {
    queues: Queues,
    parker: Parker,
}

impl<W: Work> Scheduler<W> {
    /// A scheduler whose threads are not yet started; tasks and timers can be given to it already.
    ///
    /// # Panics
    /// When the number of threads is 0 or over [`SCHEDULERS_MAX`].
    pub fn new(options: Options) -> Arc<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let schedulers = options.schedulers;
        assert!(
            (1..=SCHEDULERS_MAX).contains(&schedulers),
            "{schedulers} scheduler threads"
        );
        let seats: Vec<Seat> = (0..schedulers)
            .map(|_| Seat {
                queues: Queues::new(),
                parker: Parker::new(),
            })
            .collect();
        let lanes = seats
            .iter()
            .map(|seat| CachePadded::new(Lane::new(seat)))
            .collect();
        Arc::new(Scheduler {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            seam: options.seam,
            injectors: Injectors::new(),
            sleepers: CachePadded::new(Sleepers::new(schedulers)),
            lanes,
            stopping: AtomicBool::new(false),
            seats: Mutex::new(seats),
            next_lane: AtomicUsize::new(0),
        })
    }

    /// Starts the threads. Each calls `around` once, which has to call what it is given, once: the thread's whole
    /// work, with whatever the turns need around them.
    ///
    /// # Errors
    /// When it has been started before, or a thread can't be had; then none is left running.
    pub fn start(
        self: &Arc<Self>,
        work: Arc<W>,
        around: impl Fn(&mut dyn FnMut()) + Send + Sync + 'static,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let seats = std::mem::take(&mut *lock(&self.seats));
        if seats.is_empty() {
            return Err(io::Error::other("the scheduler has been started before"));
        }
        let around = Arc::new(around);
        let mut threads = Vec::with_capacity(seats.len());
        for (index, seat) in seats.into_iter().enumerate() {
            let (scheduler, work, around) = (self.clone(), work.clone(), around.clone());
            let thread = std::thread::Builder::new()
                .name(format!("atoll-scheduler-{index}"))
                .spawn(move || worker::main(scheduler, work, index, seat, &*around));
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    self.stop();
                    for thread in threads {
                        // It can't have panicked, that ends the program.
                        let _ = thread.join();
                    }
                    return Err(error);
                }
            }
        }
        Ok(threads)
    }

    /// Has a task run: on a thread of this scheduler, at the back of that thread's own queue of this priority; from
    /// any other thread, on whichever scheduler has time first.
    pub fn schedule(&self, task: Task, priority: Priority) {
        if worker::push_to_own_queue(self.id, task, priority) {
            return;
        }
        self.injectors.push(task, priority);
        if let Some(sleeper) = self.sleepers.wake_one() {
            self.lanes[sleeper].unparker.unpark();
        }
    }

    /// Has [`Work::fire`] called with `timer` when the clock (see [`Scheduler::now`]) has reached the deadline,
    /// or soon after. A thread of this scheduler uses its own wheel.
    pub fn arm(&self, deadline_ns: u64, timer: W::Timer) -> TimerKey {
        let own = worker::own_lane(self.id);
        let index = own
            .unwrap_or_else(|| self.next_lane.fetch_add(1, Ordering::Relaxed) % self.lanes.len());
        let lane = &*self.lanes[index];
        let mut timers = lock(&lane.timers);
        let key = timers.wheel.arm(deadline_ns, timer);
        if deadline_ns < lane.next_deadline_ns.load(Ordering::Relaxed) {
            lane.next_deadline_ns.store(deadline_ns, Ordering::Relaxed);
        }
        // The owner notes under this lock until when it will sleep, having read the wheel: either it has read
        // this timer, too, or its note is here to be compared.
        let must_wake = deadline_ns < timers.asleep_until_ns;
        if must_wake {
            timers.asleep_until_ns = deadline_ns;
        }
        drop(timers);
        if must_wake {
            lane.unparker.unpark();
        }
        TimerKey {
            lane: index as u32,
            key,
        }
    }

    /// Takes a timer back; from any thread. True if it will not fire; false if it has fired, is about to,
    /// or was cancelled before.
    pub fn cancel(&self, key: TimerKey) -> bool {
        let lane = &self.lanes[key.lane as usize];
        lock(&lane.timers).wheel.cancel(key.key)
    }

    /// How many timers are armed at the moment, for statistics: neither handed to [`Work::fire`] nor cancelled.
    pub fn timers_armed(&self) -> usize {
        self.lanes
            .iter()
            .map(|lane| lock(&lane.timers).wheel.len())
            .sum()
    }

    /// The seam's monotonic clock, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.seam.now()
    }

    /// Ends the threads after their current turns. What is queued stays unrun, and timers don't fire any more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for lane in &self.lanes {
            // Whoever is about to park finds the wake-up there.
            lane.unparker.unpark();
        }
    }

    /// What each thread has done so far; they go on meanwhile.
    pub fn counters(&self) -> Vec<Counters> {
        self.lanes.iter().map(|lane| lane.counts.read()).collect()
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl<T: Copy> Lane<T> {
    fn new(seat: &Seat) -> Self {
        Lane {
            stealers: seat.queues.stealers(),
            unparker: seat.parker.unparker().clone(),
            timers: Mutex::new(Timers {
                wheel: Wheel::new(),
                asleep_until_ns: 0,
            }),
            next_deadline_ns: AtomicU64::new(NEVER),
            counts: Counts::default(),
        }
    }
}

impl Counts {
    fn read(&self) -> Counters {
        Counters {
            turns: self.turns.load(Ordering::Relaxed),
            steals: self.steals.load(Ordering::Relaxed),
            parks: self.parks.load(Ordering::Relaxed),
            timers_fired: self.timers_fired.load(Ordering::Relaxed),
        }
    }
}

/// Locks what no code that may panic is run under.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

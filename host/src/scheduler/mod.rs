//! The scheduler: runs tasks on one thread per core, and timers beside them.
//!
//! The scheduler knows tasks by number, three priorities, cores, queues, stealing, parking and deadlines. It never
//! sees what a task is: the owner of the tasks implements [`Work`], and calls [`Scheduler::schedule`] when a task can
//! run.
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
//! | here | the state that all threads share, and the operations that any thread may call |
//! | `worker` | one scheduler thread: it picks the next task, reads the clock, sleeps |
//! | `priority` | the priorities, and how turns are shared among them |
//! | `queues` | the queues of each thread and the injectors, one for each priority |
//! | `thief` | stealing: which tasks a scheduler takes from other schedulers' queues |
//! | `sleepers` | the list of sleeping schedulers, which of them to wake, and why no wake-up is lost |
//! | `wheel`, `slab` | deadlines |
//! | `seam` | time, randomness and sleeping |
//!
//! Callers can rely on this. A task gets one turn each time that it was scheduled or returned [`After::Again`]. The
//! tasks of a queue run in the order in which they came. Every fourth turn of a priority goes to a task that was
//! scheduled with this priority from outside, if there is one. A timer never fires early. No thread spins while there
//! is nothing to do.
//!
//! # Priorities
//!
//! Seven of eight turns go to `High` tasks while there are any that can run. Of the other turns, seven of eight go to
//! `Normal` tasks and one to `Low` tasks. So no task starves: a `Low` task at the front of its queue waits for 63
//! other turns at most. Only turns that both sides could have used are counted, so a priority that is alone loses
//! nothing. Each thread shares its own turns in this way, among the tasks in its queues and in the injectors. Between
//! threads there is no such sharing: an idle thread steals the most urgent tasks first, and a busy thread evens out
//! each priority now and then.

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

/// Names a task. The owner of the tasks decides what it stands for, and when its number may be used again.
pub type Task = u32;

/// More scheduler threads than any machine has cores for. The sleepers are counted in 16 bits.
pub const SCHEDULERS_MAX: usize = 1024;

/// A task's state after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The task can go on: the scheduler puts it at the back of the queue of this priority.
    Again(Priority),
    /// The task waits, or has ended. It runs again only if it is scheduled.
    Parked,
}

/// The owner of the tasks.
pub trait Work: Send + Sync + 'static {
    /// The value that [`Work::fire`] gets when a timer runs out.
    type Timer: Copy + Send + 'static;

    /// Runs one turn of a task, on a scheduler thread.
    ///
    /// The scheduler runs a task each time that it is scheduled. The owner must see to it that a task isn't scheduled
    /// while it is in a queue or in a turn. A scheduled task may run at once on another thread, even if the turn that
    /// scheduled it has not returned.
    ///
    /// Must not panic: a panic ends the whole program.
    fn run(&self, task: Task) -> After;

    /// Handles a timer that has run out. It is called on a scheduler thread between turns, and may call the
    /// scheduler. Must not panic.
    fn fire(&self, timer: Self::Timer);
}

/// The settings of a scheduler.
pub struct Options {
    /// The number of threads, 1 to [`SCHEDULERS_MAX`].
    pub schedulers: usize,
    /// The source of time and randomness.
    pub seam: Arc<Seam>,
}

/// Names an armed timer. A scheduler never uses a key again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    lane: u32,
    key: WheelKey,
}

/// The counters of one scheduler thread since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Turns begun.
    pub turns: u64,
    /// Times that it took one or more tasks from another scheduler's queue.
    pub steals: u64,
    /// Times that it went to sleep.
    pub parks: u64,
    /// Timers that ran out on it.
    pub timers_fired: u64,
}

/// A pool of scheduler threads with their queues and timer wheels. All threads that schedule share it.
pub struct Scheduler<W: Work> {
    /// Unlike an address it is never used again, so a thread of a scheduler that is gone is not taken for one of
    /// ours.
    id: u64,
    seam: Arc<Seam>,
    /// Tasks that were scheduled by threads without a queue in this scheduler.
    injectors: Injectors,
    sleepers: CachePadded<Sleepers>,
    lanes: Box<[CachePadded<Lane<W::Timer>>]>,
    stopping: AtomicBool,
    /// The owners' ends of the lanes, until the scheduler threads take them.
    seats: Mutex<Vec<Seat>>,
    /// The lane for the next timer that is armed from outside.
    next_lane: AtomicUsize,
}

/// The part of one scheduler thread that other threads may touch.
struct Lane<T> {
    stealers: Stealers,
    unparker: Unparker,
    timers: Mutex<Timers<T>>,
    /// Never later than the wheel's next deadline. It is written with `timers` locked, and lets the owner see without
    /// the lock that no timer is due.
    next_deadline_ns: AtomicU64,
    counts: Counts,
}

/// A wheel, and what a thread that arms a timer must know about the thread that serves the wheel.
struct Timers<T> {
    wheel: Wheel<T>,
    /// The time until which the owner sleeps; 0 while it is awake.
    asleep_until_ns: u64,
}

/// [`Counters`] as they are kept. One thread writes them, and remembers their values itself. Thieves read `turns`,
/// too: while it stays the same, the owner is in the same turn.
#[derive(Default)]
struct Counts {
    turns: AtomicU64,
    steals: AtomicU64,
    parks: AtomicU64,
    timers_fired: AtomicU64,
}

/// The part of one scheduler thread that only this thread may touch.
struct Seat {
    queues: Queues,
    parker: Parker,
}

impl<W: Work> Scheduler<W> {
    /// Makes a scheduler whose threads are not started yet. It accepts tasks and timers already.
    ///
    /// # Panics
    /// If the number of threads is 0 or over [`SCHEDULERS_MAX`].
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

    /// Starts the threads. Each thread calls `around` once. `around` must call its argument exactly once: the
    /// argument runs all turns of the thread, and `around` sets up what the turns need.
    ///
    /// # Errors
    /// If the scheduler has been started before, or a thread can't be started. Then no thread is left
    /// running.
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
                        // The thread can't have panicked: a panic ends the program.
                        let _ = thread.join();
                    }
                    return Err(error);
                }
            }
        }
        Ok(threads)
    }

    /// Schedules a task. A thread of this scheduler puts it at the back of its own queue of this priority. For any
    /// other thread, the first scheduler that has time takes the task.
    pub fn schedule(&self, task: Task, priority: Priority) {
        if worker::push_to_own_queue(self.id, task, priority) {
            return;
        }
        self.injectors.push(task, priority);
        if let Some(sleeper) = self.sleepers.wake_one() {
            self.lanes[sleeper].unparker.unpark();
        }
    }

    /// Arms a timer: [`Work::fire`] is called with `timer` when the clock (see [`Scheduler::now`]) has reached the
    /// deadline, or soon after. A thread of this scheduler uses its own wheel.
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
        // Before the owner sleeps, it reads the wheel and notes under this lock how long it will sleep. So either it
        // has seen this timer, or its note is here to be compared.
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

    /// Cancels a timer, from any thread. Returns true if the timer will not fire. Returns false if it has fired, is
    /// about to fire, or was cancelled before.
    pub fn cancel(&self, key: TimerKey) -> bool {
        let lane = &self.lanes[key.lane as usize];
        lock(&lane.timers).wheel.cancel(key.key)
    }

    /// The number of armed timers: neither handed to [`Work::fire`] nor cancelled. For statistics.
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

    /// Ends the threads after their current turns. Queued tasks don't run any more, and timers don't fire any more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for lane in &self.lanes {
            // A thread that is about to park finds the wake-up in its parker.
            lane.unparker.unpark();
        }
    }

    /// The counters of each thread. The threads go on meanwhile.
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

/// Locks a mutex. No code that may panic runs while one of these mutexes is locked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! One scheduler thread: picks a task, gives it a turn, serves the clock, searches, sleeps.
//!
//! The loop in one line: due timers, then one task, again; when there is no task, search for a moment, then sleep.
//! `pick` is the only place that decides what runs next.

use std::cell::OnceCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::priority::{Each, Priority, Ready, Shares};
use super::queues::Queues;
use super::thief::Thief;
use super::wheel::NEVER;
use super::{After, Lane, Scheduler, Seat, Task, Work, lock};

/// After so many turns of a priority from the own queue, one turn goes to that priority's injector, if it holds a task.
/// So tasks that something outside of the scheduler wakes (I/O that is ready, calls of the embedding program) run
/// beside any number of busy tasks, and take at most this share. Turns are counted per priority. If all turns were
/// counted together, one priority's turns might never fall on the right ones.
const OWN_TURNS_PER_INJECTED: u64 = 3;

/// A scheduler that is busy with `Normal` tasks of its own looks at the injectors every so many turns. Other threads
/// write to the cache line that it reads there, so a look may cost as much as some empty turns.
const TURNS_PER_INJECTOR_LOOK: u64 = 4;

/// Every so many turns the scheduler compares its queues with another one's and evens them out. Schedulers that are all
/// busy never search, so without this a task among many would get less of a core than one among few for as long as they
/// run.
const TURNS_PER_BALANCE: u64 = 64;

/// The clock is read every so many turns at most; a look costs about as much as an empty turn.
const TURNS_PER_CLOCK_LOOK_MAX: u32 = 16;
/// The first look after a time without timers, when the length of turns is unknown.
const TURNS_PER_CLOCK_LOOK_START: u32 = 4;
/// Looks farther apart than this make timers late: look twice as often.
const CLOCK_LOOKS_APART_MAX_NS: u64 = 100_000;
/// Looks closer than this are wasted: look half as often.
const CLOCK_LOOKS_APART_MIN_NS: u64 = 25_000;

/// Timers looked at between two turns. If more are due at once, the running tasks get a turn first.
const TIMER_STEPS_PER_TURN: usize = 256;

/// How often a search looks at all schedulers before it gives up: a few microseconds, far less than falling asleep and
/// being woken costs.
const SEARCH_ROUNDS: u32 = 6;
/// The same while a task waits alone behind a turn that may prove long.
const SEARCH_ROUNDS_WATCHING: u32 = 40;
/// Processor hints between two rounds, which take 0.1 to 1 µs.
const SPINS_PER_ROUND: u32 = 16;
/// The identity of a scheduler thread, for `schedule` and `arm` called on it.
struct Own {
    scheduler_id: u64,
    lane: usize,
    queues: Rc<Queues>,
}

thread_local! {
    /// Set once on a scheduler thread, never on others.
    static OWN: OnceCell<Own> = const { OnceCell::new() };
}

/// Puts a task into the own queue, if the calling thread is one of that scheduler's.
pub(super) fn push_to_own_queue(scheduler_id: u64, task: Task, priority: Priority) -> bool {
    // A thread that is ending has no own queue any more.
    OWN.try_with(|own| match own.get() {
        Some(own) if own.scheduler_id == scheduler_id => {
            own.queues.push(task, priority);
            true
        }
        _ => false,
    })
    .unwrap_or(false)
}

/// The lane of the calling thread, if it is one of that scheduler's.
pub(super) fn own_lane(scheduler_id: u64) -> Option<usize> {
    OWN.try_with(|own| {
        own.get()
            .filter(|own| own.scheduler_id == scheduler_id)
            .map(|own| own.lane)
    })
    .ok()
    .flatten()
}

/// The body of a scheduler thread.
pub(super) fn main<W: Work>(
    scheduler: Arc<Scheduler<W>>,
    work: Arc<W>,
    lane: usize,
    seat: Seat,
    around: &dyn Fn(&mut dyn FnMut()),
) {
    let thread = AssertUnwindSafe(|| {
        let mut worker = Some((scheduler, work, lane, seat));
        around(&mut || {
            if let Some((scheduler, work, lane, seat)) = worker.take() {
                Worker::new(scheduler, work, lane, seat).run();
            }
        });
    });
    if catch_unwind(thread).is_err() {
        // The task in its turn is lost, no other thread would learn of it, and its locks stay locked. The program can't
        // go on.
        eprintln!(
            "atoll: a scheduler thread panicked; this is a bug in the host, the program ends"
        );
        std::process::abort();
    }
}

/// A scheduler thread's own state.
pub(super) struct Worker<W: Work> {
    scheduler: Arc<Scheduler<W>>,
    work: Arc<W>,
    lane: usize,
    seat: OwnSeat,
    shares: Shares,
    outside: Outside,
    thief: Thief,
    clock: ClockLooks,
    turns: u64,
    /// Counted among the searchers.
    is_searching: bool,
    /// Timers between the wheel and `fire`; empty otherwise, kept for its memory.
    due: Vec<W::Timer>,
}

/// A scheduler thread's last look at the injectors, and the turns since it took a task from one.
struct Outside {
    /// The injectors that held a task at the last look.
    ready: Ready,
    /// For each priority, the turns from the own queue since the last one from the injector.
    own_turns: Each<u64>,
}

impl Outside {
    fn new() -> Self {
        Outside {
            ready: Ready::default(),
            // The first task from outside needn't wait.
            own_turns: Each::new(|_| OWN_TURNS_PER_INJECTED),
        }
    }
}

/// A `Seat` that has been taken.
struct OwnSeat {
    queues: Rc<Queues>,
    parker: crossbeam_utils::sync::Parker,
}

impl<W: Work> Worker<W> {
    fn new(scheduler: Arc<Scheduler<W>>, work: Arc<W>, lane: usize, seat: Seat) -> Self {
        let queues = Rc::new(seat.queues);
        let own = Own {
            scheduler_id: scheduler.id,
            lane,
            queues: queues.clone(),
        };
        assert!(
            OWN.with(|cell| cell.set(own)).is_ok(),
            "a thread has one worker"
        );
        scheduler.seam.adopt(seat.parker.unparker());
        Worker {
            shares: Shares::default(),
            outside: Outside::new(),
            thief: Thief::new(lane, scheduler.lanes.len(), scheduler.seam.random_u64()),
            clock: ClockLooks::new(),
            scheduler,
            work,
            lane,
            seat: OwnSeat {
                queues,
                parker: seat.parker,
            },
            turns: 0,
            is_searching: false,
            due: Vec::new(),
        }
    }

    fn run(&mut self) {
        while !self.scheduler.is_stopping() {
            if self.clock.is_time_to_look() {
                self.look_at_clock();
            }
            match self.pick().or_else(|| self.search()) {
                Some(task) => self.turn(task),
                None => self.sleep(),
            }
        }
        self.end_search();
    }

    /// The one place that decides what runs next.
    ///
    /// 1. Among the priorities: of eight turns, seven go to `High` tasks as long as there are any that can run; of
    ///    the turns that are left, seven of eight go to `Normal` ones and one to `Low` ones. [`Shares`] counts.
    /// 2. Within the priority: the own queue in its order, but every fourth turn the injector, if it holds
    ///    something. So a task from outside never overtakes a more urgent one.
    /// 3. If nothing can run here, and only while searching: the queues of others, the most urgent first.
    fn pick(&mut self) -> Option<Task> {
        if self.turns % TURNS_PER_BALANCE == 1
            && self.thief.balance(&self.scheduler.lanes, &self.seat.queues)
        {
            add(&self.lane().counts.steals, 1);
        }
        if !self.is_choice_possible()
            && let Some(task) = self.pop_own(Priority::Normal)
        {
            return Some(task);
        }
        loop {
            self.outside.ready = self.scheduler.injectors.ready();
            let ready = self.seat.queues.ready().or(self.outside.ready);
            let Some(priority) = self.shares.choose(ready) else {
                break;
            };
            if let Some(task) = self.take(priority) {
                self.shares.count(priority, ready);
                return Some(task);
            }
            // Other schedulers were faster, so this counts as no priority's turn.
        }
        if !self.is_searching {
            return None;
        }
        let stolen = self.thief.steal(&self.scheduler.lanes, &self.seat.queues);
        if stolen.is_some() {
            add(&self.lane().counts.steals, 1);
        }
        stolen
    }

    /// False if, as far as is known, only the own queue of `Normal` can hold a task. That is the usual case, and this
    /// check for it is cheap because every turn makes it.
    fn is_choice_possible(&mut self) -> bool {
        let injectors = &self.scheduler.injectors;
        if self.turns.is_multiple_of(TURNS_PER_INJECTOR_LOOK) {
            self.outside.ready = injectors.ready();
        }
        // `High` can't wait for the next look. It is so rare that other threads hardly ever write to what is read here.
        !self.seat.queues.are_only_normal()
            || !self.outside.ready.is_none()
            || injectors.has(Priority::High)
    }

    /// A task of this priority, from the own queue or from the injector.
    fn take(&mut self, priority: Priority) -> Option<Task> {
        let queues = &*self.seat.queues;
        let is_outside_due = self.outside.own_turns[priority] >= OWN_TURNS_PER_INJECTED;
        if self.outside.ready.has(priority)
            && (is_outside_due || queues.is_empty(priority))
            && let Some(task) = self.scheduler.injectors.take(priority, queues)
        {
            self.outside.own_turns[priority] = 0;
            return Some(task);
        }
        self.pop_own(priority)
    }

    fn pop_own(&mut self, priority: Priority) -> Option<Task> {
        let task = self.seat.queues.pop(priority);
        self.outside.own_turns[priority] += u64::from(task.is_some());
        task
    }

    /// One turn of a task.
    fn turn(&mut self, task: Task) {
        self.end_search();
        // At least two tasks can run here and one of them waits for the other, so a sleeping scheduler may have time
        // for it. A pair of tasks that talk by turns never gets here, so it stays together. One searcher is enough: if
        // it finds more than one task, it wakes the next helper in the same way.
        if !self.seat.queues.are_empty()
            && let Some(helper) = self.scheduler.sleepers.wake_helper()
        {
            self.scheduler.lanes[helper].unparker.unpark();
        }
        self.turns += 1;
        self.lane()
            .counts
            .turns
            .store(self.turns, Ordering::Relaxed);
        if let After::Again(priority) = self.work.run(task) {
            self.seat.queues.push(task, priority);
        }
    }

    /// Reads the clock if a timer is armed, and fires the timers that are due.
    fn look_at_clock(&mut self) {
        let next_deadline_ns = self.lane().next_deadline_ns.load(Ordering::Relaxed);
        if next_deadline_ns == NEVER {
            self.clock.nothing_armed();
            return;
        }
        let now_ns = self.scheduler.seam.now();
        self.clock.looked(now_ns);
        if next_deadline_ns <= now_ns {
            self.fire_due(now_ns);
        }
    }

    /// Fires the timers that are due: all of them, or as many as one turn may wait for.
    fn fire_due(&mut self, now_ns: u64) {
        let lane = &*self.scheduler.lanes[self.lane];
        let mut timers = lock(&lane.timers);
        let is_more_due = timers
            .wheel
            .expire(now_ns, TIMER_STEPS_PER_TURN, &mut self.due);
        let next_deadline_ns = if is_more_due {
            0
        } else {
            timers.wheel.next_deadline()
        };
        lane.next_deadline_ns
            .store(next_deadline_ns, Ordering::Relaxed);
        drop(timers);
        if is_more_due {
            self.clock.look_next_turn();
        }
        add(&lane.counts.timers_fired, self.due.len() as u64);
        for timer in self.due.drain(..) {
            self.work.fire(timer);
        }
    }

    /// Looks around for a task for a short while.
    fn search(&mut self) -> Option<Task> {
        if !self.is_searching {
            self.is_searching = self.scheduler.sleepers.begin_search();
        }
        if !self.is_searching {
            return None;
        }
        self.thief.begin_watch();
        for round in 1.. {
            let found = self.pick();
            if found.is_some() {
                return found;
            }
            let is_over = round >= SEARCH_ROUNDS && !self.thief.is_watching();
            if is_over || round >= SEARCH_ROUNDS_WATCHING {
                break;
            }
            for _spin in 0..SPINS_PER_ROUND {
                std::hint::spin_loop();
            }
        }
        None
    }

    fn end_search(&mut self) {
        if self.is_searching {
            self.is_searching = false;
            self.scheduler.sleepers.end_search();
        }
    }

    /// Sleeps until another thread brings work, the wheel's deadline comes, or the scheduler stops.
    fn sleep(&mut self) {
        let sleepers = &self.scheduler.sleepers;
        sleepers.register(self.lane, self.is_searching);
        self.is_searching = false;
        // The last look, which `register` asks for. From here on every thread that brings work sees this sleeper.
        let is_work_left = self.is_work_left();
        if !is_work_left {
            self.park();
        }
        if !sleepers.unregister(self.lane) {
            // Another thread has woken this one and has counted it as searching.
            self.is_searching = true;
        } else if is_work_left {
            sleepers.begin_search_anyway();
            self.is_searching = true;
        }
        self.clock.look_next_turn();
    }

    /// Whether there is work, or another reason not to sleep.
    fn is_work_left(&self) -> bool {
        let scheduler = &self.scheduler;
        scheduler.is_stopping()
            || !scheduler.injectors.are_empty()
            || scheduler.lanes.iter().any(|lane| lane.stealers.len() >= 2)
    }

    /// Parks, unless a timer is due.
    fn park(&self) {
        let (lane, seam) = (self.lane(), &self.scheduler.seam);
        let mut timers = lock(&lane.timers);
        let deadline_ns = timers.wheel.next_deadline();
        if deadline_ns <= seam.now() {
            return;
        }
        timers.asleep_until_ns = deadline_ns;
        drop(timers);
        add(&lane.counts.parks, 1);
        seam.sleep(&self.seat.parker, deadline_ns);
        lock(&lane.timers).asleep_until_ns = 0;
    }

    fn lane(&self) -> &Lane<W::Timer> {
        &self.scheduler.lanes[self.lane]
    }
}

/// Decides when to look at the clock: often enough that timers are on time, seldom enough that short turns don't pay
/// for it. Turns close in time tend to be alike, so the length of the last ones tells how many may pass before the next
/// look.
struct ClockLooks {
    turns_left: u32,
    turns_per_look: u32,
    looked_at_ns: u64,
}

impl ClockLooks {
    fn new() -> Self {
        ClockLooks {
            turns_left: 0,
            turns_per_look: TURNS_PER_CLOCK_LOOK_START,
            looked_at_ns: 0,
        }
    }

    /// Whether to look now. The worker asks before every turn.
    fn is_time_to_look(&mut self) -> bool {
        if self.turns_left == 0 {
            return true;
        }
        self.turns_left -= 1;
        false
    }

    fn look_next_turn(&mut self) {
        self.turns_left = 0;
    }

    fn nothing_armed(&mut self) {
        self.turns_per_look = TURNS_PER_CLOCK_LOOK_START;
        self.turns_left = self.turns_per_look - 1;
    }

    fn looked(&mut self, now_ns: u64) {
        let apart_ns = now_ns.saturating_sub(self.looked_at_ns);
        self.looked_at_ns = now_ns;
        if apart_ns > CLOCK_LOOKS_APART_MAX_NS {
            self.turns_per_look = (self.turns_per_look / 2).max(1);
        } else if apart_ns < CLOCK_LOOKS_APART_MIN_NS {
            self.turns_per_look = (self.turns_per_look * 2).min(TURNS_PER_CLOCK_LOOK_MAX);
        }
        self.turns_left = self.turns_per_look - 1;
    }
}

/// Adds to a counter that only the calling thread writes.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Seam, VirtualWorld};
    use super::*;

    /// Work without tasks: these tests run none.
    struct NoTasks;

    impl Work for NoTasks {
        type Timer = ();

        fn run(&self, _task: Task) -> After {
            After::Parked
        }

        fn fire(&self, _timer: ()) {}
    }

    /// Calls `check` with the first of two schedulers and the other one's queues. It runs on a thread of its own,
    /// because a thread has at most one worker.
    fn with_worker(check: impl FnOnce(Worker<NoTasks>, Queues) + Send) {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let scheduler = Scheduler::<NoTasks>::new(Options {
                    schedulers: 2,
                    seam: Arc::new(Seam::new(VirtualWorld::new(1))),
                });
                let mut seats = std::mem::take(&mut *lock(&scheduler.seats));
                let other = seats.pop().expect("two seats").queues;
                let own = seats.pop().expect("two seats");
                check(Worker::new(scheduler, Arc::new(NoTasks), 0, own), other);
            });
        });
    }

    #[test]
    fn the_last_look_before_sleeping_sees_every_injector() {
        for priority in Priority::DESCENDING {
            with_worker(|worker, _| {
                assert!(!worker.is_work_left());
                worker.scheduler.injectors.push(1, priority);
                assert!(worker.is_work_left());
            });
        }
    }

    #[test]
    fn the_last_look_before_sleeping_sees_two_tasks_of_another_in_whichever_queues() {
        for one in Priority::DESCENDING {
            for two in Priority::DESCENDING {
                with_worker(|worker, other| {
                    other.push(1, one);
                    assert!(!worker.is_work_left(), "its owner will run it");
                    other.push(2, two);
                    assert!(worker.is_work_left());
                });
            }
        }
    }
}

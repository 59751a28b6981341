//! One scheduler thread: picks a task, gives it a turn, serves the clock, searches, sleeps.
//!
//! The loop in one line: due timers, then one task, again; when there is no task, search for a moment, then
//! sleep. `pick` is the only place that decides what runs next.

use std::cell::OnceCell;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_deque::{Steal, Stealer, Worker as Queue};

use super::wheel::NEVER;
use super::{After, Lane, Scheduler, Seat, Task, Work, lock};

/// Every so many turns the injector comes before the own queue: what the outside waits for (I/O that is ready,
/// calls of the embedding program) is served beside any number of busy tasks, and takes at most this share.
const TURNS_PER_INJECTOR_LOOK: u64 = 4;

/// Every so many turns the own queue is compared with another one, and evened out: schedulers that are all busy
/// never search, and a task among many would get less of a core than one among few for as long as they run.
const TURNS_PER_BALANCE: u64 = 64;

/// The clock is read every so many turns at most; a look costs about as much as an empty turn.
const TURNS_PER_CLOCK_LOOK_MAX: u32 = 16;
/// The first look after a time without timers, when nothing is known about how long turns take.
const TURNS_PER_CLOCK_LOOK_START: u32 = 4;
/// Looks farther apart than this make timers late: look twice as often.
const CLOCK_LOOKS_APART_MAX_NS: u64 = 100_000;
/// Looks closer than this are wasted: look half as often.
const CLOCK_LOOKS_APART_MIN_NS: u64 = 25_000;

/// Timers looked at between two turns. More that are due at once wait for a turn of the tasks that run.
const TIMER_STEPS_PER_TURN: usize = 256;

/// How often a search looks at everybody before it gives up: a few microseconds, far less than falling
/// asleep and being woken costs.
const SEARCH_ROUNDS: u32 = 6;
/// How often it does while a task waits alone behind a turn that may prove long.
const SEARCH_ROUNDS_WATCHING: u32 = 40;
/// Processor hints between two rounds, which take 0.1 to 1 µs.
const SPINS_PER_ROUND: u32 = 16;
/// A task alone in a queue is taken when it has been there for so many rounds with its owner in the same
/// turn, some microseconds: longer than a turn of a pair that talks, shorter than a slice of computing.
const LONE_TASK_ROUNDS: u32 = 6;

/// What a scheduler thread knows about itself, for `schedule` and `arm` called on it.
struct Own {
    scheduler_id: u64,
    lane: usize,
    queue: Rc<Queue<Task>>,
}

thread_local! {
    /// Set once on a scheduler thread, never on others.
    static OWN: OnceCell<Own> = const { OnceCell::new() };
}

/// Puts a task into the own queue, if the calling thread is one of that scheduler's.
pub(super) fn push_to_own_queue(scheduler_id: u64, task: Task) -> bool {
    // A thread that is ending has no own queue any more.
    OWN.try_with(|own| match own.get() {
        Some(own) if own.scheduler_id == scheduler_id => {
            own.queue.push(task);
            true
        }
        _ => false,
    })
    .unwrap_or(false)
}

/// Which lane is the calling thread's, if it is one of that scheduler's.
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
        // The task in its turn is lost and nobody would be told; what it held stays locked. There is no way on.
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
    thief: Thief,
    clock: ClockLooks,
    turns: u64,
    /// Counted among the searchers.
    is_searching: bool,
    /// Timers between the wheel and `fire`; empty otherwise, kept for its memory.
    due: Vec<W::Timer>,
}

/// A `Seat` that has been taken.
struct OwnSeat {
    queue: Rc<Queue<Task>>,
    parker: crossbeam_utils::sync::Parker,
}

impl<W: Work> Worker<W> {
    fn new(scheduler: Arc<Scheduler<W>>, work: Arc<W>, lane: usize, seat: Seat) -> Self {
        let queue = Rc::new(seat.queue);
        let own = Own {
            scheduler_id: scheduler.id,
            lane,
            queue: queue.clone(),
        };
        assert!(
            OWN.with(|cell| cell.set(own)).is_ok(),
            "a thread has one worker"
        );
        scheduler.seam.adopt(seat.parker.unparker());
        Worker {
            thief: Thief::new(lane, scheduler.lanes.len(), scheduler.seam.random_u64()),
            clock: ClockLooks::new(),
            scheduler,
            work,
            lane,
            seat: OwnSeat {
                queue,
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

    /// The one place that decides what runs next: in turn the own queue and, now and then first, the injector;
    /// and only while searching the queues of others.
    fn pick(&mut self) -> Option<Task> {
        if self.turns.is_multiple_of(TURNS_PER_INJECTOR_LOOK)
            && let Some(task) = self.take_injected()
        {
            return Some(task);
        }
        if self.turns % TURNS_PER_BALANCE == 1
            && self.thief.balance(&self.scheduler.lanes, &self.seat.queue)
        {
            add(&self.lane().counts.steals, 1);
        }
        if let Some(task) = self.seat.queue.pop() {
            return Some(task);
        }
        if let Some(task) = self.take_injected_batch() {
            return Some(task);
        }
        if !self.is_searching {
            return None;
        }
        let stolen = self.thief.steal(&self.scheduler.lanes, &self.seat.queue);
        if stolen.is_some() {
            add(&self.lane().counts.steals, 1);
        }
        stolen
    }

    /// One task from the injector. One only: others would have to wait behind the whole own queue.
    fn take_injected(&self) -> Option<Task> {
        let injector = &self.scheduler.injector;
        if injector.is_empty() {
            return None;
        }
        until_settled(|| injector.steal())
    }

    /// A task from the injector, and some more for the own queue, which is empty.
    fn take_injected_batch(&self) -> Option<Task> {
        let injector = &self.scheduler.injector;
        if injector.is_empty() {
            return None;
        }
        until_settled(|| injector.steal_batch_and_pop(&self.seat.queue))
    }

    /// One turn of a task.
    fn turn(&mut self, task: Task) {
        self.end_search();
        // Two can run and one of them waits for the other: somebody else may have time for it. A pair of tasks
        // that talk by turns never gets here, so it stays together; whoever searches is enough, as it will
        // come here, too, when it has found more than one.
        if !self.seat.queue.is_empty()
            && let Some(helper) = self.scheduler.sleepers.wake_helper()
        {
            self.scheduler.lanes[helper].unparker.unpark();
        }
        self.turns += 1;
        self.lane()
            .counts
            .turns
            .store(self.turns, Ordering::Relaxed);
        if self.work.run(task) == After::Again {
            self.seat.queue.push(task);
        }
    }

    /// Reads the clock if there is a timer that it could make due, and fires what is.
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

    /// Fires what is due: all of it, or as much as one turn may be made to wait for.
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

    /// Sleeps until somebody brings work, the wheel's deadline has come, or the end.
    fn sleep(&mut self) {
        let sleepers = &self.scheduler.sleepers;
        sleepers.register(self.lane, self.is_searching);
        self.is_searching = false;
        // The last look, which `register` asks for; from here on whoever brings work sees this sleeper.
        let is_work_left = self.is_work_left();
        if !is_work_left {
            self.park();
        }
        if !sleepers.unregister(self.lane) {
            // Woken, and counted as searching by the one that did it.
            self.is_searching = true;
        } else if is_work_left {
            sleepers.begin_search_anyway();
            self.is_searching = true;
        }
        self.clock.look_next_turn();
    }

    /// Whether there is something that would make sleeping wrong.
    fn is_work_left(&self) -> bool {
        let scheduler = &self.scheduler;
        scheduler.is_stopping()
            || !scheduler.injector.is_empty()
            || scheduler.lanes.iter().any(|lane| lane.stealer.len() >= 2)
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

/// When to look at the clock: often enough that timers are on time, seldom enough that short turns don't pay
/// for it. Turns of one time tend to be alike, so how long the last ones took says how many may pass.
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

    /// Asked before every turn.
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

/// Takes tasks from other schedulers' queues.
///
/// From a queue of two and more it takes half. A single task it leaves alone at first: it may be one of a pair
/// that talk by turns, whose next turn comes at once and who would only be torn apart. But two tasks that compute look
/// the same, one in its turn and one waiting; so a single task is taken when it has waited for a while and the
/// owner is still in the same turn.
struct Thief {
    lane: usize,
    /// Per lane, what was seen of its single task.
    watches: Box<[Watch]>,
    random_state: u64,
}

/// A single task that waits in a lane.
#[derive(Clone, Copy, Default)]
struct Watch {
    /// Rounds for which it has been seen.
    rounds: u32,
    /// The owner's turn meanwhile.
    turns: u64,
}

impl Thief {
    fn new(lane: usize, lane_count: usize, seed: u64) -> Self {
        Thief {
            lane,
            watches: vec![Watch::default(); lane_count].into(),
            // Zero would stay zero for ever.
            random_state: seed | 1,
        }
    }

    /// A new search: what was seen in an earlier one is too old.
    fn begin_watch(&mut self) {
        self.watches.fill(Watch::default());
    }

    /// Whether some single task is being watched.
    fn is_watching(&self) -> bool {
        self.watches.iter().any(|watch| watch.rounds > 0)
    }

    /// Looks at every other lane once, beginning anywhere, and takes what it may into `queue`, but for the
    /// first task.
    fn steal<T>(
        &mut self,
        lanes: &[impl Deref<Target = Lane<T>>],
        queue: &Queue<Task>,
    ) -> Option<Task> {
        let start = self.random_below(lanes.len());
        for index in (start..lanes.len()).chain(0..start) {
            if index == self.lane {
                continue;
            }
            if self.may_steal(index, &lanes[index])
                && let Some(task) = take_half(&lanes[index].stealer, queue)
            {
                return Some(task);
            }
        }
        None
    }

    /// Takes tasks from one lane, any, if its queue is longer than the own one: as many as make them equal.
    /// True if there were some.
    fn balance<T>(&mut self, lanes: &[impl Deref<Target = Lane<T>>], queue: &Queue<Task>) -> bool {
        let index = self.random_below(lanes.len());
        if index == self.lane {
            return false;
        }
        let victim = &lanes[index].stealer;
        let surplus = victim.len().saturating_sub(queue.len());
        // At a surplus of one, moving it would only turn the difference round.
        surplus >= 2
            && victim
                .steal_batch_with_limit(queue, surplus / 2)
                .is_success()
    }

    fn may_steal<T>(&mut self, index: usize, lane: &Lane<T>) -> bool {
        let watch = &mut self.watches[index];
        match lane.stealer.len() {
            0 => {
                watch.rounds = 0;
                false
            }
            1 => {
                let turns = lane.counts.turns.load(Ordering::Relaxed);
                if watch.turns != turns {
                    *watch = Watch { rounds: 0, turns };
                }
                watch.rounds += 1;
                watch.rounds >= LONE_TASK_ROUNDS
            }
            _ => true,
        }
    }

    /// Marsaglia's xorshift: any lane is as good as another, they only shouldn't all begin with the same.
    fn random_below(&mut self, bound: usize) -> usize {
        self.random_state ^= self.random_state << 13;
        self.random_state ^= self.random_state >> 7;
        self.random_state ^= self.random_state << 17;
        (self.random_state % bound as u64) as usize
    }
}

fn take_half(victim: &Stealer<Task>, queue: &Queue<Task>) -> Option<Task> {
    until_settled(|| victim.steal_batch_and_pop(queue))
}

/// Tries until the answer isn't "somebody came between": each time that it is, another thread has succeeded.
fn until_settled(mut attempt: impl FnMut() -> Steal<Task>) -> Option<Task> {
    loop {
        match attempt() {
            Steal::Success(task) => return Some(task),
            Steal::Empty => return None,
            Steal::Retry => {}
        }
    }
}

/// Adds to a counter that only the calling thread writes.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}

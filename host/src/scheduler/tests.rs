//! Tests of the whole scheduler, on real threads. Each test waits without limit for an event, so a lost wake-up shows
//! as a test that hangs. The tests of priorities are in a file of their own.

mod priorities;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, ThreadId};

use super::*;

/// A turn, or a timer that ran out, as a closure of the test.
type Turn = Box<dyn Fn(&Arc<Scheduler<Tasks>>, u32) -> After + Send + Sync>;

/// Tasks and timers whose behaviour is given by closures.
struct Tasks {
    scheduler: Arc<Scheduler<Tasks>>,
    turn: Turn,
    fired: Turn,
}

impl Work for Tasks {
    type Timer = u32;

    fn run(&self, task: Task) -> After {
        (self.turn)(&self.scheduler, task)
    }

    fn fire(&self, timer: u32) {
        (self.fired)(&self.scheduler, timer);
    }
}

/// A running scheduler, which stops at the end of the test.
struct Running {
    scheduler: Arc<Scheduler<Tasks>>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    fn stop(&mut self) {
        self.scheduler.stop();
        for thread in self.threads.drain(..) {
            thread.join().expect("a scheduler thread doesn't panic");
        }
    }

    /// Waits until all threads have gone to sleep.
    fn wait_until_all_sleep(&self) {
        while self.scheduler.sleepers.asleep_count() < self.scheduler.lanes.len() {
            thread::yield_now();
        }
    }

    fn total(&self, counter: fn(&Counters) -> u64) -> u64 {
        self.scheduler.counters().iter().map(counter).sum()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn nothing_around(run: &mut dyn FnMut()) {
    run();
}

fn make(schedulers: usize, seam: Seam) -> Arc<Scheduler<Tasks>> {
    Scheduler::new(Options {
        schedulers,
        seam: Arc::new(seam),
    })
}

fn start(
    scheduler: Arc<Scheduler<Tasks>>,
    turn: impl Fn(&Arc<Scheduler<Tasks>>, Task) -> After + Send + Sync + 'static,
    fired: impl Fn(&Arc<Scheduler<Tasks>>, u32) + Send + Sync + 'static,
) -> Running {
    let work = Arc::new(Tasks {
        scheduler: scheduler.clone(),
        turn: Box::new(turn),
        fired: Box::new(move |scheduler, timer| {
            fired(scheduler, timer);
            After::Parked
        }),
    });
    let threads = scheduler
        .start(work, nothing_around)
        .expect("threads can be started");
    Running { scheduler, threads }
}

/// A scheduler whose tasks arm no timers.
fn run(
    schedulers: usize,
    turn: impl Fn(&Arc<Scheduler<Tasks>>, Task) -> After + Send + Sync + 'static,
) -> Running {
    start(make(schedulers, Seam::real()), turn, |_, _| {
        panic!("no timer was armed")
    })
}

/// Each of the three priorities for a third of the tasks.
fn priority_of(task: Task) -> Priority {
    [Priority::Low, Priority::Normal, Priority::High][task as usize % 3]
}

/// Makes a turn take some microseconds.
fn compute() {
    for _spin in 0..500 {
        std::hint::spin_loop();
    }
}

#[test]
fn every_scheduled_turn_runs_once() {
    const TASKS: u32 = 1000;
    const HOPS: u64 = 200;
    for schedulers in [1, 2, 5] {
        let turns: Arc<Vec<AtomicU64>> = Arc::new((0..TASKS).map(|_| AtomicU64::new(0)).collect());
        let (done, all_done) = mpsc::channel();
        let counted = turns.clone();
        // Odd tasks schedule themselves again, even ones return `Again`.
        let mut running = run(schedulers, move |scheduler, task| {
            let turn = counted[task as usize].fetch_add(1, Ordering::Relaxed);
            if turn == HOPS {
                done.send(()).expect("the test waits");
                return After::Parked;
            }
            if task.is_multiple_of(2) {
                return After::Again(priority_of(task / 2));
            }
            scheduler.schedule(task, priority_of(task));
            After::Parked
        });
        for task in 0..TASKS {
            running.scheduler.schedule(task, priority_of(task));
        }
        for _task in 0..TASKS {
            all_done.recv().expect("each task comes to its end");
        }
        running.stop();
        assert!(
            turns
                .iter()
                .all(|turns| turns.load(Ordering::Relaxed) == HOPS + 1)
        );
        assert_eq!(
            running.total(|counters| counters.turns),
            u64::from(TASKS) * (HOPS + 1)
        );
    }
}

#[test]
fn no_wake_up_from_outside_is_lost() {
    for schedulers in [1, 2, 4] {
        let (ran, has_run) = mpsc::channel();
        let running = run(schedulers, move |_, task| {
            ran.send(task).expect("the test waits");
            After::Parked
        });
        for round in 0..20_000 {
            running.scheduler.schedule(round, priority_of(round));
            // Most of the time all threads are just going to sleep: this is the moment to test.
            assert_eq!(has_run.recv().expect("it runs"), round);
            for _spin in 0..round % 512 {
                std::hint::spin_loop();
            }
        }
    }
}

#[test]
fn no_wake_up_is_lost_between_many_threads() {
    const PRODUCERS: u32 = 4;
    const ROUNDS: u32 = 5_000;
    let senders: Arc<Mutex<Vec<Sender<()>>>> = Arc::default();
    let receivers: Vec<_> = (0..PRODUCERS)
        .map(|_| {
            let (ran, has_run) = mpsc::channel();
            senders.lock().expect("not poisoned").push(ran);
            has_run
        })
        .collect();
    let running = run(3, move |_, task| {
        let ran = senders.lock().expect("not poisoned")[task as usize].clone();
        ran.send(()).expect("its producer waits");
        After::Parked
    });
    thread::scope(|scope| {
        for (producer, has_run) in (0..PRODUCERS).zip(receivers) {
            let scheduler = &running.scheduler;
            scope.spawn(move || {
                for _round in 0..ROUNDS {
                    scheduler.schedule(producer, priority_of(producer));
                    has_run.recv().expect("it runs");
                }
            });
        }
    });
    assert_eq!(
        running.total(|counters| counters.turns),
        u64::from(PRODUCERS * ROUNDS)
    );
}

#[test]
fn tasks_of_a_queue_run_in_order() {
    let (ran, has_run) = mpsc::channel();
    let running = run(1, move |scheduler, task| {
        if task == 0 {
            (1..100).for_each(|task| scheduler.schedule(task, Priority::Normal));
        }
        ran.send(task).expect("the test waits");
        After::Parked
    });
    running.scheduler.schedule(0, Priority::Normal);
    assert!(has_run.iter().take(100).eq(0..100));
}

/// Runs computing tasks that all begin on one thread, until `threads` threads have run some of them.
fn spread(
    schedulers: usize,
    tasks: u32,
    threads: usize,
    priority_of: impl Fn(Task) -> Priority + Copy + Send + Sync + 'static,
) {
    let seen: Arc<Mutex<HashSet<ThreadId>>> = Arc::default();
    let (done, is_done) = mpsc::channel();
    let running = run(schedulers, move |scheduler, task| {
        if task == 0 {
            (1..=tasks).for_each(|task| scheduler.schedule(task, priority_of(task)));
            return After::Parked;
        }
        compute();
        let mut seen = seen.lock().expect("not poisoned");
        seen.insert(thread::current().id());
        if seen.len() < threads {
            return After::Again(priority_of(task));
        }
        done.send(()).expect("the test waits");
        After::Parked
    });
    running.wait_until_all_sleep();
    running.scheduler.schedule(0, Priority::Normal);
    for _task in 0..tasks {
        is_done.recv().expect("each task comes to its end");
    }
    assert!(running.total(|counters| counters.steals) > 0);
}

#[test]
fn computing_tasks_spread_over_the_schedulers() {
    spread(2, 100, 2, |_| Priority::Normal);
    spread(4, 100, 4, priority_of);
    spread(2, 100, 2, |_| Priority::Low);
}

#[test]
fn two_computing_tasks_do_not_share_a_scheduler_while_another_sleeps() {
    // One of the two tasks is in its turn nearly all the time, and the other one waits alone in the queue.
    for _round in 0..50 {
        spread(2, 2, 2, |_| Priority::Normal);
        spread(2, 2, 2, |_| Priority::High);
        spread(2, 2, 2, priority_of);
    }
}

#[test]
fn busy_schedulers_even_out_their_queues() {
    // Once each thread has a task that never waits, no thread sleeps or searches any more. Only then the crowd of
    // tasks is scheduled, all on one thread.
    let both_busy: Arc<Mutex<HashSet<ThreadId>>> = Arc::default();
    let (done, is_done) = mpsc::channel();
    let threads_of_crowd: Arc<Mutex<HashSet<ThreadId>>> = Arc::default();
    let running = run(2, move |scheduler, task| {
        compute();
        let own = thread::current().id();
        if task > 1 {
            let mut threads = threads_of_crowd.lock().expect("not poisoned");
            if threads.insert(own) && threads.len() == 2 {
                done.send(()).expect("the test waits");
            }
        } else {
            let mut busy = both_busy.lock().expect("not poisoned");
            if busy.insert(own) && busy.len() == 2 {
                (2..100).for_each(|task| scheduler.schedule(task, Priority::Normal));
            }
        }
        After::Again(Priority::Normal)
    });
    running.scheduler.schedule(0, Priority::Normal);
    running.scheduler.schedule(1, Priority::Normal);
    is_done.recv().expect("the crowd gets to both threads");
}

#[test]
fn a_talking_pair_stays_on_one_scheduler() {
    for priorities in [
        [Priority::Normal; 2],
        [Priority::Low; 2],
        [Priority::High, Priority::Normal],
        [Priority::Low, Priority::High],
    ] {
        talking_pair(priorities);
    }
}

fn talking_pair(priorities: [Priority; 2]) {
    const TURNS: u64 = 100_000;
    let turns = AtomicU64::new(0);
    let (done, is_done) = mpsc::channel();
    let running = run(2, move |scheduler, task| {
        if turns.fetch_add(1, Ordering::Relaxed) < TURNS {
            let other = 1 - task;
            scheduler.schedule(other, priorities[other as usize]);
        } else {
            done.send(()).expect("the test waits");
        }
        After::Parked
    });
    running.wait_until_all_sleep();
    running.scheduler.schedule(0, priorities[0]);
    is_done.recv().expect("they come to the end");
    running.wait_until_all_sleep();
    let mut turns: Vec<_> = running
        .scheduler
        .counters()
        .iter()
        .map(|counters| counters.turns)
        .collect();
    turns.sort_unstable();
    assert_eq!(turns, [0, TURNS + 1]);
    assert_eq!(running.total(|counters| counters.steals), 0);
}

#[test]
fn tasks_from_outside_run_beside_a_full_queue() {
    const BUSY: u32 = 10_000;
    let (ran, has_run) = mpsc::channel();
    let turns = Arc::new(AtomicU64::new(0));
    let counted = turns.clone();
    let running = run(1, move |scheduler, task| {
        let turn = counted.fetch_add(1, Ordering::Relaxed);
        if task > BUSY {
            ran.send(turn).expect("the test waits");
            return After::Parked;
        }
        if task == 0 {
            (1..BUSY).for_each(|task| scheduler.schedule(task, Priority::Normal));
            // Schedules a task from outside at a known moment: another thread does it during this turn.
            let scheduler = scheduler.clone();
            let outside = thread::spawn(move || scheduler.schedule(BUSY + 1, Priority::Normal));
            outside.join().expect("no panic");
        }
        After::Again(Priority::Normal)
    });
    running.scheduler.schedule(0, Priority::Normal);
    assert!(has_run.recv().expect("it runs") <= 4);
}

#[test]
fn stop_ends_busy_and_sleeping_threads_and_drops_what_they_held() {
    struct Guard(Arc<AtomicUsize>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    for busy in 0..4 {
        let scheduler = make(2, Seam::real());
        for task in 0..busy {
            scheduler.schedule(task, Priority::Normal);
        }
        let (running, is_running) = mpsc::channel();
        let work = Arc::new(Tasks {
            scheduler: scheduler.clone(),
            turn: Box::new(|_, _| After::Again(Priority::Normal)),
            fired: Box::new(|_, _| After::Parked),
        });
        let left_count = Arc::new(AtomicUsize::new(0));
        let left = left_count.clone();
        let around = move |run: &mut dyn FnMut()| {
            let name = thread::current().name().expect("it is named").to_owned();
            running.send(name).expect("the test waits");
            let _guard = Guard(left.clone());
            run();
        };
        let threads = scheduler
            .start(work.clone(), around)
            .expect("threads can be started");
        let mut names: Vec<_> = is_running.iter().take(2).collect();
        names.sort();
        assert_eq!(names, ["atoll-scheduler-0", "atoll-scheduler-1"]);
        let again = scheduler
            .start(work, nothing_around)
            .expect_err("it runs already");
        assert_eq!(again.to_string(), "the scheduler has been started before");
        scheduler.stop();
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(left_count.load(Ordering::SeqCst), 2);
        // A stopped scheduler still accepts tasks and timers.
        scheduler.schedule(7, Priority::Normal);
        assert!(scheduler.cancel(scheduler.arm(5, 5)));
    }
}

#[test]
fn two_schedulers_in_one_program_keep_apart() {
    let (ran, has_run) = mpsc::channel();
    let answered = Arc::new(Mutex::new(None::<Arc<Scheduler<Tasks>>>));
    let first_of_two = answered.clone();
    let second = run(2, move |_, task| {
        if let Some(first) = &*first_of_two.lock().expect("not poisoned") {
            // A thread of the second scheduler is outside of the first.
            first.schedule(task + 1, Priority::Normal);
        }
        After::Parked
    });
    let target = second.scheduler.clone();
    let first = run(2, move |_, task| {
        if task < 10_000 {
            target.schedule(task, Priority::Normal);
        } else {
            ran.send(task).expect("the test waits");
        }
        After::Parked
    });
    *answered.lock().expect("not poisoned") = Some(first.scheduler.clone());
    first.scheduler.schedule(0, Priority::Normal);
    assert_eq!(has_run.recv().expect("it runs"), 10_000);
    answered.lock().expect("not poisoned").take();
}

#[test]
fn timers_fire_beside_busy_tasks_and_never_early() {
    const TIMERS: u32 = 20;
    const MILLISECOND: u64 = 1_000_000;
    let (fired, has_fired) = mpsc::channel();
    let deadline_ns = Arc::new(AtomicU64::new(0));
    let armed_for = deadline_ns.clone();
    let running = start(
        make(2, Seam::real()),
        move |scheduler, task| {
            compute();
            if task == 0 {
                // This is the first timer. Each one arms the next.
                armed_for.store(scheduler.now() + MILLISECOND, Ordering::SeqCst);
                scheduler.arm(armed_for.load(Ordering::SeqCst), 1);
                return After::Parked;
            }
            After::Again(Priority::Normal)
        },
        move |scheduler, timer| {
            let now_ns = scheduler.now();
            fired
                .send(now_ns.checked_sub(deadline_ns.load(Ordering::SeqCst)))
                .expect("the test waits");
            if timer < TIMERS {
                deadline_ns.store(now_ns + MILLISECOND, Ordering::SeqCst);
                scheduler.arm(now_ns + MILLISECOND, timer + 1);
            }
        },
    );
    for task in 0..5 {
        running.scheduler.schedule(task, Priority::Normal);
    }
    for _timer in 0..TIMERS {
        let late_ns = has_fired.recv().expect("it fires");
        assert!(late_ns.is_some(), "a timer fired early");
    }
    assert_eq!(
        running.total(|counters| counters.timers_fired),
        u64::from(TIMERS)
    );
}

#[test]
fn sleeping_schedulers_wake_for_their_timers() {
    let world = VirtualWorld::new(1);
    let (fired, has_fired) = mpsc::channel();
    let running = start(
        make(3, Seam::new(world.clone())),
        |_, _| After::Parked,
        move |scheduler, timer| {
            fired
                .send((timer, scheduler.now()))
                .expect("the test waits")
        },
    );
    let hour_ns = 3_600_000_000_000;
    for round in 0..300 {
        let start_ns = running.scheduler.now();
        // Arm late timers first, so that a thread sleeps until then and must be woken for the earlier timer.
        let late: Vec<_> = (0..3)
            .map(|_| running.scheduler.arm(start_ns + hour_ns, 9))
            .collect();
        if round % 3 == 0 {
            running.wait_until_all_sleep();
        }
        running.scheduler.arm(start_ns + 1_000_000, round);
        if round % 3 == 1 {
            running.wait_until_all_sleep();
        }
        world.advance(1_000_000);
        assert_eq!(
            has_fired.recv().expect("it fires"),
            (round, start_ns + 1_000_000)
        );
        assert!(late.into_iter().all(|key| running.scheduler.cancel(key)));
    }
    assert!(has_fired.try_recv().is_err());
}

#[test]
fn a_timer_armed_from_outside_interrupts_a_longer_sleep() {
    let (fired, has_fired) = mpsc::channel();
    let running = start(
        make(1, Seam::real()),
        |_, _| After::Parked,
        move |_, timer| fired.send(timer).expect("the test waits"),
    );
    let hour_ns = 3_600_000_000_000;
    let late = running.scheduler.arm(running.scheduler.now() + hour_ns, 0);
    for round in 1..200 {
        if round % 2 == 0 {
            running.wait_until_all_sleep();
        }
        running
            .scheduler
            .arm(running.scheduler.now() + 1000 * u64::from(round), round);
        assert_eq!(has_fired.recv().expect("it fires"), round);
    }
    assert!(running.scheduler.cancel(late));
}

#[test]
fn any_thread_cancels_and_each_timer_ends_one_way() {
    const TIMERS: u32 = 20_000;
    let fired_count = Arc::new(AtomicU64::new(0));
    let counted = fired_count.clone();
    let keys: Arc<Mutex<Vec<TimerKey>>> = Arc::default();
    let armed = keys.clone();
    let (done, is_done) = mpsc::channel();
    let running = start(
        make(2, Seam::real()),
        move |scheduler, task| {
            let deadline_ns = scheduler.now() + u64::from(task % 100) * 10_000;
            armed
                .lock()
                .expect("not poisoned")
                .push(scheduler.arm(deadline_ns, task));
            After::Parked
        },
        move |_, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            done.send(()).expect("the test waits");
        },
    );
    (0..TIMERS).for_each(|task| running.scheduler.schedule(task, Priority::Normal));
    let mut cancelled_count = 0;
    let mut seen_count = 0;
    while seen_count < TIMERS {
        let keys = std::mem::take(&mut *keys.lock().expect("not poisoned"));
        seen_count += keys.len() as u32;
        for key in keys {
            cancelled_count += u64::from(running.scheduler.cancel(key));
            assert!(!running.scheduler.cancel(key));
        }
    }
    for _timer in cancelled_count..u64::from(TIMERS) {
        is_done.recv().expect("what isn't cancelled fires");
    }
    assert_eq!(
        fired_count.load(Ordering::SeqCst) + cancelled_count,
        u64::from(TIMERS)
    );
    assert_eq!(
        running.total(|counters| counters.timers_fired),
        u64::from(TIMERS) - cancelled_count
    );
}

#[test]
fn many_timers_at_once_do_not_hold_up_the_tasks() {
    const TIMERS: u64 = 100_000;
    let world = VirtualWorld::new(1);
    let fired_count = Arc::new(AtomicU64::new(0));
    let counted = fired_count.clone();
    let (done, is_done) = mpsc::channel();
    let was_between = Arc::new(AtomicBool::new(false));
    let between = was_between.clone();
    let running = start(
        make(1, Seam::new(world.clone())),
        move |_, _| {
            if (1..TIMERS).contains(&counted.load(Ordering::SeqCst)) {
                between.store(true, Ordering::SeqCst);
            }
            After::Again(Priority::Normal)
        },
        move |_, _| {
            if fired_count.fetch_add(1, Ordering::SeqCst) + 1 == TIMERS {
                done.send(()).expect("the test waits");
            }
        },
    );
    for timer in 0..TIMERS {
        running.scheduler.arm(1_000_000, timer as u32);
    }
    running.scheduler.schedule(0, Priority::Normal);
    world.advance(1_000_000);
    is_done.recv().expect("all fire");
    assert!(
        was_between.load(Ordering::SeqCst),
        "the task had turns between them"
    );
}

#[test]
fn no_thread_is_awake_while_there_is_nothing_to_do() {
    let running = run(3, |_, _| After::Parked);
    running.scheduler.schedule(0, Priority::Normal);
    running.wait_until_all_sleep();
    let before = running.scheduler.counters();
    for _look in 0..1000 {
        thread::yield_now();
    }
    let after = running.scheduler.counters();
    // A thread that was just about to park may be counted in between. No thread wakes up without a cause.
    for (before, after) in before.iter().zip(&after) {
        assert!(after.parks - before.parks <= 1);
        assert_eq!(after.turns, before.turns);
    }
}

#[test]
fn armed_timers_are_counted_until_they_fire_or_are_cancelled() {
    let world = VirtualWorld::new(1);
    let (fired, has_fired) = mpsc::channel();
    let running = start(
        make(3, Seam::new(world.clone())),
        |_, _| After::Parked,
        move |scheduler, timer| {
            fired
                .send((timer, scheduler.timers_armed()))
                .expect("the test waits")
        },
    );
    let scheduler = &running.scheduler;
    assert_eq!(scheduler.timers_armed(), 0);
    // These timers are armed from outside, so they are in different wheels.
    let keys = [1000, 2000, 3000, 4000].map(|deadline_ns| scheduler.arm(deadline_ns, 7));
    assert_eq!(scheduler.timers_armed(), 4);
    assert!(scheduler.cancel(keys[3]) && !scheduler.cancel(keys[3]));
    assert_eq!(scheduler.timers_armed(), 3);
    for left in [2, 1, 0] {
        world.advance(1000);
        assert_eq!(has_fired.recv().expect("it fires"), (7, left));
    }
}

//! Schedulers that go to sleep while others schedule tasks. `Sleepers` is the host's; around it stand the steps of
//! `Scheduler::schedule` and `stop` (`scheduler/mod.rs`) and of `Worker::run`, `search`, `turn` and `sleep`
//! (`scheduler/worker.rs`).
//!
//! crossbeam's injector is a number here, and all accesses to it are relaxed: only the fences of `Sleepers` order them. Its
//! parker is loom's `Notify`. If a task were left while all schedulers sleep, no thread could go on, which loom tells.

use crate::flaws::{Flaw, Model, has};
use crate::sleepers::Sleepers;
use loom::sync::Arc;
use loom::sync::Notify;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use loom::thread;

pub const MODELS: &[Model] = &[
    Model {
        name: "a task wakes the only scheduler",
        run: || pool(1, &[1]),
        preemptions_max: None,
        notices: &[Flaw::Fences, Flaw::LastLook],
    },
    Model {
        name: "two threads schedule for the only scheduler",
        run: || pool(1, &[1, 1]),
        preemptions_max: Some(3),
        notices: &[Flaw::Fences, Flaw::LastLook],
    },
    Model {
        name: "two schedulers share two tasks",
        run: || pool(2, &[2]),
        preemptions_max: Some(2),
        notices: &[Flaw::Fences, Flaw::LastLook],
    },
];

struct Pool {
    sleepers: Sleepers,
    /// Tasks in the injector.
    injected: AtomicUsize,
    /// Tasks that have not run.
    left: AtomicUsize,
    stopping: AtomicBool,
    parkers: Vec<Notify>,
}

/// Runs so many schedulers, and a thread for each number of tasks, which schedules them from outside.
fn pool(schedulers: usize, tasks: &[usize]) {
    let pool = Arc::new(Pool {
        sleepers: Sleepers::new(schedulers),
        injected: AtomicUsize::new(0),
        left: AtomicUsize::new(tasks.iter().sum()),
        stopping: AtomicBool::new(false),
        parkers: (0..schedulers).map(|_| Notify::new()).collect(),
    });
    let start = |work: Box<dyn FnOnce(&Pool)>| {
        let pool = pool.clone();
        thread::spawn(move || work(&pool))
    };
    let mut threads: Vec<_> = (0..schedulers)
        .map(|lane| start(Box::new(move |pool| pool.work(lane))))
        .collect();
    let (own, others) = tasks.split_last().expect("one thread schedules");
    threads.extend(others.iter().map(|count| {
        let count = *count;
        start(Box::new(move |pool| {
            (0..count).for_each(|_| pool.schedule());
        }))
    }));
    (0..*own).for_each(|_| pool.schedule());
    for thread in threads {
        thread.join().expect("no thread panics");
    }
    // The numbers are right again: nobody searches, nobody sleeps.
    assert_eq!(pool.sleepers.wake_one(), None);
    assert!(pool.sleepers.begin_search());
    pool.sleepers.end_search();
}

impl Pool {
    fn schedule(&self) {
        self.injected.fetch_add(1, Relaxed);
        if let Some(sleeper) = self.sleepers.wake_one() {
            self.parkers[sleeper].notify();
        }
    }

    fn stop(&self) {
        self.stopping.store(true, SeqCst);
        self.parkers.iter().for_each(Notify::notify);
    }

    fn take(&self) -> bool {
        let less = |tasks: usize| tasks.checked_sub(1);
        self.injected.fetch_update(Relaxed, Relaxed, less).is_ok()
    }

    fn work(&self, lane: usize) {
        let mut is_searching = false;
        while !self.stopping.load(Relaxed) {
            let mut found = self.take();
            if !found {
                is_searching = is_searching || self.sleepers.begin_search();
                found = is_searching && self.take();
            }
            match found {
                true => self.turn(&mut is_searching),
                false => self.sleep(lane, &mut is_searching),
            }
        }
        if is_searching {
            self.sleepers.end_search();
        }
    }

    fn turn(&self, is_searching: &mut bool) {
        if std::mem::take(is_searching) {
            self.sleepers.end_search();
        }
        if self.injected.load(Relaxed) > 0
            && let Some(helper) = self.sleepers.wake_helper()
        {
            self.parkers[helper].notify();
        }
        if self.left.fetch_sub(1, Relaxed) == 1 {
            self.stop();
        }
    }

    fn sleep(&self, lane: usize, is_searching: &mut bool) {
        self.sleepers.register(lane, *is_searching);
        *is_searching = false;
        let is_work_left = !has(Flaw::LastLook)
            && (self.stopping.load(Relaxed) || self.injected.load(Relaxed) > 0);
        if !is_work_left {
            self.parkers[lane].wait();
        }
        if !self.sleepers.unregister(lane) {
            *is_searching = true;
        } else if is_work_left {
            self.sleepers.begin_search_anyway();
            *is_searching = true;
        }
    }
}

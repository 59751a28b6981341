//! The lists of sleeping and searching schedulers, and the choice of the one to wake.
//!
//! A scheduler without work searches the others' queues for a while, then registers itself here and parks. A thread
//! that makes new work wakes it:
//!
//! ```text
//!              nothing found                    registered, nothing to do
//!   working ──────────────────► searching ─────────────────────────────► asleep
//!      ▲                         │    ▲                                      │
//!      └─────────────────────────┘    └──────────────────────────────────────┘
//!             found a task               woken by `wake_one` or `wake_helper`
//! ```
//!
//! # Why no wake-up is lost
//!
//! A task that another thread pushes into an injector must not lie there while all schedulers sleep. Both sides
//! write, fence, and then read what the other side wrote:
//!
//! | the thread that schedules a task | the scheduler that goes to sleep |
//! |---|---|
//! | pushes the task into an injector | registers: counts itself as asleep (`register`) |
//! | fence (`wake_one`) | fence (`register`) |
//! | looks for a sleeping scheduler | looks at all injectors once more; only then parks |
//!
//! Sequentially consistent fences have one order. If the fence of the scheduling thread comes first, the sleeper's
//! last look finds the task. If the sleeper's fence comes first, the scheduling thread sees it counted and wakes it.
//! A parker keeps a wake-up that comes before the parking, so it doesn't matter how far the sleeper has got. If a
//! third thread has already woken the only sleeper, that scheduler must go through `register` again before it can
//! sleep.
//!
//! A task in a scheduler's own queue needs no such care: its owner will run it. A helper is woken for it only to use
//! the other cores. This is decided anew before every turn, so a relaxed read is enough there.

use crate::sync::atomic::{AtomicU32, Ordering, fence};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// One searching scheduler in `Sleepers::counts`.
const SEARCHER: u32 = 1;
/// One sleeping scheduler in `Sleepers::counts`.
const SLEEPER: u32 = 1 << 16;

/// The schedulers that have nothing to do.
pub(super) struct Sleepers {
    /// The number of searching schedulers (low half) and of sleeping ones (high half). While `asleep` is not locked,
    /// the high half equals its length.
    counts: AtomicU32,
    /// The sleeping schedulers. The one that fell asleep last is at the end: it is woken first, because its caches
    /// are the warmest.
    asleep: Mutex<Vec<usize>>,
    /// More searching schedulers than this would only wait for each other.
    searchers_max: u32,
}

impl Sleepers {
    /// The sleepers among this many schedulers, which are all awake and at work.
    pub(super) fn new(schedulers: usize) -> Self {
        Sleepers {
            counts: AtomicU32::new(0),
            asleep: Mutex::new(Vec::with_capacity(schedulers)),
            searchers_max: (schedulers as u32 / 2).max(1),
        }
    }

    /// Lets the calling scheduler begin to search, unless enough others do. Returns whether it may.
    pub(super) fn begin_search(&self) -> bool {
        // Two schedulers that ask at the same moment may both begin. The bound only saves work.
        let allowed = searchers(self.counts.load(Ordering::Relaxed)) < self.searchers_max;
        if allowed {
            self.begin_search_anyway();
        }
        allowed
    }

    /// Begins a search of the calling scheduler, which has seen that there is a task to find.
    pub(super) fn begin_search_anyway(&self) {
        self.counts.fetch_add(SEARCHER, Ordering::Relaxed);
    }

    /// Ends the search of the calling scheduler, which has found a task.
    pub(super) fn end_search(&self) {
        let before = self.counts.fetch_sub(SEARCHER, Ordering::Relaxed);
        assert!(searchers(before) > 0, "more searches ended than begun");
    }

    /// Adds a scheduler to the sleepers. From now on it may be woken. It must look at every queue once more before it
    /// parks.
    pub(super) fn register(&self, scheduler: usize, was_searching: bool) {
        let mut asleep = self.lock();
        asleep.push(scheduler);
        let searcher = if was_searching { SEARCHER } else { 0 };
        self.counts.fetch_add(SLEEPER - searcher, Ordering::Relaxed);
        drop(asleep);
        fence(Ordering::SeqCst);
    }

    /// Removes a scheduler that has woken up by itself. Returns false if it isn't on the list any more: then another
    /// thread has woken it, and it counts as searching.
    pub(super) fn unregister(&self, scheduler: usize) -> bool {
        let mut asleep = self.lock();
        let Some(position) = asleep.iter().position(|&sleeper| sleeper == scheduler) else {
            return false;
        };
        asleep.remove(position);
        self.counts.fetch_sub(SLEEPER, Ordering::Relaxed);
        true
    }

    /// Chooses a sleeping scheduler to wake for a task that was pushed into an injector, if there is one. It counts
    /// as searching from now on.
    pub(super) fn wake_one(&self) -> Option<usize> {
        fence(Ordering::SeqCst);
        if sleepers(self.counts.load(Ordering::Relaxed)) == 0 {
            return None;
        }
        self.take(&mut self.lock())
    }

    /// Chooses a sleeping scheduler to help an owner whose queue holds more than it can run now. Returns one only if
    /// no scheduler is searching already. The usual answer, `None`, costs one load.
    pub(super) fn wake_helper(&self) -> Option<usize> {
        if !is_help_free(self.counts.load(Ordering::Relaxed)) {
            return None;
        }
        let mut asleep = self.lock();
        // Checked again under the lock, so that of several threads which ask at once only one wakes a scheduler.
        if !is_help_free(self.counts.load(Ordering::Relaxed)) {
            return None;
        }
        self.take(&mut asleep)
    }

    /// The number of sleeping schedulers.
    #[cfg(test)]
    pub(super) fn asleep_count(&self) -> usize {
        sleepers(self.counts.load(Ordering::SeqCst)) as usize
    }

    fn take(&self, asleep: &mut MutexGuard<'_, Vec<usize>>) -> Option<usize> {
        let scheduler = asleep.pop()?;
        // One update, so that no thread sees the scheduler neither asleep nor searching.
        self.counts.fetch_sub(SLEEPER - SEARCHER, Ordering::Relaxed);
        Some(scheduler)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<usize>> {
        self.asleep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn searchers(counts: u32) -> u32 {
    counts % SLEEPER
}

fn sleepers(counts: u32) -> u32 {
    counts / SLEEPER
}

fn is_help_free(counts: u32) -> bool {
    sleepers(counts) > 0 && searchers(counts) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_to_fall_asleep_is_woken_first() {
        let sleepers = Sleepers::new(4);
        assert_eq!(sleepers.wake_one(), None);
        for scheduler in [2, 0, 3] {
            sleepers.register(scheduler, false);
        }
        assert_eq!(sleepers.wake_one(), Some(3));
        assert_eq!(sleepers.wake_one(), Some(0));
        assert_eq!(sleepers.asleep_count(), 1);
        assert_eq!(sleepers.wake_one(), Some(2));
        assert_eq!(sleepers.wake_one(), None);
    }

    #[test]
    fn a_helper_is_woken_only_while_no_scheduler_searches() {
        let sleepers = Sleepers::new(4);
        sleepers.register(0, false);
        sleepers.register(1, false);
        assert_eq!(sleepers.wake_helper(), Some(1));
        assert_eq!(
            sleepers.wake_helper(),
            None,
            "the one that was woken is searching"
        );
        assert_eq!(
            sleepers.wake_one(),
            Some(0),
            "a task from outside wakes all the same"
        );
        sleepers.end_search();
        sleepers.register(0, true);
        assert_eq!(sleepers.wake_helper(), Some(0));
    }

    #[test]
    fn a_woken_scheduler_is_not_on_the_list() {
        let sleepers = Sleepers::new(2);
        sleepers.register(1, false);
        assert!(sleepers.unregister(1));
        assert!(!sleepers.unregister(1));
        sleepers.register(1, false);
        assert_eq!(sleepers.wake_one(), Some(1));
        assert!(!sleepers.unregister(1));
        assert_eq!(sleepers.asleep_count(), 0);
    }

    #[test]
    fn half_of_the_schedulers_may_search() {
        let sleepers = Sleepers::new(5);
        assert!(sleepers.begin_search() && sleepers.begin_search());
        assert!(!sleepers.begin_search());
        sleepers.begin_search_anyway();
        sleepers.end_search();
        sleepers.end_search();
        assert!(sleepers.begin_search());
        let alone = Sleepers::new(1);
        assert!(alone.begin_search());
    }
}

//! Who sleeps, who searches, and whom to wake.
//!
//! A scheduler without work searches the others' queues for a while, then enters itself here and parks. It
//! is woken by whoever makes work that it could do:
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
//! A task that another thread puts into an injector must not lie there while everybody sleeps. Both sides
//! write, fence and then read what the other one wrote:
//!
//! | who brings a task | who goes to sleep |
//! |---|---|
//! | puts the task into an injector | enters itself: counts itself asleep (`register`) |
//! | fence (`wake_one`) | fence (`register`) |
//! | looks for somebody asleep | looks at all injectors once more; only then parks |
//!
//! Sequentially consistent fences have one order. If the bringer's comes first, the sleeper's last look finds
//! the task; if the sleeper's comes first, the bringer sees it counted and wakes it, and since a parker keeps
//! a wake-up that comes before the parking, it doesn't matter how far it has got. If somebody else has woken
//! the only sleeper in the meantime, that one has yet to go through `register` again before it can sleep.
//!
//! A task in a scheduler's own queue needs no such care: its owner will run it. Waking a helper for it is a
//! matter of using the other cores, decided afresh before every turn, so there a relaxed look is enough.

use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One searcher in `Sleepers::counts`.
const SEARCHER: u32 = 1;
/// One sleeper in `Sleepers::counts`.
const SLEEPER: u32 = 1 << 16;

/// The schedulers that have nothing to do.
pub(super) struct Sleepers {
    /// How many search (low half) and how many sleep (high half): always as long as `asleep`, when that is
    /// not locked.
    counts: AtomicU32,
    /// Who sleeps, the one that fell asleep last at the end: it is woken first, its caches being the warmest.
    asleep: Mutex<Vec<usize>>,
    /// More searchers than this would only wait for each other.
    searchers_max: u32,
}

impl Sleepers {
    /// For so many schedulers, all of them awake and at work.
    pub(super) fn new(schedulers: usize) -> Self {
        Sleepers {
            counts: AtomicU32::new(0),
            asleep: Mutex::new(Vec::with_capacity(schedulers)),
            searchers_max: (schedulers as u32 / 2).max(1),
        }
    }

    /// The caller begins to search, if not enough others do.
    pub(super) fn begin_search(&self) -> bool {
        // Two that ask at the same moment may both begin; the bound is there to save work.
        let allowed = searchers(self.counts.load(Ordering::Relaxed)) < self.searchers_max;
        if allowed {
            self.begin_search_anyway();
        }
        allowed
    }

    /// The caller begins to search: it has seen that there is something to find.
    pub(super) fn begin_search_anyway(&self) {
        self.counts.fetch_add(SEARCHER, Ordering::Relaxed);
    }

    /// The caller, who was searching, has found something.
    pub(super) fn end_search(&self) {
        let before = self.counts.fetch_sub(SEARCHER, Ordering::Relaxed);
        assert!(searchers(before) > 0, "more searches ended than begun");
    }

    /// Enters a scheduler among the sleepers; from now on it may be woken. It must look at every queue once
    /// more before it parks.
    pub(super) fn register(&self, scheduler: usize, was_searching: bool) {
        let mut asleep = self.lock();
        asleep.push(scheduler);
        let searcher = if was_searching { SEARCHER } else { 0 };
        self.counts.fetch_add(SLEEPER - searcher, Ordering::Relaxed);
        drop(asleep);
        fence(Ordering::SeqCst);
    }

    /// Takes a scheduler off the list that is awake for a reason of its own. False if it isn't on it any more:
    /// then somebody has woken it, and it counts as searching.
    pub(super) fn unregister(&self, scheduler: usize) -> bool {
        let mut asleep = self.lock();
        let Some(position) = asleep.iter().position(|&sleeper| sleeper == scheduler) else {
            return false;
        };
        asleep.remove(position);
        self.counts.fetch_sub(SLEEPER, Ordering::Relaxed);
        true
    }

    /// After a task went into an injector: who is to be woken for it, if anybody sleeps. It counts as
    /// searching from now on.
    pub(super) fn wake_one(&self) -> Option<usize> {
        fence(Ordering::SeqCst);
        if sleepers(self.counts.load(Ordering::Relaxed)) == 0 {
            return None;
        }
        self.take(&mut self.lock())
    }

    /// When a queue holds more than its owner can run now: who is to be woken to help, if somebody sleeps and
    /// nobody is searching already. The usual answer, nobody, costs one load.
    pub(super) fn wake_helper(&self) -> Option<usize> {
        if !is_help_free(self.counts.load(Ordering::Relaxed)) {
            return None;
        }
        let mut asleep = self.lock();
        // Asked again under the lock, so that of several who ask at once one wakes one.
        if !is_help_free(self.counts.load(Ordering::Relaxed)) {
            return None;
        }
        self.take(&mut asleep)
    }

    /// How many sleep now.
    #[cfg(test)]
    pub(super) fn asleep_count(&self) -> usize {
        sleepers(self.counts.load(Ordering::SeqCst)) as usize
    }

    fn take(&self, asleep: &mut MutexGuard<'_, Vec<usize>>) -> Option<usize> {
        let scheduler = asleep.pop()?;
        // One change, so that nobody sees it neither asleep nor searching.
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
    fn a_helper_is_woken_only_while_nobody_searches() {
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
    fn who_was_woken_is_not_on_the_list() {
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

//! Priorities, and how turns are shared among them.
//!
//! `Shares` is the whole policy: given the priorities that have a task that can run, it chooses the next one. It does
//! not know the queues. It counts turns, so the same questions always get the same answers.

use std::ops::{Index, IndexMut};

/// How urgently a process wants to run. `High` processes get seven of eight turns while there are any that can run.
/// Of the other turns `Normal` processes get seven of eight, and `Low` ones get one: no process starves. OTP:
/// `process_flag(priority, …)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// The task may wait: it gets a small share while others can run, and all turns that they leave.
    Low,
    /// The priority of most tasks.
    #[default]
    Normal,
    /// The task comes before all others.
    High,
}

impl Priority {
    /// All priorities, the most urgent first.
    pub(super) const DESCENDING: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];
}

/// One value for each priority.
pub(super) struct Each<T>([T; 3]);

impl<T> Each<T> {
    /// Makes each value from its priority.
    pub(super) fn new(mut make: impl FnMut(Priority) -> T) -> Self {
        Each([
            make(Priority::Low),
            make(Priority::Normal),
            make(Priority::High),
        ])
    }

    /// Whether `test` holds for any value.
    pub(super) fn any(&self, test: impl Fn(&T) -> bool) -> bool {
        self.0.iter().any(test)
    }

    /// The sum of all sizes.
    pub(super) fn sum(&self, size: impl Fn(&T) -> usize) -> usize {
        self.0.iter().map(size).sum()
    }
}

impl<T> Index<Priority> for Each<T> {
    type Output = T;

    #[inline]
    fn index(&self, priority: Priority) -> &T {
        &self.0[priority as usize]
    }
}

impl<T> IndexMut<Priority> for Each<T> {
    #[inline]
    fn index_mut(&mut self, priority: Priority) -> &mut T {
        &mut self.0[priority as usize]
    }
}

/// The priorities that have a task that can run, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ready(u8);

impl Ready {
    #[inline]
    pub(super) fn has(self, priority: Priority) -> bool {
        self.0 & Self::bit(priority) != 0
    }

    /// Whether there is a priority other than this one.
    #[inline]
    pub(super) fn has_besides(self, priority: Priority) -> bool {
        self.0 & !Self::bit(priority) != 0
    }

    #[inline]
    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(super) fn with(self, priority: Priority) -> Ready {
        Ready(self.0 | Self::bit(priority))
    }

    #[inline]
    pub(super) fn without(self, priority: Priority) -> Ready {
        Ready(self.0 & !Self::bit(priority))
    }

    /// The priorities in either set.
    #[inline]
    pub(super) fn or(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }

    #[inline]
    fn bit(priority: Priority) -> u8 {
        1 << priority as u8
    }
}

/// The turns, of eight that two sides compete for, that the more urgent side gets. The other side gets the last one.
const URGENT_TURNS: u8 = 7;

/// How many turns each priority has had. Each scheduler thread has its own `Shares`.
///
/// Seven of eight turns are for `High` and one for the others. Of eight turns of the others, seven are for `Normal`
/// and one for `Low`. A turn is counted only if both sides had a task that could run. So a priority that is alone
/// takes nothing from its share, and a priority can't save up turns while it has no task.
///
/// From this follows how many turns a task at the front of its queue can be passed over: a `High` task for 1, a
/// `Normal` task for 15 (7 of `High`, the one of `Low`, 7 of `High`), a `Low` task for 63 (7 of `Normal`, each behind
/// 7 of `High`, and 7 of `High`).
#[derive(Default)]
pub(super) struct Shares {
    /// Turns of `High` since the last turn of another priority.
    high: u8,
    /// Turns of `Normal` since the last turn of `Low`.
    normal: u8,
}

impl Shares {
    /// The priority that gets the next turn; `None` if no task is ready. Counts nothing yet.
    #[inline]
    pub(super) fn choose(&self, ready: Ready) -> Option<Priority> {
        let may_high = self.high < URGENT_TURNS || !ready.has_besides(Priority::High);
        let may_normal = self.normal < URGENT_TURNS || !ready.has(Priority::Low);
        if ready.has(Priority::High) && may_high {
            Some(Priority::High)
        } else if ready.has(Priority::Normal) && may_normal {
            Some(Priority::Normal)
        } else if ready.has(Priority::Low) {
            Some(Priority::Low)
        } else {
            None
        }
    }

    /// Counts a turn of `chosen`, which `choose` returned for the same `ready`.
    #[inline]
    pub(super) fn count(&mut self, chosen: Priority, ready: Ready) {
        debug_assert_eq!(self.choose(ready), Some(chosen));
        if ready.has(Priority::High) && ready.has_besides(Priority::High) {
            self.high = next_count(self.high, chosen == Priority::High);
        }
        if chosen != Priority::High && ready.has(Priority::Normal) && ready.has(Priority::Low) {
            self.normal = next_count(self.normal, chosen == Priority::Normal);
        }
    }
}

/// The turns of the urgent side since the last one of the other side, counting one more turn.
#[inline]
fn next_count(count: u8, is_urgent: bool) -> u8 {
    if is_urgent { count + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::Priority::{High, Low, Normal};
    use super::*;

    fn ready(priorities: &[Priority]) -> Ready {
        priorities
            .iter()
            .fold(Ready::default(), |ready, &priority| ready.with(priority))
    }

    /// The next `turns` turns while the same priorities are ready.
    fn turns(shares: &mut Shares, ready: Ready, turns: usize) -> Vec<Priority> {
        (0..turns)
            .map(|_| {
                let chosen = shares.choose(ready).expect("somebody is ready");
                shares.count(chosen, ready);
                chosen
            })
            .collect()
    }

    fn count(turns: &[Priority], priority: Priority) -> usize {
        turns.iter().filter(|&&chosen| chosen == priority).count()
    }

    #[test]
    fn shares_are_as_promised_in_every_window() {
        for (priorities, window, counts) in [
            ([Low, Normal, High].as_slice(), 64, [1, 7, 56]),
            (&[Normal, High], 8, [0, 1, 7]),
            (&[Low, High], 8, [1, 0, 7]),
            (&[Low, Normal], 8, [1, 7, 0]),
        ] {
            let turns = turns(&mut Shares::default(), ready(priorities), 640);
            for window in turns.windows(window) {
                assert_eq!([Low, Normal, High].map(|it| count(window, it)), counts);
            }
        }
    }

    #[test]
    fn nothing_is_chosen_when_nothing_is_ready() {
        assert_eq!(Shares::default().choose(ready(&[])), None);
    }

    #[test]
    fn a_turn_without_a_choice_is_not_counted() {
        for alone in [Low, Normal, High] {
            let mut shares = Shares::default();
            // At every state of the shares: the next turns are the same as if `alone` had not run by itself.
            for stand in 0..64 {
                let all = ready(&[Low, Normal, High]);
                let mut undisturbed = Shares { ..shares };
                let expected = turns(&mut undisturbed, all, 64);
                assert_eq!(turns(&mut shares, ready(&[alone]), 100), [alone; 100]);
                assert_eq!(turns(&mut shares, all, 64), expected, "after {stand}");
                turns(&mut shares, all, 1);
            }
        }
    }

    #[test]
    fn no_task_is_passed_over_longer_than_documented() {
        // For every state of the shares, and every mix of tasks before it, a task of one priority arrives.
        let lives = [
            ready(&[Low]),
            ready(&[Low, Normal]),
            ready(&[Normal, High]),
            ready(&[Low, Normal, High]),
        ];
        for (priority, passed_max) in [(High, 1), (Normal, 15), (Low, 63)] {
            let mut longest = 0;
            for life in lives {
                for age in 0..64 {
                    let mut shares = Shares::default();
                    turns(&mut shares, ready(&[Low, Normal, High]), age);
                    turns(&mut shares, life, 10);
                    let coming = turns(&mut shares, ready(&[Low, Normal, High]), 128);
                    let passed = coming.iter().position(|&chosen| chosen == priority);
                    longest = longest.max(passed.expect("its turn comes"));
                }
            }
            assert_eq!(longest, passed_max, "{priority:?}");
        }
    }
}

//! Takes tasks from other schedulers' queues: when the own ones are empty, and now and then to even them out.

use std::ops::Deref;
use std::sync::atomic::Ordering;

use super::queues::Queues;
use super::{Lane, Task};

/// A task alone in a lane's queues is taken when it has been there for so many rounds with its owner in the same
/// turn, some microseconds: longer than a turn of a pair that talks, shorter than a slice of computing.
pub(super) const LONE_TASK_ROUNDS: u32 = 6;

/// Takes tasks from other schedulers' queues.
///
/// From a scheduler with two tasks and more in its queues, whatever their priorities, it takes half of the most
/// urgent queue that isn't empty. A single task it leaves alone at first: it may be one of a pair
/// that talk by turns, whose next turn comes at once and who would only be torn apart. But two tasks that compute look
/// the same, one in its turn and one waiting; so a single task is taken when it has waited for a while and the
/// owner is still in the same turn.
pub(super) struct Thief {
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
    pub(super) fn new(lane: usize, lane_count: usize, seed: u64) -> Self {
        Thief {
            lane,
            watches: vec![Watch::default(); lane_count].into(),
            // Zero would stay zero for ever.
            random_state: seed | 1,
        }
    }

    /// A new search: what was seen in an earlier one is too old.
    pub(super) fn begin_watch(&mut self) {
        self.watches.fill(Watch::default());
    }

    /// Whether some single task is being watched.
    pub(super) fn is_watching(&self) -> bool {
        self.watches.iter().any(|watch| watch.rounds > 0)
    }

    /// Looks at every other lane once, beginning anywhere, and takes what it may into `own`, but for the
    /// first task.
    pub(super) fn steal<T>(
        &mut self,
        lanes: &[impl Deref<Target = Lane<T>>],
        own: &Queues,
    ) -> Option<Task> {
        let start = self.random_below(lanes.len());
        for index in (start..lanes.len()).chain(0..start) {
            if index == self.lane {
                continue;
            }
            if self.may_steal(index, &lanes[index])
                && let Some(task) = lanes[index].stealers.take_half(own)
            {
                return Some(task);
            }
        }
        None
    }

    /// Takes tasks from one lane, any, if it has more of a priority than `own`: as many as make them equal.
    /// True if there were some.
    pub(super) fn balance<T>(
        &mut self,
        lanes: &[impl Deref<Target = Lane<T>>],
        own: &Queues,
    ) -> bool {
        let index = self.random_below(lanes.len());
        index != self.lane && lanes[index].stealers.even_out(own)
    }

    fn may_steal<T>(&mut self, index: usize, lane: &Lane<T>) -> bool {
        let watch = &mut self.watches[index];
        match lane.stealers.len() {
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

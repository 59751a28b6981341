//! Takes tasks from other schedulers' queues: when a scheduler's own queues are empty, and now and then to even them
//! out.

use std::ops::Deref;
use std::sync::atomic::Ordering;

use super::queues::Queues;
use super::{Lane, Task};

/// A task that is alone in a lane's queues is taken after this many rounds with its owner in the same turn. This
/// takes some microseconds: longer than a turn of two tasks that talk to each other, shorter than a slice of
/// computing.
pub(super) const LONE_TASK_ROUNDS: u32 = 6;

/// Takes tasks from other schedulers' queues.
///
/// From a scheduler with two or more tasks in its queues, whatever their priorities, the thief takes half of the most
/// urgent queue that isn't empty. It leaves a single task alone at first: the task may be one of a pair that talk to
/// each other, whose next turn comes at once, and which stealing would only tear apart. But two computing tasks look
/// the same, one in its turn and one waiting. So the thief takes a single task when it has waited for a while and its
/// owner is still in the same turn.
pub(super) struct Thief {
    lane: usize,
    /// For each lane, the single task seen in it.
    lone_tasks: Box<[LoneTask]>,
    random_state: u64,
}

/// A single task that waits in a lane.
#[derive(Clone, Copy, Default)]
struct LoneTask {
    /// The number of rounds in which the thief has seen it.
    rounds: u32,
    /// The owner's turn counter in these rounds.
    turns: u64,
}

impl Thief {
    pub(super) fn new(lane: usize, lane_count: usize, seed: u64) -> Self {
        Thief {
            lane,
            lone_tasks: vec![LoneTask::default(); lane_count].into(),
            // Zero would stay zero forever.
            random_state: seed | 1,
        }
    }

    /// Begins a new search: forgets the tasks seen in earlier ones.
    pub(super) fn begin_watch(&mut self) {
        self.lone_tasks.fill(LoneTask::default());
    }

    /// Whether the thief is watching a single task.
    pub(super) fn is_watching(&self) -> bool {
        self.lone_tasks.iter().any(|lone_task| lone_task.rounds > 0)
    }

    /// Looks at every other lane once, from a random one on, and steals from the first that allows it. Returns the
    /// first task, and moves the others into `own`.
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

    /// Evens out the queues with those of one random lane: takes tasks of each priority of which that lane has more.
    /// Returns whether it took any.
    pub(super) fn balance<T>(
        &mut self,
        lanes: &[impl Deref<Target = Lane<T>>],
        own: &Queues,
    ) -> bool {
        let index = self.random_below(lanes.len());
        index != self.lane && lanes[index].stealers.even_out(own)
    }

    fn may_steal<T>(&mut self, index: usize, lane: &Lane<T>) -> bool {
        let lone_task = &mut self.lone_tasks[index];
        match lane.stealers.len() {
            0 => {
                lone_task.rounds = 0;
                false
            }
            1 => {
                let turns = lane.counts.turns.load(Ordering::Relaxed);
                if lone_task.turns != turns {
                    *lone_task = LoneTask { rounds: 0, turns };
                }
                lone_task.rounds += 1;
                lone_task.rounds >= LONE_TASK_ROUNDS
            }
            _ => true,
        }
    }

    /// Marsaglia's xorshift. Its quality doesn't matter: the thieves only shouldn't all begin with the same lane.
    fn random_below(&mut self, bound: usize) -> usize {
        self.random_state ^= self.random_state << 13;
        self.random_state ^= self.random_state >> 7;
        self.random_state ^= self.random_state << 17;
        (self.random_state % bound as u64) as usize
    }
}

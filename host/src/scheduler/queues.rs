//! The queues in which tasks wait: each scheduler thread has one per priority, and all share one injector per
//! priority.
//!
//! Within a queue tasks keep their order. The worker's `pick`, not this file, decides which priority is next.

use std::cell::Cell;

use crossbeam_deque::{Injector, Steal, Stealer, Worker as Queue};

use super::Task;
use super::priority::{Each, Priority, Ready};

/// One scheduler thread's queues, for their owner.
pub(super) struct Queues {
    each: Each<Queue<Task>>,
    /// The priorities whose queue may hold a task. Only the owner pushes tasks, so it knows which queues are empty
    /// without reading what thieves write. While all tasks are `Normal`, the other queues cost nothing.
    filled: Cell<Ready>,
}

/// One scheduler thread's queues, for the other threads.
pub(super) struct Stealers(Each<Stealer<Task>>);

/// Tasks that were scheduled from outside. The first scheduler that has time takes them.
pub(super) struct Injectors(Each<Injector<Task>>);

impl Queues {
    pub(super) fn new() -> Self {
        Queues {
            each: Each::new(|_| Queue::new_fifo()),
            filled: Cell::default(),
        }
    }

    pub(super) fn stealers(&self) -> Stealers {
        Stealers(Each::new(|priority| self.each[priority].stealer()))
    }

    #[inline]
    pub(super) fn push(&self, task: Task, priority: Priority) {
        self.to_fill(priority).push(task);
    }

    #[inline]
    pub(super) fn pop(&self, priority: Priority) -> Option<Task> {
        self.each[priority].pop()
    }

    /// The priorities that have a task here. A thief may take the task before the owner pops it.
    pub(super) fn ready(&self) -> Ready {
        for priority in Priority::DESCENDING {
            if self.is_empty(priority) {
                self.filled.set(self.filled.get().without(priority));
            }
        }
        self.filled.get()
    }

    /// Whether only the queue of `Normal` may hold a task. Cheaper than looking at the queues.
    #[inline]
    pub(super) fn are_only_normal(&self) -> bool {
        !self.filled.get().has_besides(Priority::Normal)
    }

    /// Whether no task of this priority waits here.
    #[inline]
    pub(super) fn is_empty(&self, priority: Priority) -> bool {
        self.each[priority].is_empty()
    }

    /// Whether no task waits here, of any priority.
    #[inline]
    pub(super) fn are_empty(&self) -> bool {
        self.is_empty(Priority::Normal) && (self.are_only_normal() || self.ready().is_none())
    }

    /// The queue of this priority, noted as one that may hold a task.
    #[inline]
    fn to_fill(&self, priority: Priority) -> &Queue<Task> {
        self.filled.set(self.filled.get().with(priority));
        &self.each[priority]
    }
}

impl Stealers {
    /// The number of tasks in all of the queues.
    pub(super) fn len(&self) -> usize {
        self.0.sum(Stealer::len)
    }

    /// Takes half of the most urgent queue that isn't empty. Returns the first task, and moves the others into the
    /// thief's own queue of that priority.
    pub(super) fn take_half(&self, own: &Queues) -> Option<Task> {
        Priority::DESCENDING.into_iter().find_map(|priority| {
            let victim = &self.0[priority];
            if victim.is_empty() {
                return None;
            }
            until_settled(|| victim.steal_batch_and_pop(own.to_fill(priority)))
        })
    }

    /// Where the own queue of a priority is shorter, takes as many tasks as make the two equal. Returns whether it
    /// took any.
    pub(super) fn even_out(&self, own: &Queues) -> bool {
        let mut has_taken = false;
        for priority in Priority::DESCENDING {
            let victim = &self.0[priority];
            let surplus = victim.len().saturating_sub(own.each[priority].len());
            // With a surplus of one, moving the task would only swap the two lengths.
            has_taken |= surplus >= 2
                && victim
                    .steal_batch_with_limit(own.to_fill(priority), surplus / 2)
                    .is_success();
        }
        has_taken
    }
}

impl Injectors {
    pub(super) fn new() -> Self {
        Injectors(Each::new(|_| Injector::new()))
    }

    pub(super) fn push(&self, task: Task, priority: Priority) {
        self.0[priority].push(task);
    }

    /// The priorities that have a task here. Any scheduler may take it first.
    pub(super) fn ready(&self) -> Ready {
        let mut ready = Ready::default();
        for priority in Priority::DESCENDING {
            if self.has(priority) {
                ready = ready.with(priority);
            }
        }
        ready
    }

    /// Whether a task of this priority waits here.
    #[inline]
    pub(super) fn has(&self, priority: Priority) -> bool {
        !self.0[priority].is_empty()
    }

    /// Whether no task waits here, of any priority.
    pub(super) fn are_empty(&self) -> bool {
        !self.0.any(|injector| !injector.is_empty())
    }

    /// Takes one task; some more if the own queue is empty. If the own queue holds tasks, more injected tasks would
    /// only wait behind all of them.
    pub(super) fn take(&self, priority: Priority, own: &Queues) -> Option<Task> {
        let injector = &self.0[priority];
        if own.is_empty(priority) {
            until_settled(|| injector.steal_batch_and_pop(own.to_fill(priority)))
        } else {
            until_settled(|| injector.steal())
        }
    }
}

/// Repeats an attempt while it fails because another thread interfered. Each time, the other thread has succeeded.
fn until_settled(mut attempt: impl FnMut() -> Steal<Task>) -> Option<Task> {
    loop {
        match attempt() {
            Steal::Success(task) => return Some(task),
            Steal::Empty => return None,
            Steal::Retry => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_takes_several_tasks_from_an_injector() {
        for priority in Priority::DESCENDING {
            let (injectors, own) = (Injectors::new(), Queues::new());
            (0..10).for_each(|task| injectors.push(task, priority));
            assert_eq!(injectors.take(priority, &own), Some(0));
            assert_eq!(own.ready(), Ready::default().with(priority));
            assert_eq!(own.pop(priority), Some(1), "in order");
            let next = own.pop(priority).expect("there is another");
            own.push(77, priority);
            while own.stealers().len() > 1 {
                own.pop(priority);
            }
            let one = injectors.take(priority, &own).expect("some are left");
            assert!(one > next);
            assert_eq!(own.pop(priority), Some(77), "nothing was put behind");
            assert!(own.are_empty());
        }
    }

    #[test]
    fn queues_know_what_they_hold() {
        let queues = Queues::new();
        assert!(queues.are_empty() && queues.are_only_normal());
        queues.push(1, Priority::Normal);
        assert!(!queues.are_empty() && queues.are_only_normal());
        for priority in [Priority::Low, Priority::High] {
            queues.push(2, priority);
            assert!(!queues.are_only_normal());
            let both = Ready::default().with(Priority::Normal).with(priority);
            assert_eq!(queues.ready(), both);
            // If a thief has taken the last task, the owner notices it in `ready`.
            assert_eq!(queues.stealers().0[priority].steal(), Steal::Success(2));
            assert_eq!(queues.ready(), Ready::default().with(Priority::Normal));
            assert!(queues.are_only_normal());
            queues.push(3, priority);
            assert_eq!(queues.pop(Priority::Normal), Some(1));
            assert!(!queues.are_empty());
            assert_eq!(queues.pop(priority), Some(3));
            assert!(queues.are_empty());
            queues.push(1, Priority::Normal);
        }
    }
}

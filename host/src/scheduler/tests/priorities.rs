//! Tests of priorities. On one scheduler the order of all turns is known, and so is what a thief without threads
//! takes.

use super::super::thief::{LONE_TASK_ROUNDS, Thief};
use super::*;
use Priority::{High, Low, Normal};

/// The first task, which schedules the others.
const STARTER: Task = Task::MAX;
/// The task whose turn the test waits for.
const AWAITED: Task = STARTER - 1;

/// The starter's number of turns. In the last one it schedules the other tasks. With this number, a busy scheduler
/// does not look for tasks from outside in the two turns that follow.
const STARTER_TURNS: usize = 6;

/// Runs one scheduler, beginning with the starter. Returns the tasks that had the next `turns` turns. After these,
/// every task parks.
fn turns_after(
    turns: usize,
    start: impl Fn(&Arc<Scheduler<Tasks>>) + Send + Sync + 'static,
    turn: impl Fn(Task) -> After + Send + Sync + 'static,
) -> Vec<Task> {
    let (ran, has_run) = mpsc::channel();
    let starter_turns_left = AtomicUsize::new(STARTER_TURNS);
    let turns_left = AtomicUsize::new(turns);
    let running = run(1, move |scheduler, task| {
        if task == STARTER {
            if starter_turns_left.fetch_sub(1, Ordering::Relaxed) > 1 {
                return After::Again(Normal);
            }
            start(scheduler);
            return After::Parked;
        }
        let left = turns_left.load(Ordering::Relaxed);
        if left == 0 {
            return After::Parked;
        }
        turns_left.store(left - 1, Ordering::Relaxed);
        ran.send(task).expect("the test waits");
        turn(task)
    });
    running.scheduler.schedule(STARTER, Normal);
    has_run.iter().take(turns).collect()
}

/// Schedules tasks from outside at a known moment: another thread does it during a turn.
fn from_outside(scheduler: &Arc<Scheduler<Tasks>>, tasks: &[Task], priority: Priority) {
    thread::scope(|scope| {
        scope.spawn(|| {
            tasks
                .iter()
                .for_each(|&task| scheduler.schedule(task, priority));
        });
    });
}

/// A hundred tasks of one priority that never wait. Their numbers are those for which `priority_of` returns it.
fn crowd(priority: Priority) -> Vec<Task> {
    (0..300)
        .filter(|&task| priority_of(task) == priority)
        .collect()
}

fn schedule_crowd(scheduler: &Arc<Scheduler<Tasks>>, priority: Priority) {
    crowd(priority)
        .into_iter()
        .for_each(|task| scheduler.schedule(task, priority));
}

/// The awaited task has one turn. The crowds go on.
fn crowds_go_on(task: Task) -> After {
    if task >= 300 {
        After::Parked
    } else {
        After::Again(priority_of(task))
    }
}

/// The number of turns that other tasks had before the awaited task ran.
fn passed_over(turns: &[Task]) -> usize {
    turns
        .iter()
        .position(|&task| task == AWAITED)
        .expect("it runs within the turns that were looked at")
}

#[test]
fn busy_tasks_share_the_turns_as_promised() {
    for is_outside in [false, true] {
        for (priorities, window, counts) in [
            ([Low, Normal, High].as_slice(), 64, [1, 7, 56]),
            (&[Normal, High], 8, [0, 1, 7]),
            (&[Low, High], 8, [1, 0, 7]),
            (&[Low, Normal], 8, [1, 7, 0]),
        ] {
            let start = move |scheduler: &Arc<Scheduler<Tasks>>| {
                for &priority in priorities {
                    if is_outside {
                        from_outside(scheduler, &crowd(priority), priority);
                    } else {
                        schedule_crowd(scheduler, priority);
                    }
                }
            };
            let turns = turns_after(1280, start, crowds_go_on);
            for window in turns.windows(window) {
                let count = |priority| {
                    window
                        .iter()
                        .filter(|&&task| priority_of(task) == priority)
                        .count()
                };
                assert_eq!(
                    [Low, Normal, High].map(count),
                    counts,
                    "{priorities:?}, outside: {is_outside}"
                );
            }
        }
    }
}

#[test]
fn tasks_of_a_priority_run_in_order_beside_other_priorities() {
    let start = |scheduler: &Arc<Scheduler<Tasks>>| {
        [Low, Normal, High]
            .into_iter()
            .for_each(|priority| schedule_crowd(scheduler, priority));
    };
    let turns = turns_after(10_000, start, crowds_go_on);
    for priority in [Low, Normal, High] {
        let own: Vec<_> = turns
            .iter()
            .copied()
            .filter(|&task| priority_of(task) == priority)
            .collect();
        let in_order: Vec<_> = crowd(priority)
            .into_iter()
            .cycle()
            .take(own.len())
            .collect();
        assert_eq!(own, in_order, "{priority:?}");
    }
}

#[test]
fn a_high_task_overtakes_a_long_queue() {
    for is_outside in [false, true] {
        let start = move |scheduler: &Arc<Scheduler<Tasks>>| {
            schedule_crowd(scheduler, Normal);
            if is_outside {
                from_outside(scheduler, &[AWAITED], High);
            } else {
                scheduler.schedule(AWAITED, High);
            }
        };
        assert_eq!(passed_over(&turns_after(10, start, crowds_go_on)), 0);
    }
}

#[test]
fn a_low_task_does_not_starve() {
    // If the own queue holds only `Normal` tasks, a task from outside is seen at the next look only.
    for (is_outside, crowds, passed) in [
        (false, [Normal].as_slice(), 7),
        (true, &[Normal], 2 + 7),
        (false, &[High], 7),
        (true, &[High], 7),
        (false, &[Normal, High], 63),
        (true, &[Normal, High], 63),
    ] {
        let start = move |scheduler: &Arc<Scheduler<Tasks>>| {
            for &priority in crowds {
                schedule_crowd(scheduler, priority);
            }
            if is_outside {
                from_outside(scheduler, &[AWAITED], Low);
            } else {
                scheduler.schedule(AWAITED, Low);
            }
        };
        assert_eq!(
            passed_over(&turns_after(100, start, crowds_go_on)),
            passed,
            "beside {crowds:?}, outside: {is_outside}"
        );
    }
}

#[test]
fn injected_tasks_have_every_fourth_turn_of_their_priority() {
    // `Normal` has every eighth turn here. The injector's share must be counted within these turns only.
    let start = |scheduler: &Arc<Scheduler<Tasks>>| {
        schedule_crowd(scheduler, High);
        schedule_crowd(scheduler, Normal);
        from_outside(scheduler, &[AWAITED; 10], Normal);
    };
    let turns = turns_after(400, start, crowds_go_on);
    let normal = turns
        .iter()
        .filter(|&&task| task == AWAITED || priority_of(task) == Normal);
    let outside: Vec<_> = normal
        .enumerate()
        .filter(|(_, task)| **task == AWAITED)
        .map(|(turn, _)| turn)
        .collect();
    assert_eq!(outside, (0..10).map(|turn| 4 * turn).collect::<Vec<_>>());
}

#[test]
fn a_task_goes_on_with_the_priority_that_it_asks_for() {
    let start = |scheduler: &Arc<Scheduler<Tasks>>| {
        scheduler.schedule(AWAITED, Normal);
        schedule_crowd(scheduler, Normal);
    };
    let turns = turns_after(16, start, |task| {
        After::Again(if task == AWAITED { High } else { Normal })
    });
    let expected = [AWAITED; 8].into_iter().chain([1]).chain([AWAITED; 7]);
    assert_eq!(turns, expected.collect::<Vec<_>>());
}

/// Two schedulers without threads, and the thief of the first one.
fn without_threads() -> (Arc<Scheduler<Tasks>>, [Seat; 2], Thief) {
    let scheduler = make(2, Seam::new(VirtualWorld::new(1)));
    let seats: Vec<_> = std::mem::take(&mut *lock(&scheduler.seats));
    let seats = seats
        .try_into()
        .unwrap_or_else(|_| panic!("a seat for each"));
    (scheduler, seats, Thief::new(0, 2, 1))
}

/// All tasks of a queue, in order.
fn drain(queues: &Queues, priority: Priority) -> Vec<Task> {
    std::iter::from_fn(|| queues.pop(priority)).collect()
}

#[test]
fn a_thief_takes_the_most_urgent_first() {
    let (scheduler, [own, victim], mut thief) = without_threads();
    for (task, priority) in [Low, Low, Normal, Normal, Normal, Normal, High, High, High]
        .into_iter()
        .enumerate()
    {
        victim.queues.push(task as Task, priority);
    }
    let mut steal = || thief.steal(&scheduler.lanes, &own.queues);
    assert_eq!(steal(), Some(6));
    assert_eq!(drain(&own.queues, High), [7], "half of them, rounded up");
    assert_eq!(steal(), Some(8));
    assert_eq!(steal(), Some(2));
    assert_eq!(drain(&own.queues, Normal), [3]);
    assert_eq!(drain(&victim.queues, Normal), [4, 5]);
    assert_eq!(steal(), Some(0));
    assert_eq!(drain(&victim.queues, Low), [1]);
}

#[test]
fn a_thief_leaves_a_lone_task_for_a_while() {
    for priority in [Low, Normal, High] {
        let (scheduler, [own, victim], mut thief) = without_threads();
        victim.queues.push(5, priority);
        for _round in 1..LONE_TASK_ROUNDS {
            assert_eq!(thief.steal(&scheduler.lanes, &own.queues), None);
        }
        assert_eq!(thief.steal(&scheduler.lanes, &own.queues), Some(5));
    }
}

#[test]
fn two_tasks_in_different_queues_are_not_lone_tasks() {
    for (urgent, other) in [(High, Normal), (High, Low), (Normal, Low)] {
        let (scheduler, [own, victim], mut thief) = without_threads();
        victim.queues.push(5, other);
        victim.queues.push(6, urgent);
        assert_eq!(thief.steal(&scheduler.lanes, &own.queues), Some(6));
    }
}

#[test]
fn balancing_evens_out_each_priority() {
    let (scheduler, [own, victim], mut thief) = without_threads();
    for task in 0..6 {
        victim.queues.push(task, High);
        victim.queues.push(10 + task, Low);
    }
    own.queues.push(20, High);
    own.queues.push(21, High);
    (30..40).for_each(|task| own.queues.push(task, Normal));
    victim.queues.push(40, Normal);
    // `balance` looks at a random lane, which may be the own one.
    while !thief.balance(&scheduler.lanes, &own.queues) {}
    assert_eq!(drain(&own.queues, High), [20, 21, 0, 1]);
    assert_eq!(drain(&own.queues, Low), [10, 11, 12]);
    assert_eq!(drain(&own.queues, Normal).len(), 10);
    assert_eq!(drain(&victim.queues, Normal), [40]);
}

//! The steps of a teardown as data: the ties that are to be removed, and the processes and tasks that are to be told.

use super::alarm::Timer;
use super::domain::Domain;
use crate::process::{ExitReason, Pid, Reference, Ties};
use crate::scheduler::TimerKey;
use smallvec::SmallVec;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The rest of a teardown that takes several turns.
pub(crate) struct Farewell {
    pub(super) pid: Pid,
    pub(super) reason: ExitReason,
    /// None for the system's own domain.
    pub(super) domain: Option<Arc<Domain>>,
    /// The next step is the last element.
    pub(super) steps: Steps,
    pub(super) watchers: Option<Box<Watchers>>,
}

/// Most processes need at most one step.
pub(super) type Steps = SmallVec<[Step; 1]>;

/// Tells the tasks of the host for what reason the process has ended.
pub(super) fn tell_watchers(watchers: Option<Box<Watchers>>, reason: &ExitReason) {
    for watcher in watchers.into_iter().flat_map(|watchers| watchers.0) {
        // If the host no longer waits for this end, the send fails, and that is fine.
        let _ = watcher.send(reason.clone());
    }
}

/// One tie to remove, or one process to tell.
#[derive(Clone)]
pub(super) enum Step {
    Down(Pid, Reference),
    Unlink(Pid),
    Resume(Pid, u32),
    ForgetMonitor(Pid, Reference),
    ForgetGroupMonitor(Arc<str>, Reference),
    /// Undo one join.
    Leave(Arc<str>),
    Cancel(TimerKey),
}

/// The tasks of the host that wait for a process's end.
#[derive(Default)]
pub(crate) struct Watchers(pub(crate) Vec<oneshot::Sender<ExitReason>>);

/// The steps that remove these ties. The first step is the last element.
pub(super) fn steps(mut ties: Box<Ties<Timer>>) -> Steps {
    let mut steps = Steps::with_capacity(ties.count() + ties.links() + ties.monitored_by.len());
    ties.monitored_by
        .drain_into(|monitor, watcher| steps.push(Step::Down(watcher, monitor)));
    ties.drain_links_into(|other| steps.push(Step::Unlink(other)));
    ties.suspending
        .drain_into(|other, times| steps.push(Step::Resume(other, times)));
    ties.monitors.drain_into(|monitor, monitored| {
        steps.push(Step::ForgetMonitor(monitored.process, monitor));
    });
    ties.group_monitors
        .drain_into(|monitor, group| steps.push(Step::ForgetGroupMonitor(group, monitor)));
    ties.groups.drain_into(|group, times| {
        let leave = Step::Leave(group);
        steps.extend(std::iter::repeat_n(leave, times as usize));
    });
    ties.timers
        .drain_into(|_, timer| steps.push(Step::Cancel(timer.key)));
    steps
}

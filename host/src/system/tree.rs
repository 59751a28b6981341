//! Turns of processes in a domain with a budget of its own, and the end of whole trees.

use super::Shared;
use super::alarm::{Alarm, AlarmOf};
use super::control::{ControlGuard, Entry, Phase};
use super::current::Current;
use super::domain::{Domain, TreeEnd, TreeInfo};
use super::rights::Rights;
use crate::process::{Budget, ExitReason, Pid};
use crate::scheduler::{After, Task, TimerKey};
use std::sync::Arc;
use std::task::Poll;

/// Entries of the table that one step of ending a tree looks at.
const LOOKS_AT_ONCE: u32 = 1024;

/// Reductions for looking at so many: about as long as a slice of guest code.
const LOOKS_REDUCTIONS: u64 = 4000;

impl Shared {
    /// Gives a process its turn, if its tree has not ended and has reductions and credit left, and counts what it uses.
    #[cold]
    pub(super) fn run_in_domain(
        &self,
        task: Task,
        entry: &Entry,
        mut control: ControlGuard<'_>,
    ) -> After {
        let Some(member) = &control.domain else {
            return self.give_turn(task, entry, control);
        };
        let domain = member.domain().clone();
        let is_free = control.pending_exit.is_none() && control.suspensions == 0;
        if is_free && control.owed_turns == 0 {
            if domain.has_ended() {
                let _ = control.end_with(entry, ExitReason::Killed, false);
            } else if domain.has_no_reductions() {
                let reason = ExitReason::Exhausted(Budget::Reductions);
                let _ = control.end_with(entry, reason, true);
            } else if domain.is_rated() && !self.is_in_credit(&domain, &mut control) {
                return After::Parked;
            }
        }
        if !domain.is_rated() {
            return self.give_turn(task, entry, control);
        }
        let began_at_ns = self.scheduler.now();
        let after = self.give_turn(task, entry, control);
        let now_ns = self.scheduler.now();
        domain.pay(now_ns.saturating_sub(began_at_ns), now_ns, |process| {
            self.let_go_on(process);
        });
        after
    }

    /// Has the domain credit for this process's turn? If not, the process waits for it.
    fn is_in_credit(&self, domain: &Domain, control: &mut ControlGuard<'_>) -> bool {
        let pid = control.pid();
        let now_ns = self.scheduler.now();
        let is_in_credit = domain.ask(pid, now_ns, |root, at_ns| self.arm_rate(root, at_ns));
        if !is_in_credit {
            control.phase = Phase::Waiting;
            control.is_out_of_credit = true;
        }
        is_in_credit
    }

    fn arm_rate(&self, root: Pid, at_ns: u64) -> TimerKey {
        let of = AlarmOf::Rate;
        self.scheduler.arm(at_ns, Alarm { pid: root, of })
    }

    /// The alarm of a domain's rate has gone off.
    pub(super) fn fire_rate(&self, root: Pid) {
        if let Some(domain) = self.domain.of_root(root) {
            domain.alarm(
                self.config.schedulers,
                self.scheduler.now(),
                |process| self.let_go_on(process),
                |root, at_ns| self.arm_rate(root, at_ns),
            );
        }
    }

    /// Schedules a process that has waited for its domain's credit. Returns false if it does not wait any more.
    fn let_go_on(&self, process: Pid) -> bool {
        let Some((index, _, mut control)) = self.table.find(process) else {
            return false;
        };
        let Some(wake_action) = control.go_on() else {
            return false;
        };
        drop(control);
        self.carry_out(index, wake_action);
        true
    }

    /// Kills every process of a tree, also if its root has ended already. Returns false if there is no such tree.
    pub(crate) fn kill_tree(&self, root: Pid) -> bool {
        let Some(domain) = self.domain.of_root(root) else {
            return false;
        };
        self.end_tree(&domain);
        true
    }

    fn end_tree(&self, domain: &Domain) {
        domain.end();
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.kill_members(domain, from);
        }
    }

    /// Kills the tree's processes among the next entries of the table. Returns where to go on.
    fn kill_members(&self, domain: &Domain, from: u32) -> Option<u32> {
        let until = from.saturating_add(LOOKS_AT_ONCE);
        let used = self.table.used();
        for index in from..until.min(used) {
            let entry = self.table.entry(index);
            let mut control = entry.control();
            let member = control.domain.as_ref();
            if member.is_some_and(|member| member.domain().is_within(domain)) {
                let wake_action = control.end_with(entry, ExitReason::Killed, false);
                drop(control);
                self.carry_out(index, wake_action);
            }
        }
        (until < used).then_some(until)
    }

    /// The budgets of all trees, in no particular order.
    pub(crate) fn trees(&self) -> Vec<TreeInfo> {
        let domains = self.domain.all();
        domains.iter().filter_map(|domain| domain.info()).collect()
    }
}

/// A tree of processes, as the host holds it. It tells what the tree has used also when all its processes have ended.
pub struct Tree {
    shared: Arc<Shared>,
    domain: Arc<Domain>,
}

impl Tree {
    pub(crate) fn new(shared: Arc<Shared>, domain: Arc<Domain>) -> Tree {
        Tree { shared, domain }
    }

    /// The tree's budget, and what it has used of it.
    pub fn info(&self) -> TreeInfo {
        let info = self.domain.info();
        info.expect("the system's own domain is no tree")
    }

    /// Kills every process of the tree. None is spawned in it any more.
    pub fn kill(&self) {
        self.shared.end_tree(&self.domain);
    }
}

impl Current {
    /// Has it power over the processes of this domain?
    fn rules(&self, domain: &Domain) -> bool {
        let own = self.domain();
        own.capabilities.rights.contains(Rights::STRANGERS) || domain.is_within(own)
    }

    /// Has it power over this process? If it has the right `strangers`, it is not asked whether the process lives.
    pub(super) fn has_power_over(&self, process: Pid) -> bool {
        let own = self.domain();
        if own.capabilities.rights.contains(Rights::STRANGERS) || process == self.pid {
            return true;
        }
        let found = self.shared.table.find(process);
        found.is_some_and(|(_, _, control)| control.domain_or(&self.shared.domain).is_within(own))
    }

    /// Kills a process that began a tree, and all others of the tree. Pending as long as there are more to look at: ask
    /// again. False if there is no such tree, or if it is not for this process to end.
    pub(crate) fn kill_tree(&mut self, root: Pid) -> Poll<bool> {
        let end = match self.tree_end.take() {
            Some(end) => end,
            None => {
                self.charge_tie();
                let domain = self.shared.domain.of_root(root);
                let Some(domain) = domain.filter(|domain| self.rules(domain)) else {
                    return Poll::Ready(false);
                };
                domain.end();
                TreeEnd { domain, from: 0 }
            }
        };
        self.charge(LOOKS_REDUCTIONS);
        match self.shared.kill_members(&end.domain, end.from) {
            None => Poll::Ready(true),
            Some(from) => {
                self.tree_end = Some(TreeEnd { from, ..end });
                Poll::Pending
            }
        }
    }
}

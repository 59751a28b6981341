//! Domains: trees of processes with a budget and rights of their own.
//!
//! A spawn with limits makes a domain, and its process is the domain's root. Every process that the root spawns, and
//! every one that those spawn, belongs to the domain, or to one within it. Some limits hold for each process of the
//! domain (its memory, its mailbox), others for all of them together (their reductions, their number). A domain
//! can't use more than the domains around it have left, because what it uses is counted in all of them.
//!
//! A process without a domain of its own belongs to its parent's; processes that the host spawns without limits belong
//! to the system's, which has no root. Most systems have no other, so membership in it takes no reference count.

use super::Shared;
use super::limits::Each;
use super::locks::lock;
use super::namespace::{Groups, Names};
use super::rate::{Pace, Rate, Turn};
use super::rights::{Capabilities, TreeOptions};
use crate::broken::{Rule, breaks};
use crate::process::Pid;
use crate::scheduler::{Scheduler, TimerKey};
use crate::wasi::HostBudget;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Domains that may lie within one another. What a process uses is counted in each of them.
const DEPTH_MAX: u32 = 16;

/// A process may hold so many bytes of memory without their being counted in the system's sum.
const SMALL_BYTES: u64 = 1 << 20;

/// See the top of the file.
pub(crate) struct Domain {
    /// None for the system's own domain.
    parent: Option<Arc<Domain>>,
    /// [`Pid::NOBODY`] for the system's own domain.
    root: Pid,
    depth: u32,
    /// The limits of each process.
    pub(crate) each: Each,
    /// The rights of its processes.
    pub(crate) capabilities: Capabilities,
    /// The names and groups that its processes see.
    pub(super) names: Arc<Names>,
    pub(super) groups: Arc<Groups>,
    memory: Gauge,
    processes: Gauge,
    reductions: Gauge,
    output: Gauge,
    rate: Option<Mutex<Rate>>,
    output_rate: Option<Mutex<Pace>>,
    /// Permits for operations of WASI that wait for the host.
    blocking: Option<Arc<Semaphore>>,
    /// It or a domain around it has a rate.
    is_rated: bool,
    has_ended: AtomicBool,
    registry: Arc<Registry>,
}

/// The amount of something that is used, and the most that may be.
struct Gauge {
    used: AtomicU64,
    max: u64,
}

impl Gauge {
    fn new(max: Option<u64>) -> Gauge {
        Gauge {
            used: AtomicU64::new(0),
            max: max.unwrap_or(u64::MAX),
        }
    }

    /// Takes so much. Returns false and takes nothing if there is less left.
    fn take(&self, amount: u64) -> bool {
        let more = |used: u64| {
            let sum = used.checked_add(amount)?;
            (sum <= self.max || breaks(Rule::TreeUnbounded)).then_some(sum)
        };
        let used = &self.used;
        used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    /// Takes so much even if there is less left.
    fn spend(&self, amount: u64) {
        self.used.fetch_add(amount, Ordering::AcqRel);
    }

    fn give_back(&self, amount: u64) {
        self.used.fetch_sub(amount, Ordering::AcqRel);
    }

    fn spent(&self) -> Spent {
        Spent {
            used: self.used.load(Ordering::Acquire),
            limit: (self.max != u64::MAX).then_some(self.max),
        }
    }

    fn is_full(&self) -> bool {
        self.used.load(Ordering::Acquire) >= self.max
    }
}

/// The part of a budget that a tree of processes has used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Spent {
    /// The amount used so far, or held now.
    pub used: u64,
    /// The most that may be. None if only the trees around it, or the system, set a limit.
    pub limit: Option<u64>,
}

/// The budget of a tree of processes, and what the tree has used of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TreeInfo {
    /// The process that the tree began with. It may have ended.
    pub root: Pid,
    /// Bytes of memory and of long mailboxes that all processes hold together.
    pub memory: Spent,
    /// Processes alive.
    pub processes: Spent,
    /// Reductions so far, those of ended processes included.
    pub reductions: Spent,
    /// Bytes written to the standard streams.
    pub output: Spent,
    /// The rate, in thousandths of a core.
    pub rate: Option<u32>,
    /// Processes that wait because the tree has used more than its rate.
    pub waiting: u64,
}

impl Domain {
    /// The system's own domain.
    pub(super) fn system(
        each: Each,
        capabilities: Capabilities,
        memory_bytes_max: u64,
        scheduler: Weak<Scheduler<Shared>>,
    ) -> Arc<Domain> {
        Arc::new(Domain {
            parent: None,
            root: Pid::NOBODY,
            depth: 0,
            each,
            capabilities,
            names: Arc::default(),
            groups: Arc::default(),
            memory: Gauge::new(Some(memory_bytes_max)),
            processes: Gauge::new(None),
            reductions: Gauge::new(None),
            output: Gauge::new(None),
            rate: None,
            output_rate: None,
            blocking: None,
            is_rated: false,
            has_ended: AtomicBool::new(false),
            registry: Arc::new(Registry {
                domains: Mutex::default(),
                scheduler,
            }),
        })
    }

    /// A domain within this one, for a process that is about to be made. None if too many lie within one another.
    pub(super) fn within(
        self: &Arc<Domain>,
        root: Pid,
        options: &TreeOptions,
        now_ns: u64,
    ) -> Option<Arc<Domain>> {
        if self.depth >= DEPTH_MAX {
            return None;
        }
        let limits = &options.limits;
        let (names, groups) = match options.own_names {
            true => (Arc::default(), Arc::default()),
            false => (self.names.clone(), self.groups.clone()),
        };
        let rate = limits.rate.map(|rate| Mutex::new(Rate::new(rate, now_ns)));
        let output_rate = limits.output_rate.map(|rate| Mutex::new(Pace::new(rate)));
        let domain = Arc::new(Domain {
            each: self.each.within(limits),
            capabilities: self.capabilities.within(options),
            names,
            groups,
            memory: Gauge::new(limits.tree_memory),
            processes: Gauge::new(limits.processes.map(u64::from)),
            reductions: Gauge::new(limits.reductions),
            output: Gauge::new(limits.output),
            is_rated: self.is_rated || rate.is_some(),
            rate,
            output_rate,
            blocking: limits
                .blocking
                .map(|permits| Arc::new(Semaphore::new(permits.max(1) as usize))),
            depth: self.depth + 1,
            root,
            has_ended: AtomicBool::new(false),
            registry: self.registry.clone(),
            parent: Some(self.clone()),
        });
        let weak = Arc::downgrade(&domain);
        lock(&self.registry.domains).insert(root, weak);
        Some(domain)
    }

    /// This domain and all around it.
    fn outwards(&self) -> impl Iterator<Item = &Domain> {
        std::iter::successors(Some(self), |domain| domain.parent.as_deref())
    }

    /// This domain and those around it, without the system's own.
    fn chain(&self) -> impl Iterator<Item = &Domain> {
        self.outwards().filter(|domain| !domain.is_system())
    }

    fn is_system(&self) -> bool {
        self.parent.is_none()
    }

    /// The system's own domain.
    fn outermost(&self) -> &Domain {
        self.outwards().last().unwrap_or(self)
    }

    /// Is this domain the other one, or does it lie within it?
    pub(super) fn is_within(&self, other: &Domain) -> bool {
        self.outwards().any(|domain| std::ptr::eq(domain, other))
    }

    /// Takes so much of one gauge in this domain and in all around it, or nothing at all.
    fn take(&self, gauge: impl Fn(&Domain) -> &Gauge, amount: u64) -> bool {
        let refused = self.chain().position(|domain| !gauge(domain).take(amount));
        if let Some(count) = refused {
            self.chain()
                .take(count)
                .for_each(|domain| gauge(domain).give_back(amount));
        }
        refused.is_none()
    }

    fn give_back(&self, gauge: impl Fn(&Domain) -> &Gauge, amount: u64) {
        self.chain()
            .for_each(|domain| gauge(domain).give_back(amount));
    }

    /// Takes memory out of this domain's budget and of those around it. Of the system's sum it takes only so much.
    fn take_memory(&self, bytes: u64, bytes_of_system: u64) -> bool {
        if !self.take(|domain| &domain.memory, bytes) {
            return false;
        }
        let is_there = bytes_of_system == 0 || self.outermost().memory.take(bytes_of_system);
        if !is_there {
            self.give_back(|domain| &domain.memory, bytes);
        }
        is_there
    }

    fn give_back_memory(&self, bytes: u64, bytes_of_system: u64) {
        self.give_back(|domain| &domain.memory, bytes);
        if bytes_of_system > 0 {
            self.outermost().memory.give_back(bytes_of_system);
        }
    }

    /// Changes how many bytes a mailbox holds beyond those that are free. Returns false and changes nothing if there is
    /// less left.
    pub(super) fn hold_mailbox(&self, before: u64, after: u64) -> bool {
        match after.checked_sub(before) {
            Some(more) => self.take_memory(more, more),
            None => {
                self.give_back_memory(before - after, before - after);
                true
            }
        }
    }

    /// Counts reductions that a process has used.
    pub(super) fn spend_reductions(&self, count: u64) {
        for domain in self.chain() {
            domain.reductions.spend(count);
        }
    }

    /// Are the reductions of this domain or of one around it used up?
    pub(super) fn has_no_reductions(&self) -> bool {
        self.chain().any(|domain| domain.reductions.is_full())
    }

    /// Has the tree been ended, or one around it?
    pub(super) fn has_ended(&self) -> bool {
        let ended = |domain: &Domain| domain.has_ended.load(Ordering::Acquire);
        self.chain().any(ended)
    }

    /// From now on no process of the tree gets a turn, and none is spawned.
    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    /// Does its processes' time have to be measured?
    pub(super) fn is_rated(&self) -> bool {
        self.is_rated
    }

    /// Grants a process its turn, or puts it into the queue of the first domain that has used more than its rate.
    /// `arm` arms the alarm of a domain.
    pub(super) fn ask(
        &self,
        process: Pid,
        now_ns: u64,
        arm: impl Fn(Pid, u64) -> TimerKey,
    ) -> bool {
        for domain in self.chain() {
            let Some(rate) = &domain.rate else { continue };
            let mut rate = lock(rate);
            if let Turn::Queued(at_ns) = rate.ask(process, now_ns) {
                if let Some(at_ns) = at_ns {
                    rate.has_armed(arm(domain.root, at_ns));
                }
                return false;
            }
        }
        true
    }

    /// Pays for a turn. Hands each process that can go on now to `go_on`.
    pub(super) fn pay(&self, used_ns: u64, now_ns: u64, mut go_on: impl FnMut(Pid)) {
        for domain in self.chain() {
            let next = domain
                .rate
                .as_ref()
                .and_then(|rate| lock(rate).pay(used_ns, now_ns));
            if let Some(next) = next {
                go_on(next);
            }
        }
    }

    /// The alarm of this domain's rate has gone off. Hands so many processes that can go on to `go_on`: each that has
    /// had its turn lets the next one go on.
    pub(super) fn alarm(
        &self,
        at_once: usize,
        now_ns: u64,
        mut go_on: impl FnMut(Pid) -> bool,
        arm: impl Fn(Pid, u64) -> TimerKey,
    ) {
        let Some(rate) = &self.rate else { return };
        let mut left = match lock(rate).alarm(now_ns) {
            true => at_once,
            false => 0,
        };
        while left > 0 {
            let next = lock(rate).next();
            match next {
                // A process that has been killed meanwhile does not count.
                Some(process) => left -= usize::from(go_on(process)),
                None => break,
            }
        }
        let mut rate = lock(rate);
        if let Some(again_at_ns) = rate.arm() {
            rate.has_armed(arm(self.root, again_at_ns));
        }
    }

    /// The budget and its use. None for the system's own domain.
    pub(super) fn info(&self) -> Option<TreeInfo> {
        if self.is_system() {
            return None;
        }
        let rate = self.rate.as_ref().map(lock);
        Some(TreeInfo {
            root: self.root,
            memory: self.memory.spent(),
            processes: self.processes.spent(),
            reductions: self.reductions.spent(),
            output: self.output.spent(),
            waiting: rate.as_ref().map_or(0, |rate| rate.waiting() as u64),
            rate: rate.map(|rate| rate.thousandths()),
        })
    }
}

impl HostBudget for Domain {
    fn take_output(&self, bytes: u64) -> bool {
        self.take(|domain| &domain.output, bytes)
    }

    fn output_delay(&self, bytes: u64, now_ns: u64) -> Duration {
        let delays = self.chain().filter_map(|domain| {
            let pace = domain.output_rate.as_ref()?;
            Some(lock(pace).delay_ns(bytes, now_ns))
        });
        Duration::from_nanos(delays.max().unwrap_or(0))
    }

    fn blocking(&self) -> Vec<Arc<Semaphore>> {
        let permits = self.chain().filter_map(|domain| domain.blocking.clone());
        permits.collect()
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        if self.is_system() {
            return;
        }
        lock(&self.registry.domains).remove(&self.root);
        let alarm = self.rate.as_ref().and_then(|rate| lock(rate).take_alarm());
        if let Some(alarm) = alarm
            && let Some(scheduler) = self.registry.scheduler.upgrade()
        {
            scheduler.cancel(alarm);
        }
    }
}

/// The facts that the domains of a system share.
pub(super) struct Registry {
    /// All but the system's own, by their roots.
    domains: Mutex<HashMap<Pid, Weak<Domain>>>,
    /// Cancels the alarms of domains that are gone.
    scheduler: Weak<Scheduler<Shared>>,
}

impl Domain {
    /// The domain that began with this process, if there is a process in it or in one within it.
    pub(super) fn of_root(&self, root: Pid) -> Option<Arc<Domain>> {
        lock(&self.registry.domains).get(&root)?.upgrade()
    }

    /// All domains of the system but its own, in no particular order.
    pub(super) fn all(&self) -> Vec<Arc<Domain>> {
        let domains = lock(&self.registry.domains);
        domains.values().filter_map(Weak::upgrade).collect()
    }

    /// Has it names and groups of its own?
    pub(super) fn has_own_names(&self) -> bool {
        let parent = self.parent.as_ref();
        parent.is_none_or(|parent| !Arc::ptr_eq(&parent.names, &self.names))
    }
}

/// The end of a tree that takes several steps: the next entry of the process table to look at.
pub(super) struct TreeEnd {
    pub(super) domain: Arc<Domain>,
    pub(super) from: u32,
}

/// A process's place in its domain. Dropping it gives the place back.
pub(crate) struct Membership(Arc<Domain>);

impl Membership {
    /// Takes a place in the domain. None if it is full.
    pub(super) fn of(domain: Arc<Domain>) -> Option<Membership> {
        // Not `then_some`: a place that was not taken must not be given back.
        match domain.take(|domain| &domain.processes, 1) {
            true => Some(Membership(domain)),
            false => None,
        }
    }

    pub(crate) fn domain(&self) -> &Arc<Domain> {
        &self.0
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.0.give_back(|domain| &domain.processes, 1);
    }
}

/// The memory that one process holds, as it is counted in its domain. Dropping the share gives it back.
pub(crate) struct Share {
    domain: Arc<Domain>,
    /// Bytes that the process holds beside its memories, for as long as it lives.
    beside: u64,
    bytes: u64,
}

impl Share {
    /// The share of a process that holds so many bytes beside its memories. Nothing is counted yet.
    pub(crate) fn of(domain: &Arc<Domain>, beside: u64) -> Share {
        Share {
            domain: domain.clone(),
            beside,
            bytes: 0,
        }
    }

    /// From now on it is that of another process.
    pub(crate) fn move_to(&mut self, domain: &Arc<Domain>, beside: u64) {
        self.release();
        self.beside = beside;
        if !Arc::ptr_eq(&self.domain, domain) {
            self.domain = domain.clone();
        }
    }

    /// Sets how many bytes the process's memories hold in all. Returns false and changes nothing if there is less left.
    pub(crate) fn hold(&mut self, bytes: u64) -> bool {
        self.set(bytes.saturating_add(self.beside))
    }

    /// Gives everything back.
    pub(crate) fn release(&mut self) {
        self.set(0);
    }

    fn set(&mut self, bytes: u64) -> bool {
        let of_system = |bytes: u64| bytes.saturating_sub(SMALL_BYTES);
        let (before, of_system_before) = (self.bytes, of_system(self.bytes));
        if bytes >= before {
            let more = of_system(bytes) - of_system_before;
            if !self.domain.take_memory(bytes - before, more) {
                return false;
            }
        } else {
            let less = of_system_before - of_system(bytes);
            self.domain.give_back_memory(before - bytes, less);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::{Config, Limits};

    fn system(memory_bytes_max: u64) -> Arc<Domain> {
        let config = Config::default();
        let (each, capabilities) = (config.each(), config.capabilities());
        Domain::system(each, capabilities, memory_bytes_max, Weak::new())
    }

    fn within(domain: &Arc<Domain>, root: u64, limits: Limits) -> Arc<Domain> {
        let root = Pid { node: 1, id: root };
        let options = TreeOptions {
            limits,
            ..TreeOptions::default()
        };
        let within = domain.within(root, &options, 0);
        within.unwrap_or_else(|| panic!("it is not too deep"))
    }

    #[test]
    fn memory_beyond_a_small_process_is_counted_and_given_back() {
        let system = system(10 << 20);
        let (mut one, mut two) = (Share::of(&system, 0), Share::of(&system, 0));
        assert!(one.hold(SMALL_BYTES) && two.hold(SMALL_BYTES));
        assert_eq!(system.memory.spent().used, 0);
        assert!(one.hold(SMALL_BYTES + (8 << 20)));
        assert!(!two.hold(SMALL_BYTES + (3 << 20)));
        assert!(two.hold(SMALL_BYTES + (2 << 20)));
        assert!(!one.hold(u64::MAX));
        drop(one);
        assert!(two.hold(SMALL_BYTES + (10 << 20)) && two.hold(0));
        drop(two);
        assert_eq!(system.memory.spent().used, 0);
    }

    #[test]
    fn a_tree_gets_no_more_than_the_trees_around_it_have_left() {
        let system = system(1 << 30);
        let outer = within(
            &system,
            1,
            Limits {
                tree_memory: Some(1000),
                processes: Some(3),
                ..Limits::new()
            },
        );
        let inner = within(
            &outer,
            2,
            Limits {
                tree_memory: Some(5000),
                processes: Some(9),
                ..Limits::new()
            },
        );
        let (mut one, mut two) = (Share::of(&outer, 100), Share::of(&inner, 0));
        assert!(one.hold(300) && two.hold(600));
        assert!(!two.hold(601) && !one.hold(301));
        one.release();
        assert!(two.hold(1000));
        drop((one, two));
        assert_eq!(
            (outer.memory.spent().used, inner.memory.spent().used),
            (0, 0)
        );
        let members: Vec<_> = (0..9)
            .map_while(|_| Membership::of(inner.clone()))
            .collect();
        assert_eq!(members.len(), 3);
        assert!(Membership::of(outer.clone()).is_none());
        drop(members);
        assert_eq!(
            (outer.processes.spent().used, inner.processes.spent().used),
            (0, 0)
        );
    }

    #[test]
    fn the_limits_of_each_process_only_get_smaller() {
        let system = system(1 << 30);
        let outer = within(
            &system,
            1,
            Limits {
                memory: Some(100),
                ties: Some(7),
                ..Limits::new()
            },
        );
        let inner = within(
            &outer,
            2,
            Limits {
                memory: Some(200),
                ties: Some(3),
                ..Limits::new()
            },
        );
        assert_eq!((inner.each.memory_bytes_max, inner.each.ties_max), (100, 3));
        assert_eq!(inner.each.mailbox_bytes_max, system.each.mailbox_bytes_max);
    }

    #[test]
    fn what_a_tree_does_is_counted_in_all_trees_around_it() {
        let system = system(1 << 30);
        let outer = within(
            &system,
            1,
            Limits {
                reductions: Some(100),
                ..Limits::new()
            },
        );
        let inner = within(&outer, 2, Limits::new());
        let beside = within(&system, 3, Limits::new());
        inner.spend_reductions(99);
        assert!(!inner.has_no_reductions());
        inner.spend_reductions(1);
        assert!(inner.has_no_reductions() && outer.has_no_reductions());
        assert!(!beside.has_no_reductions());
        outer.end();
        assert!(inner.has_ended() && outer.has_ended() && !beside.has_ended());
    }

    #[test]
    fn trees_within_one_another_are_bounded_and_forgotten() {
        let system = system(1 << 30);
        let mut deepest = system.clone();
        for root in 1..=u64::from(DEPTH_MAX) {
            deepest = within(&deepest, root, Limits::new());
        }
        let root = Pid { node: 1, id: 99 };
        assert!(deepest.within(root, &TreeOptions::default(), 0).is_none());
        assert_eq!(system.all().len(), DEPTH_MAX as usize);
        drop(deepest);
        assert_eq!(system.all().len(), 0);
    }
}

//! Spawning members: how each waits, its ties to this process and to others, and the strikes planned for it.

use std::error::Error;

use atoll_guest::{
    Pid, Priority, Reference, Spawn, demonitor, demonitor_flush, link, make_reference, monitor,
    self_pid, send, unlink, yield_now,
};

use crate::causes::{Cause, Causes, MEANS, Means, SIGNALS, SURE_MEANS, Strike};
use crate::members::{Way, live};
use crate::{Planned, Storm};

/// One member in this many begins a family.
const FAMILIES: usize = 40;
/// Members of a chain.
const CHAIN_MAX: usize = 32;
/// One family in this many is a star.
const STARS: usize = 64;
/// One in this many of all members belongs to a star, so its teardown is long.
const STAR_SHARE: usize = 20;
/// One in this many members is struck again, and one in this many of those once more.
const OVERLAPS: usize = 4;
const GROUPS: usize = 64;
const WATCHED_MAX: usize = 4;

/// Members that are linked to each other: when one ends, all do.
pub struct Family {
    number: usize,
    /// Are all linked to the first one, or each to the one before it?
    is_star: bool,
    /// The member that the next one links itself to.
    relative: Option<Pid>,
    /// How many members are still to come.
    left: usize,
}

/// How a member is tied to the process that gets its signals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tie {
    /// Tied by options of its spawn.
    Options,
    /// The same, with two monitors.
    OptionsTwice,
    /// Tied by two links, which count as one, and two monitors, which count as two.
    After,
    /// The same, while the member is struck.
    Raced,
    /// Tied by options, and untied but for one monitor while it is struck.
    Undone,
}

/// The ties, each as often as it occurs here.
const TIES: [Tie; 16] = [
    Tie::Options,
    Tie::Options,
    Tie::Options,
    Tie::Options,
    Tie::Options,
    Tie::Options,
    Tie::Options,
    Tie::OptionsTwice,
    Tie::OptionsTwice,
    Tie::After,
    Tie::After,
    Tie::After,
    Tie::After,
    Tie::After,
    Tie::Raced,
    Tie::Undone,
];

impl Tie {
    /// Adds the tie's options to those of a spawn, and returns their monitors as well.
    fn add_to(self, mut options: Spawn) -> (Spawn, [Option<Reference>; 2]) {
        let mut monitors = [None; 2];
        let count = match self {
            Tie::Options | Tie::Undone => 1,
            Tie::OptionsTwice => 2,
            Tie::After | Tie::Raced => 0,
        };
        for monitor in &mut monitors[..count] {
            options = options.monitor(*monitor.insert(make_reference()));
        }
        if count > 0 {
            options = options.link();
        }
        (options, monitors)
    }
}

/// A member that has been spawned.
struct Member {
    account: usize,
    pid: Pid,
    way: Way,
    /// The name that its spawn gave it.
    name: Option<String>,
    in_family: bool,
    /// May other processes have ended it before it was tied?
    raced: bool,
}

/// The causes for which a member may end without a strike.
fn causes_alone(way: &Way, relative: Option<Pid>) -> Causes {
    let mut alone = Causes::default();
    if let Way::Call(_) = way {
        alone.insert(Cause::Deserted);
    }
    if relative.is_some() {
        alone.insert(Cause::Noproc);
    }
    alone
}

impl Storm {
    /// Spawns a member and plans its end.
    pub fn spawn_member(&mut self) -> Result<(), Box<dyn Error>> {
        self.open_family();
        let family = self.family.as_ref().map(|family| family.number);
        let relative = self.family.as_ref().and_then(|family| family.relative);
        let way = self.choose_way(family.is_some());
        let tie = self.choose_tie(family.is_some());

        let mut options = Spawn::new().priority(self.choose_priority(&way));
        let name = match way {
            Way::Name(None) => Some(self.next_name()),
            _ => None,
        };
        if let Some(name) = &name {
            options = options.name(name);
        }
        let (options, monitors) = tie.add_to(options);
        let pid = options.function(live, (relative, way.clone()))?;

        let raced = self.is_raced(tie, &way, family.is_some());
        let account = self.ledger.open(pid, way.name(), family, raced);
        for monitor in monitors.into_iter().flatten() {
            self.ledger.expect_down(account, monitor, None);
        }
        self.ledger.may_end(account, causes_alone(&way, relative));

        let member = Member {
            account,
            pid,
            way,
            name,
            in_family: family.is_some(),
            raced,
        };
        self.tie_by(tie, &member);
        // One plan is enough for a family: that of the first member.
        let is_sure = matches!(tie, Tie::Raced | Tie::Undone) || relative.is_some();
        self.plan(&member, is_sure);
        self.join_family(pid);
        self.members.push(pid);
        Ok(())
    }

    fn choose_tie(&mut self, in_family: bool) -> Tie {
        match self.random.pick(&TIES) {
            // The strike would end the family before all members are there.
            Tie::Raced | Tie::Undone if self.waits_for_all && in_family => Tie::After,
            tie => tie,
        }
    }

    /// May other processes end a member before it is tied?
    fn is_raced(&self, tie: Tie, way: &Way, in_family: bool) -> bool {
        let ends_early =
            in_family || matches!(way, Way::Call(server) if Some(*server) != self.ignorer);
        match tie {
            Tie::Options | Tie::OptionsTwice => false,
            Tie::After | Tie::Undone => ends_early,
            Tie::Raced => true,
        }
    }

    /// Completes a member's tie after the spawn.
    fn tie_by(&mut self, tie: Tie, member: &Member) {
        match tie {
            Tie::Options | Tie::OptionsTwice => self.ledger.expect_exits(member.account, 1, 0),
            Tie::After => self.tie(member),
            Tie::Raced => {
                self.strike_now(member);
                self.tie(member);
            }
            Tie::Undone => {
                let second = monitor(member.pid);
                self.strike_now(member);
                self.untie(member, second);
            }
        }
    }

    /// Links and monitors a member, twice.
    fn tie(&mut self, member: &Member) {
        for _ in 0..2 {
            link(member.pid);
            self.dawdle();
        }
        // A second exit can only be that of the second link, if that link was made too late.
        let spare = u8::from(member.raced);
        self.ledger.expect_exits(member.account, 1, spare);
        let first = monitor(member.pid);
        self.ledger.expect_down(member.account, first, None);
        self.dawdle();
        let second = match &member.name {
            Some(name) => monitor(name.as_str()),
            None => monitor(member.pid),
        };
        self.ledger
            .expect_down(member.account, second, member.name.clone());
    }

    /// Removes the link and the second monitor of a member that may end meanwhile.
    fn untie(&mut self, member: &Member, second: Reference) {
        self.dawdle();
        unlink(member.pid);
        // The signal may have come before.
        self.ledger.expect_exits(member.account, 0, 1);
        self.dawdle();
        if self.random.once_in(2) {
            demonitor_flush(second);
        } else if !demonitor(second) {
            self.ledger.expect_down(member.account, second, None);
        }
    }

    /// Lets other processes run first, now and then.
    fn dawdle(&mut self) {
        if self.random.once_in(4) {
            yield_now();
        }
    }

    /// Has a member struck at once.
    fn strike_now(&mut self, member: &Member) {
        let means = self.random.pick(SIGNALS);
        if let Some(cause) = member.way.end_by(means) {
            self.ledger.may_end(member.account, Causes::of(cause));
        }
        let place = self.random.below(self.strikers.len());
        let strike = Strike {
            pid: member.pid,
            means,
        };
        send(self.strikers[place].pid, &[strike][..]);
        self.dawdle();
    }

    /// Plans strikes on a member. One strike is sure to end the member, unless the member is sure to end anyhow. Sometimes
    /// there are others.
    fn plan(&mut self, member: &Member, is_sure: bool) {
        let mut needs_sure = !is_sure;
        while needs_sure || self.random.once_in(OVERLAPS) {
            let means = match (needs_sure, member.way.listens()) {
                (true, true) => self.random.pick(SURE_MEANS),
                (true, false) => self.random.pick(SIGNALS),
                (false, _) => self.random.pick(&MEANS),
            };
            // A member that ends for this cause ends no linked process.
            if member.in_family && matches!(means, Means::Ask(Cause::Normal)) {
                continue;
            }
            needs_sure = false;
            self.planned.push(Planned {
                account: member.account,
                strike: Strike {
                    pid: member.pid,
                    means,
                },
                end: member.way.end_by(means),
            });
        }
    }

    /// Begins a family, now and then.
    fn open_family(&mut self) {
        if self.family.is_some() || !self.random.once_in(FAMILIES) {
            return;
        }
        let is_star = self.random.once_in(STARS);
        let size = match is_star {
            true => self.size / STAR_SHARE,
            false => self.random.below(CHAIN_MAX),
        };
        self.family = Some(Family {
            number: self.ledger.open_family(),
            is_star,
            relative: None,
            left: size.max(2),
        });
    }

    /// Adds a member to the current family, if there is one.
    fn join_family(&mut self, pid: Pid) {
        if let Some(family) = &mut self.family {
            if !family.is_star || family.relative.is_none() {
                family.relative = Some(pid);
            }
            family.left -= 1;
            if family.left == 0 {
                self.family = None;
            }
        }
    }

    fn choose_way(&mut self, in_family: bool) -> Way {
        match self.random.below(18) {
            0..2 => Way::Timeout,
            2 => Way::Busy,
            3..5 => Way::Call(self.choose_server()),
            // Members that trap exits do not end with a linked process either.
            5..7 if !in_family => Way::Trap,
            7..9 => Way::Timers(self_pid()),
            9 => Way::Name(None),
            10 => Way::Name(Some(self.next_name())),
            11..13 => Way::Groups(self.random.below(GROUPS), self.random.once_in(8)),
            13..15 if !self.members.is_empty() => {
                let count = 1 + self.random.below(WATCHED_MAX);
                let watched = (0..count).map(|_| self.random.pick(&self.members));
                Way::Watch(watched.collect())
            }
            _ => Way::Receive,
        }
    }

    /// The process that a member calls: one that does not answer, or another member.
    fn choose_server(&mut self) -> Pid {
        match self.ignorer {
            Some(ignorer) if self.members.is_empty() || self.random.once_in(2) => ignorer,
            _ => self.random.pick(&self.members),
        }
    }

    fn choose_priority(&mut self, way: &Way) -> Priority {
        match self.random.below(16) {
            0 => Priority::Low,
            // A computing process would leave the others little time.
            1 if !matches!(way, Way::Busy) => Priority::High,
            _ => Priority::Normal,
        }
    }

    /// A free name. Every round uses the same names.
    fn next_name(&self) -> String {
        format!("storm {}", self.members.len())
    }
}

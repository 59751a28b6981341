//! The signals that one process still has to get, and whether it gets those.

use std::collections::HashMap;

use atoll_guest::{
    Destination, DownSignal, Event, ExitReason, ExitSignal, Pid, Reference, inspect,
};

use crate::causes::{Cause, Causes};

/// How many missing signals a report names.
const NAMED_MAX: usize = 5;

/// The accounts of all processes of a round.
#[derive(Default)]
pub struct Ledger {
    accounts: Vec<Account>,
    by_pid: HashMap<Pid, usize>,
    monitors: HashMap<Reference, Monitor>,
    /// The causes for which the members of each family may end, since they are linked to each other.
    families: Vec<Causes>,
    /// Signals that are due.
    due: usize,
    /// Exit signals that have arrived.
    pub exits: usize,
    /// Down-signals that have arrived.
    pub downs: usize,
}

/// The knowledge about one process.
pub struct Account {
    /// Its pid.
    pub pid: Pid,
    /// Its description, for reports.
    pub kind: &'static str,
    /// The family that it belongs to.
    pub family: Option<usize>,
    /// Was it tied when it might have ended already? Then `noproc` is a possible reason.
    pub raced: bool,
    /// The causes for which it may end.
    causes: Causes,
    /// Exit signals that have to come.
    exits_due: u8,
    /// Exit signals that may have come instead of a due one, or in addition.
    exits_spare: u8,
    /// Has an exit signal told of its end? Another one can only be that of a link that was made too late.
    exit_was_told: bool,
    /// The cause of its end.
    ended: Option<Cause>,
}

struct Monitor {
    account: usize,
    /// The name by which the process was found.
    name: Option<String>,
    has_arrived: bool,
}

impl Ledger {
    /// Clears all accounts and keeps their capacity.
    pub fn clear(&mut self) {
        self.accounts.clear();
        self.by_pid.clear();
        self.monitors.clear();
        self.families.clear();
        (self.due, self.exits, self.downs) = (0, 0, 0);
    }

    /// Opens an account, and returns its number.
    pub fn open(
        &mut self,
        pid: Pid,
        kind: &'static str,
        family: Option<usize>,
        raced: bool,
    ) -> usize {
        let account = self.accounts.len();
        self.accounts.push(Account {
            pid,
            kind,
            family,
            raced,
            causes: Causes::default(),
            exits_due: 0,
            exits_spare: 0,
            exit_was_told: false,
            ended: None,
        });
        self.by_pid.insert(pid, account);
        account
    }

    /// A family that has no members yet.
    pub fn open_family(&mut self) -> usize {
        self.families.push(Causes::default());
        self.families.len() - 1
    }

    /// The process may end for these causes from now on, and its family with it.
    pub fn may_end(&mut self, account: usize, causes: Causes) {
        let account = &mut self.accounts[account];
        account.causes = account.causes.and(causes);
        if let Some(family) = account.family {
            let shared = &mut self.families[family];
            *shared = shared.and(causes);
        }
    }

    /// Adds exit signals that must come, and exit signals that may come.
    pub fn expect_exits(&mut self, account: usize, due: u8, spare: u8) {
        let account = &mut self.accounts[account];
        account.exits_due += due;
        account.exits_spare += spare;
        self.due += usize::from(due);
    }

    /// The down signal of this monitor must come.
    pub fn expect_down(&mut self, account: usize, monitor: Reference, name: Option<String>) {
        self.due += 1;
        let monitored = Monitor {
            account,
            name,
            has_arrived: false,
        };
        self.monitors.insert(monitor, monitored);
    }

    /// How many signals are due.
    pub fn due(&self) -> usize {
        self.due
    }

    /// The accounts.
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// Notes an event. The error says what is wrong with it.
    pub fn note(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Exit(signal) => self.note_exit(&signal),
            Event::Down(signal) => self.note_down(&signal),
            event => Err(format!("expected exits and downs, came: {event:?}")),
        }
    }

    fn note_exit(&mut self, signal: &ExitSignal) -> Result<(), String> {
        let came = format!("an exit of {}: {}", signal.sender, signal.reason);
        let number = *self
            .by_pid
            .get(&signal.sender)
            .ok_or_else(|| format!("expected nothing of a stranger, came: {came}"))?;
        self.exits += 1;
        let account = &mut self.accounts[number];
        let is_late = account.raced && signal.reason == ExitReason::Noproc;
        if !is_late && std::mem::replace(&mut account.exit_was_told, true) {
            return Err(format!(
                "expected one exit of {}, came twice: {came}",
                self.describe(number)
            ));
        }
        if account.exits_due > 0 {
            account.exits_due -= 1;
            self.due -= 1;
        } else if account.exits_spare > 0 {
            account.exits_spare -= 1;
        } else {
            return Err(format!(
                "expected no exit more of {}, came: {came}",
                self.describe(number)
            ));
        }
        self.note_cause(number, &signal.reason, &came)
    }

    fn note_down(&mut self, signal: &DownSignal) -> Result<(), String> {
        let came = format!(
            "a down {} of {}: {}",
            signal.monitor, signal.target, signal.reason
        );
        let monitor = self
            .monitors
            .get_mut(&signal.monitor)
            .ok_or_else(|| format!("expected no down of a stranger, came: {came}"))?;
        let number = monitor.account;
        let account = &self.accounts[number];
        if std::mem::replace(&mut monitor.has_arrived, true) {
            return Err(format!("expected this down once, came twice: {came}"));
        }
        let target = match &monitor.name {
            Some(name) => Destination::Name(name.clone()),
            None => Destination::Process(account.pid),
        };
        if signal.target != target {
            return Err(format!("expected a down of {target}, came: {came}"));
        }
        // Linked processes learn of an end first. A monitor of a process that does not exist fires at once.
        let is_late = account.raced && signal.reason == ExitReason::Noproc;
        if account.exits_due > 0 && !is_late {
            return Err(format!(
                "expected the exit of {} before its down, came: {came}",
                self.describe(number)
            ));
        }
        self.downs += 1;
        self.due -= 1;
        self.note_cause(number, &signal.reason, &came)
    }

    fn note_cause(&mut self, number: usize, reason: &ExitReason, came: &str) -> Result<(), String> {
        let account = &mut self.accounts[number];
        let cause = Cause::of(reason);
        if account.raced && cause == Some(Cause::Noproc) {
            return Ok(());
        }
        let possible = match account.family {
            Some(family) => account.causes.and(self.families[family]),
            None => account.causes,
        };
        match (cause, account.ended) {
            (Some(cause), Some(ended)) if cause == ended => Ok(()),
            (Some(cause), None) if possible.contains(cause) => {
                account.ended = Some(cause);
                Ok(())
            }
            (_, None) => Err(format!(
                "expected {} of {}, came: {came}",
                possible,
                self.describe(number)
            )),
            (_, Some(ended)) => Err(format!(
                "expected {} again of {}, came: {came}",
                ended.reason(),
                self.describe(number)
            )),
        }
    }

    /// How many processes have certainly crashed, and how many may have crashed. Of the latter it is not known why they
    /// ended, or which member of a family crashed.
    pub fn crashes(&self) -> (u64, u64) {
        let is_sure =
            |account: &&Account| account.family.is_none() && account.ended == Some(Cause::Trap);
        let is_possible = |account: &&Account| {
            account.causes.contains(Cause::Trap)
                && matches!(account.ended, None | Some(Cause::Trap))
        };
        let count = |is: &dyn Fn(&&Account) -> bool| self.accounts.iter().filter(is).count() as u64;
        (count(&is_sure), count(&is_possible))
    }

    /// Lists the missing signals.
    pub fn missing(&self) -> String {
        let mut texts = Vec::new();
        for (number, account) in self.accounts.iter().enumerate() {
            if account.exits_due > 0 {
                texts.push(format!("the exit of {}", self.describe(number)));
            }
        }
        for (reference, monitor) in &self.monitors {
            if !monitor.has_arrived {
                let process = self.describe(monitor.account);
                texts.push(format!("the down {reference} of {process}"));
            }
        }
        texts.truncate(NAMED_MAX);
        format!(
            "expected {} signals more, came: none. Among them: {}",
            self.due,
            texts.join("; ")
        )
    }

    fn describe(&self, number: usize) -> String {
        let account = &self.accounts[number];
        let status = match inspect::info(account.pid) {
            Some(info) => info.status.to_string(),
            None => "gone".to_owned(),
        };
        let family = account.family.map_or(String::new(), |family| {
            format!(
                ", of family {family}, which may end by {}",
                self.families[family]
            )
        });
        let raced = if account.raced {
            ", tied in a race"
        } else {
            ""
        };
        format!(
            "process {number} {} ({}{family}{raced}, which may end by {}, now: {status})",
            account.pid, account.kind, account.causes
        )
    }
}

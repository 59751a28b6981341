//! storm: kills ten thousand linked and monitored processes at random, again and again, and counts the signals.
//! Arguments: rounds (100), processes (10000), seed (1).
//!
//! It shows that under load every exit and every down arrives exactly once, with a possible reason; that nothing is left of a
//! round; and that no memory grows. Any deviation ends it with an error.
//!
//! ```text
//! main ── spawns, links, monitors ─▶ members ◀── talk with ── talkers        spinners
//!   │  ◀── exits, downs ───────────────┘  ▲                     (only compute)
//!   └── strikes ─▶ strikers ── end ───────┘
//! ```
//!
//! The actions are the same for the same seed. Their timing is not.

mod causes;
mod host;
mod ledger;
mod load;
mod members;
mod random;
mod spawning;

use std::error::Error;
use std::time::Duration;

use atoll_guest::inspect;
use atoll_guest::{
    Pid, Priority, Selector, Spawn, arg_or, kill, make_reference, println, receive_event, send,
    set_priority, trap_exit,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use causes::{Cause, Causes, Strike};
use host::{Memory, check_quiet};
use ledger::Ledger;
use random::Random;
use spawning::Family;

const SPINNERS: [Priority; 4] = [
    Priority::Normal,
    Priority::Low,
    Priority::Normal,
    Priority::Low,
];
const TALKERS: usize = 2;
const STRIKERS: usize = 4;
/// Members that are spawned before the storm handles its events again.
const MEMBERS_AT_ONCE: usize = 64;
/// Strikes that a striker gets at once.
const STRIKES_AT_ONCE: usize = 16;
/// An event that has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(60);

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: usize = arg_or(0, 100)?;
    let size: usize = arg_or(1, 10_000)?;
    let seed: u64 = arg_or(2, 1)?;

    // Trap exits before any process is linked. With a high priority, the members do not delay this process.
    trap_exit(true);
    set_priority(Priority::High);
    let mut storm = Storm::new(size, seed);
    let mut memory = Memory::default();
    for round in 1..=rounds {
        let most = storm
            .round()
            .map_err(|error| format!("round {round} of {rounds}, seed {seed}: {error}"))?;
        let resident = memory.sample()?;
        if round % rounds.div_ceil(10) == 0 {
            println!(
                "round {round}: {size} members, {most} processes at once; {} exits, {} downs; {} MiB resident",
                storm.ledger.exits,
                storm.ledger.downs,
                resident >> 20
            );
        }
    }
    println!("storm: {rounds} rounds of {size}: every exit and every down arrived once");
    println!("storm: {}", memory.compare()?);
    Ok(())
}

/// The state of the process that gets all signals.
struct Storm {
    size: usize,
    random: Random,
    ledger: Ledger,
    /// Do strikes wait until all members are there? They do in every other round.
    waits_for_all: bool,
    /// The members of this round, in the order of their spawns.
    members: Vec<Pid>,
    /// The family that new members join, if it still grows.
    family: Option<Family>,
    /// The members that are to be struck and have not been.
    planned: Vec<Planned>,
    strikers: Vec<Striker>,
    talkers: Vec<Pid>,
    /// A process that does not answer.
    ignorer: Option<Pid>,
}

/// A strike: its target, and its possible results.
struct Planned {
    account: usize,
    strike: Strike,
    end: Option<Cause>,
}

/// A process that ends others, and the strikes that it has not got yet.
struct Striker {
    pid: Pid,
    batch: Vec<Strike>,
}

impl Storm {
    fn new(size: usize, seed: u64) -> Self {
        Self {
            size,
            random: Random::new(seed),
            ledger: Ledger::default(),
            waits_for_all: false,
            members: Vec::with_capacity(size),
            family: None,
            planned: Vec::with_capacity(size),
            strikers: Vec::new(),
            talkers: Vec::new(),
            ignorer: None,
        }
    }

    /// Runs one round and checks that everything is as it was. Returns how many processes there were at once.
    fn round(&mut self) -> Result<u64, Box<dyn Error>> {
        let base = inspect::counters();
        self.ledger.clear();
        self.members.clear();
        self.family = None;
        self.start_load()?;
        let load = self.ledger.accounts().len();
        let load_signals = self.ledger.due();

        self.waits_for_all = !self.waits_for_all;
        let lead = match self.waits_for_all {
            true => usize::MAX,
            false => self.random.below(self.size),
        };
        let mut most = 0;
        while self.members.len() < self.size {
            self.spawn_member()?;
            // More strikes than one member gets, so that the backlog shrinks.
            for _ in 0..2 {
                if self.planned.len() > lead {
                    self.strike_one();
                }
            }
            if self.members.len().is_multiple_of(MEMBERS_AT_ONCE) {
                self.tell_talkers();
                self.note_arrived()?;
                most = most.max(inspect::counters().processes);
            }
        }
        most = most.max(inspect::counters().processes);
        while !self.planned.is_empty() {
            self.strike_one();
        }
        self.hand_out();
        self.collect(load_signals)?;

        // None of these processes had a reason to end until now.
        for account in 0..load {
            self.ledger.may_end(account, Causes::of(Cause::Killed));
            kill(self.ledger.accounts()[account].pid);
        }
        self.collect(0)?;
        // The optional signals have come by now. Any other event is an error.
        self.note_arrived()?;
        let spawned = self.ledger.accounts().len() as u64;
        check_quiet(&base, spawned, self.ledger.crashes())?;
        Ok(most)
    }

    fn start_load(&mut self) -> Result<(), Box<dyn Error>> {
        self.strikers.clear();
        self.talkers.clear();
        for priority in SPINNERS {
            self.spawn_load("a spinner", priority, load::spin, ())?;
        }
        for _ in 0..STRIKERS {
            let pid = self.spawn_load("a striker", Priority::High, load::strike, ())?;
            let batch = Vec::with_capacity(STRIKES_AT_ONCE);
            self.strikers.push(Striker { pid, batch });
        }
        for _ in 0..TALKERS {
            let partner = self.spawn_load("a partner", Priority::Normal, load::answer, ())?;
            let pid = self.spawn_load("a talker", Priority::Normal, load::talk, partner)?;
            self.talkers.push(pid);
        }
        let ignorer = self.spawn_load("an ignorer", Priority::Normal, load::ignore, ())?;
        self.ignorer = Some(ignorer);
        Ok(())
    }

    fn spawn_load<F, A>(
        &mut self,
        kind: &'static str,
        priority: Priority,
        function: F,
        argument: A,
    ) -> Result<Pid, Box<dyn Error>>
    where
        F: Fn(A) + Copy + 'static,
        A: Serialize + DeserializeOwned,
    {
        let monitor = make_reference();
        let options = Spawn::new().link().monitor(monitor).priority(priority);
        let pid = options.function(function, argument)?;
        let account = self.ledger.open(pid, kind, None, false);
        self.ledger.expect_exits(account, 1, 0);
        self.ledger.expect_down(account, monitor, None);
        Ok(pid)
    }

    fn tell_talkers(&self) {
        let newest = &self.members[self.members.len() - MEMBERS_AT_ONCE..];
        for &talker in &self.talkers {
            send(talker, newest);
        }
    }

    /// Carries out one of the planned strikes, or passes it to a striker.
    fn strike_one(&mut self) {
        let place = self.random.below(self.planned.len());
        let planned = self.planned.swap_remove(place);
        if let Some(cause) = planned.end {
            self.ledger.may_end(planned.account, Causes::of(cause));
        }
        let place = self.random.below(self.strikers.len() + 1);
        let Some(striker) = self.strikers.get_mut(place) else {
            planned.strike.carry_out();
            return;
        };
        striker.batch.push(planned.strike);
        if striker.batch.len() == STRIKES_AT_ONCE {
            striker.hand_out();
        }
    }

    /// Sends the strikers their strikes.
    fn hand_out(&mut self) {
        self.strikers.iter_mut().for_each(Striker::hand_out);
    }

    /// Notes what has arrived.
    fn note_arrived(&mut self) -> Result<(), String> {
        while let Some(event) = receive_event(&Selector::Any, Some(Duration::ZERO)) {
            self.ledger.note(event)?;
        }
        Ok(())
    }

    /// Waits until no more signals are due than this.
    fn collect(&mut self, rest: usize) -> Result<(), String> {
        while self.ledger.due() > rest {
            match receive_event(&Selector::Any, Some(PATIENCE)) {
                Some(event) => self.ledger.note(event)?,
                None => return Err(self.ledger.missing()),
            }
        }
        Ok(())
    }
}

impl Striker {
    fn hand_out(&mut self) {
        send(self.pid, &self.batch);
        self.batch.clear();
    }
}

//! A system with one guest program and a mailbox for its reports.

use crate::cases::Guest;
use crate::machine::{Lap, Stopwatch};
use crate::measurement::Setup;
use crate::numbers::Report;
use anyhow::{Context, Result, bail};
use atoll_rt::{
    Config, Event, ExitReason, HostMailbox, Outgoing, Pid, Program, Selector, Spawn, System,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The tag of reports.
const REPORT: u32 = 1;
/// A case that takes longer than this hangs.
const RUN_MAX: Duration = Duration::from_secs(120);
/// The interval at which a condition is polled.
const LOOKS_APART: Duration = Duration::from_micros(100);

/// Runs functions of one guest.
pub struct Driver {
    // Fields are dropped in this order: the mailbox is a process of the system.
    mailbox: HostMailbox,
    program: Program,
    system: System,
    runtime: Runtime,
    /// The folder of built guests.
    guests: PathBuf,
}

impl Driver {
    /// Starts a new system and loads the guest.
    pub fn start(setup: Setup) -> Result<Driver> {
        Driver::start_with(setup, Config::default())
    }

    /// The same with a configuration.
    pub fn start_with(setup: Setup, config: Config) -> Result<Driver> {
        let system = System::new(Config {
            schedulers: setup.schedulers,
            // The number of remaining processes is part of a measurement.
            allow_inspect: true,
            on_crash: Arc::new(|report| eprintln!("{report}")),
            // Erlang's mailboxes have no limit.
            max_mailbox: u64::MAX,
            ..config
        })?;
        let name = match setup.guest {
            Guest::Bare => "bench-wat",
            Guest::Rust => "bench",
        };
        let program = load(&system, setup.guests, name, setup.guest)?;
        let mailbox = system.open_mailbox()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        Ok(Driver {
            mailbox,
            program,
            system,
            runtime,
            guests: setup.guests.to_owned(),
        })
    }

    /// Runs a function until it has reported and ended, and measures the time. Returns when every process that took part has
    /// ended, so that the next run finds the system at rest.
    pub fn run(&mut self, function: &str, n: u32, m: u32) -> Result<(Report, Lap)> {
        let Driver {
            mailbox,
            program,
            system,
            runtime,
            ..
        } = self;
        let argument = argument(n, m, mailbox.pid());
        let spawn = Spawn::new(program).function(function).argument(argument);
        let stopwatch = Stopwatch::start()?;
        // There is no time-out of Atoll's here: with an armed timer the scheduler would read the clock, which costs time.
        let (_, watch) = system.spawn_watched(spawn)?;
        let ended = runtime.block_on(async { tokio::time::timeout(RUN_MAX, watch).await });
        let lap = stopwatch.stop()?;
        match ended.with_context(|| format!("`{function}` takes longer than {RUN_MAX:?}"))? {
            ExitReason::Normal => {}
            reason => bail!("`{function}` ended: {reason}"),
        }
        let report = mailbox.receive_blocking(Selector::Tag(REPORT), Some(Duration::ZERO));
        let Some(Event::Message(report)) = report else {
            bail!("`{function}` ended without a report");
        };
        // The mailbox is a process, too.
        wait_until("the processes end", || {
            self.system.counters().processes == 1
        })?;
        Ok((Report::parse(&report.payload)?, lap))
    }

    /// Spawns one process that sends back what it receives.
    pub fn spawn_echo(&mut self) -> Result<Pid> {
        let spawn = Spawn::new(&self.program).function("echo");
        Ok(self.system.spawn(spawn)?)
    }

    /// Waits until this many processes are hibernated.
    pub fn wait_until_hibernated(&self, count: u64) -> Result<()> {
        wait_until("the processes are hibernated", || {
            let hibernation = self.system.counters().hibernation;
            hibernation.packed >= count + hibernation.unpacked
        })
    }

    /// Starts the process that makes a crowd of `members` and wakes `woken_at_once` of them at a time. It has memory for all
    /// their pids.
    pub fn start_crowd(&mut self, members: u32, woken_at_once: u32) -> Result<Pid> {
        // The conductor is not a process of the measured program, because it needs a larger memory.
        let conductor = load(&self.system, &self.guests, "conductor", Guest::Rust)?;
        let argument = argument(members, woken_at_once, self.mailbox.pid());
        let spawn = Spawn::new(&conductor).function("crowd").argument(argument);
        let crowd = self.system.spawn(spawn)?;
        let program = self.program.name().to_owned();
        self.ask_crowd(crowd, program.as_bytes())?;
        Ok(crowd)
    }

    /// Makes the crowd take the next step, and waits until it is done. The steps are: spawn all members, then wake each.
    pub fn ask_crowd(&mut self, crowd: Pid, message: &[u8]) -> Result<()> {
        self.mailbox.send(crowd, Outgoing::new(0, message));
        let report = self
            .mailbox
            .receive_blocking(Selector::Tag(REPORT), Some(RUN_MAX));
        report
            .map(|_| ())
            .context("who wakes the crowd has not reported")
    }

    /// Spawns processes that wait for a message, and returns when all of them wait.
    pub fn spawn_idle(&mut self, count: u32) -> Result<()> {
        let turns = || -> u64 {
            let counters = self.system.counters();
            counters
                .schedulers
                .iter()
                .map(|scheduler| scheduler.turns)
                .sum()
        };
        let turns_before = turns();
        for _ in 0..count {
            self.system
                .spawn(Spawn::new(&self.program).function("idle"))?;
        }
        // A process waits at the end of its first turn.
        wait_until("the processes wait", || {
            turns() >= turns_before + u64::from(count)
        })
    }
}

/// The argument of every function of the guests: two numbers, and the pid that gets the report.
fn argument(n: u32, m: u32, reports_to: Pid) -> Vec<u8> {
    let numbers = [n, m].into_iter().flat_map(u32::to_le_bytes);
    let pid = [reports_to.node, reports_to.id].into_iter();
    numbers.chain(pid.flat_map(u64::to_le_bytes)).collect()
}

/// Loads a guest under a name.
fn load(system: &System, guests: &Path, name: &str, guest: Guest) -> Result<Program> {
    let path = guests.join(match guest {
        Guest::Bare => "bench-wat.wat",
        Guest::Rust => "bench.wasm",
    });
    let bytes = std::fs::read(&path).with_context(|| {
        format!(
            "reading {}; `cargo xtask guests` builds the guests",
            path.display()
        )
    })?;
    Ok(system.load(name, &bytes)?)
}

fn wait_until(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > RUN_MAX {
            bail!("waited in vain until {what}");
        }
        std::thread::sleep(LOOKS_APART);
    }
    Ok(())
}

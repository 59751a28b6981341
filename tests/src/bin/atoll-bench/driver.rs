//! A system with one guest program and a mailbox for its reports.

use crate::cases::Guest;
use crate::machine::{Lap, Stopwatch};
use crate::measurement::Setup;
use crate::numbers::Report;
use anyhow::{Context, Result, bail};
use atoll::{
    Config, Event, ExitReason, HostMailbox, Outgoing, Pid, Program, Selector, Spawn, System,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The tag of reports.
const REPORT: u32 = 1;
/// The tag of messages that wake a process.
const WAKE: u32 = 100;
/// A case that takes longer than this hangs.
const RUN_MAX: Duration = Duration::from_secs(120);
/// How often a condition that nobody announces is looked at.
const LOOKS_APART: Duration = Duration::from_micros(100);

/// Runs functions of one guest.
pub struct Driver {
    // Dropped in this order: the mailbox is a process of the system.
    mailbox: HostMailbox,
    program: Program,
    system: System,
    runtime: Runtime,
}

impl Driver {
    /// A new system, with the guest loaded.
    pub fn start(setup: Setup) -> Result<Driver> {
        Driver::start_with(setup, Config::default())
    }

    /// The same with settings of its own.
    pub fn start_with(setup: Setup, config: Config) -> Result<Driver> {
        let (name, file) = match setup.guest {
            Guest::Bare => ("bench-wat", "bench-wat.wat"),
            Guest::Rust => ("bench", "bench.wasm"),
        };
        let path = setup.guests.join(file);
        let bytes = std::fs::read(&path).with_context(|| {
            format!(
                "reading {}; `cargo xtask guests` builds the guests",
                path.display()
            )
        })?;
        let system = System::new(Config {
            schedulers: setup.schedulers,
            // How many processes are left is part of what is measured.
            allow_inspect: true,
            on_crash: Arc::new(|report| eprintln!("{report}")),
            // Erlang's mailboxes know no bound.
            max_mailbox: u64::MAX,
            ..config
        })?;
        let program = system.load(name, &bytes)?;
        let mailbox = system.open_mailbox()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        Ok(Driver {
            mailbox,
            program,
            system,
            runtime,
        })
    }

    /// Runs a function until it has reported and ended, and takes the time. Returns when every process that took part is
    /// gone, so that the next run finds the system at rest.
    pub fn run(&mut self, function: &str, n: u32, m: u32) -> Result<(Report, Lap)> {
        let Driver {
            mailbox,
            program,
            system,
            runtime,
        } = self;
        let reported_to = mailbox.pid();
        let mut argument = Vec::with_capacity(24);
        argument.extend([n, m].into_iter().flat_map(u32::to_le_bytes));
        argument.extend(
            [reported_to.node, reported_to.id]
                .into_iter()
                .flat_map(u64::to_le_bytes),
        );
        let spawn = Spawn::new(program).function(function).argument(argument);
        let stopwatch = Stopwatch::start()?;
        // No time-out of Atoll's here: an armed timer would have the scheduler look at the clock, which costs.
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

    /// Waits until so many processes are hibernated.
    pub fn wait_until_hibernated(&self, count: u64) -> Result<()> {
        wait_until("the processes are hibernated", || {
            let hibernation = self.system.counters().hibernation;
            hibernation.packed >= count + hibernation.unpacked
        })
    }

    /// Sends each process its number, and waits for all answers, which must be those numbers.
    pub fn wake(&mut self, first: u32, pids: &[Pid]) -> Result<()> {
        let mut expected = 0_u64;
        for (pid, number) in pids.iter().zip(first..) {
            expected += u64::from(number);
            let message = Outgoing::new(WAKE, &number.to_le_bytes());
            self.mailbox.send(*pid, message);
        }
        for _ in pids {
            let answer = self
                .mailbox
                .receive_blocking(Selector::Tag(WAKE), Some(RUN_MAX));
            let Some(Event::Message(answer)) = answer else {
                bail!("a process that was woken does not answer");
            };
            let number = u32::from_le_bytes(answer.payload[..].try_into()?);
            let sender = number
                .checked_sub(first)
                .and_then(|at| pids.get(at as usize));
            if sender != Some(&answer.sender) {
                bail!("{} answers {number}", answer.sender);
            }
            expected = expected.wrapping_sub(number.into());
        }
        match expected {
            0 => Ok(()),
            _ => bail!("a process has answered twice"),
        }
    }

    /// Spawns processes that wait for a message, and returns when all of them do.
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

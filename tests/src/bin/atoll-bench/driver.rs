//! A system with one guest program and a mailbox for its reports.

use crate::Setup;
use crate::cases::Guest;
use crate::machine::{Lap, Stopwatch};
use anyhow::{Context, Result, anyhow, bail};
use atoll::{Config, ExitReason, HostMailbox, Program, Selector, Spawn, System};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The tag of reports.
const REPORT: u32 = 1;
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
    pub fn start(setup: &Setup, guest: Guest) -> Result<Driver> {
        let (name, file) = match guest {
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
            on_crash: Arc::new(|report| eprintln!("{report}")),
            ..Config::default()
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

    /// Runs a function to its report: the time from its spawn until the report is here. Returns when every process
    /// that took part is gone, so that the next run finds the system at rest.
    pub fn run(&mut self, function: &str, n: u32, m: u32) -> Result<Lap> {
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
        let run = async {
            let stopwatch = Stopwatch::start()?;
            let (_, mut watch) = system.spawn_watched(spawn)?;
            // No time-out here: an armed timer would have the scheduler look at the clock, which costs.
            tokio::select! {
                biased;
                _ = mailbox.receive(Selector::Tag(REPORT), None) => {}
                reason = &mut watch => {
                    // It may have reported and ended between the two looks.
                    if mailbox.receive(Selector::Tag(REPORT), Some(Duration::ZERO)).await.is_none() {
                        bail!("`{function}` ended without a report: {reason}");
                    }
                    return stopwatch.stop();
                }
            }
            let lap = stopwatch.stop()?;
            match watch.await {
                ExitReason::Normal => Ok(lap),
                reason => Err(anyhow!("`{function}` ended: {reason}")),
            }
        };
        let limited = runtime.block_on(async { tokio::time::timeout(RUN_MAX, run).await });
        let lap =
            limited.with_context(|| format!("`{function}` takes longer than {RUN_MAX:?}"))??;
        // The mailbox is a process, too.
        wait_until("the processes end", || {
            self.system.counters().processes == 1
        })?;
        Ok(lap)
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

//! The memory that blocked processes hold, measured in a child process. In one process, memory that an earlier repetition has
//! returned to the allocator but not to the kernel would hide what the next repetition takes.

use crate::cases::IDLE_PROCESSES;
use crate::driver::Driver;
use crate::machine::{self, Stopwatch};
use crate::measurement::{Sample, Setup};
use anyhow::{Context, Result, bail};
use atoll_rt::Config;
use clap::ValueEnum;
use std::process::Command;
use std::time::{Duration, Instant};

/// Processes before the first measurement. After them, everything that is made once for all processes exists.
const WARM_UP_PROCESSES: u32 = 100;

/// The kind of processes that a child measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Crowd {
    /// Processes that wait and are not hibernated.
    Live,
    /// A million hibernated processes.
    Million,
}

pub const MILLION: u32 = 1_000_000;
/// The number of processes woken at a time.
const WOKEN_AT_ONCE: u32 = 1000;

/// Measures awake processes in a child.
pub fn measure_live(setup: Setup) -> Result<Sample> {
    let stopwatch = Stopwatch::start()?;
    let numbers = measure_in_child(setup, Crowd::Live)?;
    let [pages, page_tables] = numbers[..] else {
        bail!("the child process said {numbers:?}");
    };
    Ok(Sample {
        values: vec![pages + page_tables],
        own_cores: None,
        // The child's own CPU time counts as that of others here, and load doesn't change how much memory the processes hold.
        others_cores: 0.0,
        note: Some(format!(
            "{page_tables:.0} of that in page tables; {:.1} s",
            stopwatch.stop()?.wall.as_secs_f64()
        )),
    })
}

/// Measures a million hibernated processes in a child: bytes of each asleep, seconds to spawn all, microseconds to wake each, and
/// bytes of each asleep again.
pub fn measure_million(setup: Setup) -> Result<Sample> {
    Ok(Sample {
        values: measure_in_child(setup, Crowd::Million)?,
        own_cores: None,
        others_cores: 0.0,
        note: None,
    })
}

/// Starts a child that measures, and reads its output.
fn measure_in_child(setup: Setup, crowd: Crowd) -> Result<Vec<f64>> {
    let guest = setup.guest.to_possible_value();
    let guest = guest.context("every guest can be named")?;
    let output = Command::new(std::env::current_exe()?)
        .args(["--resident", guest.get_name(), "--crowd"])
        .arg(match crowd {
            Crowd::Live => "live",
            Crowd::Million => "million",
        })
        .arg("--schedulers")
        .arg(setup.schedulers.to_string())
        .arg("--guests")
        .arg(setup.guests)
        .output()?;
    if !output.status.success() {
        bail!(
            "the child process failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let answer = String::from_utf8(output.stdout)?;
    let numbers = answer.split_whitespace().map(str::parse::<f64>);
    Ok(numbers.collect::<Result<Vec<_>, _>>()?)
}

/// Measures in this process and prints the results.
pub fn measure_here(setup: Setup, crowd: Crowd) -> Result<()> {
    match crowd {
        Crowd::Live => live(setup),
        Crowd::Million => million(setup),
    }
}

fn million(setup: Setup) -> Result<()> {
    let config = Config {
        hibernate_after: Some(Duration::ZERO),
        ..Config::default()
    };
    let mut driver = Driver::start_with(setup, config)?;
    for _ in 0..WARM_UP_PROCESSES {
        driver.spawn_echo()?;
    }
    let crowd = driver.start_crowd(MILLION, WOKEN_AT_ONCE)?;
    driver.wait_until_hibernated(u64::from(WARM_UP_PROCESSES))?;
    let before = machine::resident()?;
    let each = |before: machine::Resident| -> Result<u64> {
        let grown = machine::resident()?.bytes().saturating_sub(before.bytes());
        Ok(grown / u64::from(MILLION))
    };
    let start = Instant::now();
    driver.ask_crowd(crowd, b"spawn")?;
    let all = u64::from(WARM_UP_PROCESSES + MILLION);
    driver.wait_until_hibernated(all)?;
    let spawned_ns = start.elapsed().as_nanos();
    let asleep_bytes = each(before)?;
    let start = Instant::now();
    driver.ask_crowd(crowd, b"wake")?;
    let woken_ns = start.elapsed().as_nanos();
    driver.wait_until_hibernated(all)?;
    println!("{asleep_bytes} {spawned_ns} {woken_ns} {}", each(before)?);
    Ok(())
}

/// Prints bytes per process: in pages, and in page tables.
fn live(setup: Setup) -> Result<()> {
    let mut driver = Driver::start(setup)?;
    driver.spawn_idle(WARM_UP_PROCESSES)?;
    let before = machine::resident().context("reading this process's status")?;
    driver.spawn_idle(IDLE_PROCESSES)?;
    let after = machine::resident().context("reading this process's status")?;
    let each = |before: u64, after: u64| after.saturating_sub(before) / u64::from(IDLE_PROCESSES);
    println!(
        "{} {}",
        each(before.pages_bytes, after.pages_bytes),
        each(before.page_tables_bytes, after.page_tables_bytes)
    );
    Ok(())
}

//! What blocked processes hold. Measured in a child process: memory that an earlier repetition has given back to the
//! allocator, but not to the kernel, would hide what the next one takes.

use crate::cases::IDLE_PROCESSES;
use crate::driver::Driver;
use crate::machine::{self, Stopwatch};
use crate::measurement::{Sample, Setup};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::process::Command;

/// Processes before the first look: what is made once for all of them is there then.
const WARM_UP_PROCESSES: u32 = 100;

/// Has a child measure, and reads what it says.
pub fn measure_in_child(setup: Setup) -> Result<Sample> {
    let stopwatch = Stopwatch::start()?;
    let guest = setup.guest.to_possible_value();
    let guest = guest.context("every guest can be named")?;
    let output = Command::new(std::env::current_exe()?)
        .args(["--resident", guest.get_name(), "--schedulers"])
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
    let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
    let [pages, page_tables] = numbers[..] else {
        bail!("the child process said {answer:?}");
    };
    Ok(Sample {
        values: vec![pages + page_tables],
        own_cores: None,
        // The child's own time counts as others' here, and no disturbance changes how much memory there is.
        others_cores: 0.0,
        note: Some(format!(
            "{page_tables:.0} of that in page tables; {:.1} s",
            stopwatch.stop()?.wall.as_secs_f64()
        )),
    })
}

/// Measures in this process and prints bytes per process: in pages, and in page tables.
pub fn measure_here(setup: Setup) -> Result<()> {
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

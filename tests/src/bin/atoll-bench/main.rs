//! `atoll-bench`: what processes cost, measured through the library's public API.
//!
//! Prints one line for each case, as soon as it is known: `NAME VALUE UNIT`, the median of the repetitions. Another
//! program on the same cores spoils a repetition; one that was disturbed is left out where there are quiet ones, as
//! in the Erlang benchmarks that the figures are compared with, and where there are none, the calmer half counts. With
//! `-v`, every repetition is told on standard error, with the CPU time of this process: on a noisy machine that is the
//! steadier figure.
//!
//! ```text
//!   cases    what there is to measure, and in which unit
//!   driver   a system with one guest program: runs a function of the guest until it reports
//!   memory   what blocked processes hold, measured in a child process
//!   machine  CPU time, the load by others, resident memory
//! ```

mod cases;
mod driver;
mod machine;
mod memory;

use anyhow::{Context, Result};
use cases::{CASES, Case, Sample};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Cores that others may use during a repetition that still counts as quiet.
const QUIET_CORES_MAX: f64 = 0.25;

/// Measures what processes cost.
#[derive(Parser)]
#[command(name = "atoll-bench")]
struct Arguments {
    /// Measure only the cases whose names contain one of these texts
    filters: Vec<String>,
    /// Scheduler threads
    #[arg(long, default_value_t = 1)]
    schedulers: usize,
    /// Repetitions of each case, after one that is not counted
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    reps: u32,
    /// The folder of built guests [default: that of `cargo xtask guests`]
    #[arg(long, env = "ATOLL_GUESTS", hide_env_values = true)]
    guests: Option<PathBuf>,
    /// Tell every repetition
    #[arg(short, long)]
    verbose: bool,
    /// Measure a case's resident memory once, in this process
    #[arg(long, hide = true)]
    resident: Option<String>,
}

/// What all cases have in common.
struct Setup {
    schedulers: usize,
    guests: PathBuf,
}

fn main() -> ExitCode {
    run(Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let built_guests = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/guests");
    let setup = Setup {
        schedulers: arguments.schedulers,
        guests: arguments.guests.unwrap_or_else(|| built_guests.into()),
    };
    if let Some(name) = arguments.resident {
        let case = CASES.iter().find(|case| case.name == name);
        memory::measure_here(&setup, case.context("there is no such case")?.guest)?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_wanted = |case: &&Case| {
        let mut filters = arguments.filters.iter();
        arguments.filters.is_empty() || filters.any(|filter| case.name.contains(filter))
    };
    let mut failed = false;
    for case in CASES.iter().filter(is_wanted) {
        match measure(&setup, case, arguments.reps, arguments.verbose) {
            Ok(value) => println!("{} {} {}", case.name, short(value), case.unit()),
            Err(error) => {
                eprintln!("{} failed: {error:#}", case.name);
                failed = true;
            }
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}

/// A case's median, over the repetitions that count.
fn measure(setup: &Setup, case: &Case, repetitions: u32, verbose: bool) -> Result<f64> {
    let mut measure_once = case.start(setup)?;
    measure_once().context("in the warm-up run")?;
    let mut samples = Vec::new();
    for repetition in 1..=repetitions {
        let sample = measure_once().with_context(|| format!("in repetition {repetition}"))?;
        if verbose {
            eprintln!(
                "  {} {repetition}/{repetitions}: {}",
                case.name,
                told(case, &sample)
            );
        }
        samples.push(sample);
    }
    samples.sort_by(|left, right| left.others_cores.total_cmp(&right.others_cores));
    let quiet = samples.partition_point(|sample| sample.others_cores <= QUIET_CORES_MAX);
    let counted = if quiet > 0 {
        quiet
    } else {
        samples.len().div_ceil(2)
    };
    let mut values = samples[..counted]
        .iter()
        .map(|sample| sample.value)
        .collect::<Vec<_>>();
    values.sort_by(f64::total_cmp);
    values
        .get(values.len() / 2)
        .copied()
        .context("nothing was measured")
}

fn told(case: &Case, sample: &Sample) -> String {
    let mut text = format!("{} {}", short(sample.value), case.unit());
    if let Some(cpu_value) = sample.cpu_value {
        text += &format!("; by CPU time {}", short(cpu_value));
    }
    text += &format!("; others used {:.2} cores", sample.others_cores);
    if let Some(note) = &sample.note {
        text += &format!("; {note}");
    }
    text
}

/// Four digits that mean something, or all before the point.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

//! `atoll-bench`: measures the cost of processes through the library's public API.
//!
//! Prints one line for each figure, as soon as its case is done: `NAME VALUE UNIT`, the median of the repetitions. Other programs
//! on the same cores disturb a repetition. Disturbed repetitions are left out, as in the Erlang benchmarks for comparison. If all
//! are disturbed, the calmer half counts. With `-v`, prints every repetition on standard error, with the cores that this process
//! used.
//!
//! ```text
//!   cases        the table of cases to measure
//!   measurement  one case with one guest and one number of schedulers: names, repetitions, medians
//!   numbers      a guest's report, and the figures computed from it
//!   driver       a system with one guest program: runs a function of the guest until it reports
//!   memory       the memory of blocked processes, measured in a child process
//!   machine      CPU time, the load by other programs, resident memory
//! ```

mod cases;
mod driver;
mod machine;
mod measurement;
mod memory;
mod numbers;

use anyhow::Result;
use cases::{CASES, Guest};
use clap::Parser;
use measurement::{Measurement, Setup};
use memory::Crowd;
use numbers::short;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures the cost of processes.
#[derive(Parser)]
#[command(name = "atoll-bench")]
struct Arguments {
    /// Measure only cases with a figure whose name contains one of these texts
    filters: Vec<String>,
    /// Measure only cases with a figure that has exactly one of these names
    #[arg(long)]
    exact: bool,
    /// Print what would be measured: the names of a case's figures on one line
    #[arg(long)]
    list: bool,
    /// Scheduler threads, instead of the numbers that each case asks for
    #[arg(long)]
    schedulers: Option<usize>,
    /// Repetitions of each case, after one that is not counted
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    reps: u32,
    /// The folder of built guests [default: that of `cargo xtask guests`]
    #[arg(long, env = "ATOLL_GUESTS", hide_env_values = true)]
    guests: Option<PathBuf>,
    /// Print every repetition
    #[arg(short, long)]
    verbose: bool,
    /// Measure the memory of this guest's processes once, in this process
    #[arg(long, hide = true)]
    resident: Option<Guest>,
    /// The kind of these processes
    #[arg(long, hide = true, default_value = "live")]
    crowd: Crowd,
}

/// Lets the host pack everything that a hibernated process holds.
#[global_allocator]
static ALLOCATOR: atoll_rt::Allocator = atoll_rt::Allocator;

fn main() -> ExitCode {
    run(&Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let built_guests = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/guests");
    let guests = arguments.guests.clone();
    let guests = guests.unwrap_or_else(|| built_guests.into());
    if let Some(guest) = arguments.resident {
        let setup = Setup {
            guests: &guests,
            guest,
            schedulers: arguments.schedulers.unwrap_or(1),
        };
        memory::measure_here(setup, arguments.crowd)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut failed = false;
    let measurements = CASES
        .iter()
        .flat_map(|case| Measurement::all_of(case, arguments.schedulers));
    for measurement in measurements.filter(|it| is_wanted(arguments, &it.names())) {
        let names = measurement.names();
        if arguments.list {
            println!("{}", names.join(" "));
            continue;
        }
        match measurement.take(&guests, arguments.reps, arguments.verbose) {
            Ok(values) => {
                for ((name, value), figure) in names.iter().zip(values).zip(measurement.figures()) {
                    println!("{name} {} {}", short(value), figure.unit.text());
                }
            }
            Err(error) => {
                eprintln!("{} failed: {error:#}", names[0]);
                failed = true;
            }
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}

fn is_wanted(arguments: &Arguments, names: &[String]) -> bool {
    let fits = |filter: &String| {
        names.iter().any(|name| match arguments.exact {
            true => name == filter,
            false => name.contains(filter),
        })
    };
    arguments.filters.is_empty() || arguments.filters.iter().any(fits)
}

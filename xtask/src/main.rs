//! The chores of this repository: `cargo xtask run`, `guests`, `test`, `tidy`, `contract`, `oracle`, `fuzz`, `canaries`,
//! `spec`, `differential`, `models`, `asan`, `bench` and `instructions`.
//!
//! ```text
//! main ─▶ run ────┐
//!      ─▶ test ───┼─▶ guests ─▶ toolchain (Rust) ─▶ packages (Debian's)
//!      ─▶ oracle ─┤          ─▶ c
//!      ─▶ fuzz ───┤
//!      ─▶ bench ──┤
//!      ─▶ instructions
//!      ─▶ verify, models, asan
//!      ─▶ tidy ─▶ contract, fuzz (the canaries)
//! ```
//!
//! It starts cargo, clang and `atoll` and holds nothing that the product needs.

mod asan;
mod bench;
mod c;
mod contract;
mod fuzz;
mod guests;
mod instructions;
mod models;
mod oracle;
mod packages;
mod plot;
mod run;
mod targets;
mod test;
mod tidy;
mod toolchain;
mod verify;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// The chores of the Atoll repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build a guest and run it on Atoll; an unknown name lists the guests
    Run {
        /// The guest's name
        #[arg(default_value = "counter")]
        guest: String,
        /// The guest's own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Build every guest into target/guests
    Guests,
    /// Format, lint, build and test everything, as CI does
    Test {
        /// Run only the host's tests whose names contain this, and no other check
        filter: Option<String>,
    },
    /// Check the rules of this repository that compilers don't know
    Tidy,
    /// Generate the host's tables from wit/process.wit
    Contract,
    /// Compare with Erlang: perform the same scenarios on both
    #[command(disable_help_flag = true)]
    Oracle {
        /// `--seeds N`, `--break RULE` and others: see `cargo xtask oracle --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Try to break isolation between guests
    #[command(disable_help_flag = true)]
    Fuzz {
        /// `--time T`, `--break NAME` and others: see `cargo xtask fuzz --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Build the guest inside `atoll fuzz` anew
    Canaries,
    /// Run the specification's tests through the loader, the rewriter and recycled instances
    #[command(disable_help_flag = true)]
    Spec {
        /// A part of the names of files, and options: see `cargo xtask spec --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Compare with wasmtime alone on random modules
    #[command(disable_help_flag = true)]
    Differential {
        /// `--modules N`, `--seed S`, `--save DIR`: see `cargo xtask differential --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Try the orders in which threads can take the steps of lock-free protocols
    Models {
        /// Try only the models whose names contain one of these
        filters: Vec<String>,
    },
    /// Run the host's own tests under AddressSanitizer; needs a nightly compiler
    Asan,
    /// Count the instructions of the core operations, and compare them with what was recorded
    Instructions {
        /// Record what is counted
        #[arg(long)]
        record: bool,
    },
    /// Measure, and print the figures beside Erlang's and what they are to reach
    Bench {
        /// Run only the benchmarks whose names contain one of these
        filters: Vec<String>,
        /// Measure Erlang's side too, on this machine
        #[arg(long)]
        vs_erlang: bool,
    },
}

fn main() -> ExitCode {
    match perform(Arguments::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(chore: Chore) -> Result<()> {
    let workspace = Workspace::locate()?;
    match chore {
        Chore::Run { guest, arguments } => run::run(&workspace, &guest, &arguments),
        Chore::Guests => {
            let guests = guests::find_all(&workspace)?;
            guests::build(&workspace, &guests)?;
            for guest in &guests {
                println!("{}", guest.module(&workspace).display());
            }
            Ok(())
        }
        Chore::Test { filter } => test::test(&workspace, filter.as_deref()),
        Chore::Oracle { options } => oracle::oracle(&workspace, &options),
        Chore::Fuzz { options } => fuzz::fuzz(&workspace, &options),
        Chore::Canaries => fuzz::build_canaries(&workspace),
        Chore::Spec { options } => verify::spec(&workspace, &options),
        Chore::Differential { options } => verify::differential(&workspace, &options),
        Chore::Models { filters } => models::models(&workspace, &filters),
        Chore::Asan => asan::asan(&workspace),
        Chore::Tidy => tidy::check(&workspace),
        Chore::Contract => contract::write(&workspace),
        Chore::Instructions { record } => instructions::instructions(&workspace, record),
        Chore::Bench { filters, vs_erlang } => bench::bench(&workspace, &filters, vs_erlang),
    }
}

//! `cargo xtask oracle`: performs the same scenarios on Atoll and on Erlang, and compares what happens.
//!
//! The program `atoll-oracle` of the crate `atoll-tests` compares; all options go to it. This module builds what that program
//! runs, and makes sure that Erlang is there. `cargo xtask oracle --help` lists the options.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::guests;
use crate::packages;
use crate::test::with_paths;
use crate::workspace::{Workspace, is_on_path, run};

/// The guest that performs scenarios.
const GUEST: &str = "oracle";
/// The feature with which `atoll` can break a rule.
const BREAKABLE: &str = "break-rules";

/// Builds everything, and compares.
pub fn oracle(workspace: &Workspace, options: &[OsString]) -> Result<()> {
    if !wants(options, "--help") {
        // Report missing programs before minutes of building.
        find_erlang()?;
        let guests = guests::find_all(workspace)?;
        let guest = guests.iter().find(|guest| guest.name == GUEST);
        guests::build(workspace, [guest.context("there is no guest `oracle`")?])?;
        build_breakable(workspace, options)?;
    }
    let mut oracle = Command::new(workspace.build("atoll-oracle", &[])?);
    run(with_paths(workspace, oracle.args(options)))
}

/// Whether this option is among these words.
fn wants(options: &[OsString], option: &str) -> bool {
    let is_it = |word: &OsString| word.to_string_lossy().split('=').next() == Some(option);
    options.iter().any(is_it)
}

/// Builds the program `atoll`, with the feature that breaks rules only if the options ask for it by `--break`.
pub fn build_breakable(workspace: &Workspace, options: &[OsString]) -> Result<()> {
    match wants(options, "--break") {
        true => workspace.build_atoll_with(&[BREAKABLE]),
        false => workspace.build_atoll(),
    }
}

/// Makes sure that Erlang is there.
fn find_erlang() -> Result<()> {
    let is_there = || is_on_path("erl") && is_on_path("erlc");
    if !is_there() {
        packages::install(&["erlang-base"], "to ask Erlang");
    }
    if !is_there() {
        bail!(
            "Erlang can't be asked: erl and erlc are missing. On Debian, `apt-get install erlang-base`; elsewhere, \
             Erlang/OTP 25 or later from https://www.erlang.org/downloads"
        );
    }
    if !starts(Command::new("erl").args(["-noshell", "-eval", "halt()."])) {
        bail!("Erlang can't be asked: `erl` is there, but does not start");
    }
    Ok(())
}

fn starts(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

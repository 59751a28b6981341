//! `cargo xtask spec` and `cargo xtask differential`: Atoll's engine beside the specification's tests, and beside wasmtime
//! alone.
//!
//! Two programs of the crate `atoll-tests` do the work, and all options go to them. They link the library, so nothing else
//! has to be built.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::workspace::{Workspace, run};

/// Runs the specification's tests.
pub fn spec(workspace: &Workspace, options: &[OsString]) -> Result<()> {
    program(workspace, "atoll-spec", options)
}

/// Compares with wasmtime on random modules.
pub fn differential(workspace: &Workspace, options: &[OsString]) -> Result<()> {
    program(workspace, "atoll-differential", options)
}

fn program(workspace: &Workspace, name: &str, options: &[OsString]) -> Result<()> {
    run(Command::new(workspace.build(name, &[])?).args(options))
}

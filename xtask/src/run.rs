//! `cargo xtask run`: builds a guest and the program `atoll`, and runs the guest on it.

use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::guests::{self, Guest};
use crate::workspace::Workspace;

/// Runs the guest called `name`. Returns only if the start failed: `atoll` replaces this process, so xtask need not pass on
/// its exit code, its terminal and its signals.
pub fn run(workspace: &Workspace, name: &str, arguments: &[OsString]) -> Result<()> {
    let guests = guests::find_all(workspace)?;
    let guest = guests
        .iter()
        .find(|guest| guest.name == name)
        .ok_or_else(|| unknown(name, &guests))?;
    guests::build(workspace, [guest])?;
    workspace.build_atoll()?;
    let mut atoll = Command::new(workspace.atoll());
    atoll
        .arg("run")
        .args(&guest.run_args)
        .arg(guest.module(workspace))
        .args(arguments);
    Err(atoll.exec()).with_context(|| format!("starting {}", workspace.atoll().display()))
}

/// The error for an unknown name. It lists the guests.
fn unknown(name: &str, guests: &[Guest]) -> anyhow::Error {
    let mut message = format!("there is no guest called `{name}`");
    if guests.is_empty() {
        message.push_str(", nor any other");
    } else {
        message.push_str("; these are the guests:");
    }
    let width = guests
        .iter()
        .map(|guest| guest.name.len())
        .max()
        .unwrap_or(0);
    for guest in guests {
        // Writing to a string can't fail.
        let _ = write!(message, "\n  {:width$}  {}", guest.name, guest.description);
    }
    anyhow!(message)
}

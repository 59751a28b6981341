//! `cargo xtask models`: the host's lock-free protocols, in the orders in which threads can take their steps.
//!
//! The crate `atoll-models` does the work. It is built with `--cfg loom` in a folder of its own, because another flag for the
//! compiler would have all other crates compiled again.

use anyhow::Result;

use crate::workspace::{Workspace, run};

/// Tries the models whose names contain one of these words; all if there is none.
pub fn models(workspace: &Workspace, words: &[String]) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo
        .args(["run", "--release", "--package", "atoll-models"])
        .arg("--target-dir")
        .arg(workspace.target.join("models"))
        .arg("--")
        .args(words)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "--cfg loom -D warnings");
    run(&mut cargo)
}

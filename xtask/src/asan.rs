//! `cargo xtask asan`: the host's own tests under AddressSanitizer, with debug assertions and checks of overflow.
//!
//! It needs a nightly compiler, and is no part of `cargo xtask test`. The build takes a quarter of an hour, in a folder of its
//! own. Tests that pack processes run apart: packing copies whole stacks, with the poisoned zones that the sanitizer puts around
//! the variables of host functions, so its checks of copies are off there.

use std::process::Command;

use anyhow::{Result, bail};

use crate::workspace::{Workspace, probe, run};

const TOOLCHAIN: &str = "nightly";
/// With a target, the sanitizer stays out of build scripts and macros, which the compiler loads.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Variables stay on the real stack, which may be a process's own.
const OPTIONS: &str = "detect_stack_use_after_return=0";
/// Copies are not checked.
const OPTIONS_OF_PACKING: &str = "detect_stack_use_after_return=0:replace_intrin=0";
/// The modules with tests that pack processes.
const PACKING: [&str; 3] = ["engine::packing", "engine::recycling", "engine::self_test"];

/// Runs the tests.
pub fn asan(workspace: &Workspace) -> Result<()> {
    let mut version = Command::new("rustup");
    if probe(version.args(["run", TOOLCHAIN, "rustc", "--version"])).is_none() {
        bail!(
            "AddressSanitizer needs a nightly compiler: `rustup toolchain install {TOOLCHAIN} --profile minimal`"
        );
    }
    let skipped = PACKING.iter().flat_map(|module| ["--skip", module]);
    run(test(workspace).args(skipped).env("ASAN_OPTIONS", OPTIONS))?;
    run(test(workspace)
        .args(PACKING)
        .env("ASAN_OPTIONS", OPTIONS_OF_PACKING))
}

/// A command that tests; arguments for the test programs may follow.
fn test(workspace: &Workspace) -> Command {
    let mut cargo = Command::new("rustup");
    cargo
        .current_dir(&workspace.root)
        .args(["run", TOOLCHAIN, "cargo", "test"])
        .args(["--release", "--workspace", "--lib"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(workspace.target.join("asan"));
    for check in ["debug-assertions", "overflow-checks"] {
        cargo
            .arg("--config")
            .arg(format!("profile.release.package.atoll-rt.{check}=true"));
    }
    cargo
        .arg("--")
        // These name the pinned toolchain, which has started this program.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-Zsanitizer=address");
    cargo
}

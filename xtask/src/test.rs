//! `cargo xtask test`: all checks that have to pass before a change lands, the quick ones first.
//!
//! Each step prints a headline and its duration. The first step that fails ends the run with its name. Tests find the program
//! and the guests by two variables: `ATOLL_BIN`, the program, and `ATOLL_GUESTS`, the folder of built guests.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::guests;
use crate::instructions;
use crate::models;
use crate::oracle;
use crate::tidy;
use crate::workspace::{Workspace, cargo_in, is_on_path, run};

/// A step of `cargo xtask test`: its headline, and its function.
type Step = (&'static str, fn(&Workspace) -> Result<()>);

const STEPS: [Step; 13] = [
    ("format", check_format),
    ("tidy", tidy::check),
    ("lint the host", lint_host),
    ("lint the guests", lint_guests),
    ("build the guests", build_guests),
    ("build atoll", Workspace::build_atoll),
    ("test the guest SDK", test_guest_sdk),
    ("test the host", |workspace| test_host(workspace, None)),
    ("try the models", |workspace| models::models(workspace, &[])),
    ("ask Erlang", |workspace| oracle::oracle(workspace, &[])),
    ("count instructions", instructions::check),
    ("check the documentation", check_documentation),
    ("check the dependencies", check_dependencies),
];

/// Runs every step, or, given a filter, only the tests whose names contain it.
pub fn test(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    let start = Instant::now();
    if let Some(filter) = filter {
        build_guests(workspace)?;
        workspace.build_atoll()?;
        return test_host(workspace, Some(filter));
    }
    for (number, (name, step)) in STEPS.iter().enumerate() {
        println!("=== {}/{} {name}", number + 1, STEPS.len());
        let step_start = Instant::now();
        step(workspace).with_context(|| format!("step `{name}` failed"))?;
        println!("=== {name}: ok in {}", seconds(step_start.elapsed()));
    }
    println!(
        "=== all {} steps passed in {}",
        STEPS.len(),
        seconds(start.elapsed())
    );
    Ok(())
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn check_format(workspace: &Workspace) -> Result<()> {
    for folder in [&workspace.root, &workspace.guests()] {
        run(cargo_in(folder).args(["fmt", "--all", "--check"]))?;
    }
    Ok(())
}

fn lint_host(workspace: &Workspace) -> Result<()> {
    let lint = [
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    run(workspace.cargo().args(lint))
}

fn lint_guests(workspace: &Workspace) -> Result<()> {
    guests::lint_rust(workspace, &guests::find_all(workspace)?)
}

fn build_guests(workspace: &Workspace) -> Result<()> {
    guests::build(workspace, &guests::find_all(workspace)?)
}

/// Runs the SDK's own tests on the host. They test the code that needs no process.
fn test_guest_sdk(workspace: &Workspace) -> Result<()> {
    run(&mut guest_sdk_cargo(workspace, "test"))
}

/// A cargo command on the SDK for the host, with the host's compiler.
fn guest_sdk_cargo(workspace: &Workspace, subcommand: &str) -> Command {
    let mut cargo = cargo_in(&workspace.guests());
    cargo
        .args([subcommand, "--release", "--package", "atoll-guest"])
        .arg("--target-dir")
        .arg(workspace.target.join("guest-sdk"));
    cargo
}

fn test_host(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo
        .args(["test", "--release", "--workspace"])
        .args(filter);
    run(with_paths(workspace, &mut cargo))
}

/// Tells tests and benchmarks the paths of the program and the guests.
pub fn with_paths<'a>(workspace: &Workspace, command: &'a mut Command) -> &'a mut Command {
    command
        .env("ATOLL_BIN", workspace.atoll())
        .env("ATOLL_GUESTS", workspace.built_guests())
}

fn check_documentation(workspace: &Workspace) -> Result<()> {
    let mut host = workspace.cargo();
    host.args(["doc", "--release", "--workspace"]);
    for mut cargo in [host, guest_sdk_cargo(workspace, "doc")] {
        run(cargo.env("RUSTDOCFLAGS", "-Dwarnings").arg("--no-deps"))?;
    }
    Ok(())
}

/// Holds the dependencies to `deny.toml`: their licences, sources and versions. RustSec's advisories are checked where its
/// database can be fetched: `cargo deny check advisories`.
fn check_dependencies(workspace: &Workspace) -> Result<()> {
    if !is_on_path("cargo-deny") {
        println!("left out: cargo-deny is not installed (`cargo install --locked cargo-deny`)");
        return Ok(());
    }
    let config = workspace.root.join("deny.toml");
    for manifest in [&workspace.root, &workspace.guests()] {
        let mut deny = cargo_in(&workspace.root);
        deny.args(["deny", "--manifest-path"])
            .arg(manifest.join("Cargo.toml"))
            .args(["check", "--config"])
            .arg(&config)
            .args(["licenses", "bans", "sources"]);
        run(&mut deny)?;
    }
    Ok(())
}

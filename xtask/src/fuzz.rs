//! `cargo xtask fuzz` and `cargo xtask canaries`: the program that tries to break isolation, and the guest inside it.
//!
//! `atoll fuzz` has the canaries' module in itself, so that it needs nothing else. The module is in the repository, because
//! whoever installs the program has no toolchain for guests. Beside it lies the digest of the sources that it was built from,
//! which `cargo xtask tidy` compares.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::oracle::build_breakable;
use crate::toolchain::{RustToolchain, Target};
use crate::workspace::{Workspace, run};

/// The guest.
const GUEST: &str = "canaries";
const SOURCES: &str = "guests/rust/canaries/src";
const MODULE: &str = "host/src/bin/atoll/fuzz/canaries.wasm";
const DIGEST: &str = "host/src/bin/atoll/fuzz/canaries.digest";

/// Builds the program and runs `atoll fuzz` with these options.
pub fn fuzz(workspace: &Workspace, options: &[OsString]) -> Result<()> {
    build_breakable(workspace, options)?;
    let mut atoll = std::process::Command::new(workspace.atoll());
    run(atoll.arg("fuzz").args(options))
}

/// Builds the canaries and puts them where the program takes them from.
pub fn build_canaries(workspace: &Workspace) -> Result<()> {
    let target = Target::Bare;
    let toolchain = RustToolchain::find(workspace, target)?;
    let folder = workspace.target.join(GUEST);
    let mut cargo = toolchain.cargo(target, &workspace.guests());
    toolchain.add_flags(&mut cargo, target, &anonymous(workspace));
    cargo
        .args(["build", "--release", "--package", GUEST])
        .args(["--target", target.name(), "--target-dir"])
        .arg(&folder);
    run(&mut cargo)?;
    let built = folder
        .join(target.name())
        .join("release")
        .join(format!("{GUEST}.wasm"));
    let module = workspace.root.join(MODULE);
    fs::copy(&built, &module).with_context(|| format!("copying {}", built.display()))?;
    let digest = digest(workspace)?;
    fs::write(workspace.root.join(DIGEST), digest).with_context(|| format!("writing {DIGEST}"))?;
    println!("{}", module.display());
    Ok(())
}

/// Flags for a module without names and without this machine's paths.
fn anonymous(workspace: &Workspace) -> String {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let remap = |path: &Path, name: &str| format!("--remap-path-prefix={}={name}", path.display());
    let mut flags = vec![
        "-Cstrip=symbols".to_owned(),
        remap(&workspace.root, "atoll"),
    ];
    flags.extend(home.map(|home| remap(&home, "cargo")));
    flags.join(" ")
}

/// The breach of the rules, if the canaries' sources have changed since the module was built.
pub fn breach(workspace: &Workspace) -> Result<Option<String>> {
    let kept = fs::read_to_string(workspace.root.join(DIGEST)).unwrap_or_default();
    let is_same = kept == digest(workspace)?;
    Ok((!is_same).then(|| {
        format!("{MODULE}: {SOURCES} has changed since it was built: run `cargo xtask canaries`")
    }))
}

/// The names of the sources, each with the digest (FNV-1a) of its bytes.
fn digest(workspace: &Workspace) -> Result<String> {
    let folder = workspace.root.join(SOURCES);
    let entries = fs::read_dir(&folder).with_context(|| format!("listing {SOURCES}"))?;
    let mut lines = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let digest = bytes
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |digest: u64, byte| {
                (digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
            });
        let name = path.file_name().unwrap_or_default();
        lines.push(format!("{} {digest:016x}\n", name.display()));
    }
    lines.sort();
    Ok(lines.concat())
}

//! Installs Debian packages where that is possible, and announces it.

use std::path::Path;
use std::process::Command;

use crate::workspace::{is_on_path, probe, run};

/// Announces and tries to install Debian packages. Returns whether they are there now.
///
/// This works only for root on a machine with `apt-get`. Otherwise it returns `false`, and the caller advises what to
/// install.
pub fn install(packages: &[&str], purpose: &str) -> bool {
    if !is_root() || !is_on_path("apt-get") {
        return false;
    }
    eprintln!(
        "xtask: installing {} by apt-get ({purpose})",
        packages.join(" ")
    );
    let mut update = Command::new("apt-get");
    update.args(["update", "-qq"]);
    let mut install = Command::new("apt-get");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "-qq", "--no-install-recommends", "--yes"])
        .args(packages);
    // A stale or incomplete package list may still be good enough, so only the installation decides.
    if let Err(error) = run(&mut update) {
        eprintln!("xtask: {error:#}");
    }
    match run(&mut install) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            false
        }
    }
}

/// Whether the machine installs its packages by `apt`. This decides which advice comes first.
pub fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists()
}

fn is_root() -> bool {
    probe(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0")
}

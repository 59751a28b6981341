//! The paths of this checkout, and how to start a command.
//!
//! Other modules get every path from [`Workspace`], and start every child process by [`run`] or [`capture`], so that an error
//! always names the command that failed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The paths of this checkout.
pub struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub root: PathBuf,
    /// Cargo's target folder: `target` unless the user moved it.
    pub target: PathBuf,
}

impl Workspace {
    /// Finds the checkout that this program was built from.
    pub fn locate() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask lies in a folder of the workspace")?
            .to_owned();
        // Cargo put this program into `TARGET/PROFILE/`, so its path leads to the target folder even if the user moved it.
        let program = std::env::current_exe().context("finding the path of xtask itself")?;
        let target = program
            .ancestors()
            .nth(2)
            .context("cargo builds xtask into a folder of its target folder")?
            .to_owned();
        Ok(Self { root, target })
    }

    /// The folder that holds every built guest, as `NAME.wasm` or `NAME.wat`.
    pub fn built_guests(&self) -> PathBuf {
        self.target.join("guests")
    }

    /// The guests' sources.
    pub fn guests(&self) -> PathBuf {
        self.root.join("guests")
    }

    /// The program `atoll`, once [`Workspace::build_atoll`] has run.
    pub fn atoll(&self) -> PathBuf {
        self.target.join("release").join("atoll")
    }

    /// Builds the program `atoll`.
    pub fn build_atoll(&self) -> Result<()> {
        self.build_atoll_with(&[])
    }

    /// Builds the program `atoll` with additional features.
    pub fn build_atoll_with(&self, features: &[&str]) -> Result<()> {
        self.build("atoll", features).map(|_| ())
    }

    /// Builds a program of the workspace, with additional features of the host. Returns its path.
    pub fn build(&self, program: &str, features: &[&str]) -> Result<PathBuf> {
        // All of the workspace is selected, as for lints and tests: otherwise the crates that its packages share would be
        // compiled several times, with the features that each package wants.
        let build = ["build", "--release", "--workspace", "--bin", program];
        let features = features
            .iter()
            .map(|feature| format!("--features=atoll-rt/{feature}"));
        run(self.cargo().args(build).args(features))?;
        Ok(self.target.join("release").join(program))
    }

    /// Builds `atoll` and `atoll-bench` as fast as a user's build, and returns their folder.
    pub fn build_dist(&self) -> Result<PathBuf> {
        // Both in one call: separate calls would compile the common crates twice.
        let packages = ["--package", "atoll-rt", "--package", "atoll-tests"];
        let programs = ["--bin", "atoll", "--bin", "atoll-bench"];
        run(self
            .cargo()
            .args(["build", "--profile", "dist"])
            .args(packages)
            .args(programs))?;
        Ok(self.target.join("dist"))
    }

    /// A `cargo` command that works on the root workspace.
    pub fn cargo(&self) -> Command {
        cargo_in(&self.root)
    }
}

/// A `cargo` command started in `folder`: the same cargo that started xtask.
pub fn cargo_in(folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder);
    command
}

/// Runs a command to its end and shows its output.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("starting {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs a command to its end and returns its standard output. Its standard error is shown.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", shown(command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("reading the output of {}", shown(command)))
}

/// Runs a command for its answer only. Returns `None` if it can't start or fails, and shows nothing of it.
pub fn probe(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program of this name can be found on the search path.
pub fn is_on_path(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else {
        return false;
    };
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The command as a person would type it, for messages.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    let line = words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ");
    format!("`{line}`")
}

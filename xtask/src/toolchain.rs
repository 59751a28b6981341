//! The Rust compiler for guests: rustup's, or Debian's with a standard library that is built here.
//!
//! ```text
//! standard library for the target in the pinned toolchain? ── yes ─▶ plain `cargo build --target`
//!   │ no: `rustup target add`, unless RUSTUP_AUTO_INSTALL=0 says that nothing is to be fetched
//!   ▼
//! Debian's rustc-web and rust-web-src (installed if we are root) ─▶ a private sysroot under `target/guest-sysroot`
//!   │ not there
//!   ▼
//! an error that names both ways
//! ```
//!
//! Debian ships the library's source but no wasm build of it. So xtask builds a private sysroot once for each compiler
//! version and target, in about a minute, and every later build uses it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::packages;
use crate::workspace::{Workspace, capture, cargo_in, is_on_path, probe, run};

/// Debian's compiler. This path is fixed, because the search path may lead to rustup's compiler.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Clippy for Debian's compiler.
const DEBIAN_CLIPPY: &str = "/usr/bin/clippy-driver";
/// Where Debian's wasi-libc puts its library and start-up objects.
const DEBIAN_WASI_LIBC: &str = "/usr/lib/wasm32-wasi";
/// The files that rustc takes from its own sysroot for a WASI program. xtask copies them there from wasi-libc.
const WASI_LIBC_FILES: [&str; 3] = ["libc.a", "crt1-command.o", "crt1-reactor.o"];

/// A target that Rust guests are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// `wasm32-unknown-unknown`: nothing but Atoll's own interfaces.
    Bare,
    /// `wasm32-wasip1`: a standard library over WASI preview 1.
    Wasi,
}

impl Target {
    /// Every target.
    pub const ALL: [Self; 2] = [Self::Bare, Self::Wasi];

    /// Its name for rustc and cargo.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "wasm32-unknown-unknown",
            Self::Wasi => "wasm32-wasip1",
        }
    }

    /// The target of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// The name as it appears in cargo's environment variables.
    fn variable_name(self) -> String {
        self.name().to_uppercase().replace('-', "_")
    }

    fn debian_packages(self) -> &'static [&'static str] {
        match self {
            Self::Bare => &["rustc-web", "rust-web-src"],
            Self::Wasi => &["rustc-web", "rust-web-src", "wasi-libc"],
        }
    }
}

/// A way to compile Rust for one target.
pub enum RustToolchain {
    /// The toolchain that cargo uses anyway has the target's standard library.
    Installed,
    /// Debian's compiler, with a standard library that xtask builds.
    Private {
        /// The folder to pass as `--sysroot`.
        sysroot: PathBuf,
        /// The program that links wasm.
        linker: PathBuf,
    },
}

impl RustToolchain {
    /// Finds a toolchain for the target, or makes one.
    pub fn find(workspace: &Workspace, target: Target) -> Result<Self> {
        if is_installed(workspace, target) || add_by_rustup(workspace, target) {
            return Ok(Self::Installed);
        }
        if !debian_is_ready(target) {
            packages::install(target.debian_packages(), "to compile Rust guests");
        }
        if !debian_is_ready(target) {
            bail!(advice(target));
        }
        Ok(Self::Private {
            sysroot: private_sysroot(workspace, target)?,
            linker: find_linker(workspace)?,
        })
    }

    /// A `cargo` command that works on the workspace in `folder` with this toolchain.
    pub fn cargo(&self, target: Target, folder: &Path) -> Command {
        let mut cargo = cargo_in(folder);
        // These variables would replace the flags below. They are meant for the host's programs.
        cargo
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        if let Self::Private { sysroot, linker } = self {
            let prefix = format!("CARGO_TARGET_{}", target.variable_name());
            cargo
                .env("RUSTC", DEBIAN_RUSTC)
                .env(format!("{prefix}_LINKER"), linker)
                .env(
                    format!("{prefix}_RUSTFLAGS"),
                    format!("--sysroot={}", sysroot.display()),
                );
        }
        cargo
    }

    /// Adds flags for the compiler to a command that [`RustToolchain::cargo`] has made.
    pub fn add_flags(&self, cargo: &mut Command, target: Target, flags: &str) {
        let variable = format!("CARGO_TARGET_{}_RUSTFLAGS", target.variable_name());
        let own = match self {
            Self::Installed => String::new(),
            Self::Private { sysroot, .. } => format!("--sysroot={} ", sysroot.display()),
        };
        cargo.env(variable, own + flags);
    }

    /// Like [`RustToolchain::cargo`], for a `cargo check` that runs Clippy. Warnings are errors.
    ///
    /// It does the same as `cargo clippy -- -D warnings`. That command does not work here, because Debian's Clippy does not
    /// come with the cargo that xtask uses, and rustup's can't read the output of Debian's compiler.
    pub fn cargo_clippy(&self, target: Target, folder: &Path) -> Result<Command> {
        let driver = match self {
            Self::Installed => "clippy-driver",
            Self::Private { .. } => DEBIAN_CLIPPY,
        };
        let is_missing = matches!(self, Self::Private { .. }) && !Path::new(driver).exists();
        if is_missing && !packages::install(&["rust-web-clippy"], "to lint Rust guests") {
            bail!(
                "Clippy for Debian's Rust compiler is missing: `apt-get install rust-web-clippy`."
            );
        }
        let mut cargo = self.cargo(target, folder);
        cargo
            .env("RUSTC_WORKSPACE_WRAPPER", driver)
            // Clippy's own separator of arguments.
            .env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__")
            .arg("check");
        Ok(cargo)
    }
}

/// Whether the toolchain on the search path has the target's standard library.
fn is_installed(workspace: &Workspace, target: Target) -> bool {
    let Some(sysroot) = rustc_sysroot(workspace) else {
        return false;
    };
    let library = sysroot.join("lib/rustlib").join(target.name()).join("lib");
    fs::read_dir(library).is_ok_and(|entries| {
        let mut names = entries.flatten().map(|entry| entry.file_name());
        names.any(|name| name.to_string_lossy().starts_with("libstd-"))
    })
}

fn rustc_sysroot(workspace: &Workspace) -> Option<PathBuf> {
    let mut rustc = Command::new("rustc");
    rustc
        .current_dir(&workspace.root)
        .args(["--print", "sysroot"]);
    Some(PathBuf::from(probe(&mut rustc)?.trim()))
}

/// Has rustup fetch the target. A failure is no error here, because there is another way.
fn add_by_rustup(workspace: &Workspace, target: Target) -> bool {
    let may_fetch = std::env::var_os("RUSTUP_AUTO_INSTALL").is_none_or(|value| value != "0");
    if !may_fetch || !is_on_path("rustup") {
        return false;
    }
    eprintln!("xtask: adding the target {} by rustup", target.name());
    let mut rustup = Command::new("rustup");
    rustup
        .current_dir(&workspace.root)
        // Without a network, fail at once.
        .env("RUSTUP_MAX_RETRIES", "0")
        .args(["target", "add", target.name()]);
    probe(&mut rustup).is_some() && is_installed(workspace, target)
}

/// Whether Debian's compiler, the library's source and (for WASI) the C library are there.
fn debian_is_ready(target: Target) -> bool {
    let has_source = debian_source().is_some_and(|source| source.join("std/Cargo.toml").exists());
    let has_libc = WASI_LIBC_FILES
        .iter()
        .all(|file| Path::new(DEBIAN_WASI_LIBC).join(file).exists());
    has_source && (target == Target::Bare || has_libc)
}

/// The source of the standard library that belongs to Debian's compiler.
fn debian_source() -> Option<PathBuf> {
    let sysroot = probe(Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"]))?;
    Some(Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library"))
}

fn advice(target: Target) -> String {
    let by_rustup = format!("rustup target add {}", target.name());
    let by_debian = format!(
        "apt-get install --no-install-recommends {}",
        target.debian_packages().join(" ")
    );
    let (first, second) = if packages::is_debian() && !is_on_path("rustup") {
        (by_debian, by_rustup)
    } else {
        (by_rustup, by_debian)
    };
    format!(
        "No Rust standard library for {} was found, and none could be installed. Install one by either of\n  \
         {first}\n  {second}\n(the second of Debian's packages lets xtask build the library itself)",
        target.name()
    )
}

/// The private sysroot with the target's standard library in it, built if it is not there yet.
fn private_sysroot(workspace: &Workspace, target: Target) -> Result<PathBuf> {
    // The version is part of the path because cargo does not notice a sysroot whose content changed.
    let sysroot = workspace
        .target
        .join("guest-sysroot")
        .join(debian_version()?);
    let library = sysroot.join("lib/rustlib").join(target.name()).join("lib");
    fs::create_dir_all(&sysroot).with_context(|| format!("creating {}", sysroot.display()))?;
    // Two builds at once would write the same files. So the second one waits, and finds the sysroot finished.
    let lock =
        File::create(sysroot.join("lock")).context("creating the lock of the private sysroot")?;
    lock.lock().context("locking the private sysroot")?;
    if !library.exists() {
        eprintln!(
            "xtask: building Rust's standard library for {} (once, about a minute)",
            target.name()
        );
        build_library(&sysroot, target, &library)
            .with_context(|| format!("building Rust's standard library for {}", target.name()))?;
    }
    Ok(sysroot)
}

/// The compiler's version and commit, as a folder name.
fn debian_version() -> Result<String> {
    let description = capture(Command::new(DEBIAN_RUSTC).arg("--version"))?;
    // "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)"
    let mut words = description.split_whitespace().skip(1);
    let version = words.next().context("rustc --version names no version")?;
    let commit = words.next().unwrap_or("").trim_matches(['(', ')']);
    Ok(format!("{version}-{commit}"))
}

/// Compiles the library as the dependency of an empty crate and puts it where rustc looks for it.
fn build_library(sysroot: &Path, target: Target, library: &Path) -> Result<()> {
    let build = sysroot.join(format!("build-{}", target.name()));
    fs::create_dir_all(build.join("src"))?;
    // `[workspace]` keeps cargo from taking the crate for a member of this repository's.
    fs::write(
        build.join("Cargo.toml"),
        "[package]\nname = \"empty\"\nedition = \"2024\"\n[workspace]\n",
    )?;
    fs::write(build.join("src/lib.rs"), "")?;
    run(cargo_in(&build)
        .env("RUSTC", DEBIAN_RUSTC)
        // Lets a stable compiler take the unstable options of the library and of `-Zbuild-std`.
        .env("RUSTC_BOOTSTRAP", "1")
        // Without bitcode no guest could be linked with LTO.
        .env("RUSTFLAGS", "-Cembed-bitcode=yes")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .stdout(Stdio::null())
        .args([
            "build",
            "--release",
            "--target",
            target.name(),
            "-Zbuild-std=std,panic_abort",
        ])
        .arg("--target-dir")
        .arg(build.join("target")))?;

    // A folder at `library` counts as complete, so xtask renames it last.
    let unfinished = library.with_file_name("lib.unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir_all(&unfinished)?;
    let compiled = build
        .join("target")
        .join(target.name())
        .join("release/deps");
    for entry in
        fs::read_dir(&compiled).with_context(|| format!("listing {}", compiled.display()))?
    {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        let is_library = path
            .extension()
            .is_some_and(|extension| extension == "rlib");
        if is_library && !name.to_string_lossy().starts_with("libempty-") {
            fs::copy(&path, unfinished.join(name))?;
        }
    }
    if target == Target::Wasi {
        let self_contained = unfinished.join("self-contained");
        fs::create_dir_all(&self_contained)?;
        for file in WASI_LIBC_FILES {
            fs::copy(
                Path::new(DEBIAN_WASI_LIBC).join(file),
                self_contained.join(file),
            )?;
        }
    }
    fs::rename(&unfinished, library)?;
    fs::remove_dir_all(&build)?;
    Ok(())
}

/// The program that links wasm: the pinned toolchain's own, or LLVM's.
fn find_linker(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(sysroot) = rustc_sysroot(workspace)
        && let Ok(hosts) = fs::read_dir(sysroot.join("lib/rustlib"))
    {
        let mut linkers = hosts.flatten().map(|host| host.path().join("bin/rust-lld"));
        if let Some(linker) = linkers.find(|linker| linker.is_file()) {
            return Ok(linker);
        }
    }
    let known = ["wasm-ld-19", "wasm-ld"];
    if let Some(linker) = known.into_iter().find(|linker| is_on_path(linker)) {
        return Ok(linker.into());
    }
    if packages::install(&["lld-19"], "to link Rust guests") {
        return Ok(known[0].into());
    }
    bail!(
        "No linker for wasm was found: neither rustup's rust-lld nor wasm-ld. On Debian, `apt-get install lld-19`."
    )
}

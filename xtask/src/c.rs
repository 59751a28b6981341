//! The C compiler for guests: the WASI SDK's, or any clang that finds a C library for wasm.
//!
//! Whether a clang can compile for WASI depends on packages beside it (the C library, compiler-rt, wasm-ld). So xtask has
//! each candidate compile and link a small program, and does not judge it by its version.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::packages;
use crate::workspace::{Workspace, probe, run};

/// The packages that Debian needs to compile C for WASI.
const DEBIAN_PACKAGES: [&str; 4] = [
    "clang-19",
    "lld-19",
    "wasi-libc",
    "libclang-rt-19-dev-wasm32",
];
/// The names of clang, best first.
const CLANGS: [&str; 5] = ["clang-19", "clang", "clang-22", "clang-21", "clang-20"];

/// A clang that compiles and links for WASI.
pub struct Clang {
    program: OsString,
    arguments: Vec<String>,
}

impl Clang {
    /// Finds a clang that works, or installs one.
    pub fn find(workspace: &Workspace) -> Result<Self> {
        let scratch = workspace.target.join("guests-build").join("c-probe");
        fs::create_dir_all(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
        if let Some(clang) = Self::candidates()
            .into_iter()
            .find(|clang| clang.works(&scratch))
        {
            return Ok(clang);
        }
        packages::install(&DEBIAN_PACKAGES, "to compile C guests");
        if let Some(clang) = Self::candidates()
            .into_iter()
            .find(|clang| clang.works(&scratch))
        {
            return Ok(clang);
        }
        bail!(
            "No C compiler for WASI was found, and none could be installed. Install one by either of\n  \
             apt-get install --no-install-recommends {}\n  \
             unpacking the WASI SDK (github.com/WebAssembly/wasi-sdk) and setting WASI_SDK_PATH to its folder",
            DEBIAN_PACKAGES.join(" ")
        )
    }

    fn candidates() -> Vec<Self> {
        let mut candidates = Vec::new();
        if let Some(sdk) = std::env::var_os("WASI_SDK_PATH") {
            let sdk = PathBuf::from(sdk);
            let sysroot = sdk.join("share/wasi-sysroot");
            candidates.push(Self {
                program: sdk.join("bin/clang").into(),
                arguments: vec![
                    "--target=wasm32-wasip1".to_owned(),
                    format!("--sysroot={}", sysroot.display()),
                ],
            });
        }
        candidates.extend(CLANGS.map(|name| Self {
            program: name.into(),
            // The target's name for Debian's C library.
            arguments: vec!["--target=wasm32-wasi".to_owned()],
        }));
        candidates
    }

    fn works(&self, scratch: &Path) -> bool {
        let source = scratch.join("probe.c");
        let written = fs::write(
            &source,
            "#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }\n",
        );
        let mut command = self.command();
        command
            .arg("-o")
            .arg(scratch.join("probe.wasm"))
            .arg(&source);
        written.is_ok() && probe(&mut command).is_some()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }

    /// Compiles the guest in `folder` to `module`.
    ///
    /// A guest that includes `process.h` uses Atoll's contract: it is linked with the generated `bindings`, and is a reactor
    /// because its entry is the world's `run`. Any other guest is a plain WASI command with a `main`.
    pub fn compile(&self, folder: &Path, bindings: &Path, module: &Path) -> Result<()> {
        let mut sources = c_files(folder)?;
        let mut uses_bindings = false;
        for source in &sources {
            let text = fs::read_to_string(source)
                .with_context(|| format!("reading {}", source.display()))?;
            uses_bindings |= text
                .lines()
                .any(|line| line.starts_with("#include") && line.contains("process.h"));
        }
        let mut command = self.command();
        // The stack comes first, so that an overflow leaves the memory and traps instead of overwriting data.
        // Debian's C library carries debug information; function names, which crash reports show, stay.
        command.args([
            "-Os",
            "-Wall",
            "-Wextra",
            "-Wl,--stack-first",
            "-Wl,--strip-debug",
        ]);
        if uses_bindings {
            command.arg("-mexec-model=reactor").arg("-I").arg(bindings);
            sources.extend(c_files(bindings)?);
        }
        run(command.arg("-o").arg(module).args(&sources))
    }
}

/// The C files right in a folder, sorted, so that a build is the same everywhere.
fn c_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "c") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

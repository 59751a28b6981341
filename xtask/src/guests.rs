//! Finds the guests, and builds each.
//!
//! There is no list of guests: xtask finds them by their sources.
//!
//! | language | a guest is | its name | built by |
//! |---|---|---|---|
//! | Rust | a package in `guests/rust/` with a `cdylib` or a program | the package's | [`RustToolchain`] |
//! | C | a folder `guests/c/NAME/` with a `main.c` | the folder's | [`Clang`] |
//! | WAT | a file `guests/wat/NAME.wat` | the file's | copying: `atoll` reads text |
//!
//! A Rust guest states its needs in its manifest, and other guests have `atoll-run-args: …` in a comment:
//!
//! ```toml
//! [package.metadata.atoll]
//! target = "wasm32-wasip1"               # default: wasm32-unknown-unknown
//! run-args = ["--dir", "{guest}::/data"] # options of `atoll run`; `{guest}` is the guest's folder
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::c::Clang;
use crate::toolchain::{RustToolchain, Target};
use crate::workspace::{Workspace, capture, cargo_in, run};

/// The mark in front of the options that a C or WAT guest needs from `atoll run`.
const RUN_ARGS_MARK: &str = "atoll-run-args:";

/// A guest that can be built and run.
#[derive(Debug)]
pub struct Guest {
    /// Its name on the command line.
    pub name: String,
    /// The first line of its source's comment.
    pub description: String,
    /// The options of `atoll run` that it needs.
    pub run_args: Vec<String>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Rust { manifest: PathBuf, target: Target },
    C { folder: PathBuf },
    Wat { file: PathBuf },
}

impl Guest {
    /// Where the built guest is, once [`build`] has run.
    pub fn module(&self, workspace: &Workspace) -> PathBuf {
        let extension = if matches!(self.source, Source::Wat { .. }) {
            "wat"
        } else {
            "wasm"
        };
        workspace
            .built_guests()
            .join(format!("{}.{extension}", self.name))
    }

    fn rust_target(&self) -> Option<Target> {
        match self.source {
            Source::Rust { target, .. } => Some(target),
            Source::C { .. } | Source::Wat { .. } => None,
        }
    }
}

/// Every guest, by name.
pub fn find_all(workspace: &Workspace) -> Result<Vec<Guest>> {
    let mut guests = find_rust(workspace)?;
    for path in sorted_entries(&workspace.guests().join("c"))? {
        let main = path.join("main.c");
        if main.is_file() {
            guests.push(from_text(
                &path,
                &main,
                &path,
                Source::C {
                    folder: path.clone(),
                },
            )?);
        }
    }
    for path in sorted_entries(&workspace.guests().join("wat"))? {
        if path.extension().is_some_and(|extension| extension == "wat") {
            let folder = path.parent().unwrap_or(&path);
            guests.push(from_text(
                &path,
                &path,
                folder,
                Source::Wat { file: path.clone() },
            )?);
        }
    }
    guests.sort_by(|left, right| left.name.cmp(&right.name));
    if let Some([guest, _]) = guests
        .array_windows()
        .find(|[left, right]| left.name == right.name)
    {
        bail!("two guests are called `{}`", guest.name);
    }
    Ok(guests)
}

/// A C or WAT guest, described by the text of its main file.
fn from_text(path: &Path, main: &Path, folder: &Path, source: Source) -> Result<Guest> {
    let text = fs::read_to_string(main).with_context(|| format!("reading {}", main.display()))?;
    let name = path
        .file_stem()
        .context("a guest's file has a name")?
        .to_string_lossy()
        .into_owned();
    let wanted = text.lines().find_map(|line| line.split_once(RUN_ARGS_MARK));
    let run_args = wanted
        .map_or("", |(_, arguments)| arguments)
        .trim_end_matches("*/");
    let run_args = run_args
        .split_whitespace()
        .map(|argument| filled_in(argument, folder))
        .collect();
    Ok(Guest {
        name,
        description: first_comment(&text),
        run_args,
        source,
    })
}

/// The guests of the Rust workspace.
fn find_rust(workspace: &Workspace) -> Result<Vec<Guest>> {
    let guests = workspace.guests();
    if !guests.join("Cargo.toml").exists() {
        return Ok(Vec::new());
    }
    let metadata =
        capture(cargo_in(&guests).args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value =
        serde_json::from_str(&metadata).context("reading the output of cargo metadata")?;
    let mut found = Vec::new();
    for package in elements(&metadata["packages"]) {
        let manifest = PathBuf::from(text(&package["manifest_path"])?);
        if manifest.starts_with(guests.join("rust")) {
            let guest = rust_guest(package, manifest)
                .with_context(|| format!("package {}", package["name"]))?;
            found.extend(guest);
        }
    }
    Ok(found)
}

/// The guest of a package, or `None` for a library that guests share.
fn rust_guest(package: &Value, manifest: PathBuf) -> Result<Option<Guest>> {
    let is_program =
        |target: &&Value| elements(&target["kind"]).any(|kind| kind == "cdylib" || kind == "bin");
    let Some(program) = elements(&package["targets"]).find(is_program) else {
        return Ok(None);
    };
    let main = text(&program["src_path"])?;
    let description =
        first_comment(&fs::read_to_string(main).with_context(|| format!("reading {main}"))?);
    let wishes = &package["metadata"]["atoll"];
    let target = match &wishes["target"] {
        Value::Null => Target::Bare,
        name => Target::from_name(text(name)?).with_context(|| format!("unknown target {name}"))?,
    };
    let folder = manifest.parent().context("a manifest lies in a folder")?;
    let run_args = elements(&wishes["run-args"])
        .map(|argument| Ok(filled_in(text(argument)?, folder)))
        .collect::<Result<_>>()?;
    let name = text(&package["name"])?.to_owned();
    Ok(Some(Guest {
        name,
        description,
        run_args,
        source: Source::Rust { manifest, target },
    }))
}

/// Builds guests into [`Workspace::built_guests`].
///
/// If a language's compiler is missing, only its guests fail: the others are built before the error is returned.
pub fn build<'a>(workspace: &Workspace, guests: impl IntoIterator<Item = &'a Guest>) -> Result<()> {
    let built = workspace.built_guests();
    fs::create_dir_all(&built).with_context(|| format!("creating {}", built.display()))?;
    let guests = guests.into_iter().collect::<Vec<_>>();
    let mut failures = Vec::new();
    for guest in &guests {
        if let Source::Wat { file } = &guest.source {
            failures.extend(install(file, &guest.module(workspace)).err());
        }
    }
    for target in Target::ALL {
        let of_target = guests
            .iter()
            .copied()
            .filter(|guest| guest.rust_target() == Some(target));
        failures.extend(build_rust(workspace, target, &of_target.collect::<Vec<_>>()).err());
    }
    failures.extend(build_c(workspace, &guests).err());
    if failures.is_empty() {
        return Ok(());
    }
    let messages = failures
        .iter()
        .map(|failure| format!("{failure:#}"))
        .collect::<Vec<_>>();
    Err(anyhow!(messages.join("\n")).context("building guests"))
}

/// Builds the Rust guests of one target with one call of cargo.
fn build_rust(workspace: &Workspace, target: Target, guests: &[&Guest]) -> Result<()> {
    if guests.is_empty() {
        return Ok(());
    }
    let toolchain = RustToolchain::find(workspace, target)?;
    let mut cargo = toolchain.cargo(target, &workspace.guests());
    cargo
        .args([
            "build",
            "--release",
            "--target",
            target.name(),
            "--message-format=json-render-diagnostics",
        ])
        .arg("--target-dir")
        .arg(rust_target_folder(workspace));
    for guest in guests {
        cargo.args(["--package", &guest.name]);
    }
    let messages = capture(&mut cargo)?;
    // Cargo's own report names the file of each package, for every kind of crate.
    let mut modules = Vec::new();
    for message in messages.lines() {
        let message: Value = serde_json::from_str(message).context("reading cargo's messages")?;
        let files = elements(&message["filenames"]).filter_map(Value::as_str);
        if let Some(module) = files.into_iter().find(|file| file.ends_with(".wasm")) {
            modules.push((
                PathBuf::from(text(&message["manifest_path"])?),
                PathBuf::from(module),
            ));
        }
    }
    for guest in guests {
        let Source::Rust { manifest, .. } = &guest.source else {
            continue;
        };
        let (_, module) = modules
            .iter()
            .find(|(package, _)| package == manifest)
            .with_context(|| format!("cargo built no wasm module for `{}`", guest.name))?;
        install(module, &guest.module(workspace))?;
    }
    Ok(())
}

/// Builds the C guests among `guests`, if there are any.
fn build_c(workspace: &Workspace, guests: &[&Guest]) -> Result<()> {
    let mut clang = None;
    for guest in guests {
        let Source::C { folder } = &guest.source else {
            continue;
        };
        let clang = match &clang {
            Some(clang) => clang,
            None => clang.insert(Clang::find(workspace)?),
        };
        let compiled = workspace
            .target
            .join("guests-build")
            .join(format!("{}.wasm", guest.name));
        clang.compile(folder, &workspace.guests().join("c/bindings"), &compiled)?;
        install(&compiled, &guest.module(workspace))?;
    }
    Ok(())
}

/// Lints the Rust guests for wasm, their target. Warnings are errors.
pub fn lint_rust(workspace: &Workspace, guests: &[Guest]) -> Result<()> {
    for target in Target::ALL {
        let mut of_target = guests
            .iter()
            .filter(|guest| guest.rust_target() == Some(target))
            .peekable();
        if of_target.peek().is_none() {
            continue;
        }
        let toolchain = RustToolchain::find(workspace, target)?;
        let mut cargo = toolchain.cargo_clippy(target, &workspace.guests())?;
        cargo
            .args(["--release", "--target", target.name(), "--target-dir"])
            .arg(rust_target_folder(workspace));
        for guest in of_target {
            cargo.args(["--package", &guest.name]);
        }
        run(&mut cargo)?;
    }
    Ok(())
}

/// The folder of cargo's output for guests. It is not the host's, because another compiler makes it.
fn rust_target_folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("guests-build")
}

/// Copies a built module into place. It leaves an unchanged module alone, because a process may be running it.
fn install(built: &Path, module: &Path) -> Result<()> {
    let bytes = fs::read(built).with_context(|| format!("reading {}", built.display()))?;
    if fs::read(module).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(module, bytes).with_context(|| format!("writing {}", module.display()))
}

/// The first line of the comment that a source file opens with.
fn first_comment(source: &str) -> String {
    const OPENERS: [&str; 4] = ["//", "/*", ";;", "(;"];
    let opens = source.lines().find(|line| !line.trim().is_empty());
    if !opens.is_some_and(|line| {
        OPENERS
            .iter()
            .any(|opener| line.trim_start().starts_with(opener))
    }) {
        return String::new();
    }
    let bare = |line: &str| {
        line.trim_matches([' ', '/', '*', '!', ';', '(', ')'])
            .to_owned()
    };
    let line = source.lines().map(bare).find(|line| !line.is_empty());
    let line = line.unwrap_or_default();
    // Cut a sentence that goes on in the next line at its last pause.
    match line.rfind(['.', ':', ',']) {
        Some(pause) if !line.ends_with('.') => line[..pause].to_owned(),
        _ => line,
    }
}

fn filled_in(argument: &str, folder: &Path) -> String {
    argument.replace("{guest}", &folder.to_string_lossy())
}

/// The entries of a folder, sorted. There are none if the folder does not exist.
fn sorted_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// The elements of a JSON array. Other values have none.
fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> Result<&str> {
    value
        .as_str()
        .with_context(|| format!("{value} is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn description_is_the_first_line_of_the_opening_comment() {
        for (source, description) in [
            ("//! Counts.\n//!\n//! More.\nuse std;\n", "Counts."),
            ("\n;; Counts, in text.\n(module)\n", "Counts, in text."),
            ("/*\n * Counts.\n */\nint x;\n", "Counts."),
            ("/* Counts. */\n", "Counts."),
            (
                "//! Counts: it holds a count, and goes\n//! on.\n",
                "Counts: it holds a count",
            ),
            ("(module ;; not a description\n)\n", ""),
            ("", ""),
        ] {
            assert_eq!(first_comment(source), description, "{source:?}");
        }
    }

    #[test]
    fn placeholder_becomes_the_folder_of_the_guest() {
        assert_eq!(
            filled_in("{guest}/data::/data:ro", Path::new("/g")),
            "/g/data::/data:ro"
        );
        assert_eq!(filled_in("--dir", Path::new("/g")), "--dir");
    }
}

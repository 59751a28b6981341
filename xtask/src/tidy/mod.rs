//! `cargo xtask tidy`: rules of this repository that compilers don't know.
//!
//! - Every Rust file opens with `//!`: what it is, how it is used, what it does not do.
//! - No source file is over [`LINES_MAX`] lines, nor holds work that was put off.
//! - `unsafe` stays in the files of [`UNSAFE_FILES`], each block and `impl` with its SAFETY comment.
//! - Rooms of the host import only rooms below them ([`rooms`]), and files of the host form no circle ([`circles`]).
//! - No function but a test's has more than [`FUNCTION_LINES_MAX`] lines.
//! - Only the files of [`CLOCK_FILES`] look at a clock or sleep.
//! - What is generated from `wit/process.wit` says what the contract says ([`crate::contract`]), and the canaries' module is
//!   that of their sources ([`crate::fuzz`]).
//!
//! A file that says on one of its first lines that it is generated answers only to its generator.

mod circles;
mod rooms;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::contract;
use crate::fuzz;
use crate::workspace::Workspace;

/// Longer than this, a file holds two subjects.
const LINES_MAX: usize = 700;
/// The contract is one subject, and its length is that of its documentation.
const CONTRACT: &str = "wit/process.wit";
/// How many lines above an unsafe block its SAFETY comment may start.
const SAFETY_LINES: usize = 3;
/// A longer function does several things.
const FUNCTION_LINES_MAX: usize = 70;
/// The only files in which `unsafe` may be written.
const UNSAFE_FILES: [&str; 32] = [
    "guest-sdk/src/bindings.rs",
    "guest-sdk/src/codec.rs",
    "guest-sdk/src/heap.rs",
    "guest-sdk/src/process.rs",
    "guest-sdk/src/spawn.rs",
    "guest-sdk/src/wasi.rs",
    "guests/rust/crasher/src/lib.rs",
    "guests/rust/host-status/src/lib.rs",
    "host/src/contract/core/memory.rs",
    "host/src/contract/core/pausing.rs",
    "host/src/engine/arena.rs",
    "host/src/engine/cache.rs",
    "host/src/engine/compiler.rs",
    "host/src/engine/compiler/compiled.rs",
    "host/src/engine/inhabitant.rs",
    "host/src/engine/instance.rs",
    "host/src/engine/loan.rs",
    "host/src/engine/packing.rs",
    "host/src/engine/packing/copies.rs",
    "host/src/engine/self_test.rs",
    "host/src/engine/slots/canary.rs",
    "host/src/engine/slots/given.rs",
    "host/src/engine/slots/home.rs",
    "host/src/engine/slots/mod.rs",
    "host/src/engine/slots/reaper.rs",
    "host/src/engine/slots/region.rs",
    "host/src/engine/slots/releases.rs",
    "host/src/engine/slots/renewal.rs",
    "host/src/engine/slots/reservation.rs",
    "host/src/engine/slots/stretch.rs",
    "host/src/engine/state.rs",
    "host/src/system/working_set.rs",
];
/// The files of the library that look at a clock or sleep: the seam, and what no process depends on.
const CLOCK_FILES: [&str; 5] = [
    "host/src/scheduler/seam.rs",
    // Notes when a file was used.
    "host/src/engine/cache.rs",
    // Is a process of its own.
    "host/src/engine/compiler/worker.rs",
    // Waits for an answer that costs a caller of the library some milliseconds.
    "host/src/runtime/mod.rs",
    // Writes what guests have printed, on a thread of its own.
    "host/src/wasi/sink.rs",
];
const CLOCKS: [&str; 3] = ["Instant::now", "SystemTime::now", "thread::sleep"];
/// Languages that the rules on length and unfinished work hold for.
const SOURCE_EXTENSIONS: [&str; 6] = ["rs", "c", "h", "wat", "wit", "sh"];
/// Marks of work put off. Each in two pieces, so that this file passes its own rule.
const UNFINISHED: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[", "ignore"),
    concat!("allow(", "dead_code)"),
];

/// Checks every source file. The error lists each breach as `path:line: rule`.
pub fn check(workspace: &Workspace) -> Result<()> {
    let mut files = Vec::new();
    collect(&workspace.root, &mut files)?;
    files.sort();
    let mut breaches = Vec::new();
    let mut imports = circles::Imports::default();
    for file in &files {
        let text =
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let path = file
            .strip_prefix(&workspace.root)
            .unwrap_or(file)
            .to_string_lossy();
        breaches.extend(breaches_of(&path, &text));
        imports.add(&path, &text)?;
    }
    breaches.extend(imports.circle());
    breaches.extend(contract::breach(workspace)?);
    breaches.extend(fuzz::breach(workspace)?);
    if !breaches.is_empty() {
        bail!("not tidy:\n  {}", breaches.join("\n  "));
    }
    println!("{} source files are tidy", files.len());
    Ok(())
}

/// Gathers the source files under a folder, leaving out what is built or hidden.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                collect(&path, files)?;
            }
        } else if path
            .extension()
            .and_then(OsStr::to_str)
            .is_some_and(|it| SOURCE_EXTENSIONS.contains(&it))
        {
            files.push(path);
        }
    }
    Ok(())
}

fn breaches_of(path: &str, text: &str) -> Vec<String> {
    if text
        .lines()
        .take(5)
        .any(|line| line.contains("@generated") || line.contains("Generated by"))
    {
        return Vec::new();
    }
    let lines = text.lines().collect::<Vec<_>>();
    let mut breaches = Vec::new();
    let mut breach = |line: usize, rule: &str| breaches.push(format!("{path}:{line}: {rule}"));
    if lines.len() > LINES_MAX && path != CONTRACT {
        breach(
            LINES_MAX + 1,
            &format!(
                "{} lines: over {LINES_MAX}, two subjects in one file?",
                lines.len()
            ),
        );
    }
    for (index, line) in lines.iter().enumerate() {
        if let Some(mark) = UNFINISHED.iter().find(|mark| line.contains(*mark)) {
            breach(index + 1, &format!("`{mark}`: finish it or remove it"));
        }
    }
    if !path.ends_with(".rs") {
        return breaches;
    }
    if !lines.first().is_some_and(|line| line.starts_with("//!")) {
        breach(1, "the file does not open with `//!`");
    }
    for (line, rule) in rooms::forbidden_imports(path, &lines)
        .into_iter()
        .chain(clocks(path, &lines))
        .chain(long_functions(path, &lines))
        .chain(unsafe_code(path, &lines))
        .chain(riddles(&lines))
    {
        breaches.push(format!("{path}:{line}: {rule}"));
    }
    breaches
}

/// The comments that begin with a question's word in place of their subject: a comment names the actor.
fn riddles(lines: &[&str]) -> Vec<(usize, String)> {
    const WORDS: [&str; 6] = ["What ", "Who ", "Whoever ", "Whom ", "Whose ", "Whatever "];
    let is_riddle = |line: &str| {
        let comment = line.trim_start().strip_prefix("//");
        let text = comment.map(|text| text.trim_start_matches(['/', '!', ' ']));
        text.is_some_and(|text| {
            WORDS.iter().any(|word| text.starts_with(word)) && !text.ends_with('?')
        })
    };
    let indexed = lines.iter().enumerate();
    indexed
        .filter(|(index, line)| {
            // A sentence may go on with one of these words, but not begin with it.
            let before = index
                .checked_sub(1)
                .map_or("", |before| lines[before].trim());
            let continues = before.starts_with("//") && !before.ends_with(['.', ':', '/', '!']);
            is_riddle(line) && !continues
        })
        .map(|(index, _)| {
            (
                index + 1,
                "the comment does not name its subject".to_owned(),
            )
        })
        .collect()
}

/// Where code asks a clock that is not the seam's.
fn clocks(path: &str, lines: &[&str]) -> Vec<(usize, String)> {
    let is_library = path.starts_with("host/src/") && !path.starts_with("host/src/bin/");
    if !is_library || is_test(path) || CLOCK_FILES.contains(&path) {
        return Vec::new();
    }
    let asks = |line: &&str| {
        let code = line.split("//").next().unwrap_or_default();
        CLOCKS.iter().find(|clock| code.contains(**clock)).copied()
    };
    let found = (1..)
        .zip(lines)
        .filter_map(|(number, line)| Some((number, asks(line)?)));
    let rule = |clock| format!("`{clock}`: only the seam knows what time it is");
    found.map(|(number, clock)| (number, rule(clock))).collect()
}

fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}

/// The functions that are too long: by the indentation that rustfmt gives their ends.
fn long_functions(path: &str, lines: &[&str]) -> Vec<(usize, String)> {
    if is_test(path) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indentation = &line[..line.len() - line.trim_start().len()];
        // A declaration has no body: it ends with a semicolon before anything is indented like its beginning.
        let length = lines[index..].iter().position(|line| {
            let behind = line.strip_prefix(indentation).unwrap_or_default();
            behind == "}" || behind.ends_with(';') && !behind.starts_with(' ')
        });
        let length = length.map_or(0, |last| last + 1);
        if length > FUNCTION_LINES_MAX {
            let rule = format!("`{name}` has {length} lines: over {FUNCTION_LINES_MAX}");
            found.push((index + 1, rule));
        }
    }
    found
}

/// The name of the function that a line begins to define.
fn function_name(line: &str) -> Option<&str> {
    let (before, behind) = line.split_once("fn ")?;
    let is_definition = before.split_whitespace().all(|word| {
        word.starts_with("pub")
            || matches!(
                word,
                "const" | "async" | "extern" | "\"C\"" | "in" | "unsafe"
            )
            || word.ends_with(')')
    });
    let end = behind.find(['(', '<'])?;
    is_definition.then_some(&behind[..end])
}

/// Where `unsafe` has no place, or no reason.
fn unsafe_code(path: &str, lines: &[&str]) -> Vec<(usize, String)> {
    let is_allowed = UNSAFE_FILES.contains(&path) || is_test(path);
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(next) = after_unsafe(line) else {
            continue;
        };
        if !is_allowed {
            let rule = "`unsafe` in a file that may not hold it".to_owned();
            found.push((index + 1, rule));
        }
        let needs_reason = next.starts_with('{') || next.starts_with("impl") || next.is_empty();
        let above = &lines[index.saturating_sub(SAFETY_LINES)..=index];
        let has_reason = above
            .iter()
            .any(|line| line.contains("SAFETY") || line.contains("# Safety"));
        if needs_reason && !has_reason {
            let rule = "`unsafe` without a SAFETY comment in the three lines above".to_owned();
            found.push((index + 1, rule));
        }
    }
    found
}

/// The code behind the keyword `unsafe` in a line; `None` if the line has none outside of comments and strings.
fn after_unsafe(line: &str) -> Option<&str> {
    let mut offset = 0;
    while let Some(found) = line[offset..].find("unsafe") {
        let (before, after) = (
            &line[..offset + found],
            &line[offset + found + "unsafe".len()..],
        );
        let is_word = |character: char| character.is_alphanumeric() || character == '_';
        let is_keyword = !before.ends_with(is_word) && !after.starts_with(is_word);
        let quotes = before.matches('"').count() - before.matches("\\\"").count();
        let is_in_string = quotes % 2 == 1;
        if is_keyword && !is_in_string && !before.contains("//") {
            return Some(after.trim_start());
        }
        offset += found + "unsafe".len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keyword, spelled so that these tests hold no unsafe line themselves.
    const UNSAFE: &str = concat!("un", "safe");

    fn rules(path: &str, text: &str) -> Vec<String> {
        let strip = |breach: String| {
            breach
                .strip_prefix(&format!("{path}:"))
                .unwrap_or(&breach)
                .to_owned()
        };
        breaches_of(path, text).into_iter().map(strip).collect()
    }

    #[test]
    fn good_file_passes() {
        assert!(rules("host/src/lib.rs", "//! A library.\nfn run() {}\n").is_empty());
    }

    #[test]
    fn rust_file_opens_with_its_description() {
        assert_eq!(
            rules("a.rs", "fn run() {}\n"),
            ["1: the file does not open with `//!`"]
        );
        assert_eq!(rules("a.rs", "").len(), 1);
        assert!(rules("a.wat", "(module)\n").is_empty());
    }

    #[test]
    fn long_file_fails_unless_generated() {
        let long = format!("//! Long.\n{}", "\n".repeat(LINES_MAX));
        assert_eq!(rules("a.rs", &long).len(), 1);
        assert!(rules("a.rs", &long.replacen('\n', "", 1)).is_empty());
        assert!(rules("a.rs", &format!("// @generated\n{long}")).is_empty());
    }

    #[test]
    fn unfinished_work_fails_in_every_language() {
        for mark in UNFINISHED {
            assert_eq!(
                rules("a.wat", &format!("(module)\n{mark}\n")).len(),
                1,
                "{mark}"
            );
        }
    }

    #[test]
    fn unsafe_has_its_place_and_its_reason() {
        let bare = format!("//! A.\n{UNSAFE} {{ f() }}\n");
        let reasoned = format!("//! A.\n// SAFETY: f is fine.\n//\n{UNSAFE} {{ f() }}\n");
        assert_eq!(rules("host/src/engine/loan.rs", &bare).len(), 1);
        assert!(rules("host/src/engine/loan.rs", &reasoned).is_empty());
        assert_eq!(rules("host/src/system/mod.rs", &reasoned).len(), 1);
        assert_eq!(rules("host/src/system/mod.rs", &bare).len(), 2);
        // The caller of an unsafe function gives the reason, not its declaration.
        assert!(
            rules(
                "guests/rust/crasher/src/lib.rs",
                &format!("//! A.\npub {UNSAFE} fn f() {{}}\n")
            )
            .is_empty()
        );
    }

    #[test]
    fn a_function_has_an_end_in_sight() {
        let body = |lines: usize| "        f();\n".repeat(lines);
        for head in [
            "fn g() {",
            "    pub(crate) async fn g(\n        a: u32,\n    ) -> u32 {",
        ] {
            let indentation = if head.starts_with(' ') { "    " } else { "" };
            let text = |lines| format!("//! A.\n{head}\n{}{indentation}}}\n", body(lines));
            assert!(rules("xtask/src/a.rs", &text(60)).is_empty(), "{head}");
            assert_eq!(rules("xtask/src/a.rs", &text(70)).len(), 1, "{head}");
            assert!(rules("tests/tests/it/a.rs", &text(70)).is_empty(), "{head}");
        }
        let declared = format!(
            "//! A.\ntrait T {{\n    fn g(&self);\n{}}}\n",
            "    // A.\n".repeat(90)
        );
        assert!(rules("xtask/src/a.rs", &declared).is_empty());
    }

    #[test]
    fn the_seam_alone_knows_what_time_it_is() {
        for clock in CLOCKS {
            let text = format!("//! A.\nlet now = {clock}();\n");
            assert_eq!(rules("host/src/system/mod.rs", &text).len(), 1, "{clock}");
            assert!(rules("host/src/scheduler/seam.rs", &text).is_empty());
            assert!(rules("xtask/src/a.rs", &text).is_empty());
        }
    }

    #[test]
    fn a_comment_names_its_subject() {
        let rule = |comment: &str| rules("a.rs", &format!("//! A.\n{comment}\nfn f() {{}}\n"));
        for comment in ["/// What it returns.", "    // Who waits for it is told."] {
            let found = rule(comment);
            assert_eq!(
                found,
                ["2: the comment does not name its subject"],
                "{comment}"
            );
        }
        for comment in [
            "/// The result.",
            "// What if it fails?",
            "// It says\n// what it is.",
        ] {
            assert!(rule(comment).is_empty(), "{comment}");
        }
    }

    #[test]
    fn rooms_import_only_what_lies_below() {
        let text = "//! A.\nuse crate::engine::Engine;\n";
        assert_eq!(rules("host/src/system/mod.rs", text).len(), 1);
        assert!(rules("host/src/runtime/mod.rs", text).is_empty());
    }

    #[test]
    fn the_word_alone_is_not_the_keyword() {
        for line in [
            format!("// {UNSAFE} {{ f() }}"),
            "deny(unsafe_op_in_unsafe_fn)".to_owned(),
            format!("let text = \"{UNSAFE} {{\";"),
        ] {
            assert_eq!(after_unsafe(&line), None, "{line}");
        }
        assert_eq!(
            after_unsafe(&format!("#[{UNSAFE}(no_mangle)]")),
            Some("(no_mangle)]")
        );
    }
}

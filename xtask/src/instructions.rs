//! `cargo xtask instructions`: how many instructions the core operations take, counted by valgrind.
//!
//! No noise blurs these: an operation that has become more expensive shows, however busy the machine is. Each guest is run
//! twice, with more to do the second time; the difference is what that takes. Beside it stands what was recorded in
//! `xtask/instructions.txt`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::guests::{self, Guest};
use crate::packages;
use crate::workspace::{Workspace, is_on_path};

/// A guest that is run twice, the second time with more to do.
struct Case {
    name: &'static str,
    guest: &'static str,
    arguments: [&'static [&'static str]; 2],
    /// How much more, in what the name says.
    operations: u64,
}

const CASES: [Case; 3] = [
    Case {
        name: "round-trip",
        guest: "ping-pong",
        arguments: [&["2000", "16"], &["12000", "16"]],
        operations: 10_000,
    },
    Case {
        name: "hop",
        guest: "ring",
        arguments: [&["100", "10"], &["100", "110"]],
        operations: 10_000,
    },
    // A process is spawned, hibernated, woken twice, and ends.
    Case {
        name: "sleeper",
        guest: "million",
        arguments: [&["500"], &["2500"]],
        operations: 2000,
    },
];
/// An operation may take so many times what was recorded: another C library alone makes a difference.
const TOLERANCE: f64 = 1.03;
/// The same on any machine: another processor makes the C library choose other functions.
const TOLERANCE_ELSEWHERE: f64 = 1.1;

/// Counts, compares, and fails if an operation takes more than was recorded; with `record`, records.
pub fn instructions(workspace: &Workspace, record: bool) -> Result<()> {
    compare(workspace, record, TOLERANCE)
}

/// The same as a test, which must pass on any machine.
pub fn check(workspace: &Workspace) -> Result<()> {
    compare(workspace, false, TOLERANCE_ELSEWHERE)
}

fn compare(workspace: &Workspace, record: bool, tolerance: f64) -> Result<()> {
    if !is_on_path("valgrind") && !packages::install(&["valgrind"], "to count instructions") {
        bail!("valgrind is missing. On Debian, `apt-get install valgrind`.");
    }
    let guests = guests::find_all(workspace)?;
    guests::build(workspace, &guests)?;
    workspace.build_atoll()?;
    let atoll = workspace.atoll();
    let file = workspace.root.join("xtask/instructions.txt");
    let recorded = std::fs::read_to_string(&file).unwrap_or_default();
    let (mut text, mut failures) = (String::new(), Vec::new());
    println!(
        "{:<12} {:>12} {:>12} {:>7}",
        "each", "instructions", "recorded", "ratio"
    );
    for case in CASES {
        let name = case.name;
        let guest = guests.iter().find(|guest| guest.name == case.guest);
        let guest = guest.with_context(|| format!("there is no guest {}", case.guest))?;
        let [few, many] = case.arguments;
        // The first run compiles the guest, and keeps the code for the others.
        count(workspace, &atoll, guest, few)?;
        let more = count(workspace, &atoll, guest, many)?;
        let less = count(workspace, &atoll, guest, few)?;
        let each = more.saturating_sub(less) / case.operations;
        let before = recorded_of(&recorded, name);
        let ratio = before.map(|before| each as f64 / before as f64);
        println!(
            "{name:<12} {each:>12} {:>12} {:>7}",
            before.map_or("-".to_owned(), |before| before.to_string()),
            ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"))
        );
        text += &format!("{name} {each}\n");
        if ratio.is_none_or(|ratio| ratio > tolerance) {
            failures.push(name);
        }
    }
    if record {
        return Ok(std::fs::write(file, text)?);
    }
    if !failures.is_empty() {
        bail!(
            "more instructions than recorded: {}; if that has a reason, record them with `--record` and say it",
            failures.join(", ")
        );
    }
    Ok(())
}

/// The instructions of a whole run. The process that compiles runs under valgrind as well, so that it makes code for the
/// processor that valgrind shows; the log with the number of `atoll` itself is the one that counts.
fn count(workspace: &Workspace, atoll: &Path, guest: &Guest, arguments: &[&str]) -> Result<u64> {
    let logs = workspace.target.join("instructions");
    std::fs::create_dir_all(&logs)?;
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--trace-children=yes")
        .arg(format!("--log-file={}/%p", logs.display()))
        .arg(atoll)
        .args(["run", "--schedulers", "1"])
        .args(&guest.run_args)
        .arg(guest.module(workspace))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let child = command.spawn().context("starting valgrind")?;
    let log = logs.join(child.id().to_string());
    let output = child.wait_with_output()?;
    let counted = std::fs::read_to_string(&log).unwrap_or_default();
    std::fs::remove_dir_all(&logs)?;
    collected(&counted)
        .filter(|_| output.status.success())
        .with_context(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("counting {}: {}{}", guest.name, said, counted.trim())
        })
}

/// The number in callgrind's last words: `==123== Collected : 4567`.
fn collected(told: &str) -> Option<u64> {
    let line = told
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    line?.1.trim().parse().ok()
}

fn recorded_of(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found() {
        assert_eq!(collected("==1== \n==1== Collected : 4567\n"), Some(4567));
        assert_eq!(collected("==1== nothing\n"), None);
        let recorded = "round-trip 7\nhop 9\n";
        assert_eq!(recorded_of(recorded, "hop"), Some(9));
        assert_eq!(recorded_of(recorded, "round"), None);
    }
}

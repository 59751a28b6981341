//! `cargo xtask instructions`: how many instructions the core operations take, counted by valgrind.
//!
//! No noise blurs these: an operation that has become more expensive shows, however busy the machine is. Each case of
//! `atoll-bench` is run twice, with different numbers of operations; the difference is what the operations take. Beside
//! it stands what was recorded in `xtask/instructions.txt`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bench::build_atoll_bench;
use crate::guests;
use crate::packages;
use crate::test::with_paths;
use crate::workspace::{Workspace, is_on_path};

/// The cases, by their figures' names.
const CASES: [&str; 9] = [
    "spawn_exit_seq_s1_bare",
    "spawn_exit_seq_s1_rust",
    "spawn_monitor_seq_s1_bare",
    "pingpong_ref_16B_s1_bare",
    "pingpong_ref_16B_s1_rust",
    "ring_1000_s1_bare",
    "selrecv_none_0_s1_bare",
    "selrecv_ref_10000_s1_bare",
    "request_reply_s1_rust",
];
/// Operations of the two runs of each case.
const OPERATIONS: [u32; 2] = [2_000, 12_000];
/// A run does the work twice: once to warm up.
const REPETITIONS: u32 = 2;
/// How much more than recorded is too much: another compiler version alone makes some.
const TOLERANCE: f64 = 1.03;

/// Counts, compares, and fails if an operation takes more than was recorded; with `record`, records.
pub fn instructions(workspace: &Workspace, record: bool) -> Result<()> {
    if !is_on_path("valgrind") && !packages::install(&["valgrind"], "to count instructions") {
        bail!("valgrind is missing. On Debian, `apt-get install valgrind`.");
    }
    guests::build(workspace, &guests::find_all(workspace)?)?;
    let atoll_bench = build_atoll_bench(workspace)?;
    let file = workspace.root.join("xtask/instructions.txt");
    let recorded = std::fs::read_to_string(&file).unwrap_or_default();
    let (mut text, mut failures) = (String::new(), Vec::new());
    println!(
        "{:<28} {:>12} {:>12} {:>7}",
        "name", "instructions", "recorded", "ratio"
    );
    for name in CASES {
        let [few, many] = OPERATIONS;
        let more = count(workspace, &atoll_bench, name, many)?;
        let less = count(workspace, &atoll_bench, name, few)?;
        let each = more.saturating_sub(less) / u64::from((many - few) * REPETITIONS);
        let before = recorded_of(&recorded, name);
        let ratio = before.map(|before| each as f64 / before as f64);
        println!(
            "{name:<28} {each:>12} {:>12} {:>7}",
            before.map_or("-".to_owned(), |before| before.to_string()),
            ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"))
        );
        text += &format!("{name} {each}\n");
        if ratio.is_none_or(|ratio| ratio > TOLERANCE) {
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

/// The instructions of a whole run.
fn count(workspace: &Workspace, atoll_bench: &Path, name: &str, operations: u32) -> Result<u64> {
    let mut command = Command::new("valgrind");
    with_paths(workspace, &mut command)
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(atoll_bench)
        .args(["--exact", name, "--reps", "1", "--times"])
        .arg(operations.to_string());
    let output = command.output().context("starting valgrind")?;
    let told = String::from_utf8_lossy(&output.stderr);
    collected(&told)
        .filter(|_| output.status.success())
        .with_context(|| format!("counting {name}: {}", told.trim()))
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
        let recorded = "ring_1000_s1_bare 7\nring_1000_s1_rust 9\n";
        assert_eq!(recorded_of(recorded, "ring_1000_s1_rust"), Some(9));
        assert_eq!(recorded_of(recorded, "ring"), None);
    }
}

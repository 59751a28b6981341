//! `cargo xtask bench`: measures, and prints each figure beside the prototype's and Erlang's.
//!
//! The measuring is done by the program `atoll-bench` of the crate `atoll-tests`, which prints `NAME VALUE UNIT` lines;
//! this module knows only what to compare them with. Lower is better in every row.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::guests;
use crate::packages;
use crate::test::with_paths;
use crate::workspace::{Workspace, capture, is_on_path};

/// More than this much slower than the prototype needs an explanation.
const PROTOTYPE_RATIO_MAX: f64 = 1.3;
/// Where the Erlang programs are, from the root of the checkout: they are no part of the repository.
const ERLANG_FOLDER: &str = "../shared/bench/erlang";

/// What a benchmark's figure is compared with, all in the benchmark's own unit.
struct Reference {
    name: &'static str,
    /// What the prototype behind the design took.
    prototype: Option<f64>,
    /// What Erlang took on the machine that the design was measured on.
    erlang: Option<f64>,
    /// The Erlang program for the same work: what selects it in the list of cases, and the name that it prints.
    erlang_case: Option<(&'static str, &'static str)>,
}

const SPAWN_CASE: (&str, &str) = ("1 [0-9]+ spawn_exit seq ", "spawn_exit_seq_s1");
const PINGPONG_CASE: (&str, &str) = ("1 [0-9]+ pingpong ref 16 ", "pingpong_ref_16B_s1");
const RING_CASE: (&str, &str) = ("1 [0-9]+ ring 1000 ", "ring_1000_s1");
const FIB_CASE: (&str, &str) = ("1 [0-9]+ cpu fib 35", "cpu_fib_35");

/// The prototype's figures are the middle of the range that was measured: 2.5 to 3 µs, 15 to 27 µs, 312 to 362 ns. The
/// ping-pong figure was measured with a bare guest only, and stands for the Rust guest too.
const REFERENCES: [Reference; 7] = [
    reference("spawn_exit_bare", Some(2.75), Some(1.40), SPAWN_CASE),
    reference("spawn_exit_rust", Some(21.0), Some(1.40), SPAWN_CASE),
    reference("pingpong_16B_bare", Some(0.337), Some(0.36), PINGPONG_CASE),
    reference("pingpong_16B_rust", Some(0.337), Some(0.36), PINGPONG_CASE),
    reference("ring_1000_bare", None, Some(223.0), RING_CASE),
    reference("ring_1000_rust", None, Some(223.0), RING_CASE),
    reference("fib_35_bare", None, Some(98.0), FIB_CASE),
];

const fn reference(
    name: &'static str,
    prototype: Option<f64>,
    erlang: Option<f64>,
    erlang_case: (&'static str, &'static str),
) -> Reference {
    Reference {
        name,
        prototype,
        erlang,
        erlang_case: Some(erlang_case),
    }
}

/// Something that was not measured before: there is nothing to compare it with.
const UNKNOWN: Reference = Reference {
    name: "",
    prototype: None,
    erlang: None,
    erlang_case: None,
};

/// One line that a benchmark printed.
#[derive(Debug, PartialEq)]
struct Figure {
    name: String,
    value: f64,
    unit: String,
}

/// Builds, measures and prints the table. With `vs_erlang`, Erlang's figures are measured too, here and now.
pub fn bench(workspace: &Workspace, filter: Option<&str>, vs_erlang: bool) -> Result<()> {
    // What is missing for the comparison is said before minutes are spent on measuring.
    let erlang_script = vs_erlang.then(|| find_erlang(workspace)).transpose()?;
    guests::build(workspace, &guests::find_all(workspace)?)?;
    let mut cargo = workspace.cargo();
    cargo
        .args([
            "run",
            "--profile",
            "dist",
            "--package",
            "atoll-tests",
            "--bin",
            "atoll-bench",
            "--",
        ])
        .args(filter);
    let figures = figures(&capture(with_paths(workspace, &mut cargo))?);
    if figures.is_empty() {
        bail!(
            "no benchmark was run{}",
            filter.map_or(String::new(), |filter| format!(": none matches `{filter}`"))
        );
    }
    let erlang = match erlang_script {
        Some(script) => measure_erlang(workspace, &script, &figures)?,
        None => Vec::new(),
    };
    print!("{}", table(&figures, &erlang));
    Ok(())
}

/// The figures among the lines of a benchmark's output.
fn figures(output: &str) -> Vec<Figure> {
    let figure = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, value, unit) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
        Some(Figure {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
        })
    };
    output.lines().filter_map(figure).collect()
}

fn reference_of(name: &str) -> &'static Reference {
    REFERENCES
        .iter()
        .find(|reference| reference.name == name)
        .unwrap_or(&UNKNOWN)
}

/// The script that measures Erlang, with Erlang there to run it.
fn find_erlang(workspace: &Workspace) -> Result<PathBuf> {
    let script = workspace.root.join(ERLANG_FOLDER).join("run_all.sh");
    if !script.is_file() {
        bail!("Erlang can't be measured: there is no {ERLANG_FOLDER} beside this checkout");
    }
    if !is_on_path("erlc") && !packages::install(&["erlang-base"], "to measure Erlang") {
        bail!(
            "Erlang can't be measured: erlc is missing. On Debian, `apt-get install erlang-base`."
        );
    }
    Ok(script)
}

/// Runs the Erlang programs that do the same work as the benchmarks in `figures`.
fn measure_erlang(workspace: &Workspace, script: &Path, figures: &[Figure]) -> Result<Vec<Figure>> {
    let mut cases = figures
        .iter()
        .filter_map(|figure| reference_of(&figure.name).erlang_case)
        .map(|(pattern, _)| pattern)
        .collect::<Vec<_>>();
    cases.dedup();
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    let work: PathBuf = workspace.target.join("bench/erlang");
    eprintln!("xtask: measuring Erlang");
    let output = capture(
        Command::new("bash")
            .arg(script)
            .env("ONLY", format!("^({})", cases.join("|")))
            .env("WORK", work),
    )
    .context("measuring Erlang")?;
    Ok(erlang_medians(&output))
}

/// The medians in the table that the Erlang script prints: `| name | median | min | max | … |`.
fn erlang_medians(output: &str) -> Vec<Figure> {
    let median = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (name, value) = (cells.next()?, cells.next()?.parse().ok()?);
        Some(Figure {
            name: name.to_owned(),
            value,
            unit: cells.nth(3)?.to_owned(),
        })
    };
    output.lines().filter_map(median).collect()
}

/// The figures beside what they are compared with. A star marks what is too much slower than the prototype.
fn table(figures: &[Figure], measured_erlang: &[Figure]) -> String {
    let heading = if measured_erlang.is_empty() {
        "Erlang (recorded)"
    } else {
        "Erlang"
    };
    let mut table = format!(
        "{:<20} {:>10} {:<7} {:>10} {:>7} {:>18} {:>7}\n",
        "name", "value", "unit", "prototype", "ratio", heading, "ratio"
    );
    let mut is_slower = false;
    for figure in figures {
        let reference = reference_of(&figure.name);
        let measured = reference
            .erlang_case
            .and_then(|(_, name)| measured_erlang.iter().find(|it| it.name == name));
        let erlang = measured.map(|figure| figure.value).or(reference.erlang);
        let slow = reference
            .prototype
            .is_some_and(|prototype| figure.value > prototype * PROTOTYPE_RATIO_MAX);
        is_slower |= slow;
        let row = format!(
            "{:<20} {:>10} {:<7} {:>10} {:>6}{:1} {:>18} {:>6}",
            figure.name,
            short(figure.value),
            figure.unit,
            reference.prototype.map_or("-".to_owned(), short),
            ratio(figure.value, reference.prototype),
            if slow { "*" } else { "" },
            erlang.map_or("-".to_owned(), short),
            ratio(figure.value, erlang),
        );
        // Writing to a string can't fail.
        let _ = writeln!(table, "{row}");
    }
    if is_slower {
        let _ = writeln!(
            table,
            "* more than {PROTOTYPE_RATIO_MAX} times the prototype's figure"
        );
    }
    table
}

fn ratio(value: f64, reference: Option<f64>) -> String {
    reference.map_or("-".to_owned(), |reference| {
        format!("{:.2}x", value / reference)
    })
}

/// About three digits that mean something.
fn short(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        3
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_with_a_name_a_number_and_a_unit_are_figures() {
        let found = figures(
            "warming up\nring_1000_bare 210.5 ns/hop\nring x ns\nfib_35_bare 80 ms 5 runs\n",
        );
        let names = found
            .iter()
            .map(|figure| (figure.name.as_str(), figure.value))
            .collect::<Vec<_>>();
        assert_eq!(names, [("ring_1000_bare", 210.5), ("fib_35_bare", 80.0)]);
    }

    #[test]
    fn medians_come_from_the_rows_of_the_erlang_table() {
        let row = "| cpu_fib_35      |       70.572 |       68.622 |       72.521 |       69.102 | ms  | 2/2 | 0.07 |";
        let output = format!(
            "BEAM anchors\n| name | median | min | max | cpu-corr | unit |\n|---|---:|\n{row}\n"
        );
        let expected = Figure {
            name: "cpu_fib_35".to_owned(),
            value: 70.572,
            unit: "ms".to_owned(),
        };
        assert_eq!(erlang_medians(&output), [expected]);
    }

    #[test]
    fn table_compares_and_marks_what_is_too_slow() {
        let table = table(&figures("spawn_exit_bare 5.5 us\nother 1 us\n"), &[]);
        let rows = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .collect::<Vec<_>>();
        assert_eq!(
            rows[1],
            [
                "spawn_exit_bare",
                "5.500",
                "us",
                "2.750",
                "2.00x*",
                "1.400",
                "3.93x"
            ]
        );
        assert_eq!(rows[2], ["other", "1.000", "us", "-", "-", "-", "-"]);
        assert!(rows[3][0] == "*");
    }
}

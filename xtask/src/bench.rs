//! `cargo xtask bench`: measures, and prints each figure beside Erlang's and its target.
//!
//! The program `atoll-bench` of the crate `atoll-tests` measures and prints `NAME VALUE UNIT` lines. This module knows only
//! the figures to compare them with. With `--vs-erlang`, the two sides run in turn: an Atoll case, and then at once the
//! Erlang program for the same work, so that both find the machine in the same state. It leaves the table and a picture of
//! the ratios in `target/bench`.
//!
//! An Atoll name is Erlang's with the guest appended: `fair_busy4_s2_p99_rust`, where `s2` stands for two schedulers.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::guests;
use crate::packages;
use crate::plot::{self, Bar};
use crate::targets::Target;
use crate::test::with_paths;
use crate::workspace::{Workspace, capture, is_on_path};

/// Where the Erlang programs are, from the root of the checkout.
const ERLANG_FOLDER: &str = "tests/erlang";
/// The suffixes of Atoll's names.
const GUEST_SUFFIXES: [&str; 2] = ["_bare", "_rust"];

/// The Erlang case for figures of Atoll's.
struct Counterpart {
    /// The prefix of Atoll's names, in front of the schedulers.
    name: &'static str,
    /// The prefix of the names that the Erlang program prints.
    erlang: &'static str,
    /// The program and its arguments, as they stand in Erlang's list of cases.
    program: &'static str,
    /// Replaces the number of schedulers in the names that Erlang prints, if it is given.
    erlang_rest: Option<&'static str>,
    /// Stands in front of the program in the list, instead of the number of schedulers.
    mode: Option<&'static str>,
}

const COUNTERPARTS: [Counterpart; 29] = [
    same("spawn_exit_seq", "spawn_exit seq "),
    same("spawn_exit_batch", "spawn_exit batch "),
    same("spawn_monitor_seq", "monitor seq "),
    same("spawn_monitor_batch", "monitor batch "),
    same("link_cascade_10000", "monitor links 10000"),
    same("pingpong_ref_16B", "pingpong ref 16 "),
    same("pingpong_copy_1KiB", "pingpong copy 1024 "),
    same("pingpong_copy_64KiB", "pingpong copy 65536 "),
    same("ring_1000", "ring 1000 "),
    same("selrecv_none_0", "selrecv none "),
    same("selrecv_scan_10000", "selrecv scan 10000 "),
    same("selrecv_ref_10000", "selrecv ref 10000 "),
    // A call in the contract corresponds to `gen_server:call/2` in Erlang.
    Counterpart {
        name: "request_reply",
        erlang: "gen_server_call_c1",
        program: "gs 1 ",
        ..same("request_reply", "")
    },
    same("pingpong_copy_1MiB", "pingpong copy 1048576 "),
    Counterpart {
        erlang: "pingpong_ref_16B",
        erlang_rest: Some("_s2cross"),
        ..same("pingpong_two_16B", "pingpong ref 16 20000 pin")
    },
    same("ring_100000", "ring 100000 "),
    Counterpart {
        erlang: "fanin_100x100000_on_heap",
        ..same("fanin_100x100000", "fanin 100 100000 on_heap")
    },
    Counterpart {
        erlang: "cpu_sieve_atomics_5000000",
        ..same("cpu_sieve_5000000", "cpu sieve 5000000")
    },
    same("cpu_nbody_200000", "cpu nbody 200000"),
    Counterpart {
        erlang: "startup_wall",
        mode: Some("startup"),
        ..same("start_up_hello", "")
    },
    Counterpart {
        erlang: "mem_rss_plain_1000000",
        mode: Some("m"),
        ..same("memory_live", "mem_idle 1000000 plain")
    },
    Counterpart {
        erlang: "mem_rss_hib_1000000",
        mode: Some("m"),
        ..same("million_asleep", "mem_idle 1000000 ")
    },
    // Erlang's processes are not hibernated.
    Counterpart {
        erlang: "spawn_idle_plain_1000000",
        erlang_rest: Some("_s2"),
        mode: Some("m"),
        ..same("million_spawned", "mem_idle 1000000 ")
    },
    same("timer_arm_100000", "timers set 100000"),
    same("timer_late_100000", "timers set 100000"),
    same("receive_after_1ms", "timers after 1 "),
    same("fair_busy4", "fair 4 "),
    same("fair_busy1000", "fair 1000 "),
    same("cpu_fib_35", "cpu fib 35"),
];

const fn same(name: &'static str, program: &'static str) -> Counterpart {
    Counterpart {
        name,
        erlang: name,
        program,
        erlang_rest: None,
        mode: None,
    }
}

/// Erlang's figures on the machine that the design was measured on, by the names that Erlang prints.
const ERLANG_RECORDED: [(&str, f64); 12] = [
    ("spawn_exit_seq_s1", 1.40),
    ("spawn_monitor_seq_s1", 853_000.0),
    ("pingpong_ref_16B_s1", 0.36),
    ("ring_1000_s1", 223.0),
    ("selrecv_scan_10000_s1", 60.0),
    ("selrecv_ref_10000_s1", 1.2),
    ("gen_server_call_c1_s1", 722_000.0),
    ("fair_busy4_s2_p50", 16.7),
    ("fair_busy4_s2_p99", 43.0),
    ("fair_busy1000_s2_p50", 3800.0),
    ("fair_busy1000_s2_p99", 7400.0),
    ("cpu_fib_35", 98.0),
];

/// One line that a benchmark printed.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: String,
}

/// Builds, measures and prints the table. With `vs_erlang`, it also measures Erlang on this machine.
pub fn bench(workspace: &Workspace, filters: &[String], vs_erlang: bool) -> Result<()> {
    // Report missing programs before minutes of measuring.
    let erlang_script = vs_erlang.then(|| find_erlang(workspace)).transpose()?;
    guests::build(workspace, &guests::find_all(workspace)?)?;
    let atoll_bench = workspace.build_dist()?.join("atoll-bench");
    let cases = capture(
        with_paths(workspace, &mut Command::new(&atoll_bench))
            .arg("--list")
            .args(filters),
    )?;
    let groups = groups(&cases);
    if groups.is_empty() {
        bail!(
            "no benchmark was run: none matches `{}`",
            filters.join("` or `")
        );
    }
    let (mut figures, mut erlang, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for group in groups {
        eprintln!("xtask: measuring {}", group.names.join(", "));
        let mut command = Command::new(&atoll_bench);
        with_paths(workspace, &mut command)
            .arg("--exact")
            .args(&group.names);
        // A case that fails must not discard minutes of other measurements.
        match capture(&mut command) {
            Ok(output) => figures.extend(figures_in(&output)),
            Err(error) => failures.push(format!("{error:#}")),
        }
        if let (Some(script), Some(pattern)) = (&erlang_script, &group.erlang_pattern) {
            eprintln!("xtask: measuring Erlang beside it");
            match measure_erlang(workspace, script, pattern) {
                Ok(figures) => erlang.extend(figures),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
    }
    figures.extend(speedups(&figures));
    let table = table(&figures, &erlang);
    print!("{table}");
    let folder = workspace.target.join("bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("table.txt"), &table)?;
    std::fs::write(
        folder.join("ratios.svg"),
        plot::svg(&bars(&figures, &erlang)),
    )?;
    eprintln!(
        "xtask: the table and a picture of it are in {}",
        folder.display()
    );
    if !failures.is_empty() {
        bail!("not all could be measured:\n  {}", failures.join("\n  "));
    }
    Ok(())
}

/// Atoll's cases that have the same counterpart. They are measured together.
#[derive(Debug, PartialEq)]
struct Group {
    /// For each case, the name of its first figure.
    names: Vec<String>,
    /// Selects the counterpart in Erlang's list of cases.
    erlang_pattern: Option<String>,
}

/// Groups the cases that `atoll-bench --list` prints. Each line is a case, with the names of its figures.
fn groups(cases: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for name in cases.lines().filter_map(|line| line.split(' ').next()) {
        let erlang_pattern = Name::parse(name).and_then(|name| name.erlang_pattern());
        match groups.last_mut() {
            Some(last) if last.erlang_pattern == erlang_pattern => {
                last.names.push(name.to_owned());
            }
            _ => groups.push(Group {
                names: vec![name.to_owned()],
                erlang_pattern,
            }),
        }
    }
    groups
}

/// The name of an Atoll figure that has a counterpart: `NAME[_sSCHEDULERS][_PART]_GUEST`.
struct Name<'a> {
    counterpart: &'static Counterpart,
    /// The part between the counterpart's name and the guest.
    rest: &'a str,
}

impl<'a> Name<'a> {
    fn parse(name: &'a str) -> Option<Name<'a>> {
        let without_guest = GUEST_SUFFIXES
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))?;
        COUNTERPARTS.iter().find_map(|counterpart| {
            let rest = without_guest.strip_prefix(counterpart.name)?;
            let is_whole = rest.is_empty() || rest.starts_with("_s");
            is_whole.then_some(Name { counterpart, rest })
        })
    }

    /// Erlang's name of the figure.
    fn erlang(&self) -> String {
        let rest = self.counterpart.erlang_rest.unwrap_or(self.rest);
        format!("{}{rest}", self.counterpart.erlang)
    }

    /// A line in Erlang's list is: schedulers, repetitions, program, arguments.
    fn erlang_pattern(&self) -> Option<String> {
        match self.counterpart.mode {
            Some("startup") => return Some("startup".to_owned()),
            Some(mode) => return Some(format!("{mode} [0-9]+ {}", self.counterpart.program)),
            None => {}
        }
        let schedulers = match self.rest.strip_prefix("_s") {
            Some(rest) => rest.split('_').next()?,
            None => "1",
        };
        Some(format!("{schedulers} [0-9]+ {}", self.counterpart.program))
    }
}

/// The figures among the lines of a benchmark's output.
fn figures_in(output: &str) -> Vec<Figure> {
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

/// Finds the script that measures Erlang, and the Erlang to run it.
fn find_erlang(workspace: &Workspace) -> Result<PathBuf> {
    let script = workspace.root.join(ERLANG_FOLDER).join("run_all.sh");
    if !is_on_path("erlc") && !packages::install(&["erlang-base"], "to measure Erlang") {
        bail!(
            "Erlang can't be measured: erlc is missing. On Debian, `apt-get install erlang-base`."
        );
    }
    Ok(script)
}

/// Runs the Erlang programs whose lines in the list of cases begin with this.
fn measure_erlang(workspace: &Workspace, script: &Path, pattern: &str) -> Result<Vec<Figure>> {
    let work: PathBuf = workspace.target.join("bench/erlang");
    let output = capture(
        Command::new("bash")
            .arg(script)
            .env("ONLY", format!("^{pattern}"))
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

/// The speedup of two schedulers over one, where both were measured with the same work.
fn speedups(figures: &[Figure]) -> Vec<Figure> {
    let value = |name: &str| figures.iter().find(|figure| figure.name == name);
    let speedup = |figure: &Figure| {
        let name = figure.name.strip_prefix("pairs_100_s1_")?;
        let two = value(&format!("pairs_100_s2_{name}"))?;
        Some(Figure {
            name: format!("pairs_100_speedup_{name}"),
            value: figure.value / two.value,
            unit: "x".to_owned(),
        })
    };
    figures.iter().filter_map(speedup).collect()
}

/// The figures with their counterparts and their targets.
fn table(figures: &[Figure], measured_erlang: &[Figure]) -> String {
    let heading = if measured_erlang.is_empty() {
        "Erlang (recorded)"
    } else {
        "Erlang"
    };
    let mut table = format!(
        "{:<32} {:>10} {:<8} {:>18} {:>8} {:>10} {}\n",
        "name", "value", "unit", heading, "ratio", "target", "met?"
    );
    let (mut met, mut judged, mut has_ratio) = (0, 0, false);
    for figure in figures {
        let erlang = erlang_of(figure, measured_erlang);
        let ratio = erlang.map(|erlang| cost_ratio(figure, erlang));
        has_ratio |= ratio.is_some();
        let target = Target::of(&figure.name);
        let is_met = target.and_then(|target| target.is_met(figure, ratio));
        judged += usize::from(is_met.is_some());
        met += usize::from(is_met == Some(true));
        let row = format!(
            "{:<32} {:>10} {:<8} {:>18} {:>8} {:>10} {}",
            figure.name,
            short(figure.value),
            figure.unit,
            erlang.map_or("-".to_owned(), short),
            ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}x")),
            target.map_or("-".to_owned(), Target::told),
            match is_met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "-",
            },
        );
        // Writing to a string can't fail.
        let _ = writeln!(table, "{row}");
    }
    if has_ratio {
        table += "ratio: what it costs here to what it costs there, so that below 1.00x Atoll is better; of rates and counts, \
                  the other way about\n";
    }
    if judged > 0 {
        let _ = writeln!(table, "{met} of {judged} targets are met");
    }
    table
}

/// The figures that have a counterpart, for the picture.
fn bars(figures: &[Figure], measured_erlang: &[Figure]) -> Vec<Bar> {
    let bar = |figure: &Figure| {
        let erlang = erlang_of(figure, measured_erlang)?;
        let target = match Target::of(&figure.name) {
            Some(Target::Ratio(most)) => Some(most),
            _ => None,
        };
        Some(Bar {
            name: figure.name.clone(),
            ratio: cost_ratio(figure, erlang),
            target,
        })
    };
    figures.iter().filter_map(bar).collect()
}

/// Erlang's figure for the same work. It is a recorded one only if nothing was measured, so that a column has one heading.
fn erlang_of(figure: &Figure, measured: &[Figure]) -> Option<f64> {
    let name = Name::parse(&figure.name)?.erlang();
    if measured.is_empty() {
        return recorded(&ERLANG_RECORDED, &name);
    }
    let measured = measured.iter().find(|it| it.name == name);
    measured.map(|it| it.value)
}

fn recorded(values: &[(&str, f64)], name: &str) -> Option<f64> {
    let recorded = values.iter().find(|(recorded, _)| *recorded == name);
    recorded.map(|(_, value)| *value)
}

/// The cost relative to the reference: more time, or less work in the same time.
fn cost_ratio(figure: &Figure, reference: f64) -> f64 {
    if figure.unit.ends_with("/s") || figure.unit == "count" {
        reference / figure.value
    } else {
        figure.value / reference
    }
}

/// About three significant digits.
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

    fn rows(table: &str) -> Vec<Vec<&str>> {
        table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect()
    }

    #[test]
    fn only_lines_with_a_name_a_number_and_a_unit_are_figures() {
        let found = figures_in(
            "warming up\nring_1000_s1_bare 210.5 ns/hop\nring x ns\ncpu_fib_35_bare 80 ms 5 runs\n",
        );
        let names = found
            .iter()
            .map(|figure| (figure.name.as_str(), figure.value))
            .collect::<Vec<_>>();
        assert_eq!(
            names,
            [("ring_1000_s1_bare", 210.5), ("cpu_fib_35_bare", 80.0)]
        );
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
    fn names_lead_to_what_erlang_prints_and_to_its_line_in_the_list() {
        for (ours, erlang, pattern) in [
            (
                "spawn_exit_seq_s1_bare",
                "spawn_exit_seq_s1",
                "1 [0-9]+ spawn_exit seq ",
            ),
            (
                "timer_late_100000_s2_p50_rust",
                "timer_late_100000_s2_p50",
                "2 [0-9]+ timers set 100000",
            ),
            (
                "fair_busy1000_s2_samples_rust",
                "fair_busy1000_s2_samples",
                "2 [0-9]+ fair 1000 ",
            ),
            (
                "request_reply_s1_rust",
                "gen_server_call_c1_s1",
                "1 [0-9]+ gs 1 ",
            ),
            ("cpu_fib_35_bare", "cpu_fib_35", "1 [0-9]+ cpu fib 35"),
        ] {
            let name = Name::parse(ours).expect(ours);
            assert_eq!(name.erlang(), erlang);
            assert_eq!(name.erlang_pattern().as_deref(), Some(pattern));
        }
        for unknown in ["spawn_to_idle_rust", "ring_1000_s1", "ring_10000_s1_bare"] {
            assert!(Name::parse(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn cases_with_the_same_counterpart_are_one_group() {
        let cases = "ring_1000_s1_bare\nring_1000_s1_rust\nring_1000_s2_rust\n\
                     timer_arm_100000_s1_rust timer_late_100000_s1_p50_rust\nspawn_to_idle_bare\n";
        let group = |names: &[&str], pattern: Option<&str>| Group {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            erlang_pattern: pattern.map(str::to_owned),
        };
        assert_eq!(
            groups(cases),
            [
                group(
                    &["ring_1000_s1_bare", "ring_1000_s1_rust"],
                    Some("1 [0-9]+ ring 1000 ")
                ),
                group(&["ring_1000_s2_rust"], Some("2 [0-9]+ ring 1000 ")),
                group(
                    &["timer_arm_100000_s1_rust"],
                    Some("1 [0-9]+ timers set 100000")
                ),
                group(&["spawn_to_idle_bare"], None),
            ]
        );
    }

    #[test]
    fn table_compares_and_says_what_is_met() {
        let table = table(
            &figures_in(
                "spawn_exit_seq_s1_bare 5.5 us/proc\nother 1 us\nreceive_after_1ms_s1_p50_rust 1100 us\n",
            ),
            &[],
        );
        let rows = rows(&table);
        assert_eq!(
            rows[1],
            [
                "spawn_exit_seq_s1_bare",
                "5.500",
                "us/proc",
                "1.400",
                "3.93x",
                "<=",
                "0.50x",
                "MISSED"
            ]
        );
        assert_eq!(rows[2], ["other", "1.000", "us", "-", "-", "-", "-"]);
        assert_eq!(rows[3].last(), Some(&"met"));
        assert_eq!(rows[4][0], "ratio:");
        assert_eq!(rows[5], ["1", "of", "2", "targets", "are", "met"]);
    }

    #[test]
    fn two_schedulers_are_compared_with_one() {
        let figures = figures_in(
            "pairs_100_s1_rust 300 ms\npairs_100_s2_rust 150 ms\nring_1000_s1_rust 1 ns\n",
        );
        let [speedup] = &speedups(&figures)[..] else {
            panic!("one of them has both");
        };
        assert_eq!(
            (speedup.name.as_str(), speedup.value),
            ("pairs_100_speedup_rust", 2.0)
        );
    }

    #[test]
    fn below_one_is_better_for_times_and_for_rates() {
        let ours = "receive_after_1ms_s1_p50_rust 1100 us\nspawn_exit_batch_s1_rust 500000 procs/s\n\
                    fair_busy4_s2_samples_rust 200000 count\n";
        let erlang = "receive_after_1ms_s1_p50 2200 us\nspawn_exit_batch_s1 1000000 procs/s\n\
                      fair_busy4_s2_samples 100000 count\n";
        let table = table(&figures_in(ours), &figures_in(erlang));
        let ratios = rows(&table)[1..4]
            .iter()
            .map(|row| row[4])
            .collect::<Vec<_>>();
        assert_eq!(ratios, ["0.50x", "2.00x", "0.50x"]);
    }
}

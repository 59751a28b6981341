//! The counts of a run, its failures, and the differences that are expected.
//!
//! `expected.txt` has a line for each expected difference: the check's name (`core/i32.wast:12`) and the reason. A check
//! that is listed there and passes everywhere is a failure, too, so that the list stays true.

use crate::run::Finding;
use anyhow::{Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const EXPECTED: &str = include_str!("expected.txt");

/// The results of one file.
#[derive(Debug)]
pub struct FileReport {
    pub name: String,
    passed: usize,
    failures: Vec<Failure>,
    /// How many checks are left out, by the reason.
    left_out: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Failure {
    /// The file and the line.
    check: String,
    text: String,
}

impl FileReport {
    pub fn new(name: &str) -> FileReport {
        FileReport {
            name: name.to_owned(),
            passed: 0,
            failures: Vec::new(),
            left_out: BTreeMap::new(),
        }
    }

    /// Counts a finding about the check in this line.
    pub fn add(&mut self, line: usize, run: &str, finding: Finding) {
        match finding {
            Finding::Passed => self.passed += 1,
            Finding::Failed(text) => self.failures.push(Failure {
                check: format!("{}:{line}", self.name),
                text: format!("{run}: {text}"),
            }),
            Finding::LeftOut(why) => *self.left_out.entry(why).or_default() += 1,
        }
    }

    pub fn leave_out(&mut self, why: &str, checks: usize) {
        *self.left_out.entry(why.to_owned()).or_default() += checks;
    }

    pub fn fail_file(&mut self, text: &str) {
        self.failures.push(Failure {
            check: self.name.clone(),
            text: text.to_owned(),
        });
    }

    fn counts(&self) -> Counts {
        let expected = expected();
        let is_expected = |failure: &&Failure| expected.contains_key(&*failure.check);
        let differences = self.failures.iter().filter(is_expected).count();
        Counts {
            passed: self.passed,
            failed: self.failures.len() - differences,
            differences,
            left_out: self.left_out.values().sum(),
        }
    }

    fn folder(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }
}

#[derive(Clone, Copy, Default)]
struct Counts {
    passed: usize,
    failed: usize,
    /// Checks that differ, as expected.
    differences: usize,
    left_out: usize,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.differences += other.differences;
        self.left_out += other.left_out;
    }

    fn row(self, name: &str) -> String {
        let Counts {
            passed,
            failed,
            differences,
            left_out,
        } = self;
        format!("{name:<60} {passed:>8} {failed:>6} {differences:>7} {left_out:>8}\n")
    }
}

/// The results of all files.
#[derive(Debug)]
pub struct Report {
    files: Vec<FileReport>,
    /// How often a process had an instance that another one had before.
    used_again: u64,
}

impl Report {
    pub fn new(files: Vec<FileReport>, used_again: u64) -> Report {
        Report { files, used_again }
    }

    /// The counts of each folder and file, the total, the failures, and the reasons for leaving something out.
    pub fn text(&self, shown_max: usize) -> String {
        let (mut text, total) = self.table();
        let Counts {
            passed,
            failed,
            differences,
            left_out,
        } = total;
        let _ = writeln!(
            text,
            "passed {passed}, failed {failed}, left out {left_out}"
        );
        let _ = writeln!(
            text,
            "{differences} others differ as expected; instances were used again {} times",
            self.used_again
        );
        let unexpected = self.unexpected();
        for failure in unexpected.iter().take(shown_max) {
            let _ = writeln!(text, "failed: {}: {}", failure.check, failure.text);
        }
        if unexpected.len() > shown_max {
            let _ = writeln!(text, "failed: {} others", unexpected.len() - shown_max);
        }
        for (check, why) in expected() {
            let count = self.failures().filter(|failure| failure.check == check);
            match count.count() {
                0 => {}
                count => _ = writeln!(text, "differs, {count} times: {check}: {why}"),
            }
        }
        for (why, (count, files)) in self.left_out() {
            let first = files.first().copied().unwrap_or_default();
            let more = match files.len() {
                1 => String::new(),
                files => format!(" and {} other files", files - 1),
            };
            let _ = writeln!(text, "left out, {count} times: {why} ({first}{more})");
        }
        text
    }

    /// The counts of each folder and file, and their sum.
    fn table(&self) -> (String, Counts) {
        let mut text = format!(
            "{:<60} {:>8} {:>6} {:>7} {:>8}\n",
            "file", "passed", "failed", "differs", "left out"
        );
        let mut total = Counts::default();
        for folder in self.folders() {
            let files = || self.files.iter().filter(|file| file.folder() == folder);
            let mut counts = Counts::default();
            files().for_each(|file| counts.add(file.counts()));
            total.add(counts);
            text += &counts.row(folder);
            for file in files() {
                text += &file.counts().row(&format!("  {}", file.name));
            }
        }
        (text, total)
    }

    /// Fails if a check has failed that is not expected to. If the run was whole, each check that is expected to differ has
    /// to.
    pub fn verdict(&self, is_whole: bool) -> Result<()> {
        let unexpected = self.unexpected().len();
        if unexpected > 0 {
            bail!("{unexpected} checks have failed");
        }
        let differ: BTreeSet<&str> = self.failures().map(|failure| &*failure.check).collect();
        let agree: Vec<&str> = expected()
            .into_keys()
            .filter(|check| is_whole && !differ.contains(check))
            .collect();
        if !agree.is_empty() {
            bail!(
                "these checks pass, so `expected.txt` must not list them: {}",
                agree.join(", ")
            );
        }
        Ok(())
    }

    fn folders(&self) -> Vec<&str> {
        let folders: BTreeSet<&str> = self.files.iter().map(FileReport::folder).collect();
        folders.into_iter().collect()
    }

    fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.files.iter().flat_map(|file| &file.failures)
    }

    fn unexpected(&self) -> Vec<&Failure> {
        let expected = expected();
        self.failures()
            .filter(|failure| !expected.contains_key(&*failure.check))
            .collect()
    }

    /// For each reason: how many checks are left out, and in which files.
    fn left_out(&self) -> BTreeMap<&str, (usize, Vec<&str>)> {
        let mut reasons: BTreeMap<&str, (usize, Vec<&str>)> = BTreeMap::new();
        for file in &self.files {
            for (why, count) in &file.left_out {
                let (counted, files) = reasons.entry(why).or_default();
                *counted += count;
                files.push(&file.name);
            }
        }
        reasons
    }
}

/// The expected differences: check and reason.
fn expected() -> BTreeMap<&'static str, &'static str> {
    let lines = EXPECTED.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unexpected_failure_fails() {
        let mut file = FileReport::new("core/a.wast");
        file.add(1, "loading", Finding::Passed);
        file.add(2, "loading", Finding::LeftOut("off".to_owned()));
        let report = |file| Report::new(vec![file], 0);
        let passed = report(file);
        assert!(passed.verdict(false).is_ok());
        assert!(passed.text(1).contains("passed 1, failed 0, left out 1"));
        let mut file = FileReport::new("core/a.wast");
        file.add(3, "loading", Finding::Failed("wrong".to_owned()));
        let failed = report(file);
        assert!(failed.verdict(false).is_err());
        assert!(
            failed
                .text(1)
                .contains("failed: core/a.wast:3: loading: wrong")
        );
    }

    #[test]
    fn each_expected_difference_has_a_reason() {
        for line in EXPECTED.lines().filter(|line| !line.starts_with('#')) {
            let (check, reason) = line.split_once(' ').expect(line);
            assert!(check.contains(".wast:") && !reason.is_empty(), "{line}");
        }
    }
}

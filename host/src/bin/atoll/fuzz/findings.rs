//! A finding, from the round in which it was seen to a small one that shows it again: confirm, isolate, shrink, save.

use super::outcome::{Finding, Invariant};
use super::round::{Round, write};
use super::supervise::Supervision;
use crate::Failure;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wasm_shrink::WasmShrink;

/// How often a round is run again to see a finding once more.
const CONFIRMATIONS: usize = 3;
/// The longest that is spent on isolating and shrinking one finding.
const SHRINKING: Duration = Duration::from_secs(90);

/// The fate of something that a round has seen.
pub enum Fate {
    /// It was seen again, and is saved in this folder.
    Saved(PathBuf),
    /// It depends on time and was not seen again: a busy machine can do that.
    NotSeenAgain,
}

/// Looks whether the finding of a round shows again, reduces the round, and saves it below `to`.
pub fn keep(
    finding: &Finding,
    folder: &Path,
    to: &Path,
    supervision: &Supervision,
) -> Result<Fate, Failure> {
    let mut hunt = Hunt {
        invariant: finding.invariant,
        supervision,
        work: folder.join("reduced"),
        deadline: Instant::now() + SHRINKING,
    };
    let round = Round::read(folder)?;
    let is_certain = hunt.shows(folder)?;
    if !is_certain && finding.invariant.depends_on_time() {
        return Ok(Fate::NotSeenAgain);
    }
    let name = format!("{}-{:x}", finding.invariant.name(), round.seed);
    let saved = to.join(name);
    // A finding that is seldom seen is kept as it was.
    let mut files = round.attackers.clone();
    if is_certain {
        files = hunt.isolate(&round, folder)?;
    }
    let kept = round.copy(folder, &saved, &files)?;
    if is_certain && let [only] = files.as_slice() {
        hunt.shrink(&kept, &saved, only)?;
    }
    for file in &files {
        if let Ok(text) = wasmprinter::print_file(saved.join(file)) {
            write(&saved.join(file).with_extension("wat"), text.as_bytes())?;
        }
    }
    let report = format!(
        "# {}\n\nSeed {:#x}. {}\n\n```text\n{}\n```\n\nShow it again: `atoll fuzz --replay {}`\n",
        finding.invariant.name(),
        round.seed,
        match is_certain {
            true => "It shows whenever the round is run again, or nearly so.",
            false => "It was seen once, and not when the round was run again.",
        },
        finding.text,
        saved.display(),
    );
    write(&saved.join("report.md"), report.as_bytes())?;
    Ok(Fate::Saved(saved))
}

/// The reduction of one finding.
struct Hunt<'a> {
    invariant: Invariant,
    supervision: &'a Supervision,
    /// A folder for rounds that are tried.
    work: PathBuf,
    deadline: Instant,
}

impl Hunt<'_> {
    /// Whether a round breaks the same promise again, in one of several runs.
    fn shows(&self, folder: &Path) -> Result<bool, Failure> {
        for _ in 0..CONFIRMATIONS {
            if self.shows_once(folder)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn shows_once(&self, folder: &Path) -> Result<bool, Failure> {
        let outcome = self.supervision.run(folder)?;
        let mut findings = outcome.findings.iter();
        Ok(findings.any(|finding| finding.invariant == self.invariant))
    }

    fn is_over(&self) -> bool {
        Instant::now() > self.deadline
    }

    /// Finds few attackers that show the finding: halves first, then one less at a time.
    fn isolate(&mut self, round: &Round, folder: &Path) -> Result<Vec<String>, Failure> {
        let mut files = round.attackers.clone();
        let mut piece = files.len().div_ceil(2);
        while files.len() > 1 && piece > 0 && !self.is_over() {
            let mut is_smaller = false;
            let mut start = 0;
            while start < files.len() && files.len() > 1 && !self.is_over() {
                let end = (start + piece).min(files.len());
                let rest = [&files[..start], &files[end..]].concat();
                if !rest.is_empty() && self.shows_with(round, folder, &rest)? {
                    files = rest;
                    is_smaller = true;
                } else {
                    start = end;
                }
            }
            if !is_smaller {
                piece /= 2;
            }
        }
        Ok(files)
    }

    fn shows_with(&self, round: &Round, folder: &Path, files: &[String]) -> Result<bool, Failure> {
        let _ = fs::remove_dir_all(&self.work);
        round.copy(folder, &self.work, files)?;
        self.shows(&self.work)
    }

    /// Makes the only attacker smaller, as long as it shows the finding.
    fn shrink(&mut self, round: &Round, saved: &Path, file: &str) -> Result<(), Failure> {
        let path = saved.join(file);
        let original = fs::read(&path)
            .map_err(|error| Failure::new(format!("{} can't be read: {error}", path.display())))?;
        let _ = fs::remove_dir_all(&self.work);
        round.copy(saved, &self.work, &round.attackers)?;
        let tried = self.work.join(file);
        let mut best = original.clone();
        let shrunk = WasmShrink::default().attempts(60).run(original, |wasm| {
            if self.is_over() {
                return Ok(false);
            }
            fs::write(&tried, wasm)?;
            let shows = self.shows_once(&self.work).unwrap_or(false);
            if shows && wasm.len() < best.len() {
                best = wasm.to_vec();
            }
            Ok(shows)
        });
        // A module that wasm-shrink can't parse, or whose finding is seldom seen, stays as large as it has got.
        drop(shrunk);
        write(&path, &best)
    }
}

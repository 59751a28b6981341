//! The hand-written scenarios. Each is named after the rule of Erlang's documentation that it shows.
//!
//! Each is a file `tests/oracle/rules/NAME.scenario`: a comment that names the rule and its chapter, the steps, and, indented
//! below each step, what OTP did. The files serve as examples, and both sides must conform to them.

use crate::compare::canonical;
use crate::scenario::{Scenario, Trace};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// A rule and its expected trace.
pub struct Rule {
    pub scenario: Scenario,
    /// The trace in canonical form; empty if none is recorded.
    pub expected: Trace,
    path: PathBuf,
    comment: String,
}

/// Loads the rules of a folder, by name.
pub fn load(folder: &Path) -> Result<Vec<Rule>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("listing {}", folder.display()))?
        .collect::<Result<Vec<_>, _>>()?;
    let mut paths = entries
        .iter()
        .map(std::fs::DirEntry::path)
        .collect::<Vec<_>>();
    paths.sort();
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Result<Rule> {
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let name = path.file_stem().context("a rule's file has a name")?;
    let scenario = Scenario::parse(&name.to_string_lossy(), &text)?;
    let (comment, trace) = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .partition::<Vec<_>, _>(|line| line.starts_with('#'));
    if comment.is_empty() {
        bail!("{}: it does not say what rule it shows", path.display());
    }
    let is_recorded = trace.iter().any(|line| line.starts_with("  "));
    let trace = trace.into_iter().map(str::to_owned).collect::<Vec<_>>();
    Ok(Rule {
        scenario,
        expected: if is_recorded {
            canonical(&trace)
        } else {
            Vec::new()
        },
        path,
        comment: comment.join("\n"),
    })
}

impl Rule {
    /// Records a trace as the expected one.
    pub fn record(&self, trace: &Trace) -> Result<()> {
        let text = format!("{}\n\n{}\n", self.comment, trace.join("\n"));
        std::fs::write(&self.path, text).with_context(|| format!("writing {}", self.path.display()))
    }
}

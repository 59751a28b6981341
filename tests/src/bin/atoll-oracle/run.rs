//! Runs a batch of scenarios on one side, and reads its output.
//!
//! ```text
//!   scenarios ─▶ a file ─▶ erl +S N … oracle main FILE                   ─▶ traces
//!                       └▶ atoll run --schedulers N … oracle.wasm FILE   ─▶ traces
//! ```
//!
//! If a batch ends early, a scenario has crashed or hung the side. That scenario has no trace, and the others run again without
//! it.

use crate::compare::canonical;
use crate::scenario::{Scenario, Trace};
use anyhow::{Context, Result, bail};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;
use tempfile::TempDir;

/// A batch that takes longer hangs. A usual batch takes a thousandth of this.
const RUN_MAX: Duration = Duration::from_secs(300);
/// After this many scenarios without a trace, the rest of a batch is given up.
const LOST_MAX: usize = 5;
/// The number of lines of a failed side's standard error that are shown.
const STDERR_LINES: usize = 12;

/// A side that performs scenarios, with its number of schedulers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Erlang(usize),
    Atoll(usize),
    /// Atoll with immediate hibernation: every waiting process is hibernated at once, and its memory is made inaccessible.
    Hibernating(usize),
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, schedulers) = match self {
            Side::Erlang(schedulers) => ("Erlang", schedulers),
            Side::Atoll(schedulers) => ("Atoll", schedulers),
            Side::Hibernating(schedulers) => ("hibernating Atoll", schedulers),
        };
        let plural = if *schedulers == 1 { "" } else { "s" };
        write!(formatter, "{name} with {schedulers} scheduler{plural}")
    }
}

/// The programs and files for running a batch.
pub struct Runner {
    atoll: PathBuf,
    guest: PathBuf,
    folder: TempDir,
    batches: AtomicU32,
    /// The rule that Atoll is told to break.
    pub broken: Option<&'static str>,
}

impl Runner {
    /// Compiles the Erlang side. `source` is its module.
    pub fn new(atoll: PathBuf, guest: PathBuf, source: &Path) -> Result<Runner> {
        let folder = tempfile::tempdir().context("making a temporary folder")?;
        let compiled = Command::new("erlc")
            .arg("-o")
            .arg(folder.path())
            .arg(source)
            .status()
            .context("starting erlc; on Debian, `apt-get install erlang-base`")?;
        if !compiled.success() {
            bail!("erlc on {} failed: {compiled}", source.display());
        }
        Ok(Runner {
            atoll,
            guest,
            folder,
            batches: AtomicU32::new(0),
            broken: None,
        })
    }

    /// The traces of the scenarios, in canonical form; `None` for a scenario that ended the side.
    pub fn run(&self, side: Side, scenarios: &[Scenario]) -> Result<Vec<Option<Trace>>> {
        let mut traces = Vec::new();
        let mut lost = 0;
        while traces.len() < scenarios.len() {
            let rest = &scenarios[traces.len()..];
            let (found, status, stderr) = self.run_once(side, rest)?;
            let is_whole = found.len() == rest.len();
            if is_whole && !status.success() && self.broken.is_none() {
                bail!("{side}: {status} after the last scenario\n{stderr}");
            }
            traces.extend(found.iter().map(|trace| Some(canonical(trace))));
            if !is_whole {
                let name = &rest[found.len()].name;
                eprintln!("{side}: {status} in the scenario {name}\n{stderr}");
                traces.push(None);
                lost += 1;
            }
            if lost == LOST_MAX {
                traces.resize(scenarios.len(), None);
            }
        }
        Ok(traces)
    }

    /// Returns the complete traces, how the side ended, and the end of its standard error.
    fn run_once(
        &self,
        side: Side,
        scenarios: &[Scenario],
    ) -> Result<(Vec<Trace>, ExitStatus, String)> {
        let number = self.batches.fetch_add(1, Ordering::Relaxed);
        let name = format!("batch-{number}");
        let batch = self.folder.path().join(&name);
        let text = scenarios
            .iter()
            .map(Scenario::to_string)
            .collect::<String>();
        std::fs::write(&batch, text).context("writing the scenarios")?;
        let errors = self.folder.path().join(format!("{name}.stderr"));
        let stderr = std::fs::File::create(&errors).context("making a file")?;
        let mut command = self.command(side, &name);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("starting {:?}", command.get_program()))?;
        let mut stdout = child.stdout.take().context("standard output is a pipe")?;
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let mut piece = [0; 1 << 16];
            // Read piece by piece, so that the output before a hang is kept.
            while let Ok(count @ 1..) = stdout.read(&mut piece) {
                bytes.extend_from_slice(&piece[..count]);
                if sender.send(std::mem::take(&mut bytes)).is_err() {
                    return;
                }
            }
        });
        let mut output = Vec::new();
        let deadline = std::time::Instant::now() + RUN_MAX;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            match receiver.recv_timeout(left) {
                Ok(bytes) => output.extend(bytes),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    eprintln!("{side}: hangs");
                    child.kill().context("ending a side that hangs")?;
                    break;
                }
            }
        }
        let status = child.wait().context("waiting for a side to end")?;
        let stderr = std::fs::read(&errors).unwrap_or_default();
        let _ = std::fs::remove_file(&batch);
        Ok((
            traces(&String::from_utf8_lossy(&output), scenarios),
            status,
            last_lines(&String::from_utf8_lossy(&stderr)),
        ))
    }

    fn command(&self, side: Side, batch: &str) -> Command {
        let folder = self.folder.path();
        match side {
            Side::Erlang(schedulers) => {
                let mut erl = Command::new("erl");
                // A crash dump adds nothing to the output on standard error.
                erl.env("ERL_CRASH_DUMP_BYTES", "0");
                erl.arg("+S")
                    .arg(format!("{schedulers}:{schedulers}"))
                    .args(["-noshell", "-noinput", "-pa"])
                    .arg(folder)
                    .args(["-s", "oracle", "main"])
                    .arg(folder.join(batch));
                erl
            }
            Side::Atoll(schedulers) | Side::Hibernating(schedulers) => {
                let mut atoll = Command::new(&self.atoll);
                atoll.arg("run").args(["--allow-inspect", "--allow-debug"]);
                atoll.arg("--schedulers").arg(schedulers.to_string());
                if matches!(side, Side::Hibernating(_)) {
                    atoll.args(["--hibernate-after", "0", "--poison"]);
                }
                atoll
                    .arg("--dir")
                    .arg(format!("{}::/batch:ro", folder.display()));
                atoll.arg(&self.guest).arg(format!("/batch/{batch}"));
                if let Some(rule) = self.broken {
                    atoll.env("ATOLL_BREAK", rule);
                }
                atoll
            }
        }
    }
}

/// The complete traces of these scenarios.
fn traces(output: &str, scenarios: &[Scenario]) -> Vec<Trace> {
    let mut lines = output.lines();
    let mut traces = Vec::new();
    for scenario in scenarios {
        let heading = format!("scenario {}", scenario.name);
        if !lines.by_ref().any(|line| line == heading) {
            break;
        }
        let mut trace = Vec::new();
        let mut is_whole = false;
        for line in lines.by_ref() {
            if line == "end" {
                is_whole = true;
                break;
            }
            trace.push(line.to_owned());
        }
        if !is_whole {
            break;
        }
        traces.push(trace);
    }
    traces
}

fn last_lines(text: &str) -> String {
    let lines = text.lines().collect::<Vec<_>>();
    lines[lines.len().saturating_sub(STDERR_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_traces_are_dropped() {
        let scenario = |name: &str| Scenario::parse(name, "actors 1\na0 drain").unwrap();
        let scenarios = [scenario("one"), scenario("two")];
        let output =
            "noise\nscenario one\nactors 1\na0 drain\n  => none\nend\nscenario two\nactors 1\n";
        let found = traces(output, &scenarios);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0][2], "  => none");
    }
}

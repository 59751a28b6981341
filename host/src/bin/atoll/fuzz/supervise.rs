//! Runs a round in a child process, and sees to it that the round ends: an abort, a signal, a hang and a flood of memory are
//! findings.

use super::child::OUTCOME_MARK;
use super::outcome::{Invariant, Outcome};
use crate::Failure;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How often the child's memory is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The memory that a child may hold: its limits allow for some hundred megabytes.
const MEMORY_MAX: u64 = 3 << 30;
const STDERR: &str = "stderr.txt";
/// So much of what the child has said to standard error is kept.
const SAID_BYTES: usize = 2000;

/// How a round is run.
#[derive(Clone, Debug)]
pub struct Supervision {
    /// A child that says nothing for so long hangs. Every wait inside the child is shorter.
    pub silence: Duration,
    /// The isolation rule that the child breaks.
    pub breaks: Option<String>,
}

impl Supervision {
    /// Runs the round of a folder.
    pub fn run(&self, folder: &Path) -> Result<Outcome, Failure> {
        let mut child = self.start(folder)?;
        let lines = read_lines(&mut child);
        let mut last_line = String::new();
        let mut last_time = Instant::now();
        loop {
            match lines.recv_timeout(LOOK) {
                Ok(line) => {
                    if let Some(text) = line.strip_prefix(OUTCOME_MARK) {
                        let outcome = serde_json::from_str(text);
                        reap(&mut child);
                        return outcome.map_err(|error| {
                            Failure::new(format!("the outcome can't be read: {error}"))
                        });
                    }
                    last_line = line;
                    last_time = Instant::now();
                }
                Err(RecvTimeoutError::Timeout) => {
                    let stopped = if last_time.elapsed() > self.silence {
                        let seconds = self.silence.as_secs();
                        Some((Invariant::Hang, format!("nothing for {seconds} s")))
                    } else if memory_bytes(&child).is_some_and(|bytes| bytes > MEMORY_MAX) {
                        let gigabytes = MEMORY_MAX >> 30;
                        Some((Invariant::Memory, format!("over {gigabytes} GiB")))
                    } else {
                        None
                    };
                    if let Some((invariant, text)) = stopped {
                        reap(&mut child);
                        return Ok(found(invariant, format!("{text}, while: {last_line}")));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = child.wait().map_err(|error| {
                        Failure::new(format!("the child can't be waited for: {error}"))
                    })?;
                    let text = death(status, &last_line, folder);
                    // It has said itself why it can't run the round: a file is missing, a program can't be loaded.
                    if status.code() == Some(1) {
                        return Err(Failure::new(format!("a round can't be run: {text}")));
                    }
                    return Ok(found(Invariant::Abort, text));
                }
            }
        }
    }

    fn start(&self, folder: &Path) -> Result<Child, Failure> {
        let cannot = |error: std::io::Error| {
            Failure::new(format!("the child of a round can't be started: {error}"))
        };
        let stderr = File::create(folder.join(STDERR)).map_err(cannot)?;
        let mut command = Command::new(crate::run::own_program());
        command
            .arg("fuzz-round")
            .arg(folder)
            // Rounds share the canaries' code. What attackers are compiled to is of no use to anyone later.
            .env("XDG_CACHE_HOME", folder.with_file_name("cache"))
            .env("RUST_BACKTRACE", "1")
            .env_remove("ATOLL_BREAK")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        if let Some(rule) = &self.breaks {
            command.env("ATOLL_BREAK", rule);
        }
        command.spawn().map_err(cannot)
    }
}

fn read_lines(child: &mut Child) -> Receiver<String> {
    let (sender, lines) = channel();
    let stdout = child.stdout.take();
    std::thread::spawn(move || {
        let reader = stdout.map(BufReader::new);
        for line in reader.into_iter().flat_map(BufRead::lines) {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Ends a child, if it has not ended by itself.
fn reap(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn memory_bytes(child: &Child) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/statm", child.id())).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn death(status: ExitStatus, last_line: &str, folder: &Path) -> String {
    let how = match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => format!("exit code {}", status.code().unwrap_or_default()),
    };
    let said = fs::read_to_string(folder.join(STDERR)).unwrap_or_default();
    let start = said.floor_char_boundary(said.len().saturating_sub(SAID_BYTES));
    format!("{how}, while: {last_line}\n{}", &said[start..])
}

fn found(invariant: Invariant, text: String) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.ledger.rounds = 1;
    outcome.find(invariant, text);
    outcome
}

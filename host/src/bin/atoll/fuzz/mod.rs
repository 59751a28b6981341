//! `atoll fuzz`: tries to break isolation, and says what it has tried.
//!
//! ```text
//!   parent: `Fuzzing`                              child: `child::run`
//!   -----------------                              -------------------
//!   a seed ──► a round: settings, attackers ──────► a system with canaries, then attackers beside them
//!                                                   kills, exits, messages, spawns from outside
//!   waits: silence, memory, signal                  compares everything with the promises
//!   adds up the ledger ◄─────────────────────────── the outcome
//!   a finding: confirm, isolate, shrink, save
//! ```
//!
//! | file | holds |
//! |---|---|
//! | here | the search for findings, and its report |
//! | [`round`], [`attackers`], [`dice`] | a round, its attackers, and the choices that a seed determines |
//! | [`child`], [`canaries`] | one round in a process of its own |
//! | [`supervise`] | the process of a round, seen from outside |
//! | [`outcome`] | findings and the ledger, as data |
//! | [`findings`] | reducing and saving a finding |
//! | [`breaks`] | planted bugs |

mod attackers;
mod breaks;
mod canaries;
mod child;
mod dice;
mod findings;
mod outcome;
mod round;
mod supervise;

use crate::Failure;
use crate::arguments::{Fuzz, Role};
use attackers::{Own, functions};
use findings::Fate;
use indicatif::{ProgressBar, ProgressStyle};
use outcome::{Finding, Ledger};
use round::Round;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use supervise::Supervision;

pub use child::run as run_round;

/// Every wait inside a child is shorter than this.
const SILENCE: Duration = Duration::from_secs(150);

/// Runs the command.
pub fn fuzz(options: &Fuzz) -> Result<ExitCode, Failure> {
    let supervision = Supervision {
        silence: SILENCE,
        breaks: None,
    };
    if let Some(folder) = &options.replay {
        return replay(folder, &supervision);
    }
    let fuzzing = Fuzzing::new(options, supervision)?;
    if let Some(name) = &options.break_rule {
        if !cfg!(feature = "break-rules") {
            return Err(Failure::new("this build of atoll has no planted bugs")
                .hint("`cargo xtask fuzz --break NAME` builds one that has"));
        }
        let missed = breaks::find(&fuzzing, &breaks::named(name)?)?;
        return Ok(code(missed == 0));
    }
    // An hour's search must not end with a finding that can't be saved.
    std::fs::create_dir_all(&fuzzing.findings).map_err(|error| {
        let folder = fuzzing.findings.display();
        Failure::new(format!("findings can't be saved in {folder}: {error}"))
            .hint("name another folder with --findings")
    })?;
    println!("seed {}", fuzzing.seed);
    let start = Instant::now();
    let found = fuzzing.search(start + options.time, Stop::Never)?;
    print!("{}", found.ledger.report(start.elapsed().as_secs_f64()));
    let functions: Vec<String> = functions::all()
        .iter()
        .map(|function| function.label())
        .collect();
    print!("\n{}", found.ledger.coverage(&functions));
    for (place, finding) in &found.findings {
        let text = finding.text.lines().next().unwrap_or_default();
        println!("finding: {}: {text}\n  {place}", finding.invariant.name());
    }
    println!(
        "{} findings; seen once and not again, as happens on a busy machine: {}",
        found.findings.len(),
        found.not_seen_again
    );
    // It stays if it holds anything.
    let _ = std::fs::remove_dir(&fuzzing.findings);
    Ok(code(found.findings.is_empty()))
}

fn code(is_good: bool) -> ExitCode {
    match is_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs a round that was saved.
fn replay(folder: &Path, supervision: &Supervision) -> Result<ExitCode, Failure> {
    let round = Round::read(folder)?;
    // The child writes to its folder, so it gets a copy.
    let work = temporary_folder()?;
    round.copy(folder, work.path(), &round.attackers)?;
    let outcome = supervision.run(work.path())?;
    for finding in &outcome.findings {
        println!("{}: {}", finding.invariant.name(), finding.text);
    }
    println!("{} findings", outcome.findings.len());
    Ok(code(outcome.findings.is_empty()))
}

fn temporary_folder() -> Result<tempfile::TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("atoll-fuzz-")
        .tempdir()
        .map_err(|error| Failure::new(format!("there is no folder for rounds: {error}")))
}

/// When a search ends before its time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Never,
    /// At the first finding, which is not looked at any closer.
    AtFirst,
}

/// A search for findings.
#[derive(Clone)]
struct Fuzzing {
    seed: u64,
    jobs: usize,
    supervision: Supervision,
    own: std::sync::Arc<Own>,
    canary: Option<Vec<u8>>,
    findings: PathBuf,
}

/// The result of a search.
#[derive(Default)]
struct Found {
    ledger: Ledger,
    /// Each with the folder where it is saved, or its seed.
    findings: Vec<(String, Finding)>,
    not_seen_again: u64,
}

impl Fuzzing {
    fn new(options: &Fuzz, supervision: Supervision) -> Result<Fuzzing, Failure> {
        let mut own = Own::default();
        let mut canary = None;
        if let Some(path) = &options.program {
            let bytes = std::fs::read(path).map_err(|error| {
                Failure::new(format!("{} can't be read: {error}", path.display()))
            })?;
            let bytes = wat::parse_bytes(&bytes)
                .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?
                .into_owned();
            match options.role {
                Role::Attacker => own.0.push((path.clone(), bytes)),
                Role::Canary => canary = Some(bytes),
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Fuzzing {
            seed: options.seed.unwrap_or_else(seed_of_today),
            jobs: options.jobs.map_or(cores.div_ceil(2), usize::from),
            supervision,
            own: own.into(),
            canary,
            findings: options.findings.clone(),
        })
    }

    /// Runs rounds until the deadline.
    fn search(&self, deadline: Instant, stop: Stop) -> Result<Found, Failure> {
        let found = Mutex::new(Found::default());
        let next = AtomicU64::new(0);
        let bar = bar(deadline, stop);
        let job = || {
            let work = temporary_folder()?;
            while Instant::now() < deadline {
                if stop == Stop::AtFirst && !lock(&found).findings.is_empty() {
                    break;
                }
                let number = next.fetch_add(1, Ordering::Relaxed);
                let folder = work.path().join(number.to_string());
                self.round(self.seed.wrapping_add(number), &folder, stop, &found)?;
                let _ = std::fs::remove_dir_all(&folder);
                show(&bar, &lock(&found));
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let jobs: Vec<_> = (0..self.jobs).map(|_| scope.spawn(job)).collect();
            let results = jobs.into_iter().map(|job| {
                job.join()
                    .unwrap_or_else(|_| Err(Failure::new("a thread of atoll fuzz panicked")))
            });
            results.collect::<Result<Vec<()>, Failure>>()
        })?;
        bar.finish_and_clear();
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn round(
        &self,
        seed: u64,
        folder: &Path,
        stop: Stop,
        found: &Mutex<Found>,
    ) -> Result<(), Failure> {
        Round::make(seed, folder, &self.own, self.canary.as_deref())?;
        let outcome = self.supervision.run(folder)?;
        lock(found).ledger.add(&outcome.ledger);
        let Some(finding) = outcome.findings.into_iter().next() else {
            return Ok(());
        };
        if stop == Stop::AtFirst {
            lock(found).findings.push((format!("seed {seed}"), finding));
            return Ok(());
        }
        match findings::keep(&finding, folder, &self.findings, &self.supervision)? {
            Fate::Saved(saved) => {
                let place = format!("atoll fuzz --replay {}", saved.display());
                lock(found).findings.push((place, finding));
            }
            Fate::NotSeenAgain => lock(found).not_seen_again += 1,
        }
        Ok(())
    }
}

fn lock(found: &Mutex<Found>) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The seed when none is given: the time, so that each run tries something else.
fn seed_of_today() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_secs()) << 20
}

fn bar(deadline: Instant, stop: Stop) -> ProgressBar {
    let seconds = deadline.saturating_duration_since(Instant::now()).as_secs();
    if stop == Stop::AtFirst {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(seconds);
    let style = ProgressStyle::with_template("{bar:30} {elapsed}/{len}s {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn show(bar: &ProgressBar, found: &Found) {
    bar.set_position(bar.elapsed().as_secs());
    let ledger = &found.ledger;
    bar.set_message(format!(
        "{} modules, {} processes, {} host calls, {} findings",
        ledger.modules(),
        ledger.processes,
        ledger.host_calls(),
        found.findings.len()
    ));
}

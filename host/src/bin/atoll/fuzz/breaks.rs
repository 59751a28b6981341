//! Deliberate bugs: `--break NAME` runs rounds in which the host breaks an isolation rule, until fuzzing finds it. A fuzzer that
//! can't find planted bugs proves nothing.

use super::outcome::Invariant;
use super::supervise::Supervision;
use super::{Found, Fuzzing, Stop};
use crate::Failure;
use std::time::{Duration, Instant};

/// A bug is to be found within this time.
const TIME: Duration = Duration::from_secs(60);
/// A host without a bug is searched for this long, to see that the search finds no bugs that are none.
const CONTROL: Duration = Duration::from_secs(30);
/// A child that hangs is found within this time.
const SILENCE: Duration = Duration::from_secs(15);

/// The bugs that a build with the feature `break-rules` can have.
pub const BUGS: [(&str, &str); 14] = [
    (
        "byte-stays",
        "a recycled memory keeps bytes of the process before",
    ),
    ("global-stays", "a recycled instance keeps a global"),
    (
        "length-unchecked",
        "a list of the guest's is not compared with the end of its memory",
    ),
    (
        "loan-late",
        "a payload that is lent is read when its sender may have changed it",
    ),
    (
        "stale-pid",
        "a pid of a process that has ended reaches the process that has its entry now",
    ),
    ("budget-missed", "mailboxes have no limit"),
    ("loop-unpaid", "a loop inside another one costs nothing"),
    ("page-lost", "a page of a packed memory is lost"),
    (
        "names-survive",
        "a name is not released when its process ends",
    ),
    ("down-is-lost", "a down-signal is not sent"),
    ("host-unwraps", "the host unwraps a text that is not UTF-8"),
    (
        "buffer-unbounded",
        "the host keeps a buffer of each message for ever",
    ),
    (
        "exits-linger",
        "a process that waits is not woken by its pending exit",
    ),
    (
        "tree-unbounded",
        "a tree of processes may hold more than its limits",
    ),
];

/// The names that `--break` stands for.
pub fn named(name: &str) -> Result<Vec<&'static str>, Failure> {
    let all = || BUGS.iter().map(|(bug, _)| *bug);
    if name == "all" {
        return Ok(all().collect());
    }
    let found: Vec<_> = all().filter(|bug| *bug == name).collect();
    if found.is_empty() {
        let names: Vec<_> = all().collect();
        return Err(Failure::new(format!("no bug is called `{name}`"))
            .hint(format!("the bugs are: all, {}", names.join(", "))));
    }
    Ok(found)
}

/// Looks for each of the bugs, and first for findings where there is no bug. Returns how many searches ended wrong.
pub fn find(fuzzing: &Fuzzing, bugs: &[&'static str]) -> Result<usize, Failure> {
    let mut missed = 0;
    let control = search(fuzzing, None, CONTROL)?;
    match control.findings.first() {
        None => println!("{:<18} nothing found in {} s", "no bug", CONTROL.as_secs()),
        Some((_, finding)) => {
            missed += 1;
            let text = first(finding.invariant, &finding.text);
            println!("{:<18} found all the same: {text}", "no bug");
        }
    }
    for bug in bugs {
        let start = Instant::now();
        let found = search(fuzzing, Some(bug), TIME)?;
        let seconds = start.elapsed().as_secs_f64();
        match found.findings.first() {
            Some((_, finding)) => {
                println!(
                    "{bug:<18} found in {seconds:>5.1} s: {}",
                    first(finding.invariant, &finding.text)
                );
            }
            None => {
                missed += 1;
                println!("{bug:<18} NOT FOUND in {seconds:.0} s");
            }
        }
    }
    Ok(missed)
}

fn search(fuzzing: &Fuzzing, bug: Option<&str>, time: Duration) -> Result<Found, Failure> {
    let broken = Fuzzing {
        supervision: Supervision {
            silence: SILENCE,
            breaks: bug.map(str::to_owned),
        },
        ..fuzzing.clone()
    };
    broken.search(Instant::now() + time, Stop::AtFirst)
}

fn first(invariant: Invariant, text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    format!("{}: {line}", invariant.name())
}

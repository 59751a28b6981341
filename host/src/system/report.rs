//! Reports about processes: crash reports and counters.

use crate::process::{ExitReason, Pid};
use crate::text::printable_name;
use std::fmt;
use std::sync::atomic::AtomicU64;

/// The crash of one process: it trapped, or the host ended it because it reached a limit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CrashReport {
    /// The process.
    pub pid: Pid,
    /// The program that it ran.
    pub program: String,
    /// The function that it was spawned with.
    pub function: String,
    /// The label that it was spawned with.
    pub label: Option<String>,
    /// Its exit reason.
    pub reason: ExitReason,
    /// The names of the functions that were active when it trapped, innermost first; empty if it did not trap.
    pub backtrace: Vec<String>,
}

impl CrashReport {
    /// A hint for the user on how to avoid the crash, if the host knows one.
    fn hint(&self) -> Option<&'static str> {
        match &self.reason {
            ExitReason::Trap(text) if text.contains("call stack exhausted") => {
                Some("it has used up its stack; --max-stack gives more")
            }
            _ => None,
        }
    }
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "crash: process {} of program `{}`, function `{}`",
            self.pid,
            printable_name(&self.program),
            printable_name(&self.function)
        )?;
        if let Some(label) = &self.label {
            write!(f, ", label {label:?}")?;
        }
        write!(f, "\n  reason: {}", self.reason)?;
        if let Some(hint) = self.hint() {
            write!(f, "\n  hint: {hint}")?;
        }
        if !self.backtrace.is_empty() {
            f.write_str("\n  backtrace:")?;
        }
        for (depth, function) in self.backtrace.iter().enumerate() {
            write!(f, "\n    {depth}: {function}")?;
        }
        Ok(())
    }
}

/// Counters of a system's work so far.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Processes alive now, including mailboxes of the host.
    pub processes: u32,
    /// Processes spawned since the start.
    pub spawned: u64,
    /// Processes that crashed.
    pub crashed: u64,
    /// Reductions of all processes that have ended.
    pub reductions: u64,
    /// Spawned processes that got a recycled instance: one that another process had before, made as new.
    pub recycled: u64,
    /// How processes were hibernated.
    pub hibernation: Hibernation,
    /// Names registered now.
    pub names: usize,
    /// Groups that have members now.
    pub groups: usize,
    /// Timers that run now, including those of `receive`.
    pub timers: usize,
    /// The counters of each scheduler.
    pub schedulers: Vec<crate::scheduler::Counters>,
}

/// How processes were hibernated, and the cost of it.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Hibernation {
    /// How many times a process was packed.
    pub packed: u64,
    /// How many times a process was unpacked, because it was woken or ended.
    pub unpacked: u64,
    /// How many of [`Hibernation::packed`] kept their memory as it was, because it was too large or held too much.
    pub in_part: u64,
    /// Bytes that the host holds for the processes that are hibernated now.
    pub bytes: u64,
    /// Time spent packing and unpacking, in nanoseconds of all threads together.
    pub nanoseconds: u64,
    /// Is everything of a process packed, and not only its stack and its memory? This needs
    /// [`Allocator`](crate::Allocator) as the program's allocator.
    pub is_deep: bool,
    /// Processes that sleep keep their memory, because the self-test of packing has failed; the log says why.
    pub is_off: bool,
}

#[derive(Default)]
pub(super) struct Tally {
    pub(super) spawned: AtomicU64,
    pub(super) crashed: AtomicU64,
    pub(super) reductions: AtomicU64,
}

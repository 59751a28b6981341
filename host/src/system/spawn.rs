//! Spawning: from a request to a process in a run queue, or to an error and nothing.

use super::current::Current;
use super::program::{Limits, Runnable};
use super::table::{Awaits, Control, Identity, Nudge, Phase};
use super::{Program, Shared};
use crate::process::{ExitReason, Pid};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// Labels are cut to this many bytes.
const LABEL_BYTES_MAX: usize = 255;

/// What to spawn: a function of a program, with an argument and limits. OTP: `spawn_opt/4`.
#[derive(Clone)]
pub struct Spawn {
    pub(crate) program: Arc<dyn Runnable>,
    pub(crate) function: String,
    pub(crate) argument: Box<[u8]>,
    pub(crate) options: SpawnOptions,
}

/// The options of one spawn.
#[derive(Clone, Default)]
pub(crate) struct SpawnOptions {
    pub(crate) memory_bytes_max: Option<u64>,
    pub(crate) mailbox_bytes_max: Option<u64>,
    pub(crate) label: Option<Box<str>>,
}

impl Spawn {
    /// The entry of a program, with an empty argument and the system's limits.
    pub fn new(program: &Program) -> Spawn {
        Spawn {
            program: program.0.clone(),
            function: String::new(),
            argument: Box::default(),
            options: SpawnOptions::default(),
        }
    }

    /// Another function: the name of an export that takes and returns nothing.
    pub fn function(mut self, name: impl Into<String>) -> Spawn {
        self.function = name.into();
        self
    }

    /// The bytes that the process reads with `lifecycle.argument`.
    pub fn argument(mut self, bytes: impl Into<Box<[u8]>>) -> Spawn {
        self.argument = bytes.into();
        self
    }

    /// The most bytes that its linear memories may hold together; the system's limit holds as well.
    pub fn max_memory(mut self, bytes: u64) -> Spawn {
        self.options.memory_bytes_max = Some(bytes);
        self
    }

    /// The most bytes that may wait in its mailbox; the system's limit holds as well.
    pub fn max_mailbox(mut self, bytes: u64) -> Spawn {
        self.options.mailbox_bytes_max = Some(bytes);
        self
    }

    /// A text to know it by in reports.
    pub fn label(mut self, text: &str) -> Spawn {
        self.options.label = Some(label(text));
        self
    }
}

/// A label of bounded length.
pub(crate) fn label(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(LABEL_BYTES_MAX)].into()
}

/// Why nothing was spawned: the contract's `spawn-error`.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SpawnError {
    /// No program is registered under this name.
    UnknownProgram,
    /// The program has no such function.
    UnknownFunction,
    /// The system holds as many processes as it may.
    TooManyProcesses,
    /// There is no memory for it: its first memory is larger than its limit, or no slot is free.
    NoMemory,
    /// The argument is larger than a message may be.
    ArgumentTooLarge,
    /// The host does not carry out this option.
    NotSupported(String),
    /// Anything else, in words.
    Other(String),
}

impl std::error::Error for SpawnError {}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::UnknownProgram => f.write_str("no program is registered under this name"),
            SpawnError::UnknownFunction => f.write_str("the program has no such function"),
            SpawnError::TooManyProcesses => {
                f.write_str("the system holds as many processes as it may")
            }
            SpawnError::NoMemory => f.write_str("there is no memory for it within its limit"),
            SpawnError::ArgumentTooLarge => {
                f.write_str("the argument is larger than a message may be")
            }
            SpawnError::NotSupported(option) => write!(f, "the option `{option}` is not supported"),
            SpawnError::Other(text) => f.write_str(text),
        }
    }
}

/// Takes an entry back unless the spawn goes through.
struct Reservation<'a> {
    shared: &'a Shared,
    index: u32,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.shared.table.release(self.index);
    }
}

impl Shared {
    /// Spawns, or says why not; the pid is that of a process that exists.
    pub(crate) fn spawn(self: &Arc<Shared>, spawn: Spawn) -> Result<Pid, SpawnError> {
        self.spawn_watched(spawn, Vec::new())
    }

    /// The same, with watchers that are told of the end even if it comes before this returns.
    pub(super) fn spawn_watched(
        self: &Arc<Shared>,
        spawn: Spawn,
        watchers: Vec<oneshot::Sender<ExitReason>>,
    ) -> Result<Pid, SpawnError> {
        let Spawn {
            program,
            function,
            argument,
            options,
        } = spawn;
        if argument.len() as u64 > self.config.max_message {
            return Err(SpawnError::ArgumentTooLarge);
        }
        let function = program
            .function(&function)
            .ok_or(SpawnError::UnknownFunction)?;
        if self.stopping.load(Ordering::Acquire) {
            return Err(SpawnError::Other("the system is shutting down".into()));
        }
        let (index, pid) = self
            .table
            .reserve()
            .map_err(|_| SpawnError::TooManyProcesses)?;
        let reservation = Reservation {
            shared: self,
            index,
        };
        let limits = Limits {
            memory_bytes_max: options
                .memory_bytes_max
                .unwrap_or(u64::MAX)
                .min(self.config.max_memory),
        };
        let current = Current::new(self.clone(), program.clone(), index, pid, argument);
        let body = program.start(function, current, limits)?;
        let waker = program.has_host_calls().then(|| self.waker(index, pid));

        self.guests.fetch_add(1, Ordering::AcqRel);
        let mut control = self.table.entry(index).control();
        control.phase = Phase::Scheduled;
        control.awaits = Awaits::Host;
        control.mailbox_bytes_max = options
            .mailbox_bytes_max
            .unwrap_or(u64::MAX)
            .min(self.config.max_mailbox);
        control.body = Some(body);
        control.waker = waker;
        control.watchers = watchers;
        control.identity = Some(Identity {
            program,
            function,
            label: options.label,
        });
        if self.stopping.load(Ordering::Acquire) {
            // The stop may have looked at this entry before there was a process in it.
            end_at_once(&mut control);
        }
        drop(control);
        std::mem::forget(reservation);
        self.counters.spawned.fetch_add(1, Ordering::Relaxed);
        self.scheduler.schedule(index);
        Ok(pid)
    }
}

fn end_at_once(control: &mut Control) {
    let nudge = control.end_with(ExitReason::Killed);
    debug_assert!(
        matches!(nudge, Nudge::Nothing),
        "the process is in a run queue"
    );
}

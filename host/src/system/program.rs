//! The words between the system and the code that runs programs: a program has functions, a function can be started, an
//! execution takes turns and ends.

use super::Shared;
use super::domain::Domain;
use super::rights::{Rights, TreeOptions};
use super::working_set::WorkingSet;
use crate::process::{ExitReason, Pid};
use std::sync::Arc;
use std::task::{Context, Poll};

/// A process's execution. Dropping it ends the process.
pub(crate) type Body = Box<dyn Execution>;

/// See [`Body`].
pub(crate) trait Execution: Send {
    /// Runs one turn. Ready when the process has ended by itself. It is not called again after that.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End>;

    /// Gives up as much memory as can be restored when the next turn begins, or when the execution is dropped. Only
    /// for a process that waits for mail.
    fn hibernate(&mut self);

    /// The working set of the next turn. None if it is packed, or still in the cache.
    fn working_set(&self) -> Option<WorkingSet>;

    /// Ends the execution. If the process waits for mail, the host call that it waits in is its last call.
    fn end(self: Box<Self>, awaits_mail: bool);

    /// Is the process hibernated since its last turn?
    fn is_hibernated(&self) -> bool;
}

/// The end of a process: its reason, and whether it is reported as a crash.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) reason: ExitReason,
    /// The host ended it for a fault of its own, which is reported as a crash. A signal from another process is not.
    pub(crate) is_crash: bool,
}

/// The way in which an execution ended.
pub(crate) struct End {
    pub(crate) ending: Ending,
    /// The exact number of reductions since the process began.
    pub(crate) reductions: u64,
    /// The names of the functions that were active when it trapped, innermost first.
    pub(crate) backtrace: Vec<String>,
}

impl End {
    /// The end of a process that can't report anything itself.
    pub(super) fn told(ending: Ending, reductions: u64) -> End {
        End {
            ending,
            reductions,
            backtrace: Vec::new(),
        }
    }
}

/// A process that has a pid and no execution yet.
pub(crate) struct NewProcess {
    pub(crate) shared: Arc<Shared>,
    pub(crate) program: Arc<dyn Runnable>,
    pub(crate) index: u32,
    pub(crate) pid: Pid,
    pub(crate) argument: Box<[u8]>,
    /// None for the system's own domain.
    pub(crate) domain: Option<Arc<Domain>>,
}

impl NewProcess {
    /// The domain that it will belong to.
    pub(crate) fn domain(&self) -> &Arc<Domain> {
        self.domain.as_ref().unwrap_or(&self.shared.domain)
    }
}

/// The reason for which no process was spawned: the contract's `spawn-error`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// No program is registered under this name.
    #[error("no program is registered under this name")]
    UnknownProgram,
    /// The program has no such function.
    #[error("the program has no such function")]
    UnknownFunction,
    /// The system or the tree already holds its maximum number of processes.
    #[error("the system or the tree holds as many processes as it may")]
    TooManyProcesses,
    /// There is no memory for the process: its first memory is larger than its limit, or no slot is free.
    #[error(
        "there is no memory for it within its limit (`--max-memory`) and that of all processes together (`--max-total-memory`)"
    )]
    NoMemory,
    /// The argument is larger than a message may be.
    #[error("the argument is larger than a message may be")]
    ArgumentTooLarge,
    /// Another process has the name.
    #[error("another process has the name")]
    NameTaken,
    /// The program needs these rights, which the process would not have, or may not be spawned by this process.
    #[error("`{0}` is not granted")]
    NotGranted(String),
    /// The host does not support this option.
    #[error("the option `{0}` is not supported")]
    NotSupported(String),
    /// Another reason, in words.
    #[error("{0}")]
    Other(String),
}

/// A loaded program, as the system sees it.
pub(crate) trait Runnable: Send + Sync {
    /// The name that it is registered under.
    fn name(&self) -> &str;

    /// The index of the function with this name. The empty name means the entry.
    fn function(&self, name: &str) -> Option<u32>;

    /// The name of a function that [`Runnable::function`] returned.
    fn function_name(&self, function: u32) -> &str;

    /// The names of all functions that can be spawned.
    fn function_names(&self) -> Vec<String>;

    /// Is this function (an index in the module) the guest's own, and not one that was added at loading?
    fn is_guest_function(&self, index: u32) -> bool;

    /// The rights that its imports need.
    fn needs(&self) -> Rights;

    /// Can its processes wait in a host call that something other than mail completes?
    fn has_host_calls(&self) -> bool;

    /// Bytes that are written to make an instance, if they are many.
    fn instance_bytes(&self) -> u64;

    /// Makes an instance that is ready to run a function. Runs no guest code yet.
    fn start(&self, function: u32, process: NewProcess) -> Result<Body, SpawnError>;
}

/// A loaded program, whose functions can be spawned.
#[derive(Clone)]
pub struct Program {
    pub(crate) runnable: Arc<dyn Runnable>,
    /// The options of each process of the program that the host or a process of another program spawns.
    pub(crate) options: Option<Arc<TreeOptions>>,
}

impl Program {
    /// The name that it was loaded under.
    pub fn name(&self) -> &str {
        self.runnable.name()
    }

    /// The functions that can be spawned, by name.
    pub fn functions(&self) -> Vec<String> {
        self.runnable.function_names()
    }
}

//! What the system knows of programs: that they have functions, and that a function can be started.

use super::control::Ending;
use super::current::Current;
use super::spawn::SpawnError;
use super::working_set::WorkingSet;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A process's execution. Dropping it ends the process.
pub(crate) type Body = Box<dyn Execution>;

/// See [`Body`].
pub(crate) trait Execution: Send {
    /// One turn; ready when the process has ended of itself. Not called again then.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End>;

    /// Gives up as much memory as can be had back when the next turn begins, or the execution is dropped. Only for a
    /// process that waits for mail.
    fn hibernate(&mut self);

    /// The working set of its next turn; none if that is packed, or in the cache still.
    fn working_set(&self) -> Option<WorkingSet>;

    /// Ends it. If it waits for mail, what its last turn was waiting in is its last call.
    fn end(self: Box<Self>, awaits_mail: bool);

    /// Has it given up memory since its last turn?
    fn is_hibernated(&self) -> bool;
}

/// How an execution ended.
pub(crate) struct End {
    pub(crate) ending: Ending,
    /// The exact count of reductions, from its start.
    pub(crate) reductions: u64,
    /// The names of the functions that were active when it trapped, innermost first.
    pub(crate) backtrace: Vec<String>,
}

/// The limits of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most bytes that its linear memories may hold together.
    pub(crate) memory_bytes_max: u64,
}

/// A loaded program, as the system sees it.
pub(crate) trait Runnable: Send + Sync {
    /// The name that it is registered under.
    fn name(&self) -> &str;

    /// The function with this name; the empty name is the entry.
    fn function(&self, name: &str) -> Option<u32>;

    /// The name of a function that [`Runnable::function`] returned.
    fn function_name(&self, function: u32) -> &str;

    /// The names of all functions that can be spawned.
    fn function_names(&self) -> Vec<String>;

    /// Is the function with this index of its module the guest's own, and not one that was added when it was loaded?
    fn is_guest_function(&self, index: u32) -> bool;

    /// Can its processes be in a host call that is completed by something else than mail?
    fn has_host_calls(&self) -> bool;

    /// What is written when an instance is made, in bytes, if that is much.
    fn instance_bytes(&self) -> u64;

    /// Makes an instance that is about to run a function, running no guest code yet.
    fn start(&self, function: u32, current: Current, limits: Limits) -> Result<Body, SpawnError>;
}

/// A loaded program, whose functions can be spawned.
#[derive(Clone)]
pub struct Program(pub(crate) Arc<dyn Runnable>);

impl Program {
    /// The name that it was loaded under.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The functions that can be spawned, by name.
    pub fn functions(&self) -> Vec<String> {
        self.0.function_names()
    }
}

//! Trees of processes: a process and all that it spawns, with limits and rights of their own.
//!
//! ```text
//! Spawn::new().max_rate(250).max_processes(10).without(Right::Files).function(plugin, ())
//!   └─ plugin ─ spawns ─ … all of them: a quarter of a core, ten processes, no files
//! kill_tree(plugin)   ends all of them, also if `plugin` itself has ended
//! ```
//!
//! A limit or a right holds for the whole tree, beside what holds for the parent: no tree gets more than the tree around it has
//! left.

use crate::bindings::atoll_rt::process::signals;
pub use crate::bindings::atoll_rt::process::spawning::Right;
use crate::bindings::atoll_rt::process::spawning::SpawnOption;
pub use crate::bindings::atoll_rt::process::types::Overflow;
use crate::{Pid, Spawn};

impl Spawn {
    /// Makes the process the root of a tree, which [`kill_tree`] can end. Each of the options below does so as well.
    pub fn tree(self) -> Self {
        self.with(SpawnOption::Tree)
    }

    /// The most bytes to which the memory of each process of the tree may grow. Growing beyond it fails, and a Rust program then
    /// aborts.
    pub fn max_memory(self, bytes: u64) -> Self {
        self.with(SpawnOption::MaxMemory(bytes))
    }

    /// The most bytes that may wait in the mailbox of each process of the tree. [`Spawn::on_full_mailbox`] says what happens then.
    /// OTP: `max_heap_size`.
    pub fn max_mailbox(self, bytes: u64) -> Self {
        self.with(SpawnOption::MaxMailbox(bytes))
    }

    /// The most messages that may wait there.
    pub fn max_messages(self, count: u64) -> Self {
        self.with(SpawnOption::MaxMessages(count))
    }

    /// The fate of a message that a mailbox of the tree has no room for. Without this option its process ends.
    pub fn on_full_mailbox(self, overflow: Overflow) -> Self {
        self.with(SpawnOption::OnFullMailbox(overflow))
    }

    /// The most links, monitors, aliases and timers that each process of the tree may hold together.
    pub fn max_ties(self, count: u32) -> Self {
        self.with(SpawnOption::MaxTies(count))
    }

    /// The most files and other handles that each process of the tree may hold.
    pub fn max_handles(self, count: u32) -> Self {
        self.with(SpawnOption::MaxHandles(count))
    }

    /// The most bytes that memories and mailboxes of all processes of the tree may hold together.
    pub fn max_tree_memory(self, bytes: u64) -> Self {
        self.with(SpawnOption::MaxTreeMemory(bytes))
    }

    /// The most processes of the tree that may be alive.
    pub fn max_processes(self, count: u32) -> Self {
        self.with(SpawnOption::MaxProcesses(count))
    }

    /// The most reductions that all processes of the tree may use. Then each of them ends before its next turn.
    pub fn max_reductions(self, count: u64) -> Self {
        self.with(SpawnOption::MaxReductions(count))
    }

    /// How much of the machine all processes of the tree may use together, in thousandths of a core: 250 is a quarter. A tree
    /// that has used more waits.
    pub fn max_rate(self, thousandths: u32) -> Self {
        self.with(SpawnOption::MaxRate(thousandths))
    }

    /// The most bytes that all processes of the tree may print. Printing beyond it fails.
    pub fn max_output(self, bytes: u64) -> Self {
        self.with(SpawnOption::MaxOutput(bytes))
    }

    /// The most bytes that they may print in a second. Printing beyond it waits.
    pub fn max_output_rate(self, bytes: u64) -> Self {
        self.with(SpawnOption::MaxOutputRate(bytes))
    }

    /// The most operations on files that may be under way for all processes of the tree together. One beyond it waits.
    pub fn max_blocking(self, count: u32) -> Self {
        self.with(SpawnOption::MaxBlocking(count))
    }

    /// Withholds a right from the tree. A program that imports an interface to which it has no right is not spawned.
    pub fn without(self, right: Right) -> Self {
        self.with(SpawnOption::Without(right))
    }

    /// Passes on, of the directories that the host grants, the one with this path, and others that are named so.
    pub fn directory(self, path: impl Into<String>) -> Self {
        self.with(SpawnOption::Directory(path.into()))
    }

    /// Passes on, of the network addresses that the host grants, this one (`ADDRESS` or `ADDRESS:PORT`), and others that are named
    /// so.
    pub fn address(self, address: impl Into<String>) -> Self {
        self.with(SpawnOption::Address(address.into()))
    }

    /// Lets the tree spawn, beside its own programs, the one with this name, and others that are named so.
    pub fn may_spawn(self, program: impl Into<String>) -> Self {
        self.with(SpawnOption::Program(program.into()))
    }

    /// Gives the tree names and groups of its own.
    pub fn own_names(self) -> Self {
        self.with(SpawnOption::OwnNames)
    }
}

/// Kills the process that began a tree, and every process of the tree, also if the one that began it has ended. When this has
/// returned, none of them gets another turn. Returns false if there is no such tree.
pub fn kill_tree(root: Pid) -> bool {
    signals::kill_tree(root)
}

//! The parts of the contract's functions that both linkings share.

use crate::engine::state::Exit;
use crate::process::{Budget, ExitReason, Pid, Reference, SELECTOR_TAGS_MAX};
use crate::scheduler::Priority;
use crate::system::current::Current;
use crate::system::program::{Runnable, SpawnError};
use crate::system::spawn::{Parent, Spawn, SpawnOptions, label};
use std::sync::Arc;
use wasmtime::bail;

/// The most options that one spawn may list.
const SPAWN_OPTIONS_MAX: usize = 32;

/// One option of a spawn.
pub(super) enum SpawnOption {
    Link,
    Monitor(Reference),
    Name(Box<str>),
    Priority(Priority),
    MaxMemory(u64),
    MaxMailbox(u64),
    Label(Box<str>),
}

/// Checks a payload's size before it is copied out of the guest.
#[inline]
pub(super) fn check_message(current: &Current, bytes: usize) -> wasmtime::Result<()> {
    if bytes as u64 > current.shared.config.max_message {
        return Err(Exit::exhausted(Budget::Message));
    }
    Ok(())
}

/// Checks how many tags a selector lists.
pub(super) fn check_tags(count: usize) -> wasmtime::Result<()> {
    if count > SELECTOR_TAGS_MAX {
        bail!("receive: a selector may list {SELECTOR_TAGS_MAX} tags, not {count}");
    }
    Ok(())
}

/// Checks how many options a spawn lists.
pub(super) fn check_spawn_options(count: usize) -> wasmtime::Result<()> {
    if count > SPAWN_OPTIONS_MAX {
        bail!("spawn: {count} options are more than the limit of {SPAWN_OPTIONS_MAX}");
    }
    Ok(())
}

/// Finds the program that a spawn names, or the caller's own if it names none.
pub(super) fn program(
    current: &Current,
    name: Option<&str>,
) -> Result<Arc<dyn Runnable>, SpawnError> {
    match name {
        None => Ok(current.program.clone()),
        Some(name) => (current.shared.program(name)).ok_or(SpawnError::UnknownProgram),
    }
}

/// `spawning.spawn`. `function` is none if the program has no such function.
pub(super) fn spawn(
    current: &mut Current,
    program: Result<Arc<dyn Runnable>, SpawnError>,
    function: Option<u32>,
    argument: Box<[u8]>,
    options: impl IntoIterator<Item = SpawnOption>,
) -> Result<Pid, SpawnError> {
    let program = program.inspect_err(|_| current.charge_spawn(argument.len(), 0))?;
    current.charge_spawn(argument.len(), program.instance_bytes());
    let mut given = SpawnOptions::default();
    for option in options {
        match option {
            SpawnOption::Link => given.link = true,
            SpawnOption::Monitor(reference) => given.monitors.push(reference),
            SpawnOption::Name(name) => given.name = Some(name.into()),
            SpawnOption::Priority(priority) => given.priority = priority,
            SpawnOption::MaxMemory(bytes) => given.memory_bytes_max = Some(bytes),
            SpawnOption::MaxMailbox(bytes) => given.mailbox_bytes_max = Some(bytes),
            SpawnOption::Label(text) => given.label = Some(label(&text)),
        }
    }
    current.check_ties(given.link, &given.monitors)?;
    let parent = Parent {
        index: current.index(),
        pid: current.pid,
    };
    let spawn = Spawn {
        program,
        function,
        argument,
        options: given,
    };
    current.shared.spawn(spawn, Some(parent))
}

/// `lifecycle.exit`: the error that ends the process.
pub(super) fn exit(reason: ExitReason) -> wasmtime::Error {
    Exit::own(reason)
}

//! The parts of the contract's functions that both linkings share.

use crate::engine::state::Exit;
use crate::process::{Budget, ExitReason, Pid, Reference, SELECTOR_TAGS_MAX};
use crate::scheduler::Priority;
use crate::system::current::Current;
use crate::system::limits::Limit;
use crate::system::program::SpawnError;
use crate::system::spawn::{Spawn, SpawnOptions, label};
use crate::system::{Program, Rights, TreeOptions};
use std::sync::Arc;
use wasmtime::bail;

/// The most options that one spawn may list.
const SPAWN_OPTIONS_MAX: usize = 32;

/// The longest path and the longest name of a program that a tree holds.
const HELD_BYTES_MAX: usize = 255;

/// One option of a spawn.
pub(super) enum SpawnOption {
    Link,
    Monitor(Reference),
    Name(Box<str>),
    Priority(Priority),
    Label(Box<str>),
    /// Begin a tree.
    Tree,
    Limit(Limit),
    Without(Rights),
    Directory(Box<str>),
    Address(Box<str>),
    Program(Box<str>),
    OwnNames,
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
pub(super) fn program(current: &Current, name: Option<&str>) -> Result<Program, SpawnError> {
    let own = || Program {
        runnable: current.program.clone(),
        options: None,
    };
    match name {
        None => Ok(own()),
        Some(name) => {
            let program = current.shared.program(name);
            let program = program.ok_or(SpawnError::UnknownProgram);
            let is_own = |program: &Program| Arc::ptr_eq(&program.runnable, &current.program);
            if program.as_ref().is_ok_and(is_own) {
                return Ok(own());
            }
            match current.domain().capabilities.may_spawn(name) {
                true => program,
                false => Err(SpawnError::NotGranted(name.to_owned())),
            }
        }
    }
}

/// `spawning.spawn`. `function` is none if the program has no such function.
pub(super) fn spawn(
    current: &mut Current,
    program: Result<Program, SpawnError>,
    function: Option<u32>,
    argument: Box<[u8]>,
    options: impl IntoIterator<Item = SpawnOption>,
) -> Result<Pid, SpawnError> {
    let program = program.inspect_err(|_| current.charge_spawn(argument.len(), 0))?;
    let Program { runnable, .. } = &program;
    current.charge_spawn(argument.len(), runnable.instance_bytes());
    let mut given = SpawnOptions::default();
    for option in options {
        match option {
            SpawnOption::Link => given.link = true,
            SpawnOption::Monitor(reference) => given.monitors.push(reference),
            SpawnOption::Name(name) => given.name = Some(name.into()),
            SpawnOption::Priority(priority) => given.priority = priority,
            SpawnOption::Label(text) => given.label = Some(label(&text)),
            option => set_tree_option(given.tree(), option)?,
        }
    }
    current.check_ties(given.link, &given.monitors)?;
    let parent = current.as_parent();
    // Those of the program hold, whatever the spawn says.
    if let Some(options) = program.tree_options() {
        let tree = given.tree.take().map(|tree| *tree);
        given.tree = Some(Box::new(options.and(tree.unwrap_or_default())));
    }
    let spawn = Spawn {
        program: program.runnable,
        function,
        argument,
        options: given,
    };
    current.shared.spawn(spawn, Some(parent))
}

/// A text that the tree holds, if it is not too long.
fn held(text: Box<str>, what: &str) -> Result<Box<str>, SpawnError> {
    match text.len() <= HELD_BYTES_MAX {
        true => Ok(text),
        false => Err(SpawnError::Other(format!(
            "{what} has more than {HELD_BYTES_MAX} bytes"
        ))),
    }
}

/// Sets an option that makes the new process the root of a tree.
fn set_tree_option(tree: &mut TreeOptions, option: SpawnOption) -> Result<(), SpawnError> {
    match option {
        SpawnOption::Limit(limit) => tree.limits.set(limit),
        SpawnOption::Without(rights) => tree.without |= rights,
        SpawnOption::Directory(path) => {
            let directories = tree.directories.get_or_insert_default();
            directories.push(held(path, "a directory's path")?);
        }
        SpawnOption::Program(name) => {
            let programs = tree.programs.get_or_insert_default();
            programs.push(held(name, "a program's name")?);
        }
        SpawnOption::Address(text) => {
            let text = held(text, "an address")?;
            tree.pass_on_address(&text).map_err(SpawnError::Other)?;
        }
        SpawnOption::OwnNames => tree.own_names = true,
        _ => {}
    }
    Ok(())
}

/// `lifecycle.exit`: the error that ends the process.
pub(super) fn exit(reason: ExitReason) -> wasmtime::Error {
    Exit::own(reason)
}

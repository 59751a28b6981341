//! `lifecycle` and `spawning`.

use super::super::functions::{self, SpawnOption};
use super::memory::{leave_bytes, put_empty_list, room, slice, text};
use super::values::{is_some, overflow, priority, priority_case, put_case, put_pid, reason, right};
use super::{AGAIN, DONE, Guest, NO_LISTS};
use crate::abi::layout::{self, result_pid_spawn_error, spawn_error, spawn_option};
use crate::engine::state::{PendingBytes, survives};
use crate::process::{Pid, Reference};
use crate::system::SpawnError;
use crate::system::limits::Limit;
use std::task::Poll;
use wasmtime::{Result, bail};

pub(super) fn this(mut guest: Guest<'_>, result: u32) -> Result<()> {
    let pid = guest.data().current.pid;
    let room = room(&mut guest, result, layout::pid::LAYOUT, "self")?;
    put_pid(room, 0, pid);
    Ok(())
}

pub(super) fn argument(mut guest: Guest<'_>, result: u32) -> Result<i64> {
    let bytes = guest.data().current.argument.clone();
    guest.data_mut().current.charge_copy(bytes.len());
    let room = room(&mut guest, result, layout::list::LAYOUT, "argument")?;
    put_empty_list(room, 0);
    leave_bytes(&mut guest, PendingBytes::Bytes(bytes), result)
}

pub(super) fn exit(mut guest: Guest<'_>, case: u32, first: u32, second: u32) -> Result<()> {
    let reason = reason(&mut guest, case, first, second, "exit")?;
    Err(functions::exit(reason))
}

pub(super) fn is_alive(guest: Guest<'_>, node: u64, id: u64) -> Result<i32> {
    match guest.data().current.is_alive(Pid { node, id }) {
        Poll::Ready(is_alive) => Ok(i32::from(is_alive)),
        Poll::Pending => Ok(AGAIN),
    }
}

pub(super) fn yield_now(mut guest: Guest<'_>) -> Result<i32> {
    let state = guest.data_mut();
    state.yielded = !state.yielded;
    Ok(if state.yielded { AGAIN } else { DONE })
}

pub(super) fn set_priority(mut guest: Guest<'_>, case: u32) -> Result<i32> {
    let priority = priority(case, "set-priority")?;
    let before = guest.data_mut().current.set_priority(priority);
    Ok(priority_case(before) as i32)
}

pub(super) fn hibernate(mut guest: Guest<'_>) -> Result<()> {
    guest.data_mut().current.hibernate();
    Ok(())
}

#[expect(
    clippy::too_many_arguments,
    reason = "the canonical ABI flattens the records"
)]
pub(super) fn spawn(
    mut guest: Guest<'_>,
    has_program: u32,
    program: u32,
    program_length: u32,
    function: u32,
    function_length: u32,
    argument: u32,
    argument_length: u32,
    options: u32,
    options_count: u32,
    result: u32,
) -> Result<i64> {
    room(&mut guest, result, result_pid_spawn_error::LAYOUT, "spawn")?;
    let program = program_name(&mut guest, has_program, program, program_length)?;
    let program = functions::program(&guest.data().current, program.as_deref());
    let what = "spawn: the function's name";
    let function = text(&mut guest, function, function_length, what)?;
    let function = program
        .as_ref()
        .ok()
        .and_then(|it| it.runnable.function(function));
    let options = spawn_options(&mut guest, options, options_count)?;
    // Too large an argument is refused by the spawn; it is not copied for that.
    let argument_max = guest.data().current.shared.config.max_message;
    let argument = slice(&mut guest, argument, argument_length, "spawn: the argument")?;
    let spawned = if u64::from(argument_length) > argument_max {
        Err(SpawnError::ArgumentTooLarge)
    } else {
        let argument = argument.into();
        functions::spawn(
            &mut guest.data_mut().current,
            program,
            function,
            argument,
            options,
        )
    };
    survives(&guest.data().current)?;
    leave_spawned(&mut guest, spawned, result)
}

/// The name of the program that a spawn names, if it names one.
#[inline]
fn program_name(
    guest: &mut Guest<'_>,
    has_name: u32,
    pointer: u32,
    length: u32,
) -> Result<Option<String>> {
    if !is_some(has_name, "spawn")? {
        return Ok(None);
    }
    let name = text(guest, pointer, length, "spawn: the program's name")?;
    Ok(Some(name.to_owned()))
}

/// Writes the pid of the new process, or the error of the spawn, and leaves the error's words if it has some.
#[inline]
fn leave_spawned(
    guest: &mut Guest<'_>,
    spawned: Result<Pid, SpawnError>,
    result: u32,
) -> Result<i64> {
    let room = room(guest, result, result_pid_spawn_error::LAYOUT, "spawn")?;
    let value_at = result_pid_spawn_error::VALUE;
    let error = match spawned {
        Ok(pid) => {
            put_case(room, 0, layout::result::OK);
            put_pid(room, value_at, pid);
            return Ok(NO_LISTS);
        }
        Err(error) => error,
    };
    put_case(room, 0, layout::result::ERROR);
    let (case, words) = match error {
        SpawnError::UnknownProgram => (spawn_error::UNKNOWN_PROGRAM, None),
        SpawnError::UnknownFunction => (spawn_error::UNKNOWN_FUNCTION, None),
        SpawnError::TooManyProcesses => (spawn_error::TOO_MANY_PROCESSES, None),
        SpawnError::NoMemory => (spawn_error::NO_MEMORY, None),
        SpawnError::ArgumentTooLarge => (spawn_error::ARGUMENT_TOO_LARGE, None),
        SpawnError::NameTaken => (spawn_error::NAME_TAKEN, None),
        SpawnError::NotGranted(name) => (spawn_error::NOT_GRANTED, Some(name)),
        SpawnError::NotSupported(option) => (spawn_error::NOT_SUPPORTED, Some(option)),
        SpawnError::Other(text) => (spawn_error::OTHER, Some(text)),
    };
    put_case(room, value_at, case);
    match words {
        Some(words) => {
            let words_at = value_at + spawn_error::VALUE;
            put_empty_list(room, words_at);
            let bytes = PendingBytes::Bytes(words.into_bytes().into());
            leave_bytes(guest, bytes, result + words_at as u32)
        }
        None => Ok(NO_LISTS),
    }
}

fn spawn_options(guest: &mut Guest<'_>, pointer: u32, count: u32) -> Result<Vec<SpawnOption>> {
    functions::check_spawn_options(count as usize)?;
    let mut options = Vec::with_capacity(count as usize);
    for index in 0..count {
        let at = u64::from(pointer) + u64::from(index) * spawn_option::BYTES as u64;
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        options.push(spawn_option(guest, at)?);
    }
    Ok(options)
}

/// The limit that an option of a spawn sets. Of the value only as many bytes count as its type has.
fn limit(case: u32, value: u64) -> Result<Limit> {
    let number = value as u32;
    Ok(match case {
        spawn_option::MAX_MEMORY => Limit::Memory(value),
        spawn_option::MAX_MAILBOX => Limit::Mailbox(value),
        spawn_option::MAX_MESSAGES => Limit::Messages(value),
        spawn_option::ON_FULL_MAILBOX => Limit::Overflow(overflow(number & 0xff, "spawn")?),
        spawn_option::MAX_TIES => Limit::Ties(number),
        spawn_option::MAX_HANDLES => Limit::Handles(number),
        spawn_option::MAX_TREE_MEMORY => Limit::TreeMemory(value),
        spawn_option::MAX_PROCESSES => Limit::Processes(number),
        spawn_option::MAX_REDUCTIONS => Limit::Reductions(value),
        spawn_option::MAX_RATE => Limit::Rate(number),
        spawn_option::MAX_OUTPUT => Limit::Output(value),
        spawn_option::MAX_OUTPUT_RATE => Limit::OutputRate(value),
        spawn_option::MAX_BLOCKING => Limit::Blocking(number),
        other => bail!("spawn: {other} is no case of `spawn-option`"),
    })
}

/// Reads one option of a spawn.
fn spawn_option(guest: &mut Guest<'_>, pointer: u32) -> Result<SpawnOption> {
    const BYTES: usize = spawn_option::BYTES;
    const VALUE: usize = spawn_option::VALUE;
    let option: [u8; BYTES] = slice(guest, pointer, BYTES as u32, "spawn: the options")?
        .try_into()
        .expect("the slice has the length that was asked for");
    let u32_at = |at: usize| u32::from_le_bytes(option[at..at + 4].try_into().expect("four bytes"));
    let u64_at =
        |at: usize| u64::from_le_bytes(option[at..at + 8].try_into().expect("eight bytes"));
    let mut text = |what: &str| {
        let pointer = u32_at(VALUE + layout::list::POINTER);
        let length = u32_at(VALUE + layout::list::LENGTH);
        text(guest, pointer, length, what).map(Box::from)
    };
    Ok(match option[0].into() {
        spawn_option::LINK => SpawnOption::Link,
        spawn_option::MONITOR => SpawnOption::Monitor(Reference {
            node: u64_at(VALUE + layout::reference::NODE),
            id: u64_at(VALUE + layout::reference::ID),
        }),
        spawn_option::NAME => SpawnOption::Name(text("spawn: the name")?),
        spawn_option::PRIORITY => SpawnOption::Priority(priority(option[VALUE].into(), "spawn")?),
        spawn_option::LABEL => SpawnOption::Label(text("spawn: the label")?),
        spawn_option::TREE => SpawnOption::Tree,
        spawn_option::WITHOUT => SpawnOption::Without(right(option[VALUE].into(), "spawn")?),
        spawn_option::DIRECTORY => SpawnOption::Directory(text("spawn: the directory")?),
        spawn_option::ADDRESS => SpawnOption::Address(text("spawn: the address")?),
        spawn_option::PROGRAM => SpawnOption::Program(text("spawn: a program's name")?),
        spawn_option::OWN_NAMES => SpawnOption::OwnNames,
        case => SpawnOption::Limit(limit(case, u64_at(VALUE))?),
    })
}

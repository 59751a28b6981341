//! `lifecycle` and `spawning`.

use super::super::functions::{self, SpawnOption};
use super::memory::{EMPTY_LIST, leave, room, slice, text};
use super::values::{is_some, priority, priority_case, put_id, reason};
use super::{AGAIN, DONE, Guest, NO_LISTS};
use crate::abi::layout::{ID_BYTES, SPAWN_OPTION_BYTES, SPAWN_RESULT_BYTES};
use crate::engine::state::PendingBytes;
use crate::engine::state::survives;
use crate::process::{Pid, Reference};
use crate::system::SpawnError;
use std::task::Poll;
use wasmtime::{Result, bail};

pub(super) fn this(mut guest: Guest<'_>, result: u32) -> Result<()> {
    let pid = guest.data().current.pid;
    let room = room::<ID_BYTES>(&mut guest, result, "self")?;
    put_id(room, 0, pid.node, pid.id);
    Ok(())
}

pub(super) fn argument(mut guest: Guest<'_>, result: u32) -> Result<i64> {
    let bytes = guest.data().current.argument.clone();
    guest.data_mut().current.charge_copy(bytes.len());
    room::<8>(&mut guest, result, "argument")?.copy_from_slice(&EMPTY_LIST);
    leave(&mut guest, PendingBytes::Bytes(bytes), result)
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
    Ok(priority_case(before).into())
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
    room::<SPAWN_RESULT_BYTES>(&mut guest, result, "spawn")?;
    let program = program_name(&mut guest, has_program, program, program_length)?;
    let program = functions::program(&guest.data().current, program.as_deref());
    let what = "spawn: the function's name";
    let function = text(&mut guest, function, function_length, what)?;
    let function = program.as_ref().ok().and_then(|it| it.function(function));
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

/// Writes what came of a spawn, and leaves the words of an error that has some.
#[inline]
fn leave_spawned(
    guest: &mut Guest<'_>,
    spawned: Result<Pid, SpawnError>,
    result: u32,
) -> Result<i64> {
    let room = room::<SPAWN_RESULT_BYTES>(guest, result, "spawn")?;
    let error = match spawned {
        Ok(pid) => {
            room[0] = 0;
            put_id(room, 8, pid.node, pid.id);
            return Ok(NO_LISTS);
        }
        Err(error) => error,
    };
    room[0] = 1;
    let (case, words) = match error {
        SpawnError::UnknownProgram => (0, None),
        SpawnError::UnknownFunction => (1, None),
        SpawnError::TooManyProcesses => (2, None),
        SpawnError::NoMemory => (3, None),
        SpawnError::ArgumentTooLarge => (4, None),
        SpawnError::NameTaken => (5, None),
        SpawnError::NotSupported(option) => (6, Some(option)),
        SpawnError::Other(text) => (7, Some(text)),
    };
    room[8] = case;
    match words {
        Some(words) => {
            room[12..20].copy_from_slice(&EMPTY_LIST);
            let bytes = PendingBytes::Bytes(words.into_bytes().into());
            leave(guest, bytes, result + 12)
        }
        None => Ok(NO_LISTS),
    }
}

fn spawn_options(guest: &mut Guest<'_>, pointer: u32, count: u32) -> Result<Vec<SpawnOption>> {
    functions::check_spawn_options(count as usize)?;
    let mut options = Vec::with_capacity(count as usize);
    for index in 0..count {
        let at = u64::from(pointer) + u64::from(index) * SPAWN_OPTION_BYTES as u64;
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        let option: [u8; SPAWN_OPTION_BYTES] =
            slice(guest, at, SPAWN_OPTION_BYTES as u32, "spawn: the options")?
                .try_into()
                .expect("the slice has the length that was asked for");
        let word =
            |at: usize| u32::from_le_bytes(option[at..at + 4].try_into().expect("four bytes"));
        let long =
            |at: usize| u64::from_le_bytes(option[at..at + 8].try_into().expect("eight bytes"));
        options.push(match option[0] {
            0 => SpawnOption::Link,
            1 => SpawnOption::Monitor(Reference {
                node: long(8),
                id: long(16),
            }),
            2 => SpawnOption::Name(text(guest, word(8), word(12), "spawn: the name")?.into()),
            3 => SpawnOption::Priority(priority(option[8].into(), "spawn")?),
            4 => SpawnOption::MaxMemory(long(8)),
            5 => SpawnOption::MaxMailbox(long(8)),
            6 => SpawnOption::Label(text(guest, word(8), word(12), "spawn: the label")?.into()),
            other => bail!("spawn: {other} is no case of `spawn-option`"),
        });
    }
    Ok(options)
}

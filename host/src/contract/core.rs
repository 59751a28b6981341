//! The contract for the flattened path: core functions in the canonical ABI's shapes.
//!
//! A guest's numbers are hostile until checked: a pointer must lie within its memory with everything it points to,
//! a discriminant must name a case, a length is compared with its limit before anything is copied. What is wrong traps
//! the guest, with a text that names the function. Only the low 32 bits of a joined `i64` count where the case is
//! narrower; some toolchains extend them with the sign.

use super::functions::{self, SPAWN_OPTIONS_MAX, SpawnOption};
use crate::engine::abi::layout::{
    ID_BYTES, OPTION_EVENT_BYTES, SPAWN_OPTION_BYTES, SPAWN_RESULT_BYTES,
};
use crate::engine::abi::{FUNCTIONS, RAW_MODULE, RAW_TAKE};
use crate::engine::state::{Pending, PendingBytes, State};
use crate::process::{
    Budget, Event, ExitReason, Format, Kinds, Outgoing, Payload, Pid, Reference, SELECTOR_TAGS_MAX,
    Selector,
};
use crate::system::SpawnError;
use crate::system::current::Received;
use wasmtime::{Caller, Linker, Result, bail};

/// What a raw function answers when the process must give up its turn and ask again.
const AGAIN: i32 = -1;
/// What it answers when it is done and leaves no list.
const DONE: i32 = 0;

type Guest<'a> = Caller<'a, State>;

/// Defines every function of the contract.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    let interface = |name: &str| {
        let function = FUNCTIONS.iter().find(|function| function.name == name);
        function.expect("the table names every function").interface
    };
    linker.func_wrap(interface("self"), "self", this)?;
    linker.func_wrap(interface("exit"), "exit", exit)?;
    linker.func_wrap(interface("is-alive"), "is-alive", is_alive)?;
    linker.func_wrap(
        interface("make-reference"),
        "make-reference",
        make_reference,
    )?;
    linker.func_wrap(RAW_MODULE, "argument", argument)?;
    linker.func_wrap(RAW_MODULE, "yield-now", yield_now)?;
    linker.func_wrap(RAW_MODULE, "send", send)?;
    linker.func_wrap(RAW_MODULE, "receive", receive)?;
    linker.func_wrap(RAW_MODULE, "spawn", spawn)?;
    linker.func_wrap(RAW_MODULE, RAW_TAKE, take)?;
    Ok(())
}

fn this(mut guest: Guest<'_>, result: u32) -> Result<()> {
    let pid = guest.data().current.pid;
    let room = room::<ID_BYTES>(&mut guest, result, "self")?;
    put_id(room, 0, pid.node, pid.id);
    Ok(())
}

fn argument(mut guest: Guest<'_>, result: u32) -> Result<i32> {
    if pauses(&mut guest)? {
        return Ok(AGAIN);
    }
    let bytes = guest.data().current.argument.clone();
    guest.data_mut().current.charge_copy(bytes.len());
    room::<8>(&mut guest, result, "argument")?.copy_from_slice(&EMPTY_LIST);
    leave(&mut guest, PendingBytes::Bytes(bytes), result)
}

fn exit(mut guest: Guest<'_>, case: u32, first: u32, second: u32) -> Result<()> {
    let mut bytes = || -> Result<Box<[u8]>> {
        functions::check_message(&guest.data().current, second as usize)?;
        Ok(slice(&mut guest, first, second, "exit: the reason")?.into())
    };
    let reason = match case {
        0 => ExitReason::Normal,
        1 => ExitReason::Shutdown,
        2 => ExitReason::ShutdownWith(bytes()?),
        3 => ExitReason::Kill,
        4 => ExitReason::Killed,
        5 => ExitReason::NoProc,
        6 => ExitReason::NoConnection,
        7 => match String::from_utf8(bytes()?.into()) {
            Ok(text) => ExitReason::Trap(text.into()),
            Err(_) => bail!("exit: the trap's text is not UTF-8"),
        },
        8 => ExitReason::Exhausted(match first {
            0 => Budget::Memory,
            1 => Budget::Mailbox,
            2 => Budget::Message,
            3 => Budget::Reductions,
            4 => Budget::Resources,
            other => bail!("exit: {other} is no case of `budget`"),
        }),
        9 => ExitReason::ExitCode(first),
        10 => ExitReason::Other(bytes()?),
        other => bail!("exit: {other} is no case of `exit-reason`"),
    };
    Err(functions::exit(reason))
}

fn is_alive(guest: Guest<'_>, node: u64, id: u64) -> u32 {
    u32::from(guest.data().current.shared.is_alive(Pid { node, id }))
}

fn make_reference(mut guest: Guest<'_>, result: u32) -> Result<()> {
    let reference = guest.data_mut().current.make_reference();
    let room = room::<ID_BYTES>(&mut guest, result, "make-reference")?;
    put_id(room, 0, reference.node, reference.id);
    Ok(())
}

fn yield_now(mut guest: Guest<'_>) -> Result<i32> {
    let state = guest.data_mut();
    state.yielded = !state.yielded;
    if state.yielded {
        return give_up_turn(&mut guest);
    }
    go_on(&mut guest)?;
    Ok(DONE)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the canonical ABI flattens the records"
)]
fn send(
    mut guest: Guest<'_>,
    node: u64,
    id: u64,
    tag: u32,
    has_reference: u32,
    reference_node: u64,
    reference_id: u64,
    format: u32,
    pointer: u32,
    length: u32,
) -> Result<i32> {
    if pauses(&mut guest)? {
        return Ok(AGAIN);
    }
    let reference = match has_reference {
        0 => None,
        1 => Some(Reference {
            node: reference_node,
            id: reference_id,
        }),
        other => bail!("send: {other} is no case of `option`"),
    };
    let format = match format {
        0 => Format::Raw,
        1 => Format::ExternalTerm,
        other => bail!("send: {other} is no case of `format`"),
    };
    functions::check_message(&guest.data().current, length as usize)?;
    let payload = Payload::from_slice(slice(&mut guest, pointer, length, "send: the payload")?);
    let message = Outgoing {
        tag,
        reference,
        format,
        payload,
    };
    functions::send(&mut guest.data_mut().current, Pid { node, id }, message);
    Ok(DONE)
}

fn receive(
    mut guest: Guest<'_>,
    selector: u32,
    first: u64,
    second: u64,
    has_timeout: u32,
    timeout_ns: u64,
    result: u32,
) -> Result<i32> {
    // A search through a full mailbox is work as well: a process that owes a pause takes it first.
    if guest.data_mut().current.owes_pause() {
        return give_up_turn(&mut guest);
    }
    let timeout_ns = match has_timeout {
        0 => None,
        1 => Some(timeout_ns),
        other => bail!("receive: {other} is no case of `option`"),
    };
    let selector = match selector {
        0 => Selector::Any,
        1 => Selector::Tag(first as u32),
        2 => Selector::Tags(tags(&mut guest, first as u32, second as u32)?),
        3 => Selector::Reference(Reference {
            node: first,
            id: second,
        }),
        4 => Selector::Kinds(Kinds::from_bits(first as u8)),
        other => bail!("receive: {other} is no case of `selector`"),
    };
    match guest.data_mut().current.receive(&selector, timeout_ns) {
        Received::Wait => give_up_turn(&mut guest),
        Received::TimedOut => {
            go_on(&mut guest)?;
            room::<OPTION_EVENT_BYTES>(&mut guest, result, "receive")?[0] = 0;
            Ok(DONE)
        }
        Received::Event(event) => {
            go_on(&mut guest)?;
            let room = room::<OPTION_EVENT_BYTES>(&mut guest, result, "receive")?;
            room[0] = 1;
            match put_event(&mut room[8..], event) {
                Some((bytes, offset)) => {
                    guest.data_mut().current.charge_copy(bytes.as_slice().len());
                    leave(&mut guest, bytes, result + 8 + offset)
                }
                None => Ok(DONE),
            }
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the canonical ABI flattens the records"
)]
fn spawn(
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
) -> Result<i32> {
    if pauses(&mut guest)? {
        return Ok(AGAIN);
    }
    room::<SPAWN_RESULT_BYTES>(&mut guest, result, "spawn")?;
    let program = match has_program {
        0 => None,
        1 => Some(text(
            &mut guest,
            program,
            program_length,
            "spawn: the program's name",
        )?),
        other => bail!("spawn: {other} is no case of `option`"),
    };
    let function = text(
        &mut guest,
        function,
        function_length,
        "spawn: the function's name",
    )?;
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
            program.as_deref(),
            &function,
            argument,
            options,
        )
    };
    let room = room::<SPAWN_RESULT_BYTES>(&mut guest, result, "spawn")?;
    let error = match spawned {
        Ok(pid) => {
            room[0] = 0;
            put_id(room, 8, pid.node, pid.id);
            return Ok(DONE);
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
        SpawnError::NotSupported(option) => (5, Some(option)),
        SpawnError::Other(text) => (6, Some(text)),
    };
    room[8] = case;
    match words {
        Some(words) => {
            room[12..20].copy_from_slice(&EMPTY_LIST);
            leave(
                &mut guest,
                PendingBytes::Bytes(words.into_bytes().into()),
                result + 12,
            )
        }
        None => Ok(DONE),
    }
}

/// Copies what was left for the guest to where it has made room, and tells it where that is.
fn take(mut guest: Guest<'_>, pointer: u32) -> Result<()> {
    let Some(pending) = guest.data_mut().pending.take() else {
        bail!("there is no list to take");
    };
    let bytes = pending.bytes.as_slice();
    let length = bytes.len() as u32;
    let data = memory(&mut guest)?;
    part(data, pointer, length, "cabi_realloc: the room it returned")?.copy_from_slice(bytes);
    let list = part(data, pending.pointer_at, 8, "the result")?;
    list[..4].copy_from_slice(&pointer.to_le_bytes());
    list[4..].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// An empty list: no guest reads or frees what its pointer, which may not be null, points to.
const EMPTY_LIST: [u8; 8] = [1, 0, 0, 0, 0, 0, 0, 0];

/// Leaves a list with the host until the guest has made room for it, and answers how much it needs.
fn leave(guest: &mut Guest<'_>, bytes: PendingBytes, pointer_at: u32) -> Result<i32> {
    let length = bytes.as_slice().len();
    if length == 0 {
        return Ok(DONE);
    }
    let Ok(length) = i32::try_from(length) else {
        return Err(crate::engine::state::Exit::exhausted(Budget::Message));
    };
    // Guest code runs between leaving and taking: its `cabi_realloc`, which may not call imports.
    if guest
        .data_mut()
        .pending
        .replace(Pending { bytes, pointer_at })
        .is_some()
    {
        bail!("cabi_realloc called an imported function that returns a list");
    }
    Ok(length)
}

/// Makes the next edge of a loop the end of the turn.
fn give_up_turn(guest: &mut Guest<'_>) -> Result<i32> {
    guest.fuel_async_yield_interval(Some(1))?;
    guest.data_mut().giving_up_turn = true;
    Ok(AGAIN)
}

/// Undoes that, once the process may go on.
#[inline]
fn go_on(guest: &mut Guest<'_>) -> Result<()> {
    if std::mem::take(&mut guest.data_mut().giving_up_turn) {
        let slice_reductions = guest.data().current.shared.config.reductions;
        guest.fuel_async_yield_interval(Some(slice_reductions.into()))?;
    }
    Ok(())
}

/// Has the host worked a whole slice for this process since its last pause? Then it must give up its turn first.
#[inline]
fn pauses(guest: &mut Guest<'_>) -> Result<bool> {
    if guest.data_mut().current.owes_pause() {
        give_up_turn(guest)?;
        return Ok(true);
    }
    go_on(guest)?;
    Ok(false)
}

/// The guest's memory.
#[inline]
fn memory<'a>(guest: &'a mut Guest<'_>) -> Result<&'a mut [u8]> {
    match guest.data().memory {
        Some(memory) => Ok(memory.data_mut(guest)),
        None => bail!("the module exports no memory"),
    }
}

/// A range of it.
#[inline]
fn part<'a>(data: &'a mut [u8], pointer: u32, length: u32, what: &str) -> Result<&'a mut [u8]> {
    let size = data.len();
    match data.get_mut(pointer as usize..pointer as usize + length as usize) {
        Some(part) => Ok(part),
        None => outside(what, pointer, length, size),
    }
}

#[cold]
fn outside<T>(what: &str, pointer: u32, length: u32, size: usize) -> Result<T> {
    bail!(
        "{what} (address {pointer:#x}, {length} bytes) lies outside of the memory ({size:#x} bytes)"
    )
}

/// A range of the guest's memory.
#[inline]
fn slice<'a>(
    guest: &'a mut Guest<'_>,
    pointer: u32,
    length: u32,
    what: &str,
) -> Result<&'a mut [u8]> {
    part(memory(guest)?, pointer, length, what)
}

/// Room for a result of fixed size.
#[inline]
fn room<'a, const BYTES: usize>(
    guest: &'a mut Guest<'_>,
    pointer: u32,
    function: &str,
) -> Result<&'a mut [u8; BYTES]> {
    // Records with a u64 in them are aligned to eight bytes, a bare list to four.
    let alignment = if BYTES > 8 { 8 } else { 4 };
    if !pointer.is_multiple_of(alignment) {
        bail!("{function}: the result's address {pointer:#x} is not aligned");
    }
    let room = slice(guest, pointer, BYTES as u32, function)?;
    Ok(room
        .try_into()
        .expect("the slice has the length that was asked for"))
}

/// Names are short; a longer one is nobody's name, and is not copied to find that out.
const NAME_BYTES_MAX: u32 = 4096;

fn text(guest: &mut Guest<'_>, pointer: u32, length: u32, what: &str) -> Result<String> {
    let bytes = slice(guest, pointer, length, what)?;
    if length > NAME_BYTES_MAX {
        bail!("{what} has {length} bytes; the limit is {NAME_BYTES_MAX}");
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => bail!("{what} is not UTF-8"),
    }
}

fn tags(guest: &mut Guest<'_>, pointer: u32, count: u32) -> Result<smallvec::SmallVec<[u32; 4]>> {
    if count as usize > SELECTOR_TAGS_MAX {
        bail!("receive: a selector may list {SELECTOR_TAGS_MAX} tags, not {count}");
    }
    let bytes = slice(guest, pointer, count * 4, "receive: the selector's tags")?;
    Ok(bytes
        .chunks_exact(4)
        .map(|tag| u32::from_le_bytes(tag.try_into().expect("four bytes")))
        .collect())
}

fn spawn_options(guest: &mut Guest<'_>, pointer: u32, count: u32) -> Result<Vec<SpawnOption>> {
    if count as usize > SPAWN_OPTIONS_MAX {
        bail!("spawn: {count} options are more than the limit of {SPAWN_OPTIONS_MAX}");
    }
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
        let long = u64::from_le_bytes(option[8..16].try_into().expect("eight bytes"));
        options.push(match option[0] {
            0 => SpawnOption::NotSupported("link"),
            1 => SpawnOption::NotSupported("monitor"),
            2 => SpawnOption::NotSupported("name"),
            3 => SpawnOption::NotSupported("priority"),
            4 => SpawnOption::MaxMemory(long),
            5 => SpawnOption::MaxMailbox(long),
            6 => SpawnOption::Label(text(guest, word(8), word(12), "spawn: the label")?.into()),
            other => bail!("spawn: {other} is no case of `spawn-option`"),
        });
    }
    Ok(options)
}

fn put_id(room: &mut [u8], at: usize, node: u64, id: u64) {
    room[at..at + 8].copy_from_slice(&node.to_le_bytes());
    room[at + 8..at + 16].copy_from_slice(&id.to_le_bytes());
}

/// Writes an event; what it carries besides, and where the pointer to that belongs, is returned.
fn put_event(room: &mut [u8], event: Event) -> Option<(PendingBytes, u32)> {
    match event {
        Event::Message(message) => {
            room[0] = 0;
            put_id(room, 8, message.sender.node, message.sender.id);
            room[24..28].copy_from_slice(&message.tag.to_le_bytes());
            room[32] = u8::from(message.reference.is_some());
            if let Some(reference) = message.reference {
                put_id(room, 40, reference.node, reference.id);
            }
            room[56] = match message.format {
                Format::Raw => 0,
                Format::ExternalTerm => 1,
            };
            room[60..68].copy_from_slice(&EMPTY_LIST);
            Some((PendingBytes::Payload(message.payload), 60))
        }
        Event::Exit { sender, reason } => {
            room[0] = 1;
            put_id(room, 8, sender.node, sender.id);
            put_reason(room, 24, reason)
        }
        Event::Down {
            monitor,
            process,
            reason,
        } => {
            room[0] = 2;
            put_id(room, 8, monitor.node, monitor.id);
            put_id(room, 24, process.node, process.id);
            put_reason(room, 40, reason)
        }
        Event::Timer { timer, tag } => {
            room[0] = 3;
            put_id(room, 8, timer.node, timer.id);
            room[24..28].copy_from_slice(&tag.to_le_bytes());
            None
        }
    }
}

fn put_reason(room: &mut [u8], at: usize, reason: ExitReason) -> Option<(PendingBytes, u32)> {
    let mut word = |value: u32| room[at + 4..at + 8].copy_from_slice(&value.to_le_bytes());
    let (case, bytes) = match reason {
        ExitReason::Normal => (0, None),
        ExitReason::Shutdown => (1, None),
        ExitReason::ShutdownWith(term) => (2, Some(term)),
        ExitReason::Kill => (3, None),
        ExitReason::Killed => (4, None),
        ExitReason::NoProc => (5, None),
        ExitReason::NoConnection => (6, None),
        ExitReason::Trap(text) => (7, Some(text.into_boxed_bytes())),
        ExitReason::Exhausted(budget) => {
            word(budget as u32);
            (8, None)
        }
        ExitReason::ExitCode(code) => {
            word(code);
            (9, None)
        }
        ExitReason::Other(term) => (10, Some(term)),
    };
    room[at] = case;
    bytes.map(|bytes| {
        room[at + 4..at + 12].copy_from_slice(&EMPTY_LIST);
        (PendingBytes::Bytes(bytes), at as u32 + 4)
    })
}

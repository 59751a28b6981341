//! The contract's variants in guest memory and in flat parameters.

use super::Guest;
use super::memory::{EMPTY_LIST, payload, text};
use crate::engine::state::PendingBytes;
use crate::process::{Budget, Destination, Event, ExitReason, Format, GroupChange, Message, Pid};
use crate::scheduler::Priority;
use wasmtime::{Result, bail};

/// What an event or a message carries besides its fixed part: bytes, and how far from its start their pointer belongs.
pub(super) type Carried = (PendingBytes, u32);

/// `option`'s discriminant.
#[inline]
pub(super) fn is_some(discriminant: u32, function: &str) -> Result<bool> {
    match discriminant {
        0 => Ok(false),
        1 => Ok(true),
        other => bail!("{function}: {other} is no case of `option`"),
    }
}

/// A `bool`.
pub(super) fn truth(value: u32, function: &str) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        other => bail!("{function}: {other} is no `bool`"),
    }
}

#[inline]
pub(super) fn format(discriminant: u32, function: &str) -> Result<Format> {
    match discriminant {
        0 => Ok(Format::Raw),
        1 => Ok(Format::ExternalTerm),
        other => bail!("{function}: {other} is no case of `format`"),
    }
}

pub(super) fn priority(discriminant: u32, function: &str) -> Result<Priority> {
    match discriminant {
        0 => Ok(Priority::Low),
        1 => Ok(Priority::Normal),
        2 => Ok(Priority::High),
        other => bail!("{function}: {other} is no case of `priority`"),
    }
}

/// `priority`'s case.
pub(super) fn priority_case(priority: Priority) -> u8 {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    }
}

pub(super) fn destination(
    guest: &mut Guest<'_>,
    case: u32,
    first: u64,
    second: u64,
    function: &str,
) -> Result<Destination> {
    match case {
        0 => Ok(Destination::Process(Pid {
            node: first,
            id: second,
        })),
        1 => {
            let what = format!("{function}: the name");
            let name = text(guest, first as u32, second as u32, &what)?.to_owned();
            Ok(Destination::Name(name.into()))
        }
        other => bail!("{function}: {other} is no case of `destination`"),
    }
}

pub(super) fn reason(
    guest: &mut Guest<'_>,
    case: u32,
    first: u32,
    second: u32,
    function: &str,
) -> Result<ExitReason> {
    let mut bytes = || -> Result<Vec<u8>> {
        let what = format!("{function}: the reason");
        Ok(payload(guest, first, second, &what)?.to_vec())
    };
    Ok(match case {
        0 => ExitReason::Normal,
        1 => ExitReason::Shutdown,
        2 => ExitReason::ShutdownWith(bytes()?.into()),
        3 => ExitReason::Kill,
        4 => ExitReason::Killed,
        5 => ExitReason::NoProc,
        6 => ExitReason::NoConnection,
        7 => match String::from_utf8(bytes()?) {
            Ok(text) => ExitReason::Trap(text.into()),
            Err(_) => bail!("{function}: the trap's text is not UTF-8"),
        },
        8 => ExitReason::Exhausted(match first {
            0 => Budget::Memory,
            1 => Budget::Mailbox,
            2 => Budget::Message,
            3 => Budget::Reductions,
            4 => Budget::Resources,
            other => bail!("{function}: {other} is no case of `budget`"),
        }),
        9 => ExitReason::ExitCode(first),
        10 => ExitReason::Other(bytes()?.into()),
        other => bail!("{function}: {other} is no case of `exit-reason`"),
    })
}

#[inline]
pub(super) fn put_id(room: &mut [u8], at: usize, node: u64, id: u64) {
    room[at..at + 8].copy_from_slice(&node.to_le_bytes());
    room[at + 8..at + 16].copy_from_slice(&id.to_le_bytes());
}

pub(super) fn put_u64(room: &mut [u8], at: usize, value: u64) {
    room[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Writes a message.
#[inline]
pub(super) fn put_message(room: &mut [u8], at: usize, message: Message) -> Option<Carried> {
    put_message_head(room, at, &message);
    Some((PendingBytes::Payload(message.payload), at as u32 + 52))
}

/// The same without what it carries.
#[inline]
pub(super) fn put_message_head(room: &mut [u8], at: usize, message: &Message) {
    put_id(room, at, message.sender.node, message.sender.id);
    room[at + 16..at + 20].copy_from_slice(&message.tag.to_le_bytes());
    room[at + 24] = u8::from(message.reference.is_some());
    if let Some(reference) = message.reference {
        put_id(room, at + 32, reference.node, reference.id);
    }
    room[at + 48] = match message.format {
        Format::Raw => 0,
        Format::ExternalTerm => 1,
    };
    room[at + 52..at + 60].copy_from_slice(&EMPTY_LIST);
    // A short payload's pointer is written by the glue, and only that.
    let length = message.payload.len() as u32;
    room[at + 56..at + 60].copy_from_slice(&length.to_le_bytes());
}

/// Writes an event: a case, and its payload at 8. At most two things are carried, and seldom more than one.
#[inline(always)]
pub(super) fn put_event(room: &mut [u8], event: Event) -> (Option<Carried>, Option<Carried>) {
    match event {
        Event::Message(message) => {
            room[0] = 0;
            (put_message(room, 8, message), None)
        }
        Event::Exit { sender, reason } => {
            room[0] = 1;
            put_id(room, 8, sender.node, sender.id);
            (put_reason(room, 24, reason), None)
        }
        Event::Down {
            monitor,
            target,
            reason,
        } => {
            room[0] = 2;
            put_id(room, 8, monitor.node, monitor.id);
            let name = put_destination(room, 24, target);
            (name, put_reason(room, 48, reason))
        }
        Event::Timer { timer, tag } => {
            room[0] = 3;
            put_id(room, 8, timer.node, timer.id);
            room[24..28].copy_from_slice(&tag.to_le_bytes());
            (None, None)
        }
        Event::Group {
            monitor,
            change,
            process,
        } => {
            room[0] = 4;
            put_id(room, 8, monitor.node, monitor.id);
            room[24] = match change {
                GroupChange::Joined => 0,
                GroupChange::Left => 1,
            };
            put_id(room, 32, process.node, process.id);
            (None, None)
        }
    }
}

/// Writes a destination: a case, and its payload at 8.
pub(super) fn put_destination(room: &mut [u8], at: usize, to: Destination) -> Option<Carried> {
    match to {
        Destination::Process(pid) => {
            room[at] = 0;
            put_id(room, at + 8, pid.node, pid.id);
            None
        }
        Destination::Name(name) => {
            room[at] = 1;
            room[at + 8..at + 16].copy_from_slice(&EMPTY_LIST);
            let bytes = name.into_boxed_bytes();
            Some((PendingBytes::Bytes(bytes), at as u32 + 8))
        }
    }
}

/// Writes a reason: a case, and its payload at 4.
pub(super) fn put_reason(room: &mut [u8], at: usize, reason: ExitReason) -> Option<Carried> {
    let mut word = |value: u32| room[at + 4..at + 8].copy_from_slice(&value.to_le_bytes());
    let (case, bytes): (u8, Option<Box<[u8]>>) = match reason {
        ExitReason::Normal => (0, None),
        ExitReason::Shutdown => (1, None),
        ExitReason::ShutdownWith(term) => (2, Some((*term).into())),
        ExitReason::Kill => (3, None),
        ExitReason::Killed => (4, None),
        ExitReason::NoProc => (5, None),
        ExitReason::NoConnection => (6, None),
        ExitReason::Trap(text) => (7, Some(text.as_bytes().into())),
        ExitReason::Exhausted(budget) => {
            word(budget as u32);
            (8, None)
        }
        ExitReason::ExitCode(code) => {
            word(code);
            (9, None)
        }
        ExitReason::Other(term) => (10, Some((*term).into())),
    };
    room[at] = case;
    bytes.map(|bytes| {
        room[at + 4..at + 12].copy_from_slice(&EMPTY_LIST);
        (PendingBytes::Bytes(bytes), at as u32 + 4)
    })
}

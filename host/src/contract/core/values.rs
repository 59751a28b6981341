//! The contract's variants in guest memory and in flat parameters.

use super::Guest;
use super::memory::{payload, put_empty_list, put_u32, put_u64, text};
use crate::abi::layout;
use crate::abi::layout::{budget, event, exit_reason};
use crate::engine::state::PendingBytes;
use crate::process::{
    Budget, Destination, Event, ExitReason, Format, GroupChange, Message, Pid, Reference,
};
use crate::scheduler::Priority;
use crate::system::{Overflow, Rights};
use wasmtime::{Result, bail};

/// The bytes that an event or a message carries beside its fixed part, and how far from its start their pointer belongs.
pub(super) type Carried = (PendingBytes, u32);

/// `option`'s discriminant.
#[inline]
pub(super) fn is_some(discriminant: u32, function: &str) -> Result<bool> {
    match discriminant {
        layout::option::NONE => Ok(false),
        layout::option::SOME => Ok(true),
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
        layout::format::RAW => Ok(Format::Raw),
        layout::format::EXTERNAL_TERM => Ok(Format::ExternalTerm),
        other => bail!("{function}: {other} is no case of `format`"),
    }
}

pub(super) fn priority(discriminant: u32, function: &str) -> Result<Priority> {
    match discriminant {
        layout::priority::LOW => Ok(Priority::Low),
        layout::priority::NORMAL => Ok(Priority::Normal),
        layout::priority::HIGH => Ok(Priority::High),
        other => bail!("{function}: {other} is no case of `priority`"),
    }
}

/// The number of a priority's case.
pub(super) fn priority_case(priority: Priority) -> u32 {
    match priority {
        Priority::Low => layout::priority::LOW,
        Priority::Normal => layout::priority::NORMAL,
        Priority::High => layout::priority::HIGH,
    }
}

pub(super) fn overflow(discriminant: u32, function: &str) -> Result<Overflow> {
    match discriminant {
        layout::overflow::END => Ok(Overflow::End),
        layout::overflow::REJECT => Ok(Overflow::Reject),
        layout::overflow::DROP_NEWEST => Ok(Overflow::DropNewest),
        layout::overflow::DROP_OLDEST => Ok(Overflow::DropOldest),
        other => bail!("{function}: {other} is no case of `overflow`"),
    }
}

pub(super) fn right(discriminant: u32, function: &str) -> Result<Rights> {
    Ok(match discriminant {
        layout::right::SIGNALS => Rights::SIGNALS,
        layout::right::NAMES => Rights::NAMES,
        layout::right::GROUPS => Rights::GROUPS,
        layout::right::TIMERS => Rights::TIMERS,
        layout::right::SPAWNING => Rights::SPAWNING,
        layout::right::INSPECTION => Rights::INSPECTION,
        layout::right::DEBUGGING => Rights::DEBUGGING,
        layout::right::FILES => Rights::FILES,
        layout::right::NETWORK => Rights::NETWORK,
        layout::right::ENVIRONMENT => Rights::ENVIRONMENT,
        layout::right::STANDARD_INPUT => Rights::STANDARD_INPUT,
        layout::right::STRANGERS => Rights::STRANGERS,
        other => bail!("{function}: {other} is no case of `right`"),
    })
}

pub(super) fn destination(
    guest: &mut Guest<'_>,
    case: u32,
    first: u64,
    second: u64,
    function: &str,
) -> Result<Destination> {
    match case {
        layout::destination::PROCESS => Ok(Destination::Process(Pid {
            node: first,
            id: second,
        })),
        layout::destination::NAME => {
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
        exit_reason::NORMAL => ExitReason::Normal,
        exit_reason::SHUTDOWN => ExitReason::Shutdown,
        exit_reason::SHUTDOWN_WITH => ExitReason::ShutdownWith(bytes()?.into()),
        exit_reason::KILL => ExitReason::Kill,
        exit_reason::KILLED => ExitReason::Killed,
        exit_reason::NOPROC => ExitReason::NoProc,
        exit_reason::NOCONNECTION => ExitReason::NoConnection,
        exit_reason::TRAP => match String::from_utf8(bytes()?) {
            Ok(text) => ExitReason::Trap(text.into()),
            Err(_) => bail!("{function}: the trap's text is not UTF-8"),
        },
        exit_reason::EXHAUSTED => ExitReason::Exhausted(match first {
            budget::MEMORY => Budget::Memory,
            budget::MAILBOX => Budget::Mailbox,
            budget::MESSAGE => Budget::Message,
            budget::REDUCTIONS => Budget::Reductions,
            budget::RESOURCES => Budget::Resources,
            other => bail!("{function}: {other} is no case of `budget`"),
        }),
        exit_reason::EXIT_CODE => ExitReason::ExitCode(first),
        exit_reason::OTHER => ExitReason::Other(bytes()?.into()),
        other => bail!("{function}: {other} is no case of `exit-reason`"),
    })
}

/// Writes the number of a case. The generator has seen that one byte is enough.
#[inline]
pub(super) fn put_case(room: &mut [u8], at: usize, case: u32) {
    room[at] = case as u8;
}

/// Writes the case of an option.
#[inline]
pub(super) fn put_is_some(room: &mut [u8], at: usize, is_some: bool) {
    let case = match is_some {
        true => layout::option::SOME,
        false => layout::option::NONE,
    };
    put_case(room, at, case);
}

#[inline]
pub(super) fn put_pid(room: &mut [u8], at: usize, pid: Pid) {
    put_u64(room, at + layout::pid::NODE, pid.node);
    put_u64(room, at + layout::pid::ID, pid.id);
}

#[inline]
pub(super) fn put_reference(room: &mut [u8], at: usize, reference: Reference) {
    put_u64(room, at + layout::reference::NODE, reference.node);
    put_u64(room, at + layout::reference::ID, reference.id);
}

/// Writes a message.
#[inline]
pub(super) fn put_message(room: &mut [u8], at: usize, message: Message) -> Option<Carried> {
    put_message_head(room, at, &message);
    let pointer_at = at + layout::message::PAYLOAD;
    Some((PendingBytes::Payload(message.payload), pointer_at as u32))
}

/// Writes a message without its payload.
#[inline]
pub(super) fn put_message_head(room: &mut [u8], at: usize, message: &Message) {
    use crate::abi::layout::message::{FORMAT, PAYLOAD, REFERENCE, SENDER, TAG};
    put_pid(room, at + SENDER, message.sender);
    put_u32(room, at + TAG, message.tag);
    put_is_some(room, at + REFERENCE, message.reference.is_some());
    if let Some(reference) = message.reference {
        let value_at = at + REFERENCE + layout::option_reference::VALUE;
        put_reference(room, value_at, reference);
    }
    let format = match message.format {
        Format::Raw => layout::format::RAW,
        Format::ExternalTerm => layout::format::EXTERNAL_TERM,
    };
    put_case(room, at + FORMAT, format);
    put_empty_list(room, at + PAYLOAD);
    // Of a short payload the glue writes the pointer only.
    let length = message.payload.len() as u32;
    put_u32(room, at + PAYLOAD + layout::list::LENGTH, length);
}

/// Writes an event. At most two things are carried, and seldom more than one.
#[inline(always)]
pub(super) fn put_event(
    room: &mut [u8],
    at: usize,
    event: Event,
) -> (Option<Carried>, Option<Carried>) {
    let value_at = at + event::VALUE;
    match event {
        Event::Message(message) => {
            put_case(room, at, event::MESSAGE);
            (put_message(room, value_at, message), None)
        }
        Event::Exit { sender, reason } => {
            use crate::abi::layout::exit_signal::{REASON, SENDER};
            put_case(room, at, event::EXIT);
            put_pid(room, value_at + SENDER, sender);
            (put_reason(room, value_at + REASON, reason), None)
        }
        Event::Down {
            monitor,
            target,
            reason,
        } => {
            use crate::abi::layout::down_signal::{MONITOR, REASON, TARGET};
            put_case(room, at, event::DOWN);
            put_reference(room, value_at + MONITOR, monitor);
            let name = put_destination(room, value_at + TARGET, target);
            (name, put_reason(room, value_at + REASON, reason))
        }
        Event::Timer { timer, tag } => {
            use crate::abi::layout::timer_signal::{TAG, TIMER};
            put_case(room, at, event::TIMER);
            put_reference(room, value_at + TIMER, timer);
            put_u32(room, value_at + TAG, tag);
            (None, None)
        }
        Event::Group {
            monitor,
            change,
            process,
        } => {
            use crate::abi::layout::group_signal::{CHANGE, MONITOR, PROCESS};
            put_case(room, at, event::GROUP);
            put_reference(room, value_at + MONITOR, monitor);
            let change = match change {
                GroupChange::Joined => layout::group_change::JOINED,
                GroupChange::Left => layout::group_change::LEFT,
            };
            put_case(room, value_at + CHANGE, change);
            put_pid(room, value_at + PROCESS, process);
            (None, None)
        }
    }
}

/// Writes a destination.
pub(super) fn put_destination(room: &mut [u8], at: usize, to: Destination) -> Option<Carried> {
    let value_at = at + layout::destination::VALUE;
    match to {
        Destination::Process(pid) => {
            put_case(room, at, layout::destination::PROCESS);
            put_pid(room, value_at, pid);
            None
        }
        Destination::Name(name) => {
            put_case(room, at, layout::destination::NAME);
            put_empty_list(room, value_at);
            let bytes = name.into_boxed_bytes();
            Some((PendingBytes::Bytes(bytes), value_at as u32))
        }
    }
}

/// Writes a reason.
pub(super) fn put_reason(room: &mut [u8], at: usize, reason: ExitReason) -> Option<Carried> {
    let value_at = at + exit_reason::VALUE;
    let (case, bytes): (u32, Option<Box<[u8]>>) = match reason {
        ExitReason::Normal => (exit_reason::NORMAL, None),
        ExitReason::Shutdown => (exit_reason::SHUTDOWN, None),
        ExitReason::ShutdownWith(term) => (exit_reason::SHUTDOWN_WITH, Some((*term).into())),
        ExitReason::Kill => (exit_reason::KILL, None),
        ExitReason::Killed => (exit_reason::KILLED, None),
        ExitReason::NoProc => (exit_reason::NOPROC, None),
        ExitReason::NoConnection => (exit_reason::NOCONNECTION, None),
        ExitReason::Trap(text) => (exit_reason::TRAP, Some(text.as_bytes().into())),
        ExitReason::Exhausted(budget) => {
            // As a word, like an exit code: a guest that reads a whole word finds nothing else in it.
            put_u32(room, value_at, budget_case(budget));
            (exit_reason::EXHAUSTED, None)
        }
        ExitReason::ExitCode(code) => {
            put_u32(room, value_at, code);
            (exit_reason::EXIT_CODE, None)
        }
        ExitReason::Other(term) => (exit_reason::OTHER, Some((*term).into())),
    };
    put_case(room, at, case);
    bytes.map(|bytes| {
        put_empty_list(room, value_at);
        (PendingBytes::Bytes(bytes), value_at as u32)
    })
}

/// The number of a budget's case.
fn budget_case(budget: Budget) -> u32 {
    match budget {
        Budget::Memory => budget::MEMORY,
        Budget::Mailbox => budget::MAILBOX,
        Budget::Message => budget::MESSAGE,
        Budget::Reductions => budget::REDUCTIONS,
        Budget::Resources => budget::RESOURCES,
    }
}

#[cfg(test)]
mod tests {
    use crate::process::Kinds;

    /// The selector's kinds reach the process room as the bits that a guest has set.
    #[test]
    fn the_bits_of_kinds_are_the_contracts() {
        use crate::abi::layout::event_kinds::{DOWN, EXIT, GROUP, MESSAGE, TIMER};
        for (bits, kinds) in [
            (MESSAGE, Kinds::MESSAGE),
            (EXIT, Kinds::EXIT),
            (DOWN, Kinds::DOWN),
            (TIMER, Kinds::TIMER),
            (GROUP, Kinds::GROUP),
        ] {
            assert_eq!(Kinds::from_bits(bits), Some(kinds));
        }
    }
}

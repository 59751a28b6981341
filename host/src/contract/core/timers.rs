//! `timers`.

use super::mailbox::{Envelope, Gives, outgoing};
use super::memory::{put_u64, room};
use super::values::{destination, put_is_some, put_reference};
use super::{DONE, Guest};
use crate::abi::layout::{self, option_duration};
use crate::engine::state::survives;
use crate::process::{Destination, Reference};
use crate::system::alarm::Sends;
use wasmtime::Result;

#[expect(
    clippy::too_many_arguments,
    reason = "the canonical ABI flattens the records"
)]
pub(super) fn send_after(
    mut guest: Guest<'_>,
    delay_ns: u64,
    to: u32,
    to_first: u64,
    to_second: u64,
    tag: u32,
    has_reference: u32,
    reference_node: u64,
    reference_id: u64,
    format: u32,
    pointer: u32,
    length: u32,
    result: u32,
) -> Result<i32> {
    let to = destination(&mut guest, to, to_first, to_second, "send-after")?;
    let envelope = Envelope {
        tag,
        has_reference,
        node: reference_node,
        id: reference_id,
        format,
    };
    let what = "send-after: the payload";
    let message = outgoing(&mut guest, envelope, pointer, length, Gives::ACopy, what)?;
    start(&mut guest, delay_ns, to, Sends::Message(message), result)
}

pub(super) fn start_timer(
    mut guest: Guest<'_>,
    delay_ns: u64,
    to: u32,
    to_first: u64,
    to_second: u64,
    tag: u32,
    result: u32,
) -> Result<i32> {
    let to = destination(&mut guest, to, to_first, to_second, "start-timer")?;
    start(&mut guest, delay_ns, to, Sends::Signal(tag), result)
}

fn start(
    guest: &mut Guest<'_>,
    delay_ns: u64,
    to: Destination,
    sends: Sends,
    result: u32,
) -> Result<i32> {
    let current = &mut guest.data_mut().current;
    let timer = current.start_timer(delay_ns, to, sends);
    survives(&guest.data().current)?;
    let room = room(guest, result, layout::reference::LAYOUT, "the timer")?;
    put_reference(room, 0, timer);
    Ok(DONE)
}

pub(super) fn cancel_timer(mut guest: Guest<'_>, node: u64, id: u64, result: u32) -> Result<i32> {
    let timer = Reference { node, id };
    let left_ns = guest.data_mut().current.cancel_timer(timer);
    put_left(&mut guest, left_ns, result, "cancel-timer")
}

pub(super) fn read_timer(mut guest: Guest<'_>, node: u64, id: u64, result: u32) -> Result<i32> {
    let timer = Reference { node, id };
    let left_ns = guest.data_mut().current.read_timer(timer);
    put_left(&mut guest, left_ns, result, "read-timer")
}

/// Writes `option<duration>`.
fn put_left(
    guest: &mut Guest<'_>,
    left_ns: Option<u64>,
    result: u32,
    function: &str,
) -> Result<i32> {
    let room = room(guest, result, option_duration::LAYOUT, function)?;
    put_is_some(room, 0, left_ns.is_some());
    put_u64(room, option_duration::VALUE, left_ns.unwrap_or(0));
    Ok(DONE)
}

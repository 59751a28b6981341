//! `mailbox`.

use super::super::functions;
use super::memory::{Lists, leave_bytes, lent_payload, payload, room, room_and_state, slice, text};
use super::values::{
    Carried, destination, format, is_some, put_case, put_event, put_message, put_message_head,
    put_reason, put_reference,
};
use super::{AGAIN, AGAIN_LISTS, Answer, DONE, Guest, NO_LISTS, wait, without_payload};
use crate::abi::SHORT;
use crate::abi::layout::{
    self, call_error, delivery, event, option_event, result_message_call_error,
};
use crate::engine::loan::{LENT_BYTES_MIN, Lender};
use crate::engine::state::{PendingBytes, PointerAt, State, survives};
use crate::process::{Kinds, Message, Outgoing, Pid, Reference, Selector, Tags};
use crate::system::calls::CallError;
use crate::system::current::{Delivery, FoundEvent, Received};
use std::task::Poll;
use wasmtime::{Result, bail};

pub(super) fn make_reference(mut guest: Guest<'_>, result: u32) -> Result<()> {
    let reference = guest.data_mut().current.make_reference();
    let layout = layout::reference::LAYOUT;
    let room = room(&mut guest, result, layout, "make-reference")?;
    put_reference(room, 0, reference);
    Ok(())
}

/// An envelope, as it is flattened.
#[derive(Clone, Copy)]
pub(super) struct Envelope {
    pub(super) tag: u32,
    pub(super) has_reference: u32,
    pub(super) node: u64,
    pub(super) id: u64,
    pub(super) format: u32,
}

/// How a sender gives its payload to the host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    /// The host copies it.
    ACopy,
    /// The sender lends it, if it is large, and gives up its turn: [`sent`] answers.
    ALoan,
}

/// A message that is to be sent: checked, and copied out of the guest or lent.
#[inline(always)]
pub(super) fn outgoing(
    guest: &mut Guest<'_>,
    envelope: Envelope,
    pointer: u32,
    length: u32,
    gives: Gives,
    function: &str,
) -> Result<Outgoing> {
    let payload = match gives {
        Gives::ALoan if length >= LENT_BYTES_MIN => lent_payload(guest, pointer, length, function)?,
        _ => (&*payload(guest, pointer, length, function)?).into(),
    };
    let reference = is_some(envelope.has_reference, function)?.then_some(Reference {
        node: envelope.node,
        id: envelope.id,
    });
    let format = format(envelope.format, function)?;
    Ok(Outgoing {
        tag: envelope.tag,
        reference,
        format,
        payload,
    })
}

/// The answer of a function that has sent a message: "again" as long as the sender lends the payload.
#[inline]
fn sent(guest: &Guest<'_>, result: i32) -> i32 {
    match guest.data().lender {
        None => result,
        Some(_) => AGAIN,
    }
}

/// The same when the function is asked again: it ends the loan.
#[cold]
fn is_back(guest: &mut Guest<'_>, result: i32) -> i32 {
    let state = guest.data_mut();
    if let Some(copied_bytes) = state.lender.as_ref().and_then(Lender::end) {
        state.lender = None;
        state.current.charge_copy(copied_bytes);
    }
    sent(guest, result)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the canonical ABI flattens the records"
)]
pub(super) fn send(
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
    if guest.data().lender.is_some() {
        return Ok(is_back(&mut guest, DONE));
    }
    let envelope = Envelope {
        tag,
        has_reference,
        node: reference_node,
        id: reference_id,
        format,
    };
    let to = Pid { node, id };
    let what = "send: the payload";
    let message = outgoing(&mut guest, envelope, pointer, length, Gives::ALoan, what)?;
    guest.data_mut().current.send(to, message);
    Ok(sent(&guest, DONE))
}

#[expect(
    clippy::too_many_arguments,
    reason = "the canonical ABI flattens the records"
)]
pub(super) fn send_named(
    mut guest: Guest<'_>,
    name: u32,
    name_length: u32,
    tag: u32,
    has_reference: u32,
    reference_node: u64,
    reference_id: u64,
    format: u32,
    pointer: u32,
    length: u32,
) -> Result<i32> {
    let name = text(&mut guest, name, name_length, "send-named: the name")?.to_owned();
    let envelope = Envelope {
        tag,
        has_reference,
        node: reference_node,
        id: reference_id,
        format,
    };
    let what = "send-named: the payload";
    let message = outgoing(&mut guest, envelope, pointer, length, Gives::ACopy, what)?;
    let is_sent = guest.data_mut().current.send_named(&name, message);
    Ok(i32::from(is_sent))
}

#[expect(
    clippy::too_many_arguments,
    reason = "the canonical ABI flattens the records"
)]
pub(super) fn try_send(
    mut guest: Guest<'_>,
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
) -> Result<i32> {
    let to = destination(&mut guest, to, to_first, to_second, "try-send")?;
    let envelope = Envelope {
        tag,
        has_reference,
        node: reference_node,
        id: reference_id,
        format,
    };
    let what = "try-send: the payload";
    let message = outgoing(&mut guest, envelope, pointer, length, Gives::ACopy, what)?;
    let case = match guest.data_mut().current.try_send(&to, message) {
        Delivery::Delivered => delivery::DELIVERED,
        Delivery::Full => delivery::FULL,
        Delivery::NoProc => delivery::NOPROC,
    };
    Ok(case as i32)
}

pub(super) fn receive(
    mut guest: Guest<'_>,
    selector: u32,
    first: u64,
    second: u64,
    has_timeout: u32,
    timeout_ns: u64,
    result: u32,
) -> Result<Answer> {
    let timeout_ns = is_some(has_timeout, "receive")?.then_some(timeout_ns);
    let selector = match selector {
        layout::selector::ANY => Selector::Any,
        layout::selector::TAG => Selector::Tag(first as u32),
        layout::selector::TAGS => Selector::Tags(tags(&mut guest, first as u32, second as u32)?),
        layout::selector::REFERENCE => Selector::Reference(Reference {
            node: first,
            id: second,
        }),
        layout::selector::KINDS => Selector::Kinds(Kinds::from_bits_truncate(first as u8)),
        other => bail!("receive: {other} is no case of `selector`"),
    };
    let received = guest
        .data_mut()
        .current
        .receive_in_place(&selector, timeout_ns);
    match received {
        Received::Event(FoundEvent::AtFront) => {
            let layout = option_event::LAYOUT;
            let (room, state) = room_and_state(&mut guest, result, layout, "receive")?;
            let first = state.current.first_short();
            let (message, words) = first.expect("it was just seen there");
            put_case(room, 0, layout::option::SOME);
            put_case(room, option_event::VALUE, event::MESSAGE);
            put_message_head(room, option_event::VALUE + event::VALUE, message);
            let length = message.payload.len();
            state.current.drop_first_short();
            Ok(with_answer(state, length, words))
        }
        Received::Wait => Ok(without_payload(wait(&mut guest, result))),
        Received::TimedOut => {
            let room = room(&mut guest, result, option_event::LAYOUT, "receive")?;
            put_case(room, 0, layout::option::NONE);
            Ok(without_payload(NO_LISTS))
        }
        Received::Event(FoundEvent::Taken(event)) => {
            let room = room(&mut guest, result, option_event::LAYOUT, "receive")?;
            put_case(room, 0, layout::option::SOME);
            let carried = put_event(room, option_event::VALUE, event);
            hand_over(&mut guest, carried, result)
        }
    }
}

/// Hands over a payload of so many bytes with the answer.
#[inline(always)]
fn with_answer(state: &mut State, length: usize, [low, high]: [u64; 2]) -> Answer {
    state.current.charge_copy(length);
    match length {
        0 => without_payload(NO_LISTS),
        _ => (1 << 32 | SHORT | length as i64, low as i64, high as i64),
    }
}

/// Hands over the bytes that a result carries: with the answer, if they are short, or as lists.
#[inline(always)]
fn hand_over(
    guest: &mut Guest<'_>,
    carried: (Option<Carried>, Option<Carried>),
    start: u32,
) -> Result<Answer> {
    if let (Some((PendingBytes::Payload(payload), _)), None) = &carried
        && let Some(words) = payload.short()
    {
        return Ok(with_answer(guest.data_mut(), payload.len(), words));
    }
    leave_carried(guest, carried, start).map(without_payload)
}

/// Leaves the bytes that a result carries, as lists.
fn leave_carried(
    guest: &mut Guest<'_>,
    carried: (Option<Carried>, Option<Carried>),
    start: u32,
) -> Result<i64> {
    match carried {
        (None, None) => Ok(NO_LISTS),
        (Some((bytes, at)), None) | (None, Some((bytes, at))) => {
            guest.data_mut().current.charge_copy(bytes.len());
            leave_bytes(guest, bytes, start + at)
        }
        (Some(first), Some(second)) => {
            let mut lists = Lists::default();
            for (bytes, at) in [first, second] {
                let bytes = bytes.into_vec();
                let count = bytes.len();
                lists.add(bytes, count, 1, PointerAt::Address(start + at));
            }
            lists.leave_all(guest)
        }
    }
}

fn tags(guest: &mut Guest<'_>, pointer: u32, count: u32) -> Result<Tags> {
    functions::check_tags(count as usize)?;
    const TAG_BYTES: usize = size_of::<u32>();
    let length = count * TAG_BYTES as u32;
    let bytes = slice(guest, pointer, length, "receive: the selector's tags")?;
    Ok(bytes
        .chunks_exact(TAG_BYTES)
        .map(|tag| u32::from_le_bytes(tag.try_into().expect("four bytes")))
        .collect())
}

#[expect(
    clippy::too_many_arguments,
    reason = "the canonical ABI flattens the records"
)]
pub(super) fn call(
    mut guest: Guest<'_>,
    to: u32,
    to_first: u64,
    to_second: u64,
    tag: u32,
    format: u32,
    pointer: u32,
    length: u32,
    has_timeout: u32,
    timeout_ns: u64,
    result: u32,
) -> Result<Answer> {
    let timeout_ns = is_some(has_timeout, "call")?.then_some(timeout_ns);
    let mut answer = None;
    if !guest.data().current.is_calling() {
        let to = destination(&mut guest, to, to_first, to_second, "call")?;
        let envelope = Envelope {
            tag,
            has_reference: 0,
            node: 0,
            id: 0,
            format,
        };
        let what = "call: the payload";
        let message = outgoing(&mut guest, envelope, pointer, length, Gives::ACopy, what)?;
        match guest.data_mut().current.start_call(&to, message) {
            Poll::Pending => return Ok(without_payload(AGAIN_LISTS)),
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => answer = Some(Err(error)),
        }
        survives(&guest.data().current)?;
    }
    let answer = match answer {
        Some(answer) => answer,
        None => match guest.data_mut().current.await_answer(timeout_ns) {
            Poll::Pending => return Ok(without_payload(wait(&mut guest, result))),
            Poll::Ready(answer) => answer,
        },
    };
    let layout = result_message_call_error::LAYOUT;
    let room = room(&mut guest, result, layout, "call")?;
    let carried = put_answer(room, answer);
    hand_over(&mut guest, (carried, None), result)
}

/// Writes the answer to a call, or why there is none.
#[inline(always)]
fn put_answer(
    room: &mut [u8; result_message_call_error::BYTES],
    answer: Result<Message, CallError>,
) -> Option<Carried> {
    let value_at = result_message_call_error::VALUE;
    match answer {
        Ok(message) => {
            put_case(room, 0, layout::result::OK);
            put_message(room, value_at, message)
        }
        Err(CallError::Timeout) => {
            put_case(room, 0, layout::result::ERROR);
            put_case(room, value_at, call_error::TIMEOUT);
            None
        }
        Err(CallError::Full) => {
            put_case(room, 0, layout::result::ERROR);
            put_case(room, value_at, call_error::FULL);
            None
        }
        Err(CallError::Down(reason)) => {
            put_case(room, 0, layout::result::ERROR);
            put_case(room, value_at, call_error::DOWN);
            put_reason(room, value_at + call_error::VALUE, reason)
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the canonical ABI flattens the records"
)]
pub(super) fn reply(
    mut guest: Guest<'_>,
    node: u64,
    id: u64,
    request_node: u64,
    request_id: u64,
    tag: u32,
    format: u32,
    pointer: u32,
    length: u32,
) -> Result<i32> {
    if guest.data().lender.is_some() {
        return Ok(is_back(&mut guest, DONE));
    }
    let envelope = Envelope {
        tag,
        has_reference: 0,
        node: 0,
        id: 0,
        format,
    };
    let what = "reply: the payload";
    let message = outgoing(&mut guest, envelope, pointer, length, Gives::ALoan, what)?;
    let request = Reference {
        node: request_node,
        id: request_id,
    };
    let to = Pid { node, id };
    guest.data_mut().current.reply(to, request, message);
    Ok(sent(&guest, DONE))
}

pub(super) fn alias(mut guest: Guest<'_>, result: u32) -> Result<i32> {
    let alias = guest.data_mut().current.alias();
    survives(&guest.data().current)?;
    let room = room(&mut guest, result, layout::reference::LAYOUT, "alias")?;
    put_reference(room, 0, alias);
    Ok(DONE)
}

pub(super) fn unalias(mut guest: Guest<'_>, node: u64, id: u64) -> Result<i32> {
    let was_there = guest.data_mut().current.unalias(Reference { node, id });
    Ok(i32::from(was_there))
}

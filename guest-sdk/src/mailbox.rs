//! Messages: sending, receiving, asking.
//!
//! A message is a payload in an envelope: who sent it (the host writes that), a tag, and perhaps the reference of the
//! request that it belongs to. Who says nothing about tags gets by with two:
//!
//! ```text
//! send, call        ── MESSAGE_TAG ──▶  receive, receive_timeout
//! Received::reply   ── REPLY_TAG ────▶  call (by the reference)
//! ```
//!
//! So an answer that comes too late, when `call` has given up, is not mistaken for a message.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::atoll::process::mailbox;
use crate::codec::{self, DecodeError};
use crate::{Envelope, Event, Format, Message, Pid, Reference, Selector};

/// The tag of messages that were sent without one.
pub const MESSAGE_TAG: u32 = 0;

/// The tag of replies. Messages of one's own should have another.
pub const REPLY_TAG: u32 = u32::MAX;

/// How many calls that timed out are remembered, to throw away their answers: an answer to one that is forgotten stays
/// in the mailbox.
const LATE_CALLS_MAX: usize = 64;

/// Sends a copy of a value to a process. Never waits, and never says whether the process was there.
/// OTP: `erlang:send/2`, `!`.
///
/// What two processes send each other arrives in the order in which it was sent. A message larger than the system allows
/// ends the *sender*; a mailbox that overflows ends the *receiver*.
///
/// Panics if the value refuses to be serialized, which derived implementations never do.
pub fn send<T>(to: Pid, value: &T)
where
    T: Serialize + ?Sized,
{
    send_tagged(to, MESSAGE_TAG, value);
}

/// Sends a value with a tag, for [`receive_tagged`] or [`receive_selected`] to select by.
pub fn send_tagged<T>(to: Pid, tag: u32, value: &T)
where
    T: Serialize + ?Sized,
{
    send_encoded(to, Envelope::tagged(tag), value);
}

/// Sends bytes as they are, in an envelope of one's own.
pub fn send_bytes(to: Pid, envelope: Envelope, payload: &[u8]) {
    mailbox::send(to, envelope, payload);
}

fn send_encoded<T>(to: Pid, envelope: Envelope, value: &T)
where
    T: Serialize + ?Sized,
{
    codec::with_encoded(value, |payload| mailbox::send(to, envelope, payload));
}

impl Envelope {
    /// A tag, no reference, raw bytes. The other fields may be set afterwards.
    pub fn tagged(tag: u32) -> Self {
        Self {
            tag,
            reference: None,
            format: Format::Raw,
        }
    }
}

/// A message that has been received, its payload decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received<T> {
    /// Who sent it. The host says so: it can't be forged.
    pub sender: Pid,
    /// The tag that it was sent with.
    pub tag: u32,
    /// The request that it is, or answers.
    pub reference: Option<Reference>,
    /// What was sent.
    pub message: T,
}

impl<T> Received<T> {
    /// Answers the sender. If this was a [`call`], the answer is what `call` returns; if it was merely sent, the answer
    /// is a message like any other. OTP: `gen_server:reply/2`.
    pub fn reply<A>(&self, answer: &A)
    where
        A: Serialize + ?Sized,
    {
        let tag = if self.reference.is_some() {
            REPLY_TAG
        } else {
            MESSAGE_TAG
        };
        let envelope = Envelope {
            tag,
            reference: self.reference,
            format: Format::Raw,
        };
        send_encoded(self.sender, envelope, answer);
    }
}

/// Takes the next message that was sent without a tag, waiting for as long as it takes. Tagged messages stay where they
/// are. OTP: `receive … end`.
///
/// Errors: the message is no `T`. It has been taken all the same.
pub fn receive<T: DeserializeOwned>() -> Result<Received<T>, ReceiveError> {
    receive_tagged(MESSAGE_TAG)
}

/// Takes the next message with this tag, waiting for as long as it takes.
///
/// Errors: as for [`receive`].
pub fn receive_tagged<T: DeserializeOwned>(tag: u32) -> Result<Received<T>, ReceiveError> {
    let received = receive_selected(&Selector::Tag(tag), None)?;
    Ok(received.expect("only a receive with a timeout returns with nothing"))
}

/// Takes the next message that was sent without a tag, waiting no longer than the timeout: `None` when that has run
/// out. A timeout of zero takes what is there. OTP: `receive … after … end`.
///
/// Errors: as for [`receive`].
pub fn receive_timeout<T: DeserializeOwned>(
    timeout: Duration,
) -> Result<Option<Received<T>>, ReceiveError> {
    receive_selected(&Selector::Tag(MESSAGE_TAG), Some(timeout))
}

/// Takes the first message that fits the selector, waiting no longer than the timeout if there is one.
///
/// Errors: the message is no `T`, or the event that fits is no message. It has been taken all the same.
pub fn receive_selected<T: DeserializeOwned>(
    selector: &Selector,
    timeout: Option<Duration>,
) -> Result<Option<Received<T>>, ReceiveError> {
    let Some(event) = receive_event(selector, timeout) else {
        return Ok(None);
    };
    let Event::Message(message) = event else {
        return Err(ReceiveError::NoMessage(event));
    };
    match decode(&message) {
        Ok(value) => {
            let Message {
                sender,
                tag,
                reference,
                ..
            } = message;
            Ok(Some(Received {
                sender,
                tag,
                reference,
                message: value,
            }))
        }
        Err(error) => Err(ReceiveError::Malformed { message, error }),
    }
}

/// Takes the first event that fits, as it is, waiting no longer than the timeout if there is one: what the other
/// functions are made of.
///
/// The order is that of arrival, and what doesn't fit stays in the mailbox. Timeouts over 584 years are 584 years.
pub fn receive_event(selector: &Selector, timeout: Option<Duration>) -> Option<Event> {
    mailbox::receive(selector, timeout.map(nanoseconds))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn decode<T: DeserializeOwned>(message: &Message) -> Result<T, DecodeError> {
    match message.format {
        Format::Raw => codec::decode(&message.payload),
        Format::ExternalTerm => Err(DecodeError::external_term()),
    }
}

/// Asks a process, and waits for its answer: sends the request with a reference of its own, and takes the message that
/// comes back with it. Other messages stay in the mailbox. OTP: `gen_server:call/3`.
///
/// Errors: no answer within the timeout, or one that is no `A`. A process that has ended does not answer either. What
/// arrives after the timeout is thrown away.
pub fn call<A: DeserializeOwned>(
    to: Pid,
    request: &(impl Serialize + ?Sized),
    timeout: Duration,
) -> Result<A, CallError> {
    LATE_CALLS.with_borrow_mut(|late| late.retain(|&reference| !discard_answer(reference)));
    let reference = make_reference();
    send_encoded(
        to,
        Envelope {
            reference: Some(reference),
            ..Envelope::tagged(MESSAGE_TAG)
        },
        request,
    );
    match receive_event(&Selector::Reference(reference), Some(timeout)) {
        Some(Event::Message(message)) => {
            decode(&message).map_err(|error| CallError::Malformed { message, error })
        }
        Some(event) => Err(CallError::NoMessage(event)),
        None => {
            LATE_CALLS.with_borrow_mut(|late| {
                if late.len() == LATE_CALLS_MAX {
                    late.remove(0);
                }
                late.push(reference);
            });
            Err(CallError::Timeout)
        }
    }
}

thread_local! {
    /// Calls of this process that timed out, and whose answers may come yet. A process is one thread.
    static LATE_CALLS: RefCell<Vec<Reference>> = const { RefCell::new(Vec::new()) };
}

fn discard_answer(reference: Reference) -> bool {
    receive_event(&Selector::Reference(reference), Some(Duration::ZERO)).is_some()
}

/// A new reference, different from all others: to tell the answer to one request from every other message.
/// OTP: `make_ref/0`.
pub fn make_reference() -> Reference {
    mailbox::make_reference()
}

/// Waits. Messages that arrive meanwhile stay in the mailbox. OTP: `timer:sleep/1`.
pub fn sleep(duration: Duration) {
    // Nobody else knows the reference, so nothing can arrive with it.
    receive_event(&Selector::Reference(make_reference()), Some(duration));
}

/// Why there is no value, though something was received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The payload is not an encoded value of the type that was asked for: somebody sent something else.
    Malformed {
        /// The message.
        message: Message,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The selector let through a signal: an exit, a down or a timer.
    NoMessage(Event),
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { message, error } => {
                write!(
                    formatter,
                    "a message from {} can't be read: {error}",
                    message.sender
                )
            }
            Self::NoMessage(_) => {
                formatter.write_str("received a signal where a message was expected")
            }
        }
    }
}

impl Error for ReceiveError {}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// No answer came within the timeout: the process is busy, has ended, or does not answer.
    Timeout,
    /// The answer is not an encoded value of the type that was asked for.
    Malformed {
        /// The answer.
        message: Message,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// Something with the call's reference came that is no message.
    NoMessage(Event),
}

impl fmt::Display for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => formatter.write_str("no answer came in time"),
            Self::Malformed { message, error } => {
                write!(
                    formatter,
                    "the answer of {} can't be read: {error}",
                    message.sender
                )
            }
            Self::NoMessage(_) => {
                formatter.write_str("received a signal where an answer was expected")
            }
        }
    }
}

impl Error for CallError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_timeouts_saturate() {
        assert_eq!(nanoseconds(Duration::from_millis(1)), 1_000_000);
        assert_eq!(nanoseconds(Duration::MAX), u64::MAX);
    }
}

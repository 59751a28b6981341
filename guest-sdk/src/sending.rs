//! Messages: their parts, and sending them.
//!
//! A message is a payload in an envelope: the sender (set by the host), a tag, and perhaps the reference of the request that it
//! belongs to. A program that doesn't choose tags uses two:
//!
//! ```text
//! send, send_after, call, send_request   ── MESSAGE_TAG ──▶  receive, receive_timeout
//! Received::reply, reply_to              ── REPLY_TAG ────▶  the call that waits, or, for send_request, receive_selected
//!                                                            by the reference
//! ```
//!
//! So an answer is never mistaken for a message.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::atoll_rt::process::mailbox;
use crate::codec::{self, DecodeError};
use crate::{Delivery, Destination, Envelope, Format, Message, Pid};

/// The tag of messages that were sent without one.
pub const MESSAGE_TAG: u32 = 0;

/// The tag of replies. A program's own messages should have another tag.
pub const REPLY_TAG: u32 = u32::MAX;

/// Sends a copy of a value to a process. Never waits, and does not tell whether the process exists. OTP: `erlang:send/2`, `!`.
///
/// Messages and signals from one process to another arrive in the order in which they were sent. A message larger than the system
/// allows ends the *sender*; a mailbox that overflows ends the *receiver*.
///
/// The bytes don't carry their type: sender and receiver must use the same one. A number without a suffix is an `i32` here, which
/// a receiver of `u32` decodes as another number.
///
/// Panics if the value refuses to be serialized. Derived implementations never do.
pub fn send<T>(to: Pid, value: &T)
where
    T: Serialize + ?Sized,
{
    send_tagged(to, MESSAGE_TAG, value);
}

/// Sends a value with a tag, for [`receive_tagged`](crate::receive_tagged) or
/// [`receive_selected`](crate::receive_selected) to select by.
pub fn send_tagged<T>(to: Pid, tag: u32, value: &T)
where
    T: Serialize + ?Sized,
{
    codec::with_encoded(value, |payload| {
        send_bytes(to, Envelope::tagged(tag), payload);
    });
}

/// Sends raw bytes in the caller's own envelope.
pub fn send_bytes(to: Pid, envelope: Envelope, payload: &[u8]) {
    mailbox::send(to, envelope, payload);
}

/// Sends a copy of a value to the process that is registered under a name. Returns false if there is none. OTP: `Name ! Message`,
/// which then raises `badarg`.
///
/// Otherwise this is like [`send`]. A process gets a name by [`register`](crate::register) or
/// [`Spawn::name`](crate::Spawn::name).
pub fn send_named<T>(name: &str, value: &T) -> bool
where
    T: Serialize + ?Sized,
{
    send_named_tagged(name, MESSAGE_TAG, value)
}

/// The same, with a tag to select by.
pub fn send_named_tagged<T>(name: &str, tag: u32, value: &T) -> bool
where
    T: Serialize + ?Sized,
{
    codec::with_encoded(value, |payload| {
        send_named_bytes(name, Envelope::tagged(tag), payload)
    })
}

/// The same with raw bytes in the caller's own envelope.
pub fn send_named_bytes(name: &str, envelope: Envelope, payload: &[u8]) -> bool {
    mailbox::send_named(name, envelope, payload)
}

/// Sends a copy of a value, and says what became of it. Never waits. It tells a sender that a mailbox is full, if its process was
/// spawned with [`Overflow::Reject`](crate::Overflow::Reject). OTP: `erlang:send/3` with `nosuspend`.
pub fn try_send<T>(to: impl Into<Destination>, value: &T) -> Delivery
where
    T: Serialize + ?Sized,
{
    codec::with_encoded(value, |payload| {
        try_send_bytes(to, Envelope::tagged(MESSAGE_TAG), payload)
    })
}

/// The same with raw bytes in the caller's own envelope.
pub fn try_send_bytes(to: impl Into<Destination>, envelope: Envelope, payload: &[u8]) -> Delivery {
    mailbox::try_send(&to.into(), envelope, payload)
}

impl Envelope {
    /// An envelope with a tag, no reference and format raw. The other fields may be set afterwards.
    pub fn tagged(tag: u32) -> Self {
        Self {
            tag,
            reference: None,
            format: Format::Raw,
        }
    }
}

/// Decodes a message's payload, which must be in this crate's own encoding.
pub fn decode<T: DeserializeOwned>(message: &Message) -> Result<T, DecodeError> {
    match message.format {
        Format::Raw => codec::decode(&message.payload),
        Format::ExternalTerm => Err(DecodeError::external_term()),
    }
}

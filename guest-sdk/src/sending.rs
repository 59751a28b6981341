//! Messages: what they are made of, and sending them.
//!
//! A message is a payload in an envelope: who sent it (the host writes that), a tag, and perhaps the reference of the
//! request that it belongs to. Who says nothing about tags gets by with two:
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
use crate::{Envelope, Format, Message, Pid};

/// The tag of messages that were sent without one.
pub const MESSAGE_TAG: u32 = 0;

/// The tag of replies. Messages of one's own should have another.
pub const REPLY_TAG: u32 = u32::MAX;

/// Sends a copy of a value to a process. Never waits, and never says whether the process was there.
/// OTP: `erlang:send/2`, `!`.
///
/// What two processes send each other, signals included, arrives in the order in which it was sent. A message larger than
/// the system allows ends the *sender*; a mailbox that overflows ends the *receiver*.
///
/// The bytes don't say of what type they are: sender and receiver have to mean the same. A number without a suffix is an
/// `i32` here, and something else to a receiver of `u32`.
///
/// Panics if the value refuses to be serialized, which derived implementations never do.
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

/// Sends bytes as they are, in an envelope of one's own.
pub fn send_bytes(to: Pid, envelope: Envelope, payload: &[u8]) {
    mailbox::send(to, envelope, payload);
}

/// Sends a copy of a value to the process that is registered under a name. False if there is none.
/// OTP: `Name ! Message`, which raises `badarg` then.
///
/// Otherwise as [`send`]. A name is given by [`register`](crate::register) or [`Spawn::name`](crate::Spawn::name).
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

/// The same, with bytes as they are, in an envelope of one's own.
pub fn send_named_bytes(name: &str, envelope: Envelope, payload: &[u8]) -> bool {
    mailbox::send_named(name, envelope, payload)
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

/// Reads a message's payload, which is to be in this crate's own encoding.
pub fn decode<T: DeserializeOwned>(message: &Message) -> Result<T, DecodeError> {
    match message.format {
        Format::Raw => codec::decode(&message.payload),
        Format::ExternalTerm => Err(DecodeError::external_term()),
    }
}

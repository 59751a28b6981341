//! Calls: a request and its answer.
//!
//! The host performs a call as one operation. It sends the request with a new reference, monitors the process, and accepts one
//! answer with that reference while the caller waits:
//!
//! ```text
//! caller                                           process
//! call(to, request, timeout) ── reference r ──▶    receive()
//!   Ok(answer)               ◀── reply, r ─────      Received::reply, reply_to
//!   Err(Down(reason))        ◀── it ends
//!   Err(Timeout)                                   a reply that comes later is dropped
//! ```

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::atoll_rt::process::mailbox;
use crate::codec::{self, DecodeError};
use crate::sending::{MESSAGE_TAG, REPLY_TAG, decode, send, send_bytes, send_named_bytes};
use crate::time::nanoseconds;
use crate::{Destination, Envelope, ExitReason, Format, Message, Pid, Received, Reference};

/// Sends a request to a process, by its pid or its name, and waits for the answer. Other messages stay in the mailbox. OTP:
/// `gen_server:call/3`.
///
/// The process receives the request like any message, and answers by [`Received::reply`] or [`reply_to`]. After this function has
/// returned, no answer to this request reaches the mailbox. Timeouts over 584 years, such as [`Duration::MAX`], count as 584
/// years. A process that calls itself waits for the timeout.
///
/// Errors: the process ended before it answered, or did not exist; no answer came within the timeout; or the answer can't be
/// decoded as an `A`.
///
/// Panics if the request refuses to be serialized. Derived implementations never do.
pub fn call<A: DeserializeOwned>(
    to: impl Into<Destination>,
    request: &(impl Serialize + ?Sized),
    timeout: Duration,
) -> Result<A, CallError> {
    let message = codec::with_encoded(request, |payload| {
        call_raw(to, MESSAGE_TAG, payload, Some(timeout))
    })?;
    decode(&message).map_err(|error| CallError::Malformed { message, error })
}

/// The same with raw bytes and a tag of the caller's choice. Without a timeout it waits until the process answers or ends.
///
/// Errors: as for [`call`], except [`CallError::Malformed`].
pub fn call_raw(
    to: impl Into<Destination>,
    tag: u32,
    payload: &[u8],
    timeout: Option<Duration>,
) -> Result<Message, CallError> {
    let timeout_ns = timeout.map(nanoseconds);
    mailbox::call(&to.into(), tag, Format::Raw, payload, timeout_ns).map_err(|error| match error {
        mailbox::CallError::Timeout => CallError::Timeout,
        mailbox::CallError::Down(reason) => CallError::Down(reason),
        mailbox::CallError::Full => CallError::Full,
    })
}

impl<T> Received<T> {
    /// Answers the sender. If the message was a [`call`], the `call` returns the answer. If it was only sent, the answer arrives
    /// as an ordinary message. OTP: `gen_server:reply/2`.
    ///
    /// To answer later, keep `sender` and `reference` for [`reply_to`]. If the sender put a reference into the envelope itself,
    /// that reference must be an [`alias`], or the answer is dropped.
    pub fn reply<A>(&self, answer: &A)
    where
        A: Serialize + ?Sized,
    {
        match self.reference {
            Some(request) => reply_to(self.sender, request, answer),
            None => send(self.sender, answer),
        }
    }
}

/// Answers the request with this reference. Process `to` has made the reference by [`call`], [`send_request`] or [`alias`]. OTP:
/// `gen_server:reply/2`.
///
/// Any process that knows `to` and `request` may answer, so a server can pass a request on to a worker. The first answer counts.
/// The answer is dropped if the caller no longer waits for it.
pub fn reply_to<A>(to: Pid, request: Reference, answer: &A)
where
    A: Serialize + ?Sized,
{
    codec::with_encoded(answer, |payload| reply_raw(to, request, REPLY_TAG, payload));
}

/// The same with raw bytes and a tag of the caller's choice.
pub fn reply_raw(to: Pid, request: Reference, tag: u32, payload: &[u8]) {
    mailbox::reply(to, request, tag, Format::Raw, payload);
}

/// Sends a request to a process, by its pid or its name, and does not wait. Returns a reference, by which the caller can receive
/// the answer later. OTP: `gen_server:send_request/2`.
///
/// The process receives and answers the request like a [`call`]. A caller that no longer wants the answer withdraws the reference
/// by [`unalias`]. To learn that the process has ended, use a [monitor](crate::monitor).
///
/// ```no_run
/// use atoll_guest::{Pid, Selector, receive_selected, send_request};
///
/// # fn ask(worker: Pid) -> Result<(), Box<dyn std::error::Error>> {
/// let request = send_request(worker, "how many?");
/// // … other work …
/// let answer = receive_selected::<u64>(&Selector::Reference(request), None)?;
/// # Ok(())
/// # }
/// ```
pub fn send_request<T>(to: impl Into<Destination>, request: &T) -> Reference
where
    T: Serialize + ?Sized,
{
    let alias = alias();
    let envelope = Envelope {
        reference: Some(alias),
        ..Envelope::tagged(MESSAGE_TAG)
    };
    codec::with_encoded(request, |payload| match to.into() {
        Destination::Process(pid) => send_bytes(pid, envelope, payload),
        Destination::Name(name) => {
            // If no process has the name, there will be no answer, as from a process that has ended.
            send_named_bytes(&name, envelope, payload);
        }
    });
    alias
}

/// Makes a reference through which the calling process can get one answer. Any process that is told the reference and the pid can
/// answer, by [`reply_to`]. The answer is a message with this reference. OTP: `alias([reply])`.
pub fn alias() -> Reference {
    mailbox::alias()
}

/// Withdraws an alias: an answer that has not arrived is dropped. Returns false if it is no alias, or has been used. OTP:
/// `unalias/1`.
pub fn unalias(alias: Reference) -> bool {
    mailbox::unalias(alias)
}

/// The reason why a call has no answer.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// No answer came within the timeout. A later answer is dropped.
    Timeout,
    /// The process ended before it answered; [`ExitReason::Noproc`] if it did not exist.
    Down(ExitReason),
    /// The process's mailbox had no room for the request, which was dropped: see [`Overflow`](crate::Overflow).
    Full,
    /// The answer can't be decoded as a value of the expected type.
    Malformed {
        /// The answer.
        message: Message,
        /// The error in it.
        error: DecodeError,
    },
}

impl fmt::Display for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => formatter.write_str("no answer came in time"),
            Self::Down(ExitReason::Noproc) => formatter.write_str("there is no such process"),
            Self::Down(reason) => {
                write!(formatter, "the process ended before it answered: {reason}")
            }
            Self::Full => formatter.write_str("the process's mailbox has no room"),
            Self::Malformed { message, error } => {
                write!(
                    formatter,
                    "the answer of {} can't be read: {error}",
                    message.sender
                )
            }
        }
    }
}

debug_as_display!(CallError);

impl Error for CallError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_why_there_is_no_answer() {
        for (error, text) in [
            (CallError::Timeout, "no answer came in time"),
            (
                CallError::Down(ExitReason::Noproc),
                "there is no such process",
            ),
            (
                CallError::Down(ExitReason::Killed),
                "the process ended before it answered: killed",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}

//! Calls: a request, and the answer to it.
//!
//! The host does a call in one piece. It sends the request with a new reference, watches the process, and lets through
//! one answer with that reference while the caller waits:
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

/// Asks a process, by its pid or its name, and waits for its answer. Other messages stay in the mailbox.
/// OTP: `gen_server:call/3`.
///
/// The process receives the request like any message, and answers by [`Received::reply`] or [`reply_to`]. When this
/// function has returned, no answer to this request reaches the mailbox. Timeouts over 584 years, such as
/// [`Duration::MAX`], are 584 years. A process that calls itself waits for the timeout.
///
/// Errors: the process ended before it answered, or was not there; no answer came within the timeout; or the answer is no
/// `A`.
///
/// Panics if the request refuses to be serialized, which derived implementations never do.
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

/// The same with bytes as they are, and a tag of one's own: what [`call`] is made of. Without a timeout it waits until
/// the process answers or ends.
///
/// Errors: as for [`call`], but for [`CallError::Malformed`].
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
    })
}

impl<T> Received<T> {
    /// Answers the sender. If this was a [`call`], the answer is what `call` returns; if it was merely sent, the answer
    /// is a message like any other. OTP: `gen_server:reply/2`.
    ///
    /// Whoever wants to answer later keeps `sender` and `reference`, for [`reply_to`]. A reference that the sender put
    /// into the envelope itself has to be an [`alias`], or the answer is dropped.
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

/// Answers the request with this reference, which that process has made, by [`call`], [`send_request`] or [`alias`].
/// OTP: `gen_server:reply/2`.
///
/// Anybody may answer who knows the two: a server can pass a request on to a worker. The first answer counts. It is
/// dropped if nobody waits for it any more.
pub fn reply_to<A>(to: Pid, request: Reference, answer: &A)
where
    A: Serialize + ?Sized,
{
    codec::with_encoded(answer, |payload| reply_raw(to, request, REPLY_TAG, payload));
}

/// The same with bytes as they are, and a tag of one's own.
pub fn reply_raw(to: Pid, request: Reference, tag: u32, payload: &[u8]) {
    mailbox::reply(to, request, tag, Format::Raw, payload);
}

/// Asks a process, by its pid or its name, and does not wait: the answer is received when it suits, by the reference that
/// is returned. OTP: `gen_server:send_request/2`.
///
/// The process receives and answers the request as it does a [`call`]. Who does not want the answer any more withdraws
/// the reference by [`unalias`]. Whether the process ends before it answers is for a [monitor](crate::monitor) to say.
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
            // To a name that nobody has, as to a process that has ended: there will be no answer.
            send_named_bytes(&name, envelope, payload);
        }
    });
    alias
}

/// A new reference by which the calling process can be sent one answer, with [`reply_to`], by whoever is told the
/// reference and the process. The answer is a message, to be received by the reference. OTP: `alias([reply])`.
pub fn alias() -> Reference {
    mailbox::alias()
}

/// Withdraws an alias: an answer that has not arrived is dropped. False if it was none, or has been used.
/// OTP: `unalias/1`.
pub fn unalias(alias: Reference) -> bool {
    mailbox::unalias(alias)
}

/// Why a call has no answer.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// No answer came within the timeout: the process is busy, or does not answer. An answer that comes later is dropped.
    Timeout,
    /// The process ended before it answered; [`ExitReason::Noproc`] if it was not there.
    Down(ExitReason),
    /// The answer is not an encoded value of the type that was asked for.
    Malformed {
        /// The answer.
        message: Message,
        /// What is wrong with it.
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

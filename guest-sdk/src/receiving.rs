//! Receiving: the mailbox, one queue of messages and signals in the order of arrival, from which each function here takes
//! the first event that fits, and leaves the others where they are.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::bindings::atoll_rt::process::mailbox;
use crate::codec::DecodeError;
use crate::sending::{MESSAGE_TAG, decode};
use crate::time::nanoseconds;
use crate::{Event, Message, Pid, Reference, Selector};

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

/// Takes the next message that was sent without a tag, waiting for as long as it takes. Tagged messages and signals stay
/// where they are. OTP: `receive … end`.
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
    match receive_event(selector, timeout) {
        None => Ok(None),
        Some(Event::Message(message)) => Received::from_message(message).map(Some),
        Some(event) => Err(ReceiveError::NoMessage(event)),
    }
}

impl<T: DeserializeOwned> Received<T> {
    /// Decodes a message that [`receive_event`] has taken.
    ///
    /// Errors: the message is no `T`.
    pub fn from_message(message: Message) -> Result<Self, ReceiveError> {
        match decode(&message) {
            Ok(value) => Ok(Self {
                sender: message.sender,
                tag: message.tag,
                reference: message.reference,
                message: value,
            }),
            Err(error) => Err(ReceiveError::Malformed { message, error }),
        }
    }
}

/// Takes the first event that fits, as it is, waiting no longer than the timeout if there is one: what the other
/// functions are made of.
///
/// The order is that of arrival, and what doesn't fit stays in the mailbox. Timeouts over 584 years are 584 years.
pub fn receive_event(selector: &Selector, timeout: Option<Duration>) -> Option<Event> {
    mailbox::receive(selector, timeout.map(nanoseconds))
}

/// Takes the first event that fits and is what `pick` makes something of.
///
/// The selector is to let nothing else through. A message that was sent with a signal's reference would fit all the same:
/// it is thrown away, and the timeout begins anew.
pub fn receive_signal<S>(
    selector: &Selector,
    timeout: Option<Duration>,
    pick: impl Fn(Event) -> Option<S>,
) -> Option<S> {
    loop {
        if let Some(signal) = pick(receive_event(selector, timeout)?) {
            return Some(signal);
        }
    }
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
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The payload is not an encoded value of the type that was asked for: somebody sent something else.
    Malformed {
        /// The message.
        message: Message,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The selector let through a signal: an exit, a down, a timer or a group's.
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

debug_as_display!(ReceiveError);

impl Error for ReceiveError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;

    fn message(format: Format, payload: &[u8]) -> Message {
        Message {
            sender: Pid { node: 1, id: 2 },
            tag: 3,
            reference: Some(Reference { node: 1, id: 4 }),
            format,
            payload: payload.to_vec(),
        }
    }

    #[test]
    fn a_message_that_is_what_was_asked_for_is_decoded() {
        let received = Received::<u8>::from_message(message(Format::Raw, &[7])).unwrap();
        assert_eq!(received.message, 7);
        assert_eq!(received.sender, Pid { node: 1, id: 2 });
        assert_eq!(received.tag, 3);
        assert_eq!(received.reference, Some(Reference { node: 1, id: 4 }));
    }

    #[test]
    fn a_message_that_is_something_else_comes_back_in_the_error() {
        for malformed in [
            message(Format::Raw, &[]),
            message(Format::ExternalTerm, &[7]),
        ] {
            let error = Received::<u8>::from_message(malformed.clone()).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("a message from <2> can't be read: ")
            );
            assert!(
                matches!(error, ReceiveError::Malformed { message, .. } if message == malformed)
            );
        }
    }
}

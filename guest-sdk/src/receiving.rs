//! Receiving. The mailbox is one queue of messages and signals in the order of arrival. Each function here takes the first event
//! that matches, and leaves the others in the queue.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::bindings::atoll_rt::process::mailbox;
use crate::codec::DecodeError;
use crate::sending::{MESSAGE_TAG, decode};
use crate::time::nanoseconds;
use crate::{Event, Message, Pid, Reference, Selector};

/// A received message with a decoded payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received<T> {
    /// The sender. The host sets it, so it can't be forged.
    pub sender: Pid,
    /// The tag that it was sent with.
    pub tag: u32,
    /// The reference of the request that this is, or that it answers.
    pub reference: Option<Reference>,
    /// The decoded payload.
    pub message: T,
}

/// Takes the next message that was sent without a tag, and waits for it without a limit. Tagged messages and signals stay in the
/// mailbox. OTP: `receive … end`.
///
/// Errors: the message can't be decoded as a `T`. It has been taken nevertheless.
pub fn receive<T: DeserializeOwned>() -> Result<Received<T>, ReceiveError> {
    receive_tagged(MESSAGE_TAG)
}

/// Takes the next message with this tag, and waits for it without a limit.
///
/// Errors: as for [`receive`].
pub fn receive_tagged<T: DeserializeOwned>(tag: u32) -> Result<Received<T>, ReceiveError> {
    let received = receive_selected(&Selector::Tag(tag), None)?;
    Ok(received.expect("only a receive with a timeout returns with nothing"))
}

/// Takes the next message that was sent without a tag. Returns `None` if none has come within the timeout. With a timeout of zero
/// it doesn't wait. OTP: `receive … after … end`.
///
/// Errors: as for [`receive`].
pub fn receive_timeout<T: DeserializeOwned>(
    timeout: Duration,
) -> Result<Option<Received<T>>, ReceiveError> {
    receive_selected(&Selector::Tag(MESSAGE_TAG), Some(timeout))
}

/// Takes the first message that matches the selector. Waits at most for the timeout, if there is one.
///
/// Errors: the message can't be decoded as a `T`, or the event that matches is not a message. It has been taken nevertheless.
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
    /// Errors: the message can't be decoded as a `T`.
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

/// Takes the first event that matches, without decoding it. Waits at most for the timeout, if there is one. The other functions
/// use this one.
///
/// Events come in the order of arrival, and those that don't match stay in the mailbox. Timeouts over 584 years count as 584
/// years.
pub fn receive_event(selector: &Selector, timeout: Option<Duration>) -> Option<Event> {
    mailbox::receive(selector, timeout.map(nanoseconds))
}

/// Takes the first event that matches and for which `pick` returns a value.
///
/// The selector should match only signals of one kind. A message that was sent with a signal's reference would match, too. It is
/// dropped, and the timeout begins anew.
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

/// Makes a reference that differs from all others, to tell the answer to one request from every other message. OTP: `make_ref/0`.
pub fn make_reference() -> Reference {
    mailbox::make_reference()
}

/// Waits. Messages that arrive meanwhile stay in the mailbox. OTP: `timer:sleep/1`.
pub fn sleep(duration: Duration) {
    // No other process knows the reference, so no event can match it.
    receive_event(&Selector::Reference(make_reference()), Some(duration));
}

/// The reason why a received event gives no value.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The payload can't be decoded as a value of the expected type.
    Malformed {
        /// The message.
        message: Message,
        /// The error in it.
        error: DecodeError,
    },
    /// The selector matched a signal: an exit, down, timer or group signal.
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
    fn a_message_of_the_expected_type_is_decoded() {
        let received = Received::<u8>::from_message(message(Format::Raw, &[7])).unwrap();
        assert_eq!(received.message, 7);
        assert_eq!(received.sender, Pid { node: 1, id: 2 });
        assert_eq!(received.tag, 3);
        assert_eq!(received.reference, Some(Reference { node: 1, id: 4 }));
    }

    #[test]
    fn a_message_of_another_type_comes_back_in_the_error() {
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

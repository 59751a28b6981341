//! Timers: messages and signals that are sent after a delay.
//!
//! A timer belongs to the process that started it. Only that process can cancel and read it, and the timer ends with the process.
//! No timer fires early. Times over 584 years count as 584 years.

use std::time::Duration;

use serde::Serialize;

use crate::bindings::atoll_rt::process::timers;
use crate::receiving::receive_signal;
use crate::sending::MESSAGE_TAG;
use crate::time::nanoseconds;
use crate::{Destination, Envelope, Event, Reference, Selector, TimerSignal, codec};

/// Sends a copy of a value after a delay, as [`send`](crate::send) would then, to a process or to the process that then has a
/// name. Use the returned reference to [cancel](cancel_timer) it. OTP: `erlang:send_after/3`, whose timers end with the receiver
/// instead.
///
/// Panics if the value refuses to be serialized. Derived implementations never do.
pub fn send_after<T>(delay: Duration, to: impl Into<Destination>, value: &T) -> Reference
where
    T: Serialize + ?Sized,
{
    send_after_tagged(delay, to, MESSAGE_TAG, value)
}

/// The same, with a tag to select by.
pub fn send_after_tagged<T>(
    delay: Duration,
    to: impl Into<Destination>,
    tag: u32,
    value: &T,
) -> Reference
where
    T: Serialize + ?Sized,
{
    codec::with_encoded(value, |payload| {
        send_after_bytes(delay, to, Envelope::tagged(tag), payload)
    })
}

/// The same with raw bytes in the caller's own envelope.
pub fn send_after_bytes(
    delay: Duration,
    to: impl Into<Destination>,
    envelope: Envelope,
    payload: &[u8],
) -> Reference {
    timers::send_after(nanoseconds(delay), &to.into(), envelope, payload)
}

/// Sends a timer signal after a delay, to a process or to the process that then has a name. The signal carries the timer's
/// reference and the tag. OTP: `erlang:start_timer/3`.
pub fn start_timer(delay: Duration, to: impl Into<Destination>, tag: u32) -> Reference {
    timers::start_timer(nanoseconds(delay), &to.into(), tag)
}

/// Cancels a timer of the calling process, and returns the time that was left. Returns `None` if the timer has fired, so that its
/// message or signal has been sent, or if there is no such timer. OTP: `erlang:cancel_timer/1`.
pub fn cancel_timer(timer: Reference) -> Option<Duration> {
    timers::cancel_timer(timer).map(Duration::from_nanos)
}

/// The time left of a timer of the calling process; `None` as for [`cancel_timer`]. OTP: `erlang:read_timer/1`.
pub fn read_timer(timer: Reference) -> Option<Duration> {
    timers::read_timer(timer).map(Duration::from_nanos)
}

/// Takes the signal of this timer from the mailbox. Waits at most for the timeout, if there is one. OTP: `receive {timeout,
/// Timer, Tag} -> … end`.
///
/// Drops messages that were sent with the timer's reference.
pub fn receive_timer(timer: Reference, timeout: Option<Duration>) -> Option<TimerSignal> {
    receive_signal(&Selector::Reference(timer), timeout, |event| match event {
        Event::Timer(signal) => Some(signal),
        _ => None,
    })
}

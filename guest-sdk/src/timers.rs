//! Timers: messages and signals that are sent in some time.
//!
//! A timer belongs to the process that started it, which alone can cancel and read it, and is gone when that process
//! ends. None runs out early. Times over 584 years are 584 years.

use std::time::Duration;

use serde::Serialize;

use crate::bindings::atoll_rt::process::timers;
use crate::receiving::receive_signal;
use crate::sending::MESSAGE_TAG;
use crate::time::nanoseconds;
use crate::{Destination, Envelope, Event, Reference, Selector, TimerSignal, codec};

/// Sends a copy of a value in so much time, as [`send`](crate::send) would then, to a process or to whoever then has a
/// name. What is returned can [cancel](cancel_timer) it. OTP: `erlang:send_after/3`, whose timers end with the receiver
/// instead.
///
/// Panics if the value refuses to be serialized, which derived implementations never do.
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

/// The same, with bytes as they are, in an envelope of one's own.
pub fn send_after_bytes(
    delay: Duration,
    to: impl Into<Destination>,
    envelope: Envelope,
    payload: &[u8],
) -> Reference {
    timers::send_after(nanoseconds(delay), &to.into(), envelope, payload)
}

/// Sends a timer signal in so much time, to a process or to whoever then has a name. It carries the timer and the tag.
/// OTP: `erlang:start_timer/3`.
pub fn start_timer(delay: Duration, to: impl Into<Destination>, tag: u32) -> Reference {
    timers::start_timer(nanoseconds(delay), &to.into(), tag)
}

/// Cancels a timer of the calling process, and returns the time that was left. `None` if it has run out, and its message
/// or signal has been sent; or if it is none. OTP: `erlang:cancel_timer/1`.
pub fn cancel_timer(timer: Reference) -> Option<Duration> {
    timers::cancel_timer(timer).map(Duration::from_nanos)
}

/// The time that is left of a timer of the calling process; `None` as for [`cancel_timer`]. OTP: `erlang:read_timer/1`.
pub fn read_timer(timer: Reference) -> Option<Duration> {
    timers::read_timer(timer).map(Duration::from_nanos)
}

/// Takes the signal of this timer from the mailbox, waiting no longer than the timeout if there is one.
/// OTP: `receive {timeout, Timer, Tag} -> … end`.
///
/// A message that somebody sent with the timer's reference is thrown away.
pub fn receive_timer(timer: Reference, timeout: Option<Duration>) -> Option<TimerSignal> {
    receive_signal(&Selector::Reference(timer), timeout, |event| match event {
        Event::Timer(signal) => Some(signal),
        _ => None,
    })
}

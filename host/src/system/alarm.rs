//! A timer as the scheduler's wheel and its process's ties hold it.

use crate::process::{Destination, Outgoing, Pid};
use crate::scheduler::TimerKey;

/// The value that the scheduler hands back when a deadline has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alarm {
    /// The process that armed it.
    pub(crate) pid: Pid,
    pub(crate) of: AlarmOf,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum AlarmOf {
    /// The wait with this number.
    Wait(u32),
    /// The timer whose reference has this id.
    Timer(u64),
    /// The rate of the domain whose root the process is, or was.
    Rate,
}

/// A timer that runs.
#[derive(Debug)]
pub(crate) struct Timer {
    pub(crate) key: TimerKey,
    pub(super) deadline_ns: u64,
    pub(super) to: Destination,
    pub(super) sends: Sends,
}

/// The message or signal that a timer sends.
#[derive(Debug)]
pub(crate) enum Sends {
    Message(Outgoing),
    /// A timer event with this tag.
    Signal(u32),
}

impl Timer {
    pub(super) fn held_bytes(&self) -> u64 {
        held_bytes(&self.to, &self.sends)
    }
}

/// The bytes that a timer holds beside itself.
pub(super) fn held_bytes(to: &Destination, sends: &Sends) -> u64 {
    let payload = match sends {
        Sends::Message(message) => message.payload.len(),
        Sends::Signal(_) => 0,
    };
    (to.bytes() + payload) as u64
}

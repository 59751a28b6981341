//! Groups of processes, by name: a group is there while it has members. OTP: `pg`.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::bindings::atoll_rt::process::groups;
pub use crate::bindings::atoll_rt::process::groups::MonitoredGroup;
use crate::receiving::receive_signal;
use crate::{Event, GroupSignal, Pid, Reference, Selector};

/// Makes a process a member of a group, whose name has 1 to 255 bytes; once more if it is one already. It leaves when it
/// ends. OTP: `pg:join/2`.
///
/// Errors: see [`JoinError`].
pub fn join(group: &str, process: Pid) -> Result<(), JoinError> {
    groups::join(group, process).map_err(|error| match error {
        groups::JoinError::Noproc => JoinError::Noproc,
        groups::JoinError::BadName => JoinError::BadName,
        groups::JoinError::TooMany => JoinError::TooMany,
    })
}

/// Undoes one [`join`]. False if the process is no member. OTP: `pg:leave/2`.
pub fn leave(group: &str, process: Pid) -> bool {
    groups::leave(group, process)
}

/// The members of a group, each as often as it has joined, in no particular order. OTP: `pg:get_members/1`.
pub fn members(group: &str) -> Vec<Pid> {
    groups::members(group)
}

/// The names of the groups that have members, sorted. OTP: `pg:which_groups/0`.
pub fn which_groups() -> Vec<String> {
    groups::which_groups()
}

/// Monitors a group's membership, and says who is in it now: a group signal arrives for every join and leave from now on.
/// The group need not have members. OTP: `pg:monitor/1`.
pub fn monitor(group: &str) -> MonitoredGroup {
    groups::monitor(group)
}

/// Ends such a monitor, and removes its group signals from the mailbox. False if it was none of the calling process's.
/// OTP: `pg:demonitor/1`.
pub fn demonitor(monitor: Reference) -> bool {
    groups::demonitor(monitor)
}

/// Takes the first group signal of this monitor from the mailbox, waiting no longer than the timeout if there is one.
/// OTP: `receive {Monitor, join | leave, Group, Pids} -> … end`.
///
/// A message that somebody sent with the monitor's reference is thrown away.
pub fn receive(monitor: Reference, timeout: Option<Duration>) -> Option<GroupSignal> {
    receive_signal(
        &Selector::Reference(monitor),
        timeout,
        |event| match event {
            Event::Group(signal) => Some(signal),
            _ => None,
        },
    )
}

/// Why a process did not join a group.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// There is no such process.
    Noproc,
    /// The group's name is empty, or longer than 255 bytes.
    BadName,
    /// The process is in 1024 groups already, counting each as often as it has joined it.
    TooMany,
}

impl fmt::Display for JoinError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("can't join a group: ")?;
        formatter.write_str(match self {
            Self::Noproc => "there is no such process",
            Self::BadName => "its name is empty, or longer than 255 bytes",
            Self::TooMany => "the process is in as many groups as it may be",
        })
    }
}

debug_as_display!(JoinError);

impl Error for JoinError {}

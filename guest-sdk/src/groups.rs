//! Groups of processes, by name. A group exists while it has members. OTP: `pg`.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::bindings::atoll_rt::process::groups;
pub use crate::bindings::atoll_rt::process::groups::MonitoredGroup;
use crate::receiving::receive_signal;
use crate::{Event, GroupSignal, Pid, Reference, Selector};

/// Adds a process to a group. If the process is a member already, it joins once more. It leaves when it ends. A group's name has
/// 1 to 255 bytes. OTP: `pg:join/2`.
///
/// Errors: see [`JoinError`].
pub fn join(group: &str, process: Pid) -> Result<(), JoinError> {
    groups::join(group, process).map_err(|error| match error {
        groups::JoinError::Noproc => JoinError::Noproc,
        groups::JoinError::BadName => JoinError::BadName,
        groups::JoinError::TooMany => JoinError::TooMany,
    })
}

/// Undoes one [`join`]. Returns false if the process is not a member. OTP: `pg:leave/2`.
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

/// Monitors a group's membership, and returns its current members. From now on, each join and leave sends a group signal. The
/// group may be empty. OTP: `pg:monitor/1`.
pub fn monitor(group: &str) -> MonitoredGroup {
    groups::monitor(group)
}

/// Ends such a monitor, and removes its group signals from the mailbox. Returns false if the calling process has no such monitor.
/// OTP: `pg:demonitor/1`.
pub fn demonitor(monitor: Reference) -> bool {
    groups::demonitor(monitor)
}

/// Takes the first group signal of this monitor from the mailbox. Waits at most for the timeout, if there is one. OTP: `receive
/// {Monitor, join | leave, Group, Pids} -> … end`.
///
/// Drops messages that were sent with the monitor's reference.
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

/// The reason why a process did not join a group.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// There is no such process.
    Noproc,
    /// The group's name is empty, or longer than 255 bytes.
    BadName,
    /// The process is in 1024 groups already. A group counts as often as the process has joined it.
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

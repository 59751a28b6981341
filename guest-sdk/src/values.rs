//! How the contract's values are displayed, and conversions into them.

use std::fmt;

use crate::inspect::Status;
use crate::{Budget, Destination, ExitReason, GroupChange, Pid, Priority, Reference};

impl fmt::Display for Pid {
    /// Shows the process's id in hexadecimal, in angle brackets, as the host's reports do.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "<{:x}>", self.id)
    }
}

impl fmt::Display for Reference {
    /// Shows the reference's id in hexadecimal after a `#`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "#{:x}", self.id)
    }
}

impl fmt::Display for Destination {
    /// Shows the pid, or the name unchanged.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => pid.fmt(formatter),
            Self::Name(name) => formatter.write_str(name),
        }
    }
}

impl From<Pid> for Destination {
    fn from(pid: Pid) -> Self {
        Self::Process(pid)
    }
}

impl From<&Pid> for Destination {
    fn from(pid: &Pid) -> Self {
        Self::Process(*pid)
    }
}

/// A string is a name.
impl From<&str> for Destination {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

/// A string is a name.
impl From<String> for Destination {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        })
    }
}

impl fmt::Display for GroupChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Joined => "joined",
            Self::Left => "left",
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Running => "running",
            Self::Runnable => "runnable",
            Self::Waiting => "waiting",
            Self::WaitingForHost => "waiting for the host",
            Self::Suspended => "suspended",
            Self::Exiting => "exiting",
            Self::Host => "a mailbox of the host",
        })
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Memory => "memory",
            Self::Mailbox => "mailbox",
            Self::Message => "message size",
            Self::Reductions => "reductions",
            Self::Resources => "resources",
        })
    }
}

impl fmt::Display for ExitReason {
    /// Shows the reason in words. A reason of the process's own is shown as text, as far as it is UTF-8.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => formatter.write_str("normal"),
            Self::Shutdown => formatter.write_str("shutdown"),
            Self::ShutdownWith(term) => {
                write!(formatter, "shutdown: {}", String::from_utf8_lossy(term))
            }
            Self::Kill => formatter.write_str("kill"),
            Self::Killed => formatter.write_str("killed"),
            Self::Noproc => formatter.write_str("no such process"),
            Self::Noconnection => formatter.write_str("no connection to the process's node"),
            Self::Trap(text) => write!(formatter, "trap: {text}"),
            Self::Exhausted(budget) => write!(formatter, "exhausted: {budget}"),
            Self::ExitCode(code) => write!(formatter, "exit code {code}"),
            Self::Other(term) => formatter.write_str(&String::from_utf8_lossy(term)),
        }
    }
}

/// A string is a reason of the process's own.
impl From<&str> for ExitReason {
    fn from(text: &str) -> Self {
        Self::Other(text.as_bytes().to_vec())
    }
}

/// A string is a reason of the process's own.
impl From<String> for ExitReason {
    fn from(text: String) -> Self {
        Self::Other(text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_in_words() {
        assert_eq!(Pid { node: 1, id: 42 }.to_string(), "<2a>");
        assert_eq!(Reference { node: 1, id: 7 }.to_string(), "#7");
        assert_eq!(ExitReason::from("tired").to_string(), "tired");
        assert_eq!(
            ExitReason::Exhausted(Budget::Message).to_string(),
            "exhausted: message size"
        );
        assert_eq!(Priority::High.to_string(), "high");
        assert_eq!(GroupChange::Left.to_string(), "left");
        assert_eq!(Status::WaitingForHost.to_string(), "waiting for the host");
    }

    #[test]
    fn a_destination_is_made_of_a_pid_or_a_name() {
        let pid = Pid { node: 1, id: 42 };
        for destination in [Destination::from(pid), Destination::from(&pid)] {
            assert_eq!(destination, Destination::Process(pid));
            assert_eq!(destination.to_string(), "<2a>");
        }
        for destination in [Destination::from("db"), Destination::from("db".to_owned())] {
            assert_eq!(destination, Destination::Name("db".to_owned()));
            assert_eq!(destination.to_string(), "db");
        }
    }
}

//! How the contract's values are shown.

use std::fmt;

use crate::{Budget, ExitReason, Pid, Reference};

impl fmt::Display for Pid {
    /// The process's id in hexadecimal, in angle brackets: as the host's reports show it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "<{:x}>", self.id)
    }
}

impl fmt::Display for Reference {
    /// The reference's id in hexadecimal, behind a `#`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "#{:x}", self.id)
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
    /// In words; a reason of the process's own is shown as text, as far as it is text.
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

/// A text is a reason of the process's own.
impl From<&str> for ExitReason {
    fn from(text: &str) -> Self {
        Self::Other(text.as_bytes().to_vec())
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
    }
}

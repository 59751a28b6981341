//! Why processes end.

use crate::text::printable;
use std::fmt;
use std::sync::Arc;

/// Why a process ended: the contract's `exit-reason`. OTP: exit reasons, Reference Manual "Processes".
///
/// Clones share the bytes: a reason that reaches ten thousand linked processes is kept once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExitReason {
    /// Its function returned, or it asked to end so.
    Normal,
    /// It ended as part of an orderly stop.
    Shutdown,
    /// The same, with a term of its own.
    ShutdownWith(Arc<[u8]>),
    /// As a signal that is sent: die at once, with `Killed`. As a process's own reason, one like any other.
    Kill,
    /// It was ended by `Kill`.
    Killed,
    /// There was no such process.
    NoProc,
    /// The connection to its node was lost.
    NoConnection,
    /// It trapped, or the host refused to go on: the trap's text.
    Trap(Arc<str>),
    /// It ran into one of its limits.
    Exhausted(Budget),
    /// A WASI program's exit code other than 0.
    ExitCode(u32),
    /// A reason of the process's own.
    Other(Arc<[u8]>),
}

/// What a process had used up when it was ended: the contract's `budget`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Budget {
    /// Its linear memory or its tables.
    Memory,
    /// The bytes waiting in its mailbox.
    Mailbox,
    /// The size of one message.
    Message,
    /// Its reductions, where they are limited.
    Reductions,
    /// What the host holds on its behalf.
    Resources,
}

impl ExitReason {
    /// Is this how a process ends when nothing went wrong? OTP calls `normal`, `shutdown` and `{shutdown, _}` so.
    pub fn is_orderly(&self) -> bool {
        matches!(
            self,
            ExitReason::Normal | ExitReason::Shutdown | ExitReason::ShutdownWith(_)
        )
    }

    /// Bytes that it carries.
    pub(crate) fn len(&self) -> usize {
        match self {
            ExitReason::Trap(text) => text.len(),
            ExitReason::ShutdownWith(term) | ExitReason::Other(term) => term.len(),
            _ => 0,
        }
    }

    /// Is this an end that the process did not choose, and that deserves a report?
    pub fn is_crash(&self) -> bool {
        matches!(self, ExitReason::Trap(_) | ExitReason::Exhausted(_))
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Budget::Memory => "memory",
            Budget::Mailbox => "mailbox",
            Budget::Message => "message",
            Budget::Reductions => "reductions",
            Budget::Resources => "resources",
        })
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitReason::Normal => f.write_str("normal"),
            ExitReason::Shutdown => f.write_str("shutdown"),
            ExitReason::ShutdownWith(term) => write!(f, "shutdown: {}", Term(term)),
            ExitReason::Kill => f.write_str("kill"),
            ExitReason::Killed => f.write_str("killed"),
            ExitReason::NoProc => f.write_str("noproc"),
            ExitReason::NoConnection => f.write_str("noconnection"),
            ExitReason::Trap(text) => write!(f, "trap: {}", printable(text, TRAP_SHOWN_BYTES_MAX)),
            ExitReason::Exhausted(budget) => write!(f, "exhausted: {budget}"),
            ExitReason::ExitCode(code) => write!(f, "exit code {code}"),
            ExitReason::Other(term) => write!(f, "{}", Term(term)),
        }
    }
}

/// A guest's bytes, made safe for a terminal: text is shown as text, anything else as hexadecimal, both cut short.
struct Term<'a>(&'a [u8]);

/// A host's own texts are shorter; a guest may give any.
const TRAP_SHOWN_BYTES_MAX: usize = 400;

/// Enough to recognize a reason by; a guest must not be able to fill the log with one.
const TERM_SHOWN_BYTES_MAX: usize = 200;

impl fmt::Display for Term<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(TERM_SHOWN_BYTES_MAX)];
        match std::str::from_utf8(shown) {
            Ok(text) => write!(f, "{text:?}")?,
            Err(_) => {
                f.write_str("0x")?;
                shown.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            }
        }
        if shown.len() < self.0.len() {
            write!(f, "… ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_well_and_stay_short() {
        let cases = [
            (ExitReason::Normal, "normal"),
            (ExitReason::Exhausted(Budget::Mailbox), "exhausted: mailbox"),
            (ExitReason::ExitCode(3), "exit code 3"),
            (
                ExitReason::Other((*b"done \x1b[31m").into()),
                r#""done \u{1b}[31m""#,
            ),
            (ExitReason::Other([0xff, 0x00].into()), "0xff00"),
        ];
        for (reason, text) in cases {
            assert_eq!(reason.to_string(), text);
        }
        let long = ExitReason::Other(vec![b'x'; 1 << 20].into()).to_string();
        assert!(long.len() < 300 && long.contains("1048576 bytes"), "{long}");
    }
}

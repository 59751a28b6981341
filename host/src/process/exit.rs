//! The reasons for which processes end.

use crate::text::printable;
use std::fmt;
use std::sync::Arc;

/// Why a process ended: the contract's `exit-reason`. OTP: exit reasons, Reference Manual "Processes".
///
/// Clones share the bytes: ten thousand linked processes that receive one reason share one copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExitReason {
    /// The process's function returned, or the process asked to end like this.
    Normal,
    /// The process ended as part of an orderly stop.
    Shutdown,
    /// Like `Shutdown`, with a term that the process chose.
    ShutdownWith(Arc<[u8]>),
    /// Sent as a signal, it ends the receiver at once, with reason `Killed`. A process may also end with this reason;
    /// then the reason means no more than any other.
    Kill,
    /// The process was ended by a `Kill` signal.
    Killed,
    /// There was no such process.
    NoProc,
    /// The connection to its node was lost.
    NoConnection,
    /// The process trapped, or the host refused to run it further. Holds the trap's text.
    Trap(Arc<str>),
    /// The process reached one of its limits.
    Exhausted(Budget),
    /// A WASI program's exit code other than 0.
    ExitCode(u32),
    /// A reason that the process chose.
    Other(Arc<[u8]>),
}

/// The limit that ended a process: the contract's `budget`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Budget {
    /// Its linear memory or its tables.
    Memory,
    /// The bytes in its mailbox.
    Mailbox,
    /// The size of one message.
    Message,
    /// Its reductions, where they are limited.
    Reductions,
    /// The resources that the host holds for it.
    Resources,
}

impl ExitReason {
    /// Did the process end without a fault? OTP treats `normal`, `shutdown` and `{shutdown, _}` like this.
    pub fn is_orderly(&self) -> bool {
        matches!(
            self,
            ExitReason::Normal | ExitReason::Shutdown | ExitReason::ShutdownWith(_)
        )
    }

    /// The bytes that the reason carries.
    pub(crate) fn len(&self) -> usize {
        match self {
            ExitReason::Trap(text) => text.len(),
            ExitReason::ShutdownWith(term) | ExitReason::Other(term) => term.len(),
            _ => 0,
        }
    }

    /// Is this an end that the process did not choose and that is reported?
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

/// Shows a guest's bytes safely on a terminal: text as text, other bytes as hexadecimal, both cut short.
struct Term<'a>(&'a [u8]);

/// The host's own trap texts are shorter. A guest's may have any length.
const TRAP_SHOWN_BYTES_MAX: usize = 400;

/// Long enough to recognize a reason, short enough that a guest can't fill the log with one.
const TERM_SHOWN_BYTES_MAX: usize = 200;

impl fmt::Display for Term<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(TERM_SHOWN_BYTES_MAX)];
        match std::str::from_utf8(shown) {
            Ok(text) => write!(f, "{text:?}")?,
            // Only the last character is cut.
            Err(error) if error.error_len().is_none() && shown.len() < self.0.len() => {
                let whole = &shown[..error.valid_up_to()];
                write!(f, "{:?}", String::from_utf8_lossy(whole))?;
            }
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
        // The cut goes through the middle of a character.
        let cut = ExitReason::Other(format!("x{}", "ä".repeat(200)).into_bytes().into());
        assert!(cut.to_string().starts_with("\"xää"), "{cut}");
    }
}

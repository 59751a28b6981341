//! The causes for which members of a storm end, and the means to end them.

use std::fmt;

use atoll_guest::{ExitReason, Pid, exit_process, send};
use serde::{Deserialize, Serialize};

/// Why a member ends: the exit reasons that occur here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The member returned.
    Normal,
    /// It was told to shut down.
    Shutdown,
    /// The same, with a term.
    ShutdownWith,
    /// Its own reason was `kill`, or that of a linked process was.
    Kill,
    /// It was killed.
    Killed,
    /// A reason of the storm's own.
    Tired,
    /// It crashed.
    Trap,
    /// It linked itself to a process that had ended.
    Noproc,
    /// It waited for the answer of a process that ended.
    Deserted,
}

const ALL: [Cause; 9] = [
    Cause::Normal,
    Cause::Shutdown,
    Cause::ShutdownWith,
    Cause::Kill,
    Cause::Killed,
    Cause::Tired,
    Cause::Trap,
    Cause::Noproc,
    Cause::Deserted,
];

impl Cause {
    /// The cause for a reason, if it is one that occurs here.
    pub fn of(reason: &ExitReason) -> Option<Self> {
        // The host chooses the text.
        if let ExitReason::Trap(_) = reason {
            return Some(Self::Trap);
        }
        ALL.into_iter().find(|cause| cause.reason() == *reason)
    }

    /// The reason.
    pub fn reason(self) -> ExitReason {
        match self {
            Self::Normal => ExitReason::Normal,
            Self::Shutdown => ExitReason::Shutdown,
            Self::ShutdownWith => ExitReason::ShutdownWith(b"for today".to_vec()),
            Self::Kill => ExitReason::Kill,
            Self::Killed => ExitReason::Killed,
            Self::Tired => ExitReason::from("tired"),
            Self::Trap => ExitReason::Trap(String::new()),
            Self::Noproc => ExitReason::Noproc,
            Self::Deserted => ExitReason::from("deserted"),
        }
    }
}

/// A set of causes.
#[derive(Clone, Copy, Default)]
pub struct Causes(u16);

impl Causes {
    /// The set of one.
    pub fn of(cause: Cause) -> Self {
        let mut causes = Self::default();
        causes.insert(cause);
        causes
    }

    /// Puts a cause into the set.
    pub fn insert(&mut self, cause: Cause) {
        self.0 |= 1 << cause as u16;
    }

    /// Is it in the set?
    pub fn contains(self, cause: Cause) -> bool {
        self.0 & (1 << cause as u16) != 0
    }

    /// The union of the two sets.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Causes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = ALL.into_iter().filter(|&cause| self.contains(cause));
        let texts: Vec<String> = texts.map(|cause| cause.reason().to_string()).collect();
        formatter.write_str(&texts.join(" or "))
    }
}

/// The messages to members.
#[derive(Serialize, Deserialize)]
pub enum Request {
    /// Answer.
    Answer,
    /// Do not answer.
    Hush,
    /// End for this cause.
    End(Cause),
}

/// The means to end a member.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Means {
    /// An exit signal.
    Signal(Cause),
    /// A message that asks the member to end.
    Ask(Cause),
}

/// All means. `Signal(Normal)` ends only members that trap exits. It is last, for [`SURE_MEANS`].
pub const MEANS: [Means; 11] = [
    Means::Signal(Cause::Kill),
    Means::Signal(Cause::Shutdown),
    Means::Signal(Cause::ShutdownWith),
    Means::Signal(Cause::Tired),
    Means::Ask(Cause::Normal),
    Means::Ask(Cause::Shutdown),
    Means::Ask(Cause::ShutdownWith),
    Means::Ask(Cause::Kill),
    Means::Ask(Cause::Tired),
    Means::Ask(Cause::Trap),
    Means::Signal(Cause::Normal),
];

/// The means that end every member that receives messages.
pub const SURE_MEANS: &[Means] = MEANS.split_at(10).0;

/// The means that end every member.
pub const SIGNALS: &[Means] = MEANS.split_at(4).0;

/// An action on a member.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Strike {
    /// The member.
    pub pid: Pid,
    /// The means.
    pub means: Means,
}

impl Strike {
    /// Performs the action.
    pub fn carry_out(self) {
        match self.means {
            Means::Signal(cause) => exit_process(self.pid, cause.reason()),
            Means::Ask(cause) => send(self.pid, &Request::End(cause)),
        }
    }
}

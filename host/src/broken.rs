//! Rules of OTP that a build with the feature `break-rules` can break on purpose.
//!
//! `cargo xtask oracle --break RULE` uses this to show that the comparison with Erlang notices a broken rule. In every other
//! build [`breaks`] is a constant `false`, and the compiler removes the code behind it.

/// A rule that can be broken. Each comment states the rule as OTP has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// A `kill` signal ends even a process that traps exits.
    KillIsTrappable,
    /// An exit signal with reason `normal` does nothing to a process that does not trap exits.
    NormalExitKills,
    /// After `unlink` no exit signal through the link arrives.
    UnlinkIsLate,
    /// Every monitor of a process gets a `DOWN` message when the process ends.
    DownIsLost,
    /// A link holds on both sides.
    LinkOneWay,
    /// A name is released when its process ends.
    NamesSurvive,
    /// A reply that comes after the caller has stopped waiting is dropped.
    LateReplyArrives,
    /// A selective receive takes the first event that matches.
    SelectiveOrder,
    /// A cancelled timer does not fire.
    TimerUncancellable,
}

/// Does this build break the rule, in this run?
#[inline(always)]
pub(crate) fn breaks(rule: Rule) -> bool {
    #[cfg(feature = "break-rules")]
    return chosen::rule() == Some(rule);
    #[cfg(not(feature = "break-rules"))]
    {
        let _ = rule;
        false
    }
}

#[cfg(feature = "break-rules")]
mod chosen {
    use super::Rule;
    use std::sync::OnceLock;

    /// The rule that the environment variable `ATOLL_BREAK` names.
    pub(super) fn rule() -> Option<Rule> {
        static RULE: OnceLock<Option<Rule>> = OnceLock::new();
        *RULE.get_or_init(|| match std::env::var("ATOLL_BREAK").as_deref() {
            Ok("kill-is-trappable") => Some(Rule::KillIsTrappable),
            Ok("normal-exit-kills") => Some(Rule::NormalExitKills),
            Ok("unlink-is-late") => Some(Rule::UnlinkIsLate),
            Ok("down-is-lost") => Some(Rule::DownIsLost),
            Ok("link-one-way") => Some(Rule::LinkOneWay),
            Ok("names-survive") => Some(Rule::NamesSurvive),
            Ok("late-reply-arrives") => Some(Rule::LateReplyArrives),
            Ok("selective-order") => Some(Rule::SelectiveOrder),
            Ok("timer-uncancellable") => Some(Rule::TimerUncancellable),
            _ => None,
        })
    }
}

//! Rules of OTP that a build with the feature `break-rules` can break on purpose.
//!
//! `cargo xtask oracle --break RULE` shows with it that the comparison with Erlang would notice. In every other build
//! [`breaks`] is a constant `false`, and nothing of this is there.

/// A rule that can be broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// `kill` that is sent ends a process that traps exits.
    KillIsTrappable,
    /// An exit signal with reason `normal` does nothing to a process that does not trap exits.
    NormalExitKills,
    /// After `unlink` no exit signal through the link arrives.
    UnlinkIsLate,
    /// Every monitor of a process that ends is answered.
    DownIsLost,
    /// A link is there on both sides.
    LinkOneWay,
    /// The end of a process takes its name away.
    NamesSurvive,
    /// An answer that comes when nobody waits for it any more is dropped.
    LateReplyArrives,
    /// A selective receive takes the first event that fits.
    SelectiveOrder,
    /// A timer that is cancelled does not run out.
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

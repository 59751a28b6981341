//! Rules that a build with the feature `break-rules` can break on purpose: rules of OTP, and rules of isolation.
//!
//! `cargo xtask oracle --break RULE` uses this to show that the comparison with Erlang notices a broken rule, and `cargo xtask
//! fuzz --break RULE` to show that fuzzing finds a broken isolation. In every other build [`breaks`] is a constant `false`,
//! and the compiler removes the code behind it.

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
    /// A recycled memory holds its initial contents.
    ByteStays,
    /// A recycled instance's globals have their initial values.
    GlobalStays,
    /// A list's end is compared with the memory's.
    LengthUnchecked,
    /// The receiver of a lent payload gets the bytes as they were when it was sent.
    LoanLate,
    /// A pid reaches the process that it was made for, and no later one in the same entry.
    StalePid,
    /// A mailbox holds at most so many bytes.
    BudgetMissed,
    /// Every loop pays for each iteration.
    LoopUnpaid,
    /// A process wakes with all pages of its memory.
    PageLost,
    /// A text that is not UTF-8 ends the process that has passed it, and nothing else.
    HostUnwraps,
    /// The host frees what it held for a message.
    BufferUnbounded,
    /// A process that waits is woken by its pending exit.
    ExitsLinger,
    /// A tree holds no more than its limits.
    TreeUnbounded,
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

/// Keeps a buffer for ever, if this build breaks [`Rule::BufferUnbounded`] in this run.
#[inline(always)]
pub(crate) fn hoard() {
    if breaks(Rule::BufferUnbounded) {
        // Without `black_box` the compiler leaves out an allocation that nobody reads.
        std::mem::forget(std::hint::black_box(vec![1_u8; 16 << 10]));
    }
}

#[cfg(feature = "break-rules")]
mod chosen {
    use super::Rule;
    use std::sync::OnceLock;

    /// The rule that the environment variable `ATOLL_BREAK` names.
    pub(super) fn rule() -> Option<Rule> {
        static RULE: OnceLock<Option<Rule>> = OnceLock::new();
        *RULE.get_or_init(|| {
            let name = std::env::var("ATOLL_BREAK").ok()?;
            let (_, rule) = NAMES.iter().find(|(known, _)| *known == name)?;
            Some(*rule)
        })
    }

    const NAMES: [(&str, Rule); 21] = [
        ("kill-is-trappable", Rule::KillIsTrappable),
        ("normal-exit-kills", Rule::NormalExitKills),
        ("unlink-is-late", Rule::UnlinkIsLate),
        ("down-is-lost", Rule::DownIsLost),
        ("link-one-way", Rule::LinkOneWay),
        ("names-survive", Rule::NamesSurvive),
        ("late-reply-arrives", Rule::LateReplyArrives),
        ("selective-order", Rule::SelectiveOrder),
        ("timer-uncancellable", Rule::TimerUncancellable),
        ("byte-stays", Rule::ByteStays),
        ("global-stays", Rule::GlobalStays),
        ("length-unchecked", Rule::LengthUnchecked),
        ("loan-late", Rule::LoanLate),
        ("stale-pid", Rule::StalePid),
        ("budget-missed", Rule::BudgetMissed),
        ("loop-unpaid", Rule::LoopUnpaid),
        ("page-lost", Rule::PageLost),
        ("host-unwraps", Rule::HostUnwraps),
        ("buffer-unbounded", Rule::BufferUnbounded),
        ("exits-linger", Rule::ExitsLinger),
        ("tree-unbounded", Rule::TreeUnbounded),
    ];
}

//! The language of scenarios: what both interpreters understand, and how it is written.
//!
//! A scenario is a name, a number of actors, and steps. `a0`, `a1`, … are actors, that is processes; `r0`, … references;
//! `n0`, … names; `g0`, … groups. A word like `=r3` gives something a label. In a file of rules, what is indented is the
//! trace that is expected; a line that begins with `#` is a comment.
//!
//! ```text
//! actors 3
//! a0 link a1
//!   => ok
//! a1 exit other:tired
//!   => died
//!   a0 ended other:tired
//!   a1 ended other:tired
//! ```
//!
//! # Steps
//!
//! | step | what the actor does | its result |
//! |---|---|---|
//! | `spawn =a5 [link] [monitor =r1] [name n0] [priority high]` | spawns another actor | `ok`, `name-taken` |
//! | `exit REASON`, `crash`, `return` | ends | `died` |
//! | `exit-process a1 REASON` | sends an exit signal | `ok` |
//! | `trap-exit on\|off` | | what was set before |
//! | `link a1`, `unlink a1` | | `ok` |
//! | `monitor a1\|n0 =r1` | | `ok` |
//! | `demonitor r1 [flush]` | | was it there? |
//! | `send a1 TAG N [r1]` | sends a message, with a number for payload | `ok` |
//! | `send-many a1 TAG N COUNT` | sends N, N+1, … | `ok` |
//! | `send-name n0 TAG N` | | had anybody the name? |
//! | `recv SELECTOR` | takes the first event that fits | the event, `none` |
//! | `await SELECTOR short\|long\|forever` | waits for one | the event, `timeout`, `blocked` |
//! | `drain` | takes everything | the events, `none` |
//! | `make-ref =r1` | | `ok` |
//! | `call a1\|n0 TAG N short\|long\|forever` | asks | `reply …`, `down REASON`, `timeout`, `blocked` |
//! | `reply a1 TAG N [twice]` | answers the oldest request of a1 that it has taken | `ok`, `none` |
//! | `alias =r1`, `unalias r1` | | `ok`; was it active? |
//! | `answer r1 TAG N` | sends to an alias | `ok` |
//! | `register n0 a1`, `unregister n0` | | `ok` or why not; had anybody the name? |
//! | `whereis n0`, `registered` | | the actor or `none`; all names |
//! | `join g0 a1`, `leave g0 a1` | | `ok` or `noproc`; was it a member? |
//! | `members g0`, `which-groups` | | who; which |
//! | `monitor-group g0 =r1`, `demonitor-group r1` | | the members; was it there? |
//! | `start-timer a1\|n0 short\|long TAG =r1` | starts a timer; waits until a short one has run out | `ok` |
//! | `send-after a1\|n0 short\|long TAG N =r1` | the same with a message | `ok` |
//! | `cancel r1`, `read r1` | of a timer | `active`, `gone` |
//! | `cancel-early TAG =r1` | starts a timer for itself, cancels it, waits until it would have run out | `ok` |
//! | `is-alive a1`, `info a1` | | whether; what it is |
//! | `set-priority low\|normal\|high` | | what was set before |
//! | `suspend a1`, `resume a1` | | whether it could be |
//! | `yield`, `hibernate` | | `ok` |
//!
//! A selector is `any`, `tag:5`, `tags:5,6`, `ref:r1` or `kinds:exit,down` (of `message`, `exit`, `down`, `timer`, `group`).
//! A reason is `normal`, `shutdown`, `shutdown:why`, `kill`, `killed`, `noproc`, `noconnection`, `crash` (a trap, an error),
//! `exhausted:mailbox`, `exit-code:3` or `other:why`. `short` is 2 ms, `long` an hour.
//!
//! A step is `skipped` if its actor is dead, suspended, or waits in a step of its own, or if a label in it means nothing
//! yet (or, behind `=`, means something already). So a scenario stays one when steps are taken out of it.
//!
//! # What makes it deterministic
//!
//! Actors do nothing but what a conductor tells them, one step at a time, and the next step waits until everything has
//! happened that follows from the last. What others send to an actor stays in its mailbox until a step takes it. Then the
//! trace says, behind the result: which actors that had waited were woken, and which have ended.
//!
//! `par 3` begins a burst: the next three steps, of different actors, run at the same time.
//!
//! # What is allowed where nothing determines the order
//!
//! Signals from one process to another arrive in the order in which they were sent. Between the signals of different senders
//! nothing is promised, nor between the several signals (exit, down, group) that one death sends to one process. So whenever a
//! step or a burst brings an actor more than one event, the conductor has the actor `drained` (unless it was one
//! `send-many`: then there is one sender), and the events
//! are compared in a canonical order ([`compare`](crate::compare)): by sender, those of one sender as they came; the signals
//! of one death, and those without a sender (timers, groups), by their text. If the actor had waited, which of the
//! events woke it is not determined either: then all are compared as a set. Of an actor that ended in the step, neither a
//! result nor that it was woken is told: its answer and its death run against each other.
//!
//! Which of several reasons is given for a refusal is not determined: the Erlang side says `taken|already-named`, and either
//! will do.
//!
//! # Where Atoll differs from OTP on purpose
//!
//! The Erlang side wraps OTP's functions so that these are no disagreements:
//!
//! - To link to a dead process raises an error in OTP, unless one traps exits; in Atoll it is an exit signal. Both
//!   end the process with `noproc`.
//! - To send to a name that nobody has is an error in OTP; in Atoll it returns false. So with `register`, `unregister`,
//!   `suspend`, `resume` and `demonitor` of what is not one's own: Atoll says what OTP only refuses.
//! - A timer ends with the process that started it, in OTP with the one that it is for; and it alone can cancel and read it,
//!   in OTP everybody can. So with the monitors of groups.
//! - A dead process can't join a group; in OTP it joins, and leaves at once.
//! - A name is an option of spawn; in OTP it is given afterwards.
//! - What an error says is a text; only that it was a `crash` is compared.
//! - `exit-code` and `exhausted` are reasons that OTP doesn't have: there, they are terms.
//! - `hibernate` returns; in OTP it does not, and the Erlang side does nothing instead.

use anyhow::{Context, Result, bail};
use std::fmt;

/// Every step's operation.
pub const OPERATIONS: [&str; 44] = [
    "alias",
    "answer",
    "await",
    "call",
    "cancel",
    "cancel-early",
    "crash",
    "demonitor",
    "demonitor-group",
    "drain",
    "exit",
    "exit-process",
    "hibernate",
    "info",
    "is-alive",
    "join",
    "leave",
    "link",
    "make-ref",
    "members",
    "monitor",
    "monitor-group",
    "read",
    "recv",
    "register",
    "registered",
    "reply",
    "resume",
    "return",
    "send",
    "send-after",
    "send-many",
    "send-name",
    "set-priority",
    "spawn",
    "start-timer",
    "suspend",
    "trap-exit",
    "unalias",
    "unlink",
    "unregister",
    "whereis",
    "which-groups",
    "yield",
];

/// Every reason to end.
pub const REASONS: [&str; 11] = [
    "normal",
    "shutdown",
    "shutdown:",
    "kill",
    "killed",
    "noproc",
    "noconnection",
    "crash",
    "exhausted:",
    "exit-code:",
    "other:",
];

/// What is said about a scenario that does not come to rest.
pub const HANG: &str = "HANG";

/// Steps that are performed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// One step.
    One(String),
    /// A burst.
    Burst(Vec<String>),
}

/// A scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// What it is called: a rule, or a seed.
    pub name: String,
    /// How many actors there are at first.
    pub actors: usize,
    /// What happens.
    pub groups: Vec<Group>,
}

/// The lines that one side printed of one scenario, without its first and last.
pub type Trace = Vec<String>;

impl Group {
    /// Its steps.
    pub fn steps(&self) -> &[String] {
        match self {
            Group::One(step) => std::slice::from_ref(step),
            Group::Burst(steps) => steps,
        }
    }
}

/// As the interpreters read it.
impl fmt::Display for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "scenario {}", self.name)?;
        writeln!(formatter, "actors {}", self.actors)?;
        for group in &self.groups {
            if let Group::Burst(steps) = group {
                writeln!(formatter, "par {}", steps.len())?;
            }
            for step in group.steps() {
                writeln!(formatter, "{step}")?;
            }
        }
        writeln!(formatter, "end")
    }
}

impl Scenario {
    /// Reads a scenario from its lines, between `scenario` and `end`. Indented lines and comments are passed over.
    pub fn parse(name: &str, text: &str) -> Result<Scenario> {
        let mut scenario = Scenario {
            name: name.to_owned(),
            actors: 0,
            groups: Vec::new(),
        };
        let is_step = |line: &&str| !line.starts_with([' ', '#']) && !line.trim().is_empty();
        let mut lines = text.lines().filter(is_step).map(str::trim_end);
        while let Some(line) = lines.next() {
            if let Some(count) = line.strip_prefix("actors ") {
                scenario.actors = count.parse().with_context(|| format!("in `{line}`"))?;
            } else if let Some(count) = line.strip_prefix("par ") {
                let count = count.parse().with_context(|| format!("in `{line}`"))?;
                let steps = lines.by_ref().take(count).map(str::to_owned);
                let steps = steps.collect::<Vec<_>>();
                if steps.len() < count {
                    bail!("{name}: `{line}`, and {} follow", steps.len());
                }
                scenario.groups.push(Group::Burst(steps));
            } else {
                scenario.groups.push(Group::One(line.to_owned()));
            }
        }
        for step in scenario.groups.iter().flat_map(Group::steps) {
            check(step).with_context(|| format!("{name}: in `{step}`"))?;
        }
        if scenario.actors == 0 {
            bail!("{name}: it has no actors");
        }
        Ok(scenario)
    }
}

/// A step that nobody understands would be an error of the interpreters, each in its own way.
fn check(step: &str) -> Result<()> {
    let mut words = step.split(' ');
    let actor = words.next().unwrap_or_default();
    if label_number(actor, 'a').is_none() {
        bail!("`{actor}` is no actor");
    }
    match words.next() {
        Some(operation) if OPERATIONS.contains(&operation) => Ok(()),
        operation => bail!("there is no step `{}`", operation.unwrap_or_default()),
    }
}

/// The number in a label such as `a3`.
pub fn label_number(word: &str, letter: char) -> Option<usize> {
    let digits = word.strip_prefix(letter)?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_read_as_it_is_written() {
        let text = "actors 3\na0 link a1\npar 2\na0 send a1 5 1\na2 send a1 5 2\na1 drain\n";
        let scenario = Scenario::parse("some", text).unwrap();
        assert_eq!(scenario.groups.len(), 3);
        assert_eq!(scenario.to_string(), format!("scenario some\n{text}end\n"));
    }

    #[test]
    fn what_is_expected_is_no_step() {
        let text = "# A rule.\nactors 1\n\na0 drain\n  => none\n";
        let scenario = Scenario::parse("some", text).unwrap();
        assert_eq!(scenario.groups, [Group::One("a0 drain".to_owned())]);
    }

    #[test]
    fn unknown_steps_are_refused() {
        for text in [
            "actors 1\na0 dance",
            "actors 1\nb drain",
            "a0 drain",
            "actors 1\npar 2\na0 drain",
        ] {
            assert!(Scenario::parse("some", text).is_err(), "{text:?}");
        }
    }
}

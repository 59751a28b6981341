//! The language of scenarios, which both interpreters understand, and its text form.
//!
//! A scenario is a name, a number of actors, and steps. `a0`, `a1`, … are actors (processes); `r0`, … references; `n0`, … names;
//! `g0`, … groups. A word like `=r3` defines a label. In a file of rules, indented lines are the expected trace, and lines that
//! begin with `#` are comments.
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
//! | `trap-exit on\|off` | | the previous setting |
//! | `link a1`, `unlink a1` | | `ok` |
//! | `monitor a1\|n0 =r1` | | `ok` |
//! | `demonitor r1 [flush]` | | was it active? |
//! | `send a1 TAG N [r1]` | sends a message, with a number for payload | `ok` |
//! | `send-many a1 TAG N COUNT` | sends N, N+1, … | `ok` |
//! | `send-name n0 TAG N` | | does any process have the name? |
//! | `recv SELECTOR` | takes the first event that matches | the event, `none` |
//! | `await SELECTOR short\|long\|forever` | waits for one | the event, `timeout`, `blocked` |
//! | `drain` | takes everything | the events, `none` |
//! | `make-ref =r1` | | `ok` |
//! | `call a1\|n0 TAG N short\|long\|forever` | asks | `reply …`, `down REASON`, `timeout`, `blocked` |
//! | `reply a1 TAG N [twice]` | answers the oldest request of a1 that it has taken | `ok`, `none` |
//! | `alias =r1`, `unalias r1` | | `ok`; was it active? |
//! | `answer r1 TAG N` | sends to an alias | `ok` |
//! | `register n0 a1`, `unregister n0` | | `ok` or why not; did any process have the name? |
//! | `whereis n0`, `registered` | | the actor or `none`; all names |
//! | `join g0 a1`, `leave g0 a1` | | `ok` or `noproc`; was it a member? |
//! | `members g0`, `which-groups` | | the members; the groups |
//! | `monitor-group g0 =r1`, `demonitor-group r1` | | the members; was it active? |
//! | `start-timer a1\|n0 short\|long TAG =r1` | starts a timer; waits until a short one has fired | `ok` |
//! | `send-after a1\|n0 short\|long TAG N =r1` | the same with a message | `ok` |
//! | `cancel r1`, `read r1` | of a timer | `active`, `gone` |
//! | `cancel-early TAG =r1` | starts a timer for itself, cancels it, waits until it would have fired | `ok` |
//! | `is-alive a1`, `info a1` | | is it alive?; its state |
//! | `set-priority low\|normal\|high` | | the previous priority |
//! | `suspend a1`, `resume a1` | | was it possible? |
//! | `yield`, `hibernate` | | `ok` |
//!
//! A selector is `any`, `tag:5`, `tags:5,6`, `ref:r1` or `kinds:exit,down` (of `message`, `exit`, `down`, `timer`, `group`).
//! A reason is `normal`, `shutdown`, `shutdown:why`, `kill`, `killed`, `noproc`, `noconnection`, `crash` (a trap, an error),
//! `exhausted:mailbox`, `exit-code:3` or `other:why`. `short` is 2 ms, `long` an hour.
//!
//! A step is `skipped` if its actor is dead, suspended, or waits in a step of its own, or if a label in it is undefined (or,
//! after `=`, already defined). So a scenario stays valid when steps are removed from it.
//!
//! # What makes it deterministic
//!
//! A conductor tells the actors what to do, one step at a time. The next step begins when all effects of the last one have
//! happened. Events from other actors stay in an actor's mailbox until a step takes them. After the result, the trace says which
//! waiting actors were woken, and which have ended.
//!
//! `par 3` begins a burst: the next three steps, of different actors, run at the same time.
//!
//! # What may differ where nothing determines the order
//!
//! Signals from one process to another arrive in the order in which they were sent. No order is promised between the signals of
//! different senders, nor between the several signals (exit, down, group) that one death sends to one process. So if a step or a
//! burst brings an actor more than one event, the conductor drains the actor (except after one `send-many`, which has one
//! sender). The events are compared in a canonical order ([`compare`](crate::compare)): by sender, and those of one sender in
//! order of arrival; the signals of one death, and those without a sender (timers, groups), by their text. If the actor had
//! waited, it is not determined either which event woke it, so all are compared as a set. If an actor ended in the step, the
//! trace gives neither its result nor that it was woken, because its answer and its death race.
//!
//! The reason for a refusal is not determined if several apply: the Erlang side prints `taken|already-named`, and either agrees.
//!
//! # Where Atoll differs from OTP on purpose
//!
//! The Erlang side wraps OTP's functions so that these are no disagreements:
//!
//! - Linking to a dead process raises an error in OTP, unless the caller traps exits. In Atoll it sends an exit signal. Both end
//!   the process with `noproc`.
//! - Sending to an unregistered name is an error in OTP. In Atoll it returns false. The same holds for `register`, `unregister`,
//!   `suspend`, `resume`, and for `demonitor` of another process's monitor: Atoll returns a result where OTP raises an error.
//! - In Atoll, a timer ends with the process that started it; in OTP, with the process that it is for. In Atoll only the process
//!   that started it can cancel and read it; in OTP every process can. The same holds for monitors of groups.
//! - A dead process can't join a group. In OTP it joins, and leaves at once.
//! - A name is an option of spawn. In OTP a process gets it afterwards.
//! - The text of an error is not compared, only that it was a `crash`.
//! - OTP doesn't have the reasons `exit-code` and `exhausted`. There they are terms.
//! - `hibernate` returns. In OTP it does not, so the Erlang side does nothing instead.

use anyhow::{Context, Result, bail};
use std::fmt;

/// The operations of all steps.
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

/// All exit reasons.
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

/// The output for a scenario that does not come to rest.
pub const HANG: &str = "HANG";

/// Steps that are performed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// One step.
    One(String),
    /// A burst.
    Burst(Vec<String>),
}

/// A named list of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The name of a rule, or a seed.
    pub name: String,
    /// The number of actors at the start.
    pub actors: usize,
    /// The steps.
    pub groups: Vec<Group>,
}

/// The lines that one side printed for one scenario, without its first and last line.
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

/// Prints the form that the interpreters read.
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
    /// Parses the lines of a scenario between `scenario` and `end`. Skips indented lines and comments.
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

/// Refuses unknown steps. Each interpreter would fail on them in its own way.
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
    fn a_printed_scenario_is_parsed_back() {
        let text = "actors 3\na0 link a1\npar 2\na0 send a1 5 1\na2 send a1 5 2\na1 drain\n";
        let scenario = Scenario::parse("some", text).unwrap();
        assert_eq!(scenario.groups.len(), 3);
        assert_eq!(scenario.to_string(), format!("scenario some\n{text}end\n"));
    }

    #[test]
    fn expected_lines_are_not_steps() {
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

//! The conductor has actors perform the steps of a scenario, and prints what it saw of them.
//!
//! After each step it waits until all consequences have happened: every actor that can answer has handled all its messages,
//! every actor that waits has found no fitting event, every actor that died is gone, and the last round of asking brought
//! nothing new.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::time::Duration;

use atoll_guest::inspect::{self, Status};
use atoll_guest::time::now_ns;
use atoll_guest::{
    Envelope, Event, ExitReason, Pid, Reference, Selector, kill, monitor, receive_event, self_pid,
    send_bytes, spawn, yield_now,
};

use crate::words::{pid, pid_word, reason_word, reference, reference_word};
use crate::{actor, tags};

/// If the steps of a scenario don't come to rest within this time, the trace says HANG.
const HANG: Duration = Duration::from_secs(5);

/// Performs the lines of a scenario, and returns the lines of its trace.
pub fn run<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut conductor = Conductor {
        others: inspect::counters().processes,
        ..Conductor::default()
    };
    let mut trace = String::new();
    let lines = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>();
    let mut rest = lines.as_slice();
    while let [line, others @ ..] = rest {
        let _ = writeln!(trace, "{line}");
        rest = others;
        let mut steps = std::slice::from_ref(line);
        if let Some(count) = line.strip_prefix("par ") {
            let count = count.parse().expect("a burst says how many steps it has");
            (steps, rest) = others.split_at(count);
            for step in steps {
                let _ = writeln!(trace, "{step}");
            }
        } else if let Some(count) = line.strip_prefix("actors ") {
            if let Err(Hang(place)) =
                conductor.spawn_actors(count.parse().expect("it is a number of actors"))
            {
                let _ = writeln!(trace, "  HANG {place}");
                break;
            }
            continue;
        }
        // Whether the order of several events of this step is determined, because they come from one sender.
        let is_ordered = steps.len() == 1 && line.split(' ').nth(1) == Some("send-many");
        match conductor.perform(steps, is_ordered) {
            Ok(seen) => trace.push_str(&seen),
            Err(Hang(place)) => {
                let _ = writeln!(trace, "  HANG {place}");
                break;
            }
        }
    }
    if let Err(Hang(place)) = conductor.finish() {
        let _ = writeln!(trace, "  HANG {place}");
    }
    trace
}

/// Something did not come to rest. The text names it.
struct Hang(String);

#[derive(PartialEq)]
enum State {
    /// The actor waits for a step.
    Idle,
    /// The actor performs a step.
    Blocked,
    Dead,
}

/// One actor, from the conductor's view.
struct Actor {
    pid: Pid,
    monitor: Reference,
    state: State,
    /// The actor waits in a call.
    calls: bool,
    /// Events in its mailbox after the last step.
    queue: u64,
    /// Events have come in an undetermined order, while the conductor could not ask the actor for them.
    dirty: bool,
    /// Messages from the actor and signals about it that the conductor has not handled yet.
    ack: Option<String>,
    begun: bool,
    pong: u64,
    down: Option<ExitReason>,
}

#[derive(Default)]
struct Conductor {
    actors: BTreeMap<u32, Actor>,
    labels: HashMap<Pid, u32>,
    /// References by label, each with the actor that made it.
    references: HashMap<String, (Reference, Pid)>,
    reference_labels: HashMap<Reference, String>,
    /// Processes that are not actors.
    others: u64,
    /// The consequences of this step.
    woken: BTreeMap<u32, String>,
    ended: BTreeMap<u32, ExitReason>,
    /// Something has happened in this round.
    moved: bool,
    round: u64,
}

/// A step that has been sent to its actor.
struct Issued {
    label: u32,
    calls: bool,
    is_short: bool,
}

/// How a step ended, as far as its actor can tell.
enum Outcome {
    Said(String),
    Blocked,
    Died,
}

impl Conductor {
    fn spawn_actors(&mut self, count: u32) -> Result<(), Hang> {
        let conductor = self_pid();
        for label in 0..count {
            let pid = spawn(actor::run, (conductor.node, conductor.id)).expect("there is room");
            self.enlist(label, pid);
        }
        self.settle()
    }

    fn enlist(&mut self, label: u32, pid: Pid) {
        let actor = Actor {
            pid,
            monitor: monitor(pid),
            state: State::Idle,
            calls: false,
            queue: 0,
            dirty: false,
            ack: None,
            begun: false,
            pong: 0,
            down: None,
        };
        self.actors.insert(label, actor);
        self.labels.insert(pid, label);
    }

    fn actor(&mut self, label: u32) -> &mut Actor {
        self.actors.get_mut(&label).expect("labels are of actors")
    }

    fn living(&self) -> Vec<u32> {
        let living = self
            .actors
            .iter()
            .filter(|(_, actor)| actor.state != State::Dead);
        living.map(|(label, _)| *label).collect()
    }

    /// Performs a step, or the steps of a burst, and returns the trace of it.
    fn perform(&mut self, steps: &[&str], is_ordered: bool) -> Result<String, Hang> {
        self.woken.clear();
        self.ended.clear();
        let issued = steps
            .iter()
            .map(|step| self.issue(step))
            .collect::<Vec<_>>();
        let mut results = Vec::new();
        for issued in issued {
            results.push(match issued {
                None => None,
                Some(issued) => Some((issued.label, self.await_result(&issued)?)),
            });
        }
        self.settle()?;
        self.report(&results, is_ordered)
    }

    /// Sends a step to its actor, or skips a step that can't be performed. The conductor skips a step if its actor does not
    /// exist, is dead, waits in a step of its own or is suspended, or if a label has no meaning yet, or has one already.
    fn issue(&mut self, step: &str) -> Option<Issued> {
        let mut words = step.split(' ');
        let label = actor_label(words.next()?)?;
        let operation = words.next()?;
        let actor = self.actors.get(&label)?;
        if actor.state != State::Idle || is_suspended(actor.pid) {
            return None;
        }
        let mut command = operation.to_owned();
        let mut last = "";
        let mut owner = None;
        for word in words {
            let _ = write!(command, " {}", self.resolve(word)?);
            last = word;
            owner = owner.or(self.references.get(word).map(|(_, owner)| *owner));
        }
        match operation {
            // Only the conductor knows this.
            "answer" => command += &format!(" {}", pid_word(owner?)),
            "info" => {
                let calls = self.actors.values().any(|actor| actor.calls);
                command += if calls { " calls" } else { " quiet" };
            }
            _ => {}
        }
        let issued = Issued {
            label,
            calls: operation == "call",
            is_short: last == "short",
        };
        let actor = self.actor(label);
        // The actor is busy until its answer has come, so the conductor skips another step of the same burst.
        actor.state = State::Blocked;
        actor.begun = false;
        send_bytes(
            actor.pid,
            Envelope::tagged(tags::COMMAND),
            command.as_bytes(),
        );
        Some(issued)
    }

    /// The word in the form that an actor understands.
    fn resolve(&self, word: &str) -> Option<String> {
        if let Some(new) = word.strip_prefix('=') {
            let is_new = match actor_label(new) {
                Some(label) => !self.actors.contains_key(&label),
                None => !self.references.contains_key(new),
            };
            return is_new.then(|| word.to_owned());
        }
        if let Some(label) = actor_label(word) {
            return Some(pid_word(self.actors.get(&label)?.pid));
        }
        let (prefix, label) = match word.strip_prefix("ref:") {
            Some(label) => ("ref:", label),
            None if is_label(word, 'r') => ("", word),
            None => return Some(word.to_owned()),
        };
        let (reference, _) = self.references.get(label)?;
        Some(format!("{prefix}{}", reference_word(*reference)))
    }

    /// Waits until a step's actor has answered, has died, or waits in the step.
    fn await_result(&mut self, issued: &Issued) -> Result<Outcome, Hang> {
        let label = issued.label;
        let deadline = deadline();
        loop {
            let actor = self.actor(label);
            if let Some(answer) = actor.ack.take() {
                actor.state = State::Idle;
                return Ok(Outcome::Said(self.answered(label, &answer)));
            }
            if let Some(reason) = actor.down.take() {
                self.ended(label, reason)?;
                return Ok(Outcome::Died);
            }
            if actor.begun && !issued.is_short {
                actor.calls = issued.calls;
                return Ok(Outcome::Blocked);
            }
            self.wait(deadline, || format!("no answer from a{label}"))?;
        }
    }

    /// The result in an answer. This also assigns the labels that come with it.
    fn answered(&mut self, label: u32, answer: &str) -> String {
        let maker = self.actor(label).pid;
        let mut lines = answer.lines();
        let result = lines.next().unwrap_or_default().to_owned();
        for binding in lines {
            let Some((new, word)) = binding.split_once(' ') else {
                continue;
            };
            if let (Some(label), Some(pid)) = (actor_label(new), pid(word)) {
                self.enlist(label, pid);
            } else if let Some(reference) = reference(word) {
                self.references.insert(new.to_owned(), (reference, maker));
                self.reference_labels.insert(reference, new.to_owned());
            }
        }
        result
    }

    /// Notes a death once all its consequences have been sent: until then the system still counts the process that is ending.
    fn ended(&mut self, label: u32, reason: ExitReason) -> Result<(), Hang> {
        let actor = self.actor(label);
        actor.state = State::Dead;
        actor.calls = false;
        self.ended.insert(label, reason);
        self.moved = true;
        // Another process may have ended without the conductor's knowledge and take the place of this one in the count. When
        // the conductor learns of that end, it waits for both.
        let processes = self.others + self.living().len() as u64;
        poll(
            || inspect::counters().processes <= processes,
            || format!("the end of a{label}"),
        )
    }

    /// Returns when the scenario is at rest: the conductor has asked every actor after the last event, and no further event
    /// has come.
    fn settle(&mut self) -> Result<(), Hang> {
        loop {
            self.moved = false;
            self.round += 1;
            for label in self.living() {
                self.ping(label)?;
            }
            self.collect()?;
            if !self.moved {
                break;
            }
        }
        // An actor that has answered may not wait again yet, and would be seen running.
        for label in self.living() {
            let pid = self.actor(label).pid;
            poll(|| is_at_rest(pid), || format!("no rest for a{label}"))?;
        }
        Ok(())
    }

    /// Has an actor handle all its messages.
    fn ping(&mut self, label: u32) -> Result<(), Hang> {
        let round = self.round;
        let actor = self.actor(label);
        let pid = actor.pid;
        if actor.state == State::Idle && !is_suspended(pid) {
            let number = round.to_le_bytes();
            send_bytes(pid, Envelope::tagged(tags::PING), &number);
        } else {
            // The actor waits, and the event that it waits for may have come. Or it is ending; the code below waits for that.
            poll(|| is_at_rest(pid), || format!("no rest for a{label}"))?;
            if inspect::info(pid).is_some() {
                return Ok(());
            }
        }
        let deadline = deadline();
        loop {
            let actor = self.actor(label);
            if actor.pong == round {
                return Ok(());
            }
            if let Some(reason) = actor.down.take() {
                return self.ended(label, reason);
            }
            self.wait(deadline, || format!("no pong from a{label}"))?;
        }
    }

    /// Takes the messages that have come to the conductor meanwhile.
    fn collect(&mut self) -> Result<(), Hang> {
        while let Some(event) = receive_event(&Selector::Any, Some(Duration::ZERO)) {
            self.file(event);
        }
        for label in self.living() {
            let actor = self.actor(label);
            if let Some(answer) = actor.ack.take() {
                actor.state = State::Idle;
                actor.calls = false;
                let result = self.answered(label, &answer);
                self.woken.insert(label, result);
                self.moved = true;
            }
            if let Some(reason) = self.actor(label).down.take() {
                self.ended(label, reason)?;
            }
        }
        Ok(())
    }

    /// Waits for an event, and stores it with its actor.
    fn wait(&mut self, deadline: u64, what: impl FnOnce() -> String) -> Result<(), Hang> {
        let left = Duration::from_nanos(deadline.saturating_sub(now_ns()));
        match receive_event(&Selector::Any, Some(left)) {
            Some(event) => {
                self.file(event);
                Ok(())
            }
            None => Err(Hang(what())),
        }
    }

    fn file(&mut self, event: Event) {
        match event {
            Event::Message(message) => {
                let Some(label) = self.labels.get(&message.sender).copied() else {
                    return;
                };
                let actor = self.actor(label);
                match message.tag {
                    tags::ACK => {
                        actor.ack = Some(String::from_utf8_lossy(&message.payload).into_owned());
                    }
                    tags::BEGUN => actor.begun = true,
                    tags::PONG => {
                        let number = message.payload.first_chunk().copied().unwrap_or_default();
                        actor.pong = u64::from_le_bytes(number);
                    }
                    _ => {}
                }
            }
            Event::Down(signal) => {
                let mut actors = self.actors.values_mut();
                if let Some(actor) = actors.find(|actor| actor.monitor == signal.monitor) {
                    actor.down = Some(signal.reason);
                }
            }
            _ => {}
        }
    }

    /// Reports how steps went, and drains those actors to which events came in an undetermined order.
    fn report(
        &mut self,
        results: &[Option<(u32, Outcome)>],
        is_ordered: bool,
    ) -> Result<String, Hang> {
        let mut seen = String::new();
        for result in results {
            let said = match result {
                None => "skipped".to_owned(),
                Some((label, _)) if self.ended.contains_key(label) => "died".to_owned(),
                Some((_, Outcome::Said(result))) => self.shown(result),
                Some((_, Outcome::Blocked)) => "blocked".to_owned(),
                Some((_, Outcome::Died)) => "died".to_owned(),
            };
            let _ = writeln!(seen, "  => {said}");
        }
        let woken = std::mem::take(&mut self.woken);
        for (label, result) in &woken {
            if !self.ended.contains_key(label) {
                let _ = writeln!(seen, "  a{label} woke {}", self.shown(result));
            }
        }
        for (label, reason) in &self.ended {
            let _ = writeln!(seen, "  a{label} ended {}", reason_word(reason));
        }
        for label in self.living() {
            if let Some(events) = self.look(label, is_ordered, woken.contains_key(&label))? {
                let _ = writeln!(seen, "  a{label} drained {events}");
            }
        }
        Ok(seen)
    }

    /// Looks at an actor's mailbox, and empties it if the order in it is not determined.
    fn look(&mut self, label: u32, is_ordered: bool, woke: bool) -> Result<Option<String>, Hang> {
        let actor = self.actor(label);
        let Some(info) = inspect::info(actor.pid) else {
            return Ok(None);
        };
        let now = info.mailbox_events;
        let grown = now.saturating_sub(actor.queue);
        let dirty = actor.dirty || !is_ordered && (grown >= 2 || woke && grown >= 1);
        let can_act = actor.state == State::Idle && info.status != Status::Suspended;
        actor.queue = now;
        actor.dirty = dirty && !can_act;
        if !can_act || now == 0 || !dirty {
            return Ok(None);
        }
        send_bytes(actor.pid, Envelope::tagged(tags::COMMAND), b"drain");
        let deadline = deadline();
        loop {
            let actor = self.actor(label);
            if let Some(events) = actor.ack.take() {
                actor.queue = 0;
                return Ok(Some(self.shown(&events)));
            }
            self.wait(deadline, || format!("no drain of a{label}"))?;
        }
    }

    /// A text with the labels of actors and references in it. Sets leave out elements without a label.
    fn shown(&self, text: &str) -> String {
        let mut shown = String::new();
        for (index, part) in text.split(['{', '}']).enumerate() {
            if index % 2 == 0 {
                let words = part.split_inclusive([' ', ';']).map(|piece| {
                    let word = piece.trim_end_matches([' ', ';']);
                    self.label(word, "request", "?") + &piece[word.len()..]
                });
                shown.extend(words);
            } else {
                let words = part.split(',').map(|word| self.label(word, "", ""));
                let known = words.filter(|word| !word.is_empty()).collect::<Vec<_>>();
                let _ = write!(shown, "{{{}}}", known.join(","));
            }
        }
        shown
    }

    fn label(&self, word: &str, unknown_reference: &str, unknown_pid: &str) -> String {
        if let Some(pid) = pid(word) {
            let label = self.labels.get(&pid).map(|label| format!("a{label}"));
            return label.unwrap_or_else(|| unknown_pid.to_owned());
        }
        match reference(word) {
            Some(reference) => match self.reference_labels.get(&reference) {
                Some(label) => label.clone(),
                None => unknown_reference.to_owned(),
            },
            None => word.to_owned(),
        }
    }

    /// Ends all actors, and forgets what they have sent.
    fn finish(&mut self) -> Result<(), Hang> {
        for label in self.living() {
            kill(self.actor(label).pid);
        }
        for label in self.living() {
            self.ended(label, ExitReason::Killed)?;
        }
        while receive_event(&Selector::Any, Some(Duration::ZERO)).is_some() {}
        Ok(())
    }
}

fn is_suspended(pid: Pid) -> bool {
    inspect::info(pid).is_some_and(|info| info.status == Status::Suspended)
}

fn is_at_rest(pid: Pid) -> bool {
    inspect::info(pid).is_none_or(|info| matches!(info.status, Status::Waiting | Status::Suspended))
}

/// Whether a word is a letter and a number.
fn is_label(word: &str, letter: char) -> bool {
    word.strip_prefix(letter)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn actor_label(word: &str) -> Option<u32> {
    is_label(word, 'a')
        .then(|| word[1..].parse().ok())
        .flatten()
}

fn deadline() -> u64 {
    now_ns() + HANG.as_nanos() as u64
}

/// Polls for changes that send no message.
fn poll(holds: impl Fn() -> bool, what: impl FnOnce() -> String) -> Result<(), Hang> {
    let deadline = deadline();
    while !holds() {
        if now_ns() > deadline {
            return Err(Hang(what()));
        }
        yield_now();
    }
    Ok(())
}

//! How steps and results are written: reasons, selectors, events, and pids and references on their way.
//!
//! Between conductor and actors, a pid is a word `p:NODE:ID` and a reference `r:NODE:ID`. Only the conductor knows labels,
//! and it replaces these words by labels.

use std::time::Duration;

use atoll_guest::{
    Budget, Destination, Event, EventKinds, ExitReason, Message, Pid, Reference, Selector,
};

/// The delay called `short`.
const SHORT: Duration = Duration::from_millis(2);
/// The delay called `long`: longer than any run.
const LONG: Duration = Duration::from_secs(3600);

/// The word for a pid.
pub fn pid_word(pid: Pid) -> String {
    format!("p:{}:{}", pid.node, pid.id)
}

/// The word for a reference.
pub fn reference_word(reference: Reference) -> String {
    format!("r:{}:{}", reference.node, reference.id)
}

/// The pid that a word stands for.
pub fn pid(word: &str) -> Option<Pid> {
    let (node, id) = numbers(word.strip_prefix("p:")?)?;
    Some(Pid { node, id })
}

/// The reference that a word stands for.
pub fn reference(word: &str) -> Option<Reference> {
    let (node, id) = numbers(word.strip_prefix("r:")?)?;
    Some(Reference { node, id })
}

fn numbers(text: &str) -> Option<(u64, u64)> {
    let (node, id) = text.split_once(':')?;
    Some((node.parse().ok()?, id.parse().ok()?))
}

/// A process, or a name.
pub fn destination(word: &str) -> Destination {
    pid(word).map_or_else(|| Destination::from(word), Destination::from)
}

/// A timeout; `None` is for ever.
pub fn timeout(word: &str) -> Option<Duration> {
    match word {
        "short" => Some(SHORT),
        "long" => Some(LONG),
        _ => None,
    }
}

/// The selector of an actor: `any`, `tag:5`, `tags:5,6`, `kinds:exit,down`, or `ref:` and a reference.
pub fn selector(word: &str) -> Selector {
    let (kind, operand) = word.split_once(':').unwrap_or((word, ""));
    match kind {
        "tag" => Selector::Tag(number(operand)),
        "tags" => Selector::Tags(operand.split(',').map(number).collect()),
        "ref" => Selector::Reference(reference(operand).expect("the conductor sends a reference")),
        "kinds" => {
            let kinds = operand.split(',').map(event_kind);
            Selector::Kinds(kinds.fold(EventKinds::empty(), |all, kind| all | kind))
        }
        _ => Selector::Any,
    }
}

fn event_kind(word: &str) -> EventKinds {
    match word {
        "message" => EventKinds::MESSAGE,
        "exit" => EventKinds::EXIT,
        "down" => EventKinds::DOWN,
        "timer" => EventKinds::TIMER,
        "group" => EventKinds::GROUP,
        other => panic!("`{other}` is no kind of event"),
    }
}

/// A number of a scenario.
pub fn number(word: &str) -> u32 {
    word.parse()
        .unwrap_or_else(|_| panic!("`{word}` is no number"))
}

/// The reason that a word stands for.
pub fn reason(word: &str) -> ExitReason {
    let (kind, operand) = word.split_once(':').unwrap_or((word, ""));
    match kind {
        "normal" => ExitReason::Normal,
        "shutdown" if operand.is_empty() => ExitReason::Shutdown,
        "shutdown" => ExitReason::ShutdownWith(operand.as_bytes().to_vec()),
        "kill" => ExitReason::Kill,
        "killed" => ExitReason::Killed,
        "noproc" => ExitReason::Noproc,
        "noconnection" => ExitReason::Noconnection,
        "crash" => ExitReason::Trap("told".to_owned()),
        "exhausted" => ExitReason::Exhausted(budget(operand)),
        "exit-code" => ExitReason::ExitCode(number(operand)),
        "other" => ExitReason::Other(operand.as_bytes().to_vec()),
        other => panic!("`{other}` is no reason"),
    }
}

const BUDGETS: [(&str, Budget); 5] = [
    ("memory", Budget::Memory),
    ("mailbox", Budget::Mailbox),
    ("message", Budget::Message),
    ("reductions", Budget::Reductions),
    ("resources", Budget::Resources),
];

fn budget(word: &str) -> Budget {
    let found = BUDGETS.iter().find(|(name, _)| *name == word);
    found.unwrap_or_else(|| panic!("`{word}` is no budget")).1
}

/// A reason as a word. The text of a trap is not compared.
pub fn reason_word(reason: &ExitReason) -> String {
    let text = |term: &[u8]| String::from_utf8_lossy(term).into_owned();
    match reason {
        ExitReason::Normal => "normal".to_owned(),
        ExitReason::Shutdown => "shutdown".to_owned(),
        ExitReason::ShutdownWith(term) => format!("shutdown:{}", text(term)),
        ExitReason::Kill => "kill".to_owned(),
        ExitReason::Killed => "killed".to_owned(),
        ExitReason::Noproc => "noproc".to_owned(),
        ExitReason::Noconnection => "noconnection".to_owned(),
        ExitReason::Trap(_) => "crash".to_owned(),
        ExitReason::Exhausted(budget) => {
            let name = BUDGETS.iter().find(|(_, known)| known == budget);
            format!("exhausted:{}", name.map_or("?", |(name, _)| *name))
        }
        ExitReason::ExitCode(code) => format!("exit-code:{code}"),
        ExitReason::Other(term) => format!("other:{}", text(term)),
    }
}

/// An event, in words.
pub fn event_words(event: &Event) -> String {
    match event {
        Event::Message(message) => {
            let carried = message.reference.map(reference_word);
            format!(
                "message {} {}{}{}",
                pid_word(message.sender),
                content_words(message),
                if carried.is_some() { " " } else { "" },
                carried.unwrap_or_default()
            )
        }
        Event::Exit(signal) => {
            format!(
                "exit {} {}",
                pid_word(signal.sender),
                reason_word(&signal.reason)
            )
        }
        Event::Down(signal) => {
            let target = match &signal.target {
                Destination::Process(pid) => pid_word(*pid),
                Destination::Name(name) => name.clone(),
            };
            let monitor = reference_word(signal.monitor);
            format!("down {monitor} {target} {}", reason_word(&signal.reason))
        }
        Event::Timer(signal) => {
            format!("timer {} tag {}", reference_word(signal.timer), signal.tag)
        }
        Event::Group(signal) => {
            let (monitor, process) = (reference_word(signal.monitor), pid_word(signal.process));
            format!("group {monitor} {} {process}", signal.change)
        }
    }
}

/// The content of a message. The payload is a number, as text.
pub fn content_words(message: &Message) -> String {
    let number = String::from_utf8_lossy(&message.payload);
    format!("tag {} n {number}", message.tag)
}

/// Several events in one line.
pub fn events_words(events: &[Event]) -> String {
    if events.is_empty() {
        return "none".to_owned();
    }
    let words = events.iter().map(event_words).collect::<Vec<_>>();
    words.join("; ")
}

/// A set of words that the conductor shows by their labels.
pub fn set_words(words: impl IntoIterator<Item = String>) -> String {
    let words = words.into_iter().collect::<Vec<_>>();
    format!("{{{}}}", words.join(","))
}

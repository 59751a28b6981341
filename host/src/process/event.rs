//! The events that a mailbox holds, and the selectors by which a receiver asks for one.

use super::{ExitReason, Payload, Pid, Reference};
use smallvec::SmallVec;

/// How to read a payload: the contract's `format`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// Bytes whose meaning the sender and the receiver have agreed on.
    #[default]
    Raw,
    /// Erlang's external term format.
    ExternalTerm,
}

/// A message as a receiver sees it: the contract's `message`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The process that sent it.
    pub sender: Pid,
    /// A number that the sender chose, to select by.
    pub tag: u32,
    /// The reference of the request that this message is, or answers.
    pub reference: Option<Reference>,
    /// How to read the payload.
    pub format: Format,
    /// The bytes.
    pub payload: Payload,
    /// The message was sent with `reply`: its reference is that of a request that the receiver made.
    pub(crate) is_reply: bool,
}

/// A message before the host adds its sender.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outgoing {
    /// A number to select by.
    pub tag: u32,
    /// The reference of the request that this message is, or answers.
    pub reference: Option<Reference>,
    /// How to read the payload.
    pub format: Format,
    /// The bytes.
    pub payload: Payload,
}

impl Outgoing {
    /// A message of raw bytes with this tag.
    pub fn new(tag: u32, payload: &[u8]) -> Outgoing {
        Outgoing {
            tag,
            payload: payload.into(),
            ..Outgoing::default()
        }
    }

    /// Adds the reference of the request that this message is, or answers.
    pub fn reference(mut self, reference: Reference) -> Outgoing {
        self.reference = Some(reference);
        self
    }

    /// Bytes that the message will count for in a mailbox: [`Event::weight_bytes`].
    #[inline]
    pub(crate) fn weight_bytes(&self) -> u64 {
        (size_of::<Event>() + self.payload.len()) as u64
    }

    #[inline]
    pub(crate) fn from(self, sender: Pid) -> Message {
        Message {
            sender,
            tag: self.tag,
            reference: self.reference,
            format: self.format,
            payload: self.payload,
            is_reply: false,
        }
    }
}

/// The receiver of a signal: the contract's `destination`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// This process.
    Process(Pid),
    /// The process that is registered under this name when the signal is sent.
    Name(Box<str>),
}

impl Destination {
    /// Bytes that the destination holds beside itself.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Destination::Process(_) => 0,
            Destination::Name(name) => name.len(),
        }
    }
}

impl From<Pid> for Destination {
    fn from(pid: Pid) -> Destination {
        Destination::Process(pid)
    }
}

impl From<&str> for Destination {
    fn from(name: &str) -> Destination {
        Destination::Name(name.into())
    }
}

/// A change of a group's membership: the contract's `group-change`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupChange {
    /// A process joined.
    Joined,
    /// A process left, or ended.
    Left,
}

/// One entry of a mailbox: the contract's `event`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A message.
    Message(Message),
    /// A linked process ended, or a process sent an exit signal.
    Exit {
        /// The process that ended, or that sent the signal.
        sender: Pid,
        /// The exit reason.
        reason: ExitReason,
    },
    /// A monitored process ended, or did not exist.
    Down {
        /// The monitor that this event answers.
        monitor: Reference,
        /// The target as the caller of `monitor` named it: by pid or by name.
        target: Destination,
        /// The exit reason.
        reason: ExitReason,
    },
    /// A timer ran out.
    Timer {
        /// The timer.
        timer: Reference,
        /// The tag that the timer was started with.
        tag: u32,
    },
    /// A monitored group changed.
    Group {
        /// The monitor that this event answers.
        monitor: Reference,
        /// The change.
        change: GroupChange,
        /// The process that joined or left.
        process: Pid,
    },
}

impl Event {
    /// Bytes that the event counts for in a mailbox: its own size and that of everything it holds.
    #[inline]
    pub(crate) fn weight_bytes(&self) -> u64 {
        let extra = match self {
            Event::Message(message) => message.payload.len(),
            Event::Exit { reason, .. } => reason.len(),
            Event::Down { target, reason, .. } => target.bytes() + reason.len(),
            Event::Timer { .. } | Event::Group { .. } => 0,
        };
        (size_of::<Event>() + extra) as u64
    }

    /// Returns the message, and its payload in two words, if the event is a message whose payload fits into them.
    #[inline]
    pub(crate) fn short_message(&self) -> Option<(&Message, [u64; 2])> {
        match self {
            Event::Message(message) => Some((message, message.payload.short()?)),
            _ => None,
        }
    }

    pub(crate) fn kind(&self) -> Kinds {
        match self {
            Event::Message(_) => Kinds::MESSAGE,
            Event::Exit { .. } => Kinds::EXIT,
            Event::Down { .. } => Kinds::DOWN,
            Event::Timer { .. } => Kinds::TIMER,
            Event::Group { .. } => Kinds::GROUP,
        }
    }

    pub(crate) fn reference(&self) -> Option<Reference> {
        match self {
            Event::Message(message) => message.reference,
            Event::Exit { .. } => None,
            Event::Down { monitor, .. } => Some(*monitor),
            Event::Timer { timer, .. } => Some(*timer),
            Event::Group { monitor, .. } => Some(*monitor),
        }
    }
}

bitflags::bitflags! {
    /// A set of kinds of event: the contract's `event-kinds`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Kinds: u8 {
        /// Messages.
        const MESSAGE = 1;
        /// Exits of linked processes.
        const EXIT = 2;
        /// Ends of monitored processes.
        const DOWN = 4;
        /// Timers that ran out.
        const TIMER = 8;
        /// Changes of monitored groups.
        const GROUP = 16;
    }
}

/// The tags of a selector, of which few have more than four.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tags(SmallVec<[u32; 4]>);

impl FromIterator<u32> for Tags {
    fn from_iter<I: IntoIterator<Item = u32>>(tags: I) -> Tags {
        Tags(tags.into_iter().collect())
    }
}

/// The events that a receiver asks for: the contract's `selector`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selector {
    /// Any event.
    Any,
    /// A message with this tag.
    Tag(u32),
    /// A message with one of these tags, at most [`SELECTOR_TAGS_MAX`](super::SELECTOR_TAGS_MAX) of them.
    Tags(Tags),
    /// An event that carries this reference.
    Reference(Reference),
    /// The answer to the request with this reference: a message that was sent with `reply`, or the down-signal which
    /// says that no answer will come.
    Answer(Reference),
    /// An event of one of these kinds.
    Kinds(Kinds),
}

impl Selector {
    /// Does the event fit?
    #[inline(always)]
    pub fn fits(&self, event: &Event) -> bool {
        match self {
            Selector::Any => true,
            Selector::Tag(tag) => matches!(event, Event::Message(message) if message.tag == *tag),
            Selector::Tags(tags) => {
                matches!(event, Event::Message(message) if tags.0.contains(&message.tag))
            }
            Selector::Reference(reference) => event.reference() == Some(*reference),
            Selector::Answer(request) => {
                let is_answer = !matches!(event, Event::Message(message) if !message.is_reply);
                is_answer && event.reference() == Some(*request)
            }
            Selector::Kinds(kinds) => kinds.contains(event.kind()),
        }
    }
}

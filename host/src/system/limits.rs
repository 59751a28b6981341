//! The limits that a spawn may set for a process and for all that it spawns, as a user states them.

/// Limits for a process and for every process that it spawns, and those spawn, and so on: its tree. Each that is set
/// holds beside those of the trees around it: no tree gets more than the tree around it has left. Those that are not set
/// are those of the tree around it, and in the end of the system.
///
/// The first six hold for each process of the tree, the others for all of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that the linear memories and tables of one process may hold. A growth over it fails.
    pub memory: Option<u64>,
    /// Bytes that may wait in one mailbox.
    pub mailbox: Option<u64>,
    /// Messages that may wait in one mailbox.
    pub messages: Option<u64>,
    /// The fate of a message that a mailbox has no room for.
    pub overflow: Option<Overflow>,
    /// Links, monitors, aliases and timers that one process may hold together. A process that makes more ends.
    pub ties: Option<u32>,
    /// Files, sockets and other handles of WASI that one process may hold open.
    pub handles: Option<u32>,
    /// Bytes that the memories and tables of all processes may hold together, and their mailboxes beyond 64 KiB each.
    pub tree_memory: Option<u64>,
    /// Processes that may be alive. A spawn beyond it fails with `too-many-processes`.
    pub processes: Option<u32>,
    /// Reductions in all. When they are used up, each process ends with `exhausted(reductions)` before its next turn.
    pub reductions: Option<u64>,
    /// The share of the machine's cores, in thousandths of a core: 250 is a quarter. Processes of a tree that has used
    /// more wait until it may go on; none ends. At least 1.
    pub rate: Option<u32>,
    /// Bytes that may be written to the standard streams in all. A write beyond it fails with `ENOSPC`.
    pub output: Option<u64>,
    /// Bytes that may be written to the standard streams in a second. A write beyond it waits.
    pub output_rate: Option<u64>,
    /// Operations of WASI on files that may be under way. An operation beyond it waits. At least 1. It holds for
    /// core modules; components are not held back.
    pub blocking: Option<u32>,
}

impl Limits {
    /// No limit but those around.
    pub fn new() -> Limits {
        Limits::default()
    }

    /// At most so many bytes of memory for each process.
    pub fn memory(mut self, bytes: u64) -> Limits {
        self.memory = Some(bytes);
        self
    }

    /// At most this share of the machine for all processes together, in thousandths of a core.
    pub fn rate(mut self, thousandths: u32) -> Limits {
        self.rate = Some(thousandths);
        self
    }
}

impl Limits {
    /// The smaller one of each limit.
    pub(super) fn and(&self, other: &Limits) -> Limits {
        fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            }
        }
        Limits {
            memory: least(self.memory, other.memory),
            mailbox: least(self.mailbox, other.mailbox),
            messages: least(self.messages, other.messages),
            ties: least(self.ties, other.ties),
            handles: least(self.handles, other.handles),
            tree_memory: least(self.tree_memory, other.tree_memory),
            processes: least(self.processes, other.processes),
            reductions: least(self.reductions, other.reductions),
            rate: least(self.rate, other.rate),
            output: least(self.output, other.output),
            output_rate: least(self.output_rate, other.output_rate),
            blocking: least(self.blocking, other.blocking),
            overflow: other.overflow.or(self.overflow),
        }
    }
}

/// One limit of a spawn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Memory(u64),
    Mailbox(u64),
    Messages(u64),
    Overflow(Overflow),
    Ties(u32),
    Handles(u32),
    TreeMemory(u64),
    Processes(u32),
    Reductions(u64),
    Rate(u32),
    Output(u64),
    OutputRate(u64),
    Blocking(u32),
}

impl Limits {
    /// Sets one limit.
    pub(crate) fn set(&mut self, limit: Limit) {
        match limit {
            Limit::Memory(bytes) => self.memory = Some(bytes),
            Limit::Mailbox(bytes) => self.mailbox = Some(bytes),
            Limit::Messages(count) => self.messages = Some(count),
            Limit::Overflow(overflow) => self.overflow = Some(overflow),
            Limit::Ties(count) => self.ties = Some(count),
            Limit::Handles(count) => self.handles = Some(count),
            Limit::TreeMemory(bytes) => self.tree_memory = Some(bytes),
            Limit::Processes(count) => self.processes = Some(count),
            Limit::Reductions(count) => self.reductions = Some(count),
            Limit::Rate(thousandths) => self.rate = Some(thousandths),
            Limit::Output(bytes) => self.output = Some(bytes),
            Limit::OutputRate(bytes) => self.output_rate = Some(bytes),
            Limit::Blocking(count) => self.blocking = Some(count),
        }
    }
}

/// The fate of a message that a mailbox has no room for. Signals of links, monitors, timers and groups are never
/// dropped: a mailbox takes twice its limit of them, and then its process ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The receiver ends with `exhausted(mailbox)`. OTP: `max_heap_size` with messages on the heap.
    #[default]
    End,
    /// The message is dropped, and its sender told: `try-send` says `full`, and so does a `call`.
    Reject,
    /// The message is dropped.
    DropNewest,
    /// The oldest messages that the receiver has not looked at yet are dropped for it. If they don't make room, it is
    /// dropped itself.
    DropOldest,
}

/// The limits of each process of a domain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Each {
    pub(crate) memory_bytes_max: u64,
    pub(crate) mailbox_bytes_max: u64,
    /// [`u64::MAX`] if messages are not counted.
    pub(crate) messages_max: u64,
    pub(crate) overflow: Overflow,
    pub(crate) ties_max: usize,
    pub(crate) handles_max: usize,
}

impl Each {
    /// The limits of each process of a domain within this one.
    pub(super) fn within(&self, limits: &Limits) -> Each {
        fn least<T: Ord>(limit: Option<T>, around: T) -> T {
            match limit {
                Some(limit) => limit.min(around),
                None => around,
            }
        }
        Each {
            memory_bytes_max: least(limits.memory, self.memory_bytes_max),
            mailbox_bytes_max: least(limits.mailbox, self.mailbox_bytes_max),
            messages_max: least(limits.messages, self.messages_max),
            overflow: limits.overflow.unwrap_or(self.overflow),
            ties_max: least(limits.ties.map(|ties| ties as usize), self.ties_max),
            handles_max: least(
                limits.handles.map(|handles| handles as usize),
                self.handles_max,
            ),
        }
    }
}

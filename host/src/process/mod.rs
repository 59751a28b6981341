//! Processes as values: pids, events, exit reasons, selectors, the queue that a receiver searches, and the ties
//! between processes.
//!
//! This room implements OTP's rules for processes and messages. It never sees wasm, threads or clocks, so its tests
//! need none of them.

mod event;
mod exit;
mod id;
mod payload;
mod queue;
mod small_map;
mod ties;

pub use event::{
    Destination, Event, Format, GroupChange, Kinds, Message, Outgoing, Selector, Tags,
};
pub use exit::{Budget, ExitReason};
pub(crate) use id::{ID_BITS, Mint};
pub use id::{Pid, Reference};
pub(crate) use payload::Loan;
pub use payload::Payload;
pub(crate) use queue::Queue;
pub(crate) use small_map::SmallMap;
pub(crate) use ties::{AliasUse, LinkedBy, Monitored, Ties};

/// The longest list of tags that one selector may hold.
pub const SELECTOR_TAGS_MAX: usize = 64;

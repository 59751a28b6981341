//! Processes as values: identities, events, exit reasons, selection, the queue that a receiver searches.
//!
//! This room knows what OTP says about processes and messages. It never sees wasm, threads or clocks: whatever is
//! here can be tested without any of them.

mod event;
mod exit;
mod id;
mod queue;

pub use event::{Event, Format, Kinds, Message, Outgoing, Payload, Selector};
pub use exit::{Budget, ExitReason};
pub(crate) use id::{Cipher, ID_BITS};
pub use id::{Pid, Reference};
pub(crate) use queue::Queue;

/// The longest list of tags that one selector may hold.
pub const SELECTOR_TAGS_MAX: usize = 64;

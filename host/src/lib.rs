//! Atoll: Erlang-style processes for WebAssembly.
//!
//! Every process is a wasm instance with a memory of its own. Schedulers, one per core, preempt it after some thousand
//! reductions. Processes share nothing and exchange messages. A guest is written against the WIT package `atoll-rt:process` in
//! any language, or is a plain WASI program. This crate is the runtime as a library; the program `atoll` is built on it.
//!
//! A Rust program that embeds it builds a [`System`], loads programs, spawns their functions, exchanges messages with
//! them through a [`HostMailbox`], and watches them end. `examples/embed.rs` shows all of that.

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

mod abi;
mod broken;
mod contract;
mod engine;
mod process;
mod rewriter;
mod runtime;
mod scheduler;
mod sync;
mod system;
mod text;
mod wasi;

/// For Atoll's own tests of wasm itself: not part of the library's interface.
#[doc(hidden)]
pub mod harness {
    pub use crate::engine::harness::{Outcome, Scriptable, Step, Value};
    pub use crate::runtime::harness::Harness;
}

pub use abi::contract_module;
pub use engine::{Allocator, CompileKind, compile_apart};
pub use process::{
    Budget, Destination, Event, ExitReason, Format, GroupChange, Kinds, Message, Outgoing, Payload,
    Pid, Reference, SELECTOR_TAGS_MAX, Selector, Tags,
};
pub use rewriter::{LoadError, LoadErrorKind};
pub use runtime::{HostMailbox, Import, ImportStatus, Inspection, Path, System, Watch};
pub use scheduler::{Counters as SchedulerCounters, Priority};
pub use system::{
    Config, Counters, CrashHook, CrashReport, Error, Hibernation, Holdings, Limits, Overflow,
    ProcessInfo, Program, RegisterError, Rights, Spawn, SpawnError, Spent, Status, Tree, TreeInfo,
    TreeOptions,
};
pub use text::{NAME_SHOWN_BYTES_MAX, printable, printable_name};
pub use wasi::{
    Captured, DirGrant, Grants, NetGrant, Output, Peer, WasiError, WasiErrorKind, parse_env,
};

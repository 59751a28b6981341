//! Write Atoll processes in Rust.
//!
//! A process is an instance of a program, with a memory of its own. It spawns other processes, and they send each other
//! messages, which are copied. When one of them panics, it alone ends.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use atoll_guest::{Pid, call, println, receive, send, spawn};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! enum Request {
//!     Increment,
//!     Get,
//! }
//!
//! // What the first process runs.
//! atoll_guest::entry!(main);
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let counter: Pid = spawn(counter, 0)?;
//!     send(counter, &Request::Increment);
//!     let count: u64 = call(counter, &Request::Get, Duration::from_secs(1))?;
//!     println!("count is {count}");
//!     Ok(())
//! }
//!
//! // What the second one runs: any function of one argument that serde can carry.
//! fn counter(mut count: u64) -> Result<(), Box<dyn std::error::Error>> {
//!     loop {
//!         let request = receive()?;
//!         match request.message {
//!             Request::Increment => count += 1,
//!             Request::Get => request.reply(&count),
//!         }
//!     }
//! }
//! ```
//!
//! # A program's `Cargo.toml`
//!
//! A program is a library of `crate-type = ["cdylib"]`, built for `wasm32-unknown-unknown`, or for `wasm32-wasip1` if it
//! uses files, sockets or anything else of `std` that needs a system below it. Both export the same functions and run
//! the same way. Release builds want `panic = "abort"` (there is nothing to unwind to) and a stack smaller than the
//! default of 1 MiB, which spreads every process over more of the host's page tables: the link argument
//! `-zstack-size=62464`, given by a build script. Features:
//!
//! - `heap` (on by default): on `wasm32-unknown-unknown`, a heap that takes memory by pages of the host, and not by
//!   64 KiB, so that small processes stay small. Turn it off to have an allocator of your own.
//!
//! # Chapters
//!
//! | to do this | see | in Erlang |
//! |---|---|---|
//! | run a function as a process | [`spawn`], [`Spawn`], [`export!`] | `spawn/3`, `spawn_opt/4` |
//! | talk | [`send`], [`receive`], [`receive_timeout`], [`receive_event`] | `!`, `receive … after` |
//! | ask and wait for the answer | [`call`], [`Received::reply`] | `gen_server:call/3`, `reply/2` |
//! | wait | [`sleep`] | `timer:sleep/1` |
//! | know oneself and others, end | [`self_pid`], [`is_alive`], [`exit`], [`yield_now`] | `self/0`, `is_process_alive/1`, `exit/1`, `yield/0` |
//! | print, measure, read arguments | [`println!`], [`eprintln!`], [`time::now_ns`], [`args`] | `io:format/2`, `erlang:monotonic_time/1`, `init:get_plain_arguments/0` |
//!
//! Messages and arguments are encoded by [postcard](https://postcard.jamesmunns.com/wire-format), a documented format with
//! bindings in other languages. Programs that agree on something else use [`send_bytes`] and [`receive_event`].
//!
//! Import the macros by name: next to `use atoll_guest::*`, the compiler can't tell whose `println!` is meant.
//!
//! The crate compiles for the machine that you work on as well, so that a program's own logic can be tested there:
//! printing, time and arguments are then those of `std`, and whatever needs Atoll panics.

mod args;
mod bindings;
mod codec;
#[cfg(all(
    feature = "heap",
    target_family = "wasm",
    target_os = "unknown",
    not(target_feature = "atomics")
))]
mod heap;
mod mailbox;
mod output;
mod process;
mod spawn;
pub mod time;
mod values;
mod wasi;

pub use args::{arg_or, args};
pub use bindings::atoll::process::mailbox::{Envelope, EventKinds, Selector};
pub use bindings::atoll::process::types::{
    Budget, DownSignal, Event, ExitReason, ExitSignal, Format, Message, Pid, Reference, TimerSignal,
};
pub use codec::DecodeError;
pub use mailbox::{
    CallError, MESSAGE_TAG, REPLY_TAG, ReceiveError, Received, call, make_reference, receive,
    receive_event, receive_selected, receive_tagged, receive_timeout, send, send_bytes,
    send_tagged, sleep,
};
pub use process::{Outcome, argument_bytes, exit, is_alive, self_pid, yield_now};
pub use spawn::{Spawn, SpawnError, SpawnIn, spawn};

/// What the macros expand to. Not for direct use.
#[doc(hidden)]
pub mod internal {
    pub use crate::output::{STDERR, STDOUT, write};
    pub use crate::process::{enter, enter_with_argument};
}

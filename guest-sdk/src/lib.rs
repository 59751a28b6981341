//! Write Atoll processes in Rust.
//!
//! A process is an instance of a program, with a memory of its own. It can spawn other processes. Processes send each other
//! messages, which are copied. If a process panics, only that process ends.
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
//! // The first process runs this function.
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
//! // The second process runs this one: any function with one argument that serde can carry.
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
//! A program is a library of `crate-type = ["cdylib"]`, built for `wasm32-unknown-unknown`, or for `wasm32-wasip1` if it uses
//! files, sockets or anything else of `std` that needs an operating system. Both export the same functions and run the same way.
//! Release builds need `panic = "abort"` (nothing unwinds). They also need a stack smaller than the default of 1 MiB, which
//! spreads every process over more of the host's page tables. Set it by the link argument `-zstack-size=62464` in a build script.
//! Features:
//!
//! - `heap` (on by default): on `wasm32-unknown-unknown`, a heap that takes memory by pages of the host instead of 64 KiB, so
//!   that small processes stay small. Turn it off to use another allocator.
//!
//! Each process has a copy of the program's data. If a program is to have very many processes, avoid printing fractions (`{:.2}`
//! needs tables of 2 KiB) and strings by `{:?}` (2 KiB). An error made of a string by `into()` brings the latter along as well.
//! The errors of this crate don't: their `Debug` is their `Display`.
//!
//! # Chapters
//!
//! Each chapter has a program to run, in `guests/rust/`: `cargo xtask run counter`.
//!
//! | to do this | see | in Erlang | runs in |
//! |---|---|---|---|
//! | run a function as a process | [`spawn`], [`Spawn`], [`export!`] | `spawn/3`, `spawn_opt/4` | `ring`, `crowd` |
//! | talk | [`send`], [`receive`], [`receive_timeout`], [`receive_event`] | `!`, `receive … after` | `ping-pong` |
//! | ask and wait for the answer | [`call`], [`Received::reply`], [`reply_to`] | `gen_server:call/3`, `reply/2` | `counter`, `monitors` |
//! | ask and go on | [`send_request`], [`alias`], [`unalias`] | `gen_server:send_request/2`, `alias/1`, `unalias/1` | `requests` |
//! | end together | [`spawn_link`], [`link`], [`unlink`], [`trap_exit`], [`receive_exit`] | `link/1`, `process_flag(trap_exit, …)`, `{'EXIT', …}` | `links`, `supervisor` |
//! | end others | [`exit_process`], [`kill`] | `exit/2` | `links`, `supervisor` |
//! | bound what others use and may do | [`Spawn::max_rate`], [`Spawn::without`], [`kill_tree`], [`try_send`] | `max_heap_size`, `send/3` | `trees`, `neighbours` |
//! | watch others | [`spawn_monitor`], [`monitor`], [`demonitor`], [`receive_down`] | `monitor/2`, `demonitor/2`, `{'DOWN', …}` | `monitors` |
//! | find others by name | [`register`], [`whereis`], [`send_named`], [`Spawn::name`] | `register/2`, `whereis/1` | `names` |
//! | find others by what they do | [`groups`] | `pg` | `names` |
//! | do it in a while | [`send_after`], [`start_timer`], [`cancel_timer`], [`read_timer`] | `erlang:send_after/3`, `start_timer/3` | `timers` |
//! | wait | [`sleep`] | `timer:sleep/1` | `spinner` |
//! | go first, or last | [`set_priority`], [`Spawn::priority`], [`yield_now`] | `process_flag(priority, …)`, `yield/0` | `priorities` |
//! | know oneself and others, end | [`self_pid`], [`is_alive`], [`exit`] | `self/0`, `is_process_alive/1`, `exit/1` | `crasher` |
//! | look at processes, stop them | [`inspect`], [`debug`], [`hibernate`] | `process_info/1`, `suspend_process/1`, `hibernate/3` | `inspect` |
//! | print, measure, read arguments | [`println!`], [`eprintln!`], [`time::now_ns`], [`args`] | `io:format/2`, `erlang:monotonic_time/1`, `init:get_plain_arguments/0` | `echo`, `ring` |
//!
//! Messages and arguments are encoded by [postcard](https://postcard.jamesmunns.com/wire-format), a documented format with
//! bindings in other languages. Programs that agree on another format use [`send_bytes`], [`call_raw`], [`reply_raw`] and
//! [`receive_event`].
//!
//! A program imports only the functions that it calls, so its imports show what it can ask of the host.
//!
//! Import the macros by name: next to `use atoll_guest::*`, the compiler can't tell which `println!` is meant.
//!
//! The crate compiles for the development machine as well, so that a program's own logic can be tested there. Printing, time and
//! arguments then come from `std`, and everything that needs Atoll panics.

/// Makes an error's `Debug` its `Display`. An `Error` includes its `Debug`, used or not. A derived one would include the `Debug`
/// of all its fields, and Unicode's tables: data of which each process has a copy.
macro_rules! debug_as_display {
    ($error:ty) => {
        impl std::fmt::Debug for $error {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, formatter)
            }
        }
    };
}

mod args;
mod bindings;
mod calls;
mod codec;
pub mod debug;
pub mod groups;
#[cfg(all(
    feature = "heap",
    target_family = "wasm",
    target_os = "unknown",
    not(target_feature = "atomics")
))]
mod heap;
pub mod inspect;
mod names;
mod output;
mod process;
mod receiving;
mod sending;
mod signals;
mod spawn;
pub mod time;
mod timers;
mod trees;
mod values;
mod wasi;

pub use args::{ArgumentError, arg_or, args};
pub use bindings::atoll_rt::process::mailbox::{Delivery, Envelope, EventKinds, Selector};
pub use bindings::atoll_rt::process::types::{
    Budget, Destination, DownSignal, Event, ExitReason, ExitSignal, Format, GroupChange,
    GroupSignal, Message, Pid, Priority, Reference, TimerSignal,
};
pub use calls::{CallError, alias, call, call_raw, reply_raw, reply_to, send_request, unalias};
pub use codec::DecodeError;
pub use names::{RegisterError, register, registered, unregister, whereis};
pub use process::{
    Outcome, argument_bytes, exit, hibernate, is_alive, self_pid, set_priority, yield_now,
};
pub use receiving::{
    ReceiveError, Received, make_reference, receive, receive_event, receive_selected,
    receive_tagged, receive_timeout, sleep,
};
pub use sending::{
    MESSAGE_TAG, REPLY_TAG, send, send_bytes, send_named, send_named_bytes, send_named_tagged,
    send_tagged, try_send, try_send_bytes,
};
pub use signals::{
    demonitor, demonitor_flush, exit_process, kill, link, monitor, receive_down, receive_exit,
    trap_exit, unlink,
};
pub use spawn::{Spawn, SpawnError, SpawnIn, spawn, spawn_link, spawn_monitor};
pub use timers::{
    cancel_timer, read_timer, receive_timer, send_after, send_after_bytes, send_after_tagged,
    start_timer,
};
pub use trees::{Overflow, Right, kill_tree};

/// The macros expand to calls of these. Don't use them directly.
#[doc(hidden)]
pub mod internal {
    pub use crate::output::{STDERR, STDOUT, write};
    pub use crate::process::{enter, enter_with_argument};
}

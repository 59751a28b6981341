//! trees: what a process and all that it spawns may use and do.
//!
//! It shows each limit and each right of a spawn, from the side of the process that sets it.

mod limits;
mod rights;

use atoll_guest::{ExitReason, Reference, SpawnError, println, receive_down};
use std::error::Error;

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    limits::show()?;
    rights::show()
}

/// Prints a line, with what was found.
fn say(what: &str, found: impl std::fmt::Display) {
    println!("  {what}: {found}");
}

/// Why a monitored process has ended.
fn end(monitor: Reference) -> String {
    match receive_down(monitor, None) {
        Some(down) => reason(&down.reason),
        None => "no end".to_owned(),
    }
}

/// A reason in one word or two. Traps have long texts.
fn reason(reason: &ExitReason) -> String {
    match reason {
        ExitReason::Trap(_) => "trap".to_owned(),
        other => other.to_string(),
    }
}

/// The outcome of a spawn.
fn spawned<T>(result: &Result<T, SpawnError>) -> String {
    match result {
        Ok(_) => "spawned".to_owned(),
        Err(error) => error.to_string(),
    }
}

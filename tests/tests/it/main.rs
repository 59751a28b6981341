//! Tests of the program `atoll` from outside: guests go in as WAT, and the tests compare the output.
//!
//! Each file covers one theme. The crate's own small library builds the guests. No test knows the host's internals, waits for
//! a length of time, or asserts one.

// Helpers of the tests.
mod offenders;
mod wrap;

// Files that are programs, and the errors for other files.
mod command_line;
mod files;
mod inspect;

// Guests that are hostile or defective, and their neighbours.
mod attacks;
mod bulk;
mod fuzz;
mod hostile;
mod limits;
mod pointers;
mod realloc;
mod start;
mod wasi_pointers;

// The guarantees for processes.
mod calls;
mod components;
mod exits;
mod inspection;
mod loans;
mod mailbox;
mod monitors;
mod policies;
mod registry;
mod rewriting;
mod scheduling;
mod signals;
mod spawning;
mod stopping;
mod timers;
mod trees;

// The guarantees for WASI programs.
mod edges;
mod grants;
mod output;

// The guests of this repository.
mod guests;

/// A main with this body prints this, and ends well.
#[track_caller]
fn prints(body: &str, stdout: &str) {
    let guest = atoll_tests::guest(&format!("(func (export \"run\") {body})"));
    let outcome = atoll_tests::Atoll::run(guest).outcome();
    outcome.code(0).stdout(stdout).stderr("");
}

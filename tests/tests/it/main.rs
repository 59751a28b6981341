//! Tests of the program `atoll`, as its users have it: guests go in as WAT, what comes out is compared.
//!
//! One file is about one theme. Guests are put together by the crate's own small library; nothing here knows the host's
//! insides, waits for a length of time, or asserts one.

// What the tests are made of.
mod offenders;
mod wrap;

// What is a program, and what is said of files that are none.
mod command_line;
mod files;
mod inspect;

// Guests that mean harm, or were built by mistake, and their neighbours.
mod attacks;
mod bulk;
mod hostile;
mod limits;
mod pointers;
mod realloc;
mod start;
mod wasi_pointers;

// What processes may rely on.
mod calls;
mod components;
mod exits;
mod inspection;
mod loans;
mod mailbox;
mod monitors;
mod registry;
mod rewriting;
mod scheduling;
mod signals;
mod spawning;
mod stopping;
mod timers;

// What WASI programs may rely on.
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

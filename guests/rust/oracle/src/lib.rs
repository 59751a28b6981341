//! oracle: performs scenarios and prints what happened, for comparison with Erlang.
//!
//! `cargo xtask oracle` runs it. The language, and the form of what it prints, are described in
//! `tests/src/bin/atoll-oracle/scenario.rs`; `tests/oracle/oracle.erl` is this guest's twin on Erlang: the same parts,
//! under the same names.
//!
//! ```text
//!   conductor   reads a step, has an actor perform it, waits until everything that follows from it has happened, and
//!               says what it saw
//!   actor       performs one command after another; what others send it stays in its mailbox until a step takes it
//!   words       how steps and results are written
//! ```
//!
//! Argument: the file of scenarios (a sample).

mod actor;
mod conductor;
mod words;

use std::error::Error;

use atoll_guest::{arg_or, println};

atoll_guest::entry!(main);

/// The tags of messages between conductor and actors. The tags of scenarios are small numbers.
mod tags {
    /// From conductor to actor: perform this step.
    pub const COMMAND: u32 = 0xA701_0001;
    /// From conductor to actor: answer with a pong.
    pub const PING: u32 = 0xA701_0002;
    /// From actor to conductor: the result of a step, and below it a line for each label that the step has made.
    pub const ACK: u32 = 0xA701_0003;
    /// From actor to conductor: the actor is about to wait for an unknown time.
    pub const BEGUN: u32 = 0xA701_0004;
    /// From actor to conductor: the content of the ping.
    pub const PONG: u32 = 0xA701_0005;
}

fn main() -> Result<(), Box<dyn Error>> {
    let path: String = arg_or(0, "/oracle/sample.scenarios".to_owned())?;
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("scenario ") else {
            continue;
        };
        let trace = conductor::run(lines.by_ref().take_while(|line| *line != "end"));
        println!("scenario {name}\n{trace}end");
    }
    Ok(())
}

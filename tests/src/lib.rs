//! Shared code of the integration tests: it runs the program `atoll` as a subprocess, and makes guests of a few lines of WAT.
//!
//! [`Atoll`] runs the program and returns an [`Outcome`] to check. [`guest`] and [`bare_guest`] put a case's text after a prelude
//! of imports and small functions, so that a case contains only what it is about. [`tied_guest`] adds a second prelude for the
//! parts of the contract that tie processes together. Nothing here links the host, so the tests test what a user has. [`Fifo`]
//! and [`full_pipe`] are for cases about pipes. [`wasm`] changes modules, for the programs that verify the engine.
//!
//! The program is the one that `ATOLL_BIN` names, or else the release build of this repository. `ATOLL_GUESTS` names the folder
//! of built guests. A program that hangs is killed and fails its test.

mod outcome;
mod pipes;
mod prelude;
mod program;
mod ties;

pub mod wasm;

pub use outcome::{Crash, Outcome};
pub use pipes::{Fifo, full_pipe};
pub use prelude::{Guest, bare_guest, guest};
pub use program::{Atoll, Running, built_guest};
pub use rustix::process::Signal;
pub use ties::{TIE_FUNCTIONS, TIES, TOOLS, tied_guest};

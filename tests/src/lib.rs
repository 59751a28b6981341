//! What the integration tests share: the program `atoll` as a subprocess, and guests as a few lines of WAT.
//!
//! [`Atoll`] runs the program and gives an [`Outcome`] to check. [`guest`] and [`bare_guest`] put the text of a case
//! behind a prelude of imports and small functions, so that a case is no longer than what it is about; [`tied_guest`] has a
//! second one for the parts of the contract that tie processes together. Nothing here
//! links the host: what is tested is what a user has.
//! [`Fifo`] and [`full_pipe`] are for cases about what lies beyond a program's own output.
//!
//! The program is the one that `ATOLL_BIN` names, else the release build of this repository; built guests are found
//! by `ATOLL_GUESTS` in the same way. A program that hangs is killed and fails its test.

mod outcome;
mod pipes;
mod prelude;
mod program;
mod ties;

pub use outcome::{Crash, Outcome};
pub use pipes::{Fifo, full_pipe};
pub use prelude::{Guest, bare_guest, guest};
pub use program::{Atoll, Running, built_guest};
pub use rustix::process::Signal;
pub use ties::{TIE_FUNCTIONS, TIES, TOOLS, tied_guest};

//! Names for processes, so that others can reach them without knowing a pid. A process has at most one name.
//!
//! A process gets a name when it is spawned ([`Spawn::name`](crate::Spawn::name)) or later, and loses it when it ends. A name is
//! a [`Destination`](crate::Destination): functions that take one, such as [`call`](crate::call) and [`monitor`](crate::monitor),
//! take a `&str`. To send a message to a name, see [`send_named`](crate::send_named).

use std::error::Error;
use std::fmt;

use crate::Pid;
use crate::bindings::atoll_rt::process::names;

/// Gives a process a name of 1 to 255 bytes. OTP: `register/2`.
///
/// Errors: see [`RegisterError`].
pub fn register(name: &str, process: Pid) -> Result<(), RegisterError> {
    names::register(name, process).map_err(|error| match error {
        names::RegisterError::Taken => RegisterError::Taken,
        names::RegisterError::AlreadyNamed => RegisterError::AlreadyNamed,
        names::RegisterError::Noproc => RegisterError::Noproc,
        names::RegisterError::BadName => RegisterError::BadName,
    })
}

/// Removes a name, whichever process has it. Returns false if no process has it. OTP: `unregister/1`.
pub fn unregister(name: &str) -> bool {
    names::unregister(name)
}

/// The process with this name. OTP: `whereis/1`.
pub fn whereis(name: &str) -> Option<Pid> {
    names::whereis(name)
}

/// All registered names, sorted. OTP: `registered/0`.
pub fn registered() -> Vec<String> {
    names::registered()
}

/// The reason why a name was not registered.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// Another process has the name.
    Taken,
    /// The process has a name already.
    AlreadyNamed,
    /// There is no such process.
    Noproc,
    /// The name is empty, or longer than 255 bytes.
    BadName,
}

impl fmt::Display for RegisterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("can't register a name: ")?;
        formatter.write_str(match self {
            Self::Taken => "another process has it",
            Self::AlreadyNamed => "the process has one already",
            Self::Noproc => "there is no such process",
            Self::BadName => "it is empty, or longer than 255 bytes",
        })
    }
}

debug_as_display!(RegisterError);

impl Error for RegisterError {}

//! Names for processes, one for each at most, so that others need not be told a pid.
//!
//! A name can be given to a process when it is made ([`Spawn::name`](crate::Spawn::name)) or later, and is lost when the
//! process ends. A name is a [`Destination`](crate::Destination): what takes one, as [`call`](crate::call) and
//! [`monitor`](crate::monitor) do, takes a `&str`; to send a message to a name, see [`send_named`](crate::send_named).

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

/// Takes a name away, whosever it is. False if nobody had it. OTP: `unregister/1`.
pub fn unregister(name: &str) -> bool {
    names::unregister(name)
}

/// Who has this name. OTP: `whereis/1`.
pub fn whereis(name: &str) -> Option<Pid> {
    names::whereis(name)
}

/// All names that processes have, sorted. OTP: `registered/0`.
pub fn registered() -> Vec<String> {
    names::registered()
}

/// Why a name was not registered.
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

//! What the contract's functions do, whichever way they are called.

use crate::engine::state::Exit;
use crate::process::{Budget, ExitReason, Outgoing, Pid};
use crate::system::current::Current;
use crate::system::spawn::{Spawn, SpawnError, SpawnOptions, label};

/// Options that one spawn may list.
pub(super) const SPAWN_OPTIONS_MAX: usize = 32;

/// One option of a spawn, as far as it is carried out.
pub(super) enum SpawnOption {
    MaxMemory(u64),
    MaxMailbox(u64),
    Label(Box<str>),
    /// One that is not, by name.
    NotSupported(&'static str),
}

/// Checks a payload's size before it is copied out of the guest.
pub(super) fn check_message(current: &Current, bytes: usize) -> wasmtime::Result<()> {
    if bytes as u64 > current.shared.config.max_message {
        return Err(Exit::exhausted(Budget::Message));
    }
    Ok(())
}

/// `mailbox.send`.
#[inline]
pub(super) fn send(current: &mut Current, to: Pid, message: Outgoing) {
    current.send(to, message);
}

/// `spawning.spawn`.
pub(super) fn spawn(
    current: &mut Current,
    program: Option<&str>,
    function: &str,
    argument: Box<[u8]>,
    options: impl IntoIterator<Item = SpawnOption>,
) -> Result<Pid, SpawnError> {
    current.charge_spawn(argument.len());
    let program = match program {
        None => current.program.clone(),
        Some(name) => current
            .shared
            .program(name)
            .ok_or(SpawnError::UnknownProgram)?,
    };
    let mut given = SpawnOptions::default();
    for option in options {
        match option {
            SpawnOption::MaxMemory(bytes) => given.memory_bytes_max = Some(bytes),
            SpawnOption::MaxMailbox(bytes) => given.mailbox_bytes_max = Some(bytes),
            SpawnOption::Label(text) => given.label = Some(label(&text)),
            SpawnOption::NotSupported(name) => return Err(SpawnError::NotSupported(name.into())),
        }
    }
    let shared = current.shared.clone();
    shared.spawn(Spawn {
        program,
        function: function.to_owned(),
        argument,
        options: given,
    })
}

/// `lifecycle.exit`: what it ends with. A process that exits with `kill` is seen to have been killed, as in OTP.
pub(super) fn exit(reason: ExitReason) -> wasmtime::Error {
    Exit(match reason {
        ExitReason::Kill => ExitReason::Killed,
        reason => reason,
    })
    .into()
}

//! Stopping processes, as debuggers do. OTP: `erlang:suspend_process/1`, `erlang:resume_process/1`.
//!
//! Who may stop processes can stop any, so the host has to grant it: `atoll run --allow-debug`. Without the grant, a
//! program that uses a function of this module is not loaded.

use crate::Pid;
use crate::bindings::atoll_rt::process::debugging;

/// Suspends a process: when this has returned it gets no turn until it has been [resumed](resume) as often as it was
/// suspended, or whoever suspended it has ended. It can still be signalled, and killed.
/// OTP: `erlang:suspend_process/1`.
///
/// False if there is no such process, or it is the caller itself.
pub fn suspend(process: Pid) -> bool {
    debugging::suspend(process)
}

/// Undoes one suspension by the calling process. False if it had suspended no such process.
/// OTP: `erlang:resume_process/1`.
pub fn resume(process: Pid) -> bool {
    debugging::resume(process)
}

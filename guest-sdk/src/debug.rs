//! Suspending processes, as debuggers do. OTP: `erlang:suspend_process/1`, `erlang:resume_process/1`.
//!
//! A program with this grant can suspend any process, so the host must give it: `atoll run --allow-debug`. Without the grant, a
//! program that uses a function of this module is not loaded.

use crate::Pid;
use crate::bindings::atoll_rt::process::debugging;

/// Suspends a process. After this has returned, the process gets no turn until it has been [resumed](resume) as often as it was
/// suspended, or until the suspending process has ended. It can still get signals, and be killed. OTP:
/// `erlang:suspend_process/1`.
///
/// Returns false if there is no such process, or if it is the caller itself.
pub fn suspend(process: Pid) -> bool {
    debugging::suspend(process)
}

/// Undoes one suspension by the calling process. Returns false if the caller has not suspended the process. OTP:
/// `erlang:resume_process/1`.
pub fn resume(process: Pid) -> bool {
    debugging::resume(process)
}

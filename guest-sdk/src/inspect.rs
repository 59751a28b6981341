//! Looking at processes, as tools do. OTP: `process_info/1`, `processes/0`.
//!
//! Who may look sees every process of the system, so the host has to grant it: `atoll run --allow-inspect`. Without the
//! grant, a program that uses a function of this module is not loaded.

use crate::Pid;
use crate::bindings::atoll_rt::process::inspection;
pub use crate::bindings::atoll_rt::process::inspection::{ProcessInfo, Status, SystemCounters};

/// Every process that is alive, in no particular order. OTP: `processes/0`.
pub fn processes() -> Vec<Pid> {
    inspection::processes()
}

/// What a process is and does; `None` if it has ended. OTP: `process_info/1`.
pub fn info(process: Pid) -> Option<ProcessInfo> {
    inspection::info(process)
}

/// The system's counters. OTP: `erlang:system_info/1`, `statistics/1`.
pub fn counters() -> SystemCounters {
    inspection::counters()
}

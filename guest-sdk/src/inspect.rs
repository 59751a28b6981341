//! Inspecting processes, as tools do. OTP: `process_info/1`, `processes/0`.
//!
//! A program with this grant sees every process of the system, so the host must give it: `atoll run --allow-inspect`. Without the
//! grant, a program that uses a function of this module is not loaded.

use crate::Pid;
use crate::bindings::atoll_rt::process::inspection;
pub use crate::bindings::atoll_rt::process::inspection::{
    ProcessInfo, Spent, Status, SystemCounters, TreeInfo,
};

/// The pids of all live processes, in no particular order. OTP: `processes/0`.
pub fn processes() -> Vec<Pid> {
    inspection::processes()
}

/// The state of a process; `None` if it has ended. OTP: `process_info/1`.
pub fn info(process: Pid) -> Option<ProcessInfo> {
    inspection::info(process)
}

/// The system's counters. OTP: `erlang:system_info/1`, `statistics/1`.
pub fn counters() -> SystemCounters {
    inspection::counters()
}

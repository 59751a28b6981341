//! Signals of the operating system: which are heeded, and how a program ends by one.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A shell adds this to the number of the signal that ended a program.
const SIGNAL_EXIT_CODE: i32 = 128;

/// Ask for a system's end.
const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// From now on the signals that mean something to this program wait to be heeded. Those that its parent has it ignore stay
/// ignored: so a shell starts what is to run in the background.
pub fn heed() -> Option<Signals> {
    // A write beyond `ulimit -f` is an error of whoever writes, a guest for instance, and not the end of the program.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    let ignored = ignored_signals();
    let is_heeded = |signal: &i32| ignored & (1 << (signal - 1)) == 0;
    let heeded = ENDING.into_iter().filter(is_heeded).chain([SIGUSR1]);
    match Signals::new(heeded) {
        Ok(signals) => Some(signals),
        Err(error) => {
            tracing::warn!("signals can't be handled: {error}");
            None
        }
    }
}

/// The signals that are ignored from the start, as a mask.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// The end of the program by a signal, as a shell counts it. By SIGINT it ends as if that had not been heeded: so a shell knows
/// that it is to end the loop around it, too.
pub fn end_by(signal: i32) -> ExitCode {
    if signal == SIGINT {
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    exit_code(signal)
}

/// The exit code that stands for such an end.
pub fn exit_code(signal: i32) -> ExitCode {
    ExitCode::from((SIGNAL_EXIT_CODE + signal) as u8)
}

/// Ends the program by a signal now, as if it had not been heeded.
pub fn end_at_once_by(signal: i32) {
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}

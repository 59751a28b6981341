//! Signals of the operating system: which ones the program handles, and how a signal ends it.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// When a signal ends a program, a shell adds this number to the signal's.
const SIGNAL_EXIT_CODE: i32 = 128;

/// These signals ask for the system's end.
const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Starts to handle the signals that this program knows. Signals that its parent ignores stay ignored: shells start background
/// programs that way.
pub fn handle() -> Option<Signals> {
    // A write beyond `ulimit -f` must fail for its writer, such as a guest, and not end the program.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    let ignored = ignored_signals();
    let is_handled = |signal: &i32| ignored & (1 << (signal - 1)) == 0;
    let handled = ENDING.into_iter().filter(is_handled).chain([SIGUSR1]);
    match Signals::new(handled) {
        Ok(signals) => Some(signals),
        Err(error) => {
            tracing::warn!("signals can't be handled: {error}");
            None
        }
    }
}

/// The signals that are ignored at the start, as a bit mask.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Ends the program by a signal, as a shell counts it. For SIGINT it raises the signal with its default action, so that a shell
/// ends the loop around the program, too.
pub fn end_by(signal: i32) -> ExitCode {
    if signal == SIGINT {
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    exit_code(signal)
}

/// The exit code for an end by this signal.
pub fn exit_code(signal: i32) -> ExitCode {
    ExitCode::from((SIGNAL_EXIT_CODE + signal) as u8)
}

/// Ends the program by a signal now, with the signal's default action.
pub fn end_at_once_by(signal: i32) {
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}

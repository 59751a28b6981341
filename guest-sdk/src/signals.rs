//! Ending and watching other processes: exit signals, links and monitors.
//!
//! ```text
//!                     meaning                      arrives as
//! link(other)         when one of the two ends,    an exit signal: ends the process, or, if it traps exits, an event
//!                     the other ends, too          (receive_exit)
//! monitor(other)      tell me when it ends         a down signal: an event, once (receive_down)
//! exit_process(p, r)  end, please                  an exit signal to p
//! kill(p)             end                          the end of p
//! ```

use std::time::Duration;

use crate::bindings::atoll_rt::process::signals;
use crate::receiving::receive_signal;
use crate::{
    Destination, DownSignal, Event, EventKinds, ExitReason, ExitSignal, Pid, Reference, Selector,
};

/// Sends an exit signal. Does not tell whether the process exists. OTP: `exit/2`.
///
/// [`ExitReason::Kill`] always ends the process, with [`ExitReason::Killed`]. Any other reason becomes an exit event if the
/// process [traps exits](trap_exit). If it does not, `Normal` has no effect (unless the process is the caller itself), and any
/// other reason ends it.
pub fn exit_process(process: Pid, reason: ExitReason) {
    signals::exit_process(process, &reason);
}

/// Ends a process at once, even if it traps exits, with [`ExitReason::Killed`]. OTP: `exit(Pid, kill)`.
pub fn kill(process: Pid) {
    exit_process(process, ExitReason::Kill);
}

/// Sets whether exit signals to the calling process become events in its mailbox instead of ending it. Returns the previous
/// setting. A process begins with `false`. OTP: `process_flag(trap_exit, …)`.
pub fn trap_exit(trap: bool) -> bool {
    signals::trap_exit(trap)
}

/// Links the calling process and another one: when one ends, the other gets an exit signal with its reason. OTP: `link/1`.
///
/// Linking twice is the same as linking once, and a link to oneself has no effect. If there is no such process, the caller gets
/// an exit signal with [`ExitReason::Noproc`]. To link a process while spawning it, use [`spawn_link`](crate::spawn_link).
pub fn link(process: Pid) {
    signals::link(process);
}

/// Removes the link to a process. After this has returned, no exit signal arrives through the link. One that has already arrived
/// stays in the mailbox. OTP: `unlink/1`.
pub fn unlink(process: Pid) {
    signals::unlink(process);
}

/// Monitors a process, by its pid or its name. When the process ends, one down signal with the returned reference arrives. OTP:
/// `monitor/2`.
///
/// If there is no such process, the down signal arrives at once, with [`ExitReason::Noproc`]. A name stands for the process that
/// has it now. A process may be monitored several times; monitoring oneself has no effect. To monitor a process while spawning
/// it, use [`spawn_monitor`](crate::spawn_monitor).
pub fn monitor(target: impl Into<Destination>) -> Reference {
    signals::monitor(&target.into())
}

/// Ends a monitor of the calling process. After this has returned, the monitor sends no down signal. One that has already arrived
/// stays in the mailbox. OTP: `demonitor/2` with `info`.
///
/// Returns true if the monitor was active, so that no down signal has arrived or will arrive.
pub fn demonitor(monitor: Reference) -> bool {
    signals::demonitor(monitor, false)
}

/// The same, but also removes a down signal that has already arrived from the mailbox. OTP: `demonitor/2` with `flush` and
/// `info`.
pub fn demonitor_flush(monitor: Reference) -> bool {
    signals::demonitor(monitor, true)
}

/// Takes the first exit signal from the mailbox. Waits at most for the timeout, if there is one. Only a process that [traps
/// exits](trap_exit) gets any. OTP: `receive {'EXIT', From, Reason} -> … end`.
pub fn receive_exit(timeout: Option<Duration>) -> Option<ExitSignal> {
    receive_signal(
        &Selector::Kinds(EventKinds::EXIT),
        timeout,
        |event| match event {
            Event::Exit(signal) => Some(signal),
            _ => None,
        },
    )
}

/// Takes the down signal of this monitor from the mailbox. Waits at most for the timeout, if there is one. OTP: `receive {'DOWN',
/// Monitor, process, _, Reason} -> … end`.
///
/// Drops messages that were sent with the monitor's reference.
pub fn receive_down(monitor: Reference, timeout: Option<Duration>) -> Option<DownSignal> {
    receive_signal(
        &Selector::Reference(monitor),
        timeout,
        |event| match event {
            Event::Down(signal) => Some(signal),
            _ => None,
        },
    )
}

//! Ending other processes and watching them: exit signals, links and monitors.
//!
//! ```text
//!                     says                         arrives as
//! link(other)         if one of us ends, so does   an exit signal: ends this process, or, if it traps exits, an event
//!                     the other                    (receive_exit)
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

/// Sends an exit signal. Never says whether the process was there. OTP: `exit/2`.
///
/// [`ExitReason::Kill`] ends the process with [`ExitReason::Killed`], whatever it does. Any other reason is an exit
/// event to a process that [traps exits](trap_exit). To one that does not, `Normal` means nothing, unless it is the
/// caller itself, and everything else ends it with that reason.
pub fn exit_process(process: Pid, reason: ExitReason) {
    signals::exit_process(process, &reason);
}

/// Ends a process at once, whether it traps exits or not: its reason is [`ExitReason::Killed`]. OTP: `exit(Pid, kill)`.
pub fn kill(process: Pid) {
    exit_process(process, ExitReason::Kill);
}

/// Says whether exit signals to the calling process become events in its mailbox, instead of ending it; returns what was
/// set before. A process begins with `false`. OTP: `process_flag(trap_exit, …)`.
pub fn trap_exit(trap: bool) -> bool {
    signals::trap_exit(trap)
}

/// Links the calling process and another one: when one ends, the other is sent an exit signal with its reason.
/// OTP: `link/1`.
///
/// Once is as good as twice, and with oneself it means nothing. If there is no such process, the caller is sent an exit
/// signal with [`ExitReason::Noproc`]. To link a process that is only being made: [`spawn_link`](crate::spawn_link).
pub fn link(process: Pid) {
    signals::link(process);
}

/// Removes the link to a process. When this has returned, no exit signal through it will arrive; one that has arrived
/// stays in the mailbox. OTP: `unlink/1`.
pub fn unlink(process: Pid) {
    signals::unlink(process);
}

/// Monitors a process, by its pid or its name: when it ends, a down signal with the reference arrives, once.
/// OTP: `monitor/2`.
///
/// If there is no such process, the down signal arrives at once, with [`ExitReason::Noproc`]. A name means the process
/// that has it now. A process may be monitored several times; of oneself it means nothing. To monitor a process that is
/// only being made: [`spawn_monitor`](crate::spawn_monitor).
pub fn monitor(target: impl Into<Destination>) -> Reference {
    signals::monitor(&target.into())
}

/// Ends a monitor of the calling process: when this has returned, no down signal of it will arrive. One that has arrived
/// stays in the mailbox. OTP: `demonitor/2` with `info`.
///
/// True if the monitor was still there, so that there was and will be no down signal.
pub fn demonitor(monitor: Reference) -> bool {
    signals::demonitor(monitor, false)
}

/// The same, and a down signal that has arrived and was not received is removed from the mailbox, too.
/// OTP: `demonitor/2` with `flush` and `info`.
pub fn demonitor_flush(monitor: Reference) -> bool {
    signals::demonitor(monitor, true)
}

/// Takes the first exit signal from the mailbox, waiting no longer than the timeout if there is one. Only a process that
/// [traps exits](trap_exit) gets any. OTP: `receive {'EXIT', From, Reason} -> … end`.
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

/// Takes the down signal of this monitor from the mailbox, waiting no longer than the timeout if there is one.
/// OTP: `receive {'DOWN', Monitor, process, _, Reason} -> … end`.
///
/// A message that somebody sent with the monitor's reference is thrown away.
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

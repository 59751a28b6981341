//! A running system, from its first process's start to the exit code: signals, the orderly end, reports.
//!
//! ```text
//!   first process ends ─┐                      ┌─► all have ended      ─┐
//!   SIGINT, SIGTERM ────┴─► the orderly end ───┼─► its time is over    ─┼─► the rest is killed ─► output, exit code
//!   SIGUSR1 ─► a table of processes            └─► a second signal     ─┘
//! ```
//!
//! The program never waits for outsiders without limit. After a signal, it waits for readers of its output no longer than the
//! grace time, and after a second signal not at all. Losing output is a failure. Then the program ends with an exit code, because
//! a death by the signal would hide the loss.

use crate::{Failure, signals, table};
use atoll_rt::{ExitReason, Output, System, Tree, Watch};
use signal_hook::consts::SIGUSR1;
use signal_hook::iterator::Signals;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// The time that readers get to take the last output after a signal has ended the program.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// A system with its first process.
pub struct Lifetime<'a> {
    pub system: &'a System,
    pub output: &'a Output,
    pub grace: Duration,
    /// Print statistics at the end.
    pub stats: bool,
    /// The first process's tree, if that has a budget.
    pub tree: Option<Tree>,
}

/// An event during a run.
enum RunEvent {
    /// The first process has ended.
    Ended(ExitReason),
    Signal(i32),
    /// The orderly end is over: all processes have ended, or the grace time has.
    Stopped,
    /// All output is written.
    Written,
}

/// Collects the events of a run, in the order in which they happen.
pub struct RunEvents {
    tell: Sender<RunEvent>,
    receiver: Receiver<RunEvent>,
    /// Set while the first process runs. Then signals ask for an orderly end instead of ending the program.
    is_running: Arc<AtomicBool>,
}

impl RunEvents {
    /// Handles signals from now on.
    pub fn new(handled: Option<Signals>) -> Result<RunEvents, Failure> {
        let (tell, receiver) = channel();
        let events = RunEvents {
            tell,
            receiver,
            is_running: Arc::default(),
        };
        if let Some(mut handled) = handled {
            let is_running = events.is_running.clone();
            events.in_background(move |tell| {
                for signal in handled.forever() {
                    if is_running.load(Ordering::Acquire) {
                        if tell.send(RunEvent::Signal(signal)).is_err() {
                            break;
                        }
                    } else if signal != SIGUSR1 {
                        // No process runs yet, so the program ends at once.
                        signals::end_at_once_by(signal);
                    }
                }
            })?;
        }
        Ok(events)
    }

    /// Call this before others can see the first process run. A signal that comes later must lead to an orderly end.
    pub fn begin(&self) {
        self.is_running.store(true, Ordering::Release);
    }

    /// Runs `work` on a thread of its own. The work can send events.
    fn in_background(
        &self,
        work: impl FnOnce(Sender<RunEvent>) + Send + 'static,
    ) -> Result<(), Failure> {
        let tell = self.tell.clone();
        let thread = std::thread::Builder::new().spawn(move || work(tell));
        thread.map(drop).map_err(|error| {
            Failure::new(format!("no thread can be started: {error}"))
                .hint("raise the limit of threads (`ulimit -u`), or end other programs")
        })
    }
}

impl Lifetime<'_> {
    /// Waits for the end of the system, and returns the exit code.
    pub fn last(&self, first: Watch, events: &RunEvents) -> Result<ExitCode, Failure> {
        events.in_background(move |tell| {
            // After a second signal the receiver is gone.
            let _ = tell.send(RunEvent::Ended(first.wait()));
        })?;
        let mut reason = None;
        let mut signalled: Option<(i32, Instant)> = None;
        let mut is_stopping = false;
        let mut is_urgent = false;
        while let Ok(event) = events.receiver.recv() {
            match event {
                RunEvent::Signal(SIGUSR1) => self.output.report(&table::busiest(self.system)),
                RunEvent::Signal(_) if signalled.is_some() => {
                    is_urgent = true;
                    break;
                }
                RunEvent::Signal(signal) => signalled = Some((signal, Instant::now())),
                RunEvent::Ended(ended) => {
                    if self.stats && signalled.is_none() {
                        self.tell_who_is_left();
                    }
                    reason = Some(ended);
                }
                RunEvent::Stopped => break,
                RunEvent::Written => {}
            }
            let has_to_stop = signalled.is_some() || reason.is_some();
            if has_to_stop && !std::mem::replace(&mut is_stopping, true) {
                let (system, grace) = (self.system.clone(), self.grace);
                events.in_background(move |tell| {
                    system.stop(grace);
                    let _ = tell.send(RunEvent::Stopped);
                })?;
            }
        }
        let was_signalled = signalled.is_some();
        self.tell_the_end(reason.as_ref(), was_signalled);
        let wait = if is_urgent {
            Duration::ZERO
        } else {
            self.grace
        };
        let is_written = self.write_output(events, &mut signalled, wait)?;
        if !is_written && let Some((signal, _)) = signalled {
            let text = "nobody takes the last output, which is lost";
            Failure::new(text).print();
            return Ok(signals::exit_code(signal));
        }
        match (signalled, &reason) {
            (Some((signal, _)), _) if was_signalled => Ok(signals::end_by(signal)),
            (_, Some(reason)) => match self.output.failure() {
                None => match signalled {
                    // All processes had ended; the signal has only ended the writing of their output.
                    Some((signal, _)) => Ok(signals::end_by(signal)),
                    None => Ok(exit_code(reason)),
                },
                Some((stream, error)) => {
                    Failure::new(format!("{stream} can't be written: {error}")).print();
                    Ok(ExitCode::from(exit_number(reason).max(1)))
                }
            },
            (_, None) => Ok(ExitCode::FAILURE),
        }
    }

    /// Kills the remaining processes and prints the reports.
    fn tell_the_end(&self, reason: Option<&ExitReason>, was_signalled: bool) {
        let killed = self.system.halt();
        if killed > 0 {
            self.output.report(&format!(
                "atoll: {killed} processes did not end in time and were killed"
            ));
        }
        if let Some(reason) = reason
            && !was_signalled
            && !reason.is_orderly()
            && !reason.is_crash()
            && !matches!(reason, ExitReason::ExitCode(_))
        {
            self.output.report(&format!("atoll: main ended: {reason}"));
        }
        if self.stats {
            let tree = self.tree.as_ref().map(Tree::info);
            self.output
                .report(&table::stats(self.system, tree.as_ref()));
        }
    }

    /// Waits until all output is written, and returns whether it is. After a signal, it waits no longer than `wait`, or until the
    /// next signal.
    fn write_output(
        &self,
        events: &RunEvents,
        signalled: &mut Option<(i32, Instant)>,
        wait: Duration,
    ) -> Result<bool, Failure> {
        let output = self.output.clone();
        events.in_background(move |tell| {
            output.flush();
            let _ = tell.send(RunEvent::Written);
        })?;
        loop {
            let event = match *signalled {
                None => events.receiver.recv().ok(),
                Some((_, at)) => {
                    let left = wait.saturating_sub(at.elapsed()).max(LAST_WAIT);
                    events.receiver.recv_timeout(left).ok()
                }
            };
            match event {
                None => return Ok(false),
                Some(RunEvent::Written) => return Ok(true),
                Some(RunEvent::Signal(SIGUSR1) | RunEvent::Ended(_) | RunEvent::Stopped) => {}
                Some(RunEvent::Signal(signal)) => match signalled {
                    None => *signalled = Some((signal, Instant::now())),
                    Some(_) => return Ok(false),
                },
            }
        }
    }

    fn tell_who_is_left(&self) {
        if self.system.holdings().processes > 0 {
            self.output.report(&table::left(self.system));
        }
    }
}

fn exit_code(reason: &ExitReason) -> ExitCode {
    ExitCode::from(exit_number(reason))
}

fn exit_number(reason: &ExitReason) -> u8 {
    match reason {
        ExitReason::Normal | ExitReason::Shutdown | ExitReason::ShutdownWith(_) => 0,
        // The operating system keeps only eight bits. They must not turn a failure into a success.
        ExitReason::ExitCode(code) => ((code & 0xff) as u8).max(u8::from(code & 0xff == 0)),
        ExitReason::Trap(_) => 134,
        ExitReason::Kill | ExitReason::Killed => 137,
        ExitReason::Exhausted(_) => 138,
        _ => 1,
    }
}

//! A running system, from its first process's start to its end: signals, the orderly end, what is told of it.
//!
//! ```text
//!   first process ends ─┐                      ┌─► all have ended      ─┐
//!   SIGINT, SIGTERM ────┴─► the orderly end ───┼─► its time is over    ─┼─► the rest is killed ─► output, exit code
//!   SIGUSR1 ─► a table of processes            └─► a second signal     ─┘
//! ```
//!
//! No end waits for a party outside: when a signal has come, output that nobody takes is waited for no longer than the grace
//! time, and not at all after a second one. Output that is lost so is a failure, which an exit code tells and a death by the signal would
//! not.

use crate::{Failure, signals, table};
use atoll_rt::{ExitReason, Output, System, Watch};
use signal_hook::consts::SIGUSR1;
use signal_hook::iterator::Signals;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Atoll gives a reader so long to take the last output of a program that a signal ends.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// A system with its first process.
pub struct Lifetime<'a> {
    pub system: &'a System,
    pub output: &'a Output,
    pub grace: Duration,
    /// Print statistics at the end.
    pub stats: bool,
}

/// What may happen meanwhile.
enum Happening {
    /// The first process has ended.
    Ended(ExitReason),
    Signal(i32),
    /// The orderly end is over: all have ended, or their time has.
    Stopped,
    /// All output is written.
    Written,
}

/// Gathers each [`Happening`] of a run, in the order in which they come.
pub struct Happenings {
    tell: Sender<Happening>,
    receiver: Receiver<Happening>,
    /// The first process runs: signals ask for an orderly end, instead of ending the program.
    is_running: Arc<AtomicBool>,
}

impl Happenings {
    /// Heeds signals from now on.
    pub fn new(heeded: Option<Signals>) -> Result<Happenings, Failure> {
        let (tell, receiver) = channel();
        let happenings = Happenings {
            tell,
            receiver,
            is_running: Arc::default(),
        };
        if let Some(mut heeded) = heeded {
            let is_running = happenings.is_running.clone();
            happenings.in_background(move |tell| {
                for signal in heeded.forever() {
                    if is_running.load(Ordering::Acquire) {
                        if tell.send(Happening::Signal(signal)).is_err() {
                            break;
                        }
                    } else if signal != SIGUSR1 {
                        // Nothing runs yet that would have to end in order.
                        signals::end_at_once_by(signal);
                    }
                }
            })?;
        }
        Ok(happenings)
    }

    /// To be called before the first process can be seen to run: a signal that came later than that must not end the program
    /// as it would end any other.
    pub fn begin(&self) {
        self.is_running.store(true, Ordering::Release);
    }

    /// Does something on a thread of its own, which may tell what happens there.
    fn in_background(
        &self,
        work: impl FnOnce(Sender<Happening>) + Send + 'static,
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
    /// Waits for the end of the system, and says how it ended.
    pub fn last(&self, first: Watch, happenings: &Happenings) -> Result<ExitCode, Failure> {
        happenings.in_background(move |tell| {
            // Nobody listens any more when a second signal has come.
            let _ = tell.send(Happening::Ended(first.wait()));
        })?;
        let mut reason = None;
        let mut signalled: Option<(i32, Instant)> = None;
        let mut is_stopping = false;
        let mut is_urgent = false;
        while let Ok(happening) = happenings.receiver.recv() {
            match happening {
                Happening::Signal(SIGUSR1) => self.output.report(&table::busiest(self.system)),
                Happening::Signal(_) if signalled.is_some() => {
                    is_urgent = true;
                    break;
                }
                Happening::Signal(signal) => signalled = Some((signal, Instant::now())),
                Happening::Ended(ended) => {
                    if self.stats && signalled.is_none() {
                        self.tell_who_is_left();
                    }
                    reason = Some(ended);
                }
                Happening::Stopped => break,
                Happening::Written => {}
            }
            let has_to_stop = signalled.is_some() || reason.is_some();
            if has_to_stop && !std::mem::replace(&mut is_stopping, true) {
                let (system, grace) = (self.system.clone(), self.grace);
                happenings.in_background(move |tell| {
                    system.stop(grace);
                    let _ = tell.send(Happening::Stopped);
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
        let is_written = self.write_output(happenings, &mut signalled, wait)?;
        if !is_written && let Some((signal, _)) = signalled {
            let text = "nobody takes the last output, which is lost";
            Failure::new(text).print();
            return Ok(signals::exit_code(signal));
        }
        match (signalled, &reason) {
            (Some((signal, _)), _) if was_signalled => Ok(signals::end_by(signal)),
            (_, Some(reason)) => match self.output.failure() {
                None => match signalled {
                    // The program had ended; the signal has ended the writing of its output.
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

    /// Kills what is left, and tells what is to be told.
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
            self.output.report(&table::stats(self.system));
        }
    }

    /// Waits until all output is written, and says whether it is. Once a signal has come, it waits no longer than so long after it,
    /// or until the next.
    fn write_output(
        &self,
        happenings: &Happenings,
        signalled: &mut Option<(i32, Instant)>,
        wait: Duration,
    ) -> Result<bool, Failure> {
        let output = self.output.clone();
        happenings.in_background(move |tell| {
            output.flush();
            let _ = tell.send(Happening::Written);
        })?;
        loop {
            let happening = match *signalled {
                None => happenings.receiver.recv().ok(),
                Some((_, at)) => {
                    let left = wait.saturating_sub(at.elapsed()).max(LAST_WAIT);
                    happenings.receiver.recv_timeout(left).ok()
                }
            };
            match happening {
                None => return Ok(false),
                Some(Happening::Written) => return Ok(true),
                Some(Happening::Signal(SIGUSR1) | Happening::Ended(_) | Happening::Stopped) => {}
                Some(Happening::Signal(signal)) => match signalled {
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
        // The operating system keeps eight bits; a failure must not become a success by that.
        ExitReason::ExitCode(code) => ((code & 0xff) as u8).max(u8::from(code & 0xff == 0)),
        ExitReason::Trap(_) => 134,
        ExitReason::Kill | ExitReason::Killed => 137,
        ExitReason::Exhausted(_) => 138,
        _ => 1,
    }
}

//! A running system, from its first process's start to an exit code: signals, the orderly end, what is told of it.
//!
//! ```text
//!   first process ends ─┐                      ┌─► all have ended      ─┐
//!   SIGINT, SIGTERM ────┴─► the orderly end ───┼─► its time is over    ─┼─► the rest is killed ─► statistics, exit code
//!   SIGUSR1 ─► a table of processes            └─► a second signal     ─┘
//! ```

use crate::table;
use atoll::{ExitReason, Output, System, Watch};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// What a shell adds to the number of the signal that ended a program.
const SIGNAL_EXIT_CODE: i32 = 128;

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
}

/// From now on signals wait to be heeded. To be called before the first process can be seen to run: a signal that came
/// later than that must not end the program as it would end any other.
pub fn heed_signals() -> Option<Signals> {
    match Signals::new([SIGINT, SIGTERM, SIGUSR1]) {
        Ok(signals) => Some(signals),
        Err(error) => {
            tracing::warn!("signals can't be handled: {error}");
            None
        }
    }
}

impl Lifetime<'_> {
    /// Waits for the end of the system, and says how it ended.
    pub fn last(&self, first: Watch, signals: Option<Signals>) -> ExitCode {
        let (tell, happenings) = channel();
        if let Some(mut signals) = signals {
            in_background(&tell, move |tell| {
                for signal in signals.forever() {
                    if tell.send(Happening::Signal(signal)).is_err() {
                        break;
                    }
                }
            });
        }
        in_background(&tell, move |tell| {
            // Nobody listens any more when a second signal has come.
            let _ = tell.send(Happening::Ended(first.wait()));
        });

        let mut reason = None;
        let mut signalled = None;
        let mut is_stopping = false;
        for happening in happenings {
            match happening {
                Happening::Signal(SIGUSR1) => self.output.report(&table::busiest(self.system)),
                Happening::Signal(_) if signalled.is_some() => break,
                Happening::Signal(signal) => signalled = Some(signal),
                Happening::Ended(ended) => {
                    if self.stats && signalled.is_none() {
                        self.tell_who_is_left();
                    }
                    reason = Some(ended);
                }
                Happening::Stopped => break,
            }
            let has_to_stop = signalled.is_some() || reason.is_some();
            if has_to_stop && !std::mem::replace(&mut is_stopping, true) {
                let (system, grace) = (self.system.clone(), self.grace);
                in_background(&tell, move |tell| {
                    system.stop(grace);
                    let _ = tell.send(Happening::Stopped);
                });
            }
        }
        self.end(signalled, reason)
    }

    /// Kills what is left, tells what is to be told, and makes an exit code of it.
    fn end(&self, signalled: Option<i32>, reason: Option<ExitReason>) -> ExitCode {
        let killed = self.system.shutdown();
        if killed > 0 {
            self.output.report(&format!(
                "atoll: {killed} processes did not end in time and were killed"
            ));
        }
        if let Some(reason) = &reason
            && signalled.is_none()
            && !reason.is_orderly()
            && !reason.is_crash()
            && !matches!(reason, ExitReason::ExitCode(_))
        {
            self.output.report(&format!("atoll: main ended: {reason}"));
        }
        if self.stats {
            self.output.report(&table::stats(self.system));
        }
        self.output.flush();
        match (signalled, &reason) {
            (Some(signal), _) => ExitCode::from((SIGNAL_EXIT_CODE + signal) as u8),
            (None, Some(reason)) => exit_code(reason),
            (None, None) => ExitCode::FAILURE,
        }
    }

    fn tell_who_is_left(&self) {
        if self.system.holdings().processes > 0 {
            self.output.report(&table::left(self.system));
        }
    }
}

/// Does something on a thread of its own, which may tell what happens there.
fn in_background(tell: &Sender<Happening>, work: impl FnOnce(Sender<Happening>) + Send + 'static) {
    let tell = tell.clone();
    std::thread::spawn(move || work(tell));
}

fn exit_code(reason: &ExitReason) -> ExitCode {
    ExitCode::from(match reason {
        ExitReason::Normal | ExitReason::Shutdown | ExitReason::ShutdownWith(_) => 0,
        // The operating system keeps eight bits; a failure must not become a success by that.
        ExitReason::ExitCode(code) => ((code & 0xff) as u8).max(u8::from(code & 0xff == 0)),
        ExitReason::Trap(_) => 134,
        ExitReason::Kill | ExitReason::Killed => 137,
        ExitReason::Exhausted(_) => 138,
        _ => 1,
    })
}

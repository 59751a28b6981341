//! A model, and the flaws with which it must fail.

use loom::model::Builder;
use std::env::current_exe;
use std::io::Result;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

/// The option with which this program runs a model with a flaw.
pub const FLAWED: &str = "--flawed";
/// The most steps of one run.
const BRANCHES_MAX: usize = 10_000;

/// A fault in a protocol: an ordering made weaker, or a step left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Flaw {
    None,
    /// Fences do nothing.
    Fences,
    /// Loads and exchanges acquire nothing.
    Acquire,
    /// Stores and exchanges release nothing.
    Release,
    /// An addition is a load and a store.
    Addition,
    /// A scheduler parks without a last look at the injectors.
    LastLook,
    /// A scheduler notes how long it will sleep after it has unlocked its timers.
    Note,
    /// The end of a turn does not look at the inbox again.
    Inbox,
    /// The end of a turn does not look at the pending exit.
    PendingExit,
    /// The end of a turn does not look whether the waker was called.
    Woken,
    /// A signal that ends a process does not schedule a waiting one.
    Wake,
    /// A signal that ends a process does not set the flag that the process reads.
    Doom,
    /// The hibernator does not look at the inbox when it puts the body back.
    Hibernator,
    /// A process that is scheduled while it is suspended is not noted.
    HeldBack,
    /// A spawn does not look again whether the system stops.
    Stopping,
}

static PRESENT: AtomicU8 = AtomicU8::new(Flaw::None as u8);

/// Whether the protocol is run with this flaw.
pub fn has(flaw: Flaw) -> bool {
    PRESENT.load(Ordering::Relaxed) == flaw as u8
}

/// Threads that use a protocol, and a claim about the end.
#[derive(Clone, Copy)]
pub struct Model {
    pub name: &'static str,
    /// Runs the threads once, in the order that loom has chosen. It must be called within a loom model.
    pub run: fn(),
    /// The most times that a thread is interrupted in one run; all orders are tried if none is given. Nearly all faults need
    /// two or three.
    pub preemptions_max: Option<usize>,
    /// The flaws that it must notice.
    pub notices: &'static [Flaw],
}

impl Model {
    /// Whether it holds without a flaw, and fails with each that it must notice. Prints the result.
    pub fn holds(&self) -> Result<bool> {
        let start = Instant::now();
        // loom can't always clean up after a failure, so each flaw has a process of its own.
        let flawed = self.notices.iter().map(|flaw| {
            let number = (*flaw as u8).to_string();
            let mut command = Command::new(current_exe()?);
            command.args([FLAWED, self.name, &number]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            Ok((flaw, command.spawn()?))
        });
        let flawed = flawed.collect::<Result<Vec<_>>>()?;
        self.check();
        println!(
            "{}: holds in {:.1} s",
            self.name,
            start.elapsed().as_secs_f64()
        );
        let mut is_any_missed = false;
        for (flaw, mut child) in flawed {
            let is_missed = child.wait()?.success();
            is_any_missed |= is_missed;
            let said = if is_missed { "IS MISSED" } else { "is noticed" };
            println!("    {flaw:?} {said}");
        }
        Ok(!is_any_missed)
    }

    /// Runs it with the flaw of this number, which is to end the program.
    pub fn run_flawed(&self, number: &str) {
        let number = number.parse().expect("the parent writes a number");
        PRESENT.store(number, Ordering::Relaxed);
        self.check();
    }

    /// Panics if it does not hold.
    fn check(&self) {
        let mut builder = Builder::new();
        builder.preemption_bound = self.preemptions_max;
        builder.max_branches = BRANCHES_MAX;
        builder.check(self.run);
    }
}

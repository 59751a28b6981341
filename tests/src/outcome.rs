//! The outcome of a run of the program. Its checks show everything when they fail.

use rustix::process::Signal;
use std::fmt;

/// When a signal ends a program, a shell adds this number to the signal's.
const SIGNAL_CODE: i32 = 128;

/// The exit code of a run, and its output.
#[derive(Debug)]
pub struct Outcome {
    /// The command line, which is shown when a check fails.
    pub command: String,
    /// The exit code; none if a signal ended the program.
    pub code: Option<i32>,
    /// The number of the signal that ended the program, if one did.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A parsed crash report.
#[derive(Debug, PartialEq, Eq)]
pub struct Crash {
    /// The program's name.
    pub program: String,
    /// The function that the process was spawned with.
    pub function: String,
    /// The label, as it is printed, if there is one.
    pub label: Option<String>,
    /// The exit reason.
    pub reason: String,
    /// The names of functions, innermost first.
    pub backtrace: Vec<String>,
}

impl Outcome {
    /// Checks the exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Outcome {
        assert!(
            self.code == Some(code),
            "the exit code is not {code}\n{self}"
        );
        self
    }

    /// Would a shell say that this signal stopped the program? Either the signal ended it, or it exited with the signal's code.
    pub fn is_stopped_by(&self, signal: Signal) -> bool {
        let number = signal.as_raw();
        self.signal == Some(number) || self.code == Some(SIGNAL_CODE + number)
    }

    /// Checks that this signal stopped the program, as a shell sees it.
    #[track_caller]
    pub fn stopped_by(self, signal: Signal) -> Outcome {
        assert!(
            self.is_stopped_by(signal),
            "this is not how signal {} stops a program\n{self}",
            signal.as_raw()
        );
        self
    }

    /// Checks that this signal ended the program, so that a shell's loop around it stops as well.
    #[track_caller]
    pub fn died_by(self, signal: Signal) -> Outcome {
        let number = signal.as_raw();
        assert!(
            self.signal == Some(number),
            "it did not die by signal {number}\n{self}"
        );
        self
    }

    /// Checks that the program failed in an orderly way, and that standard error says why.
    #[track_caller]
    pub fn fails_with_a_message(self) -> Outcome {
        let is_orderly = self
            .code
            .is_some_and(|code| (1..SIGNAL_CODE).contains(&code));
        assert!(
            is_orderly && !self.stderr.is_empty() && !self.stderr.contains("panicked"),
            "this is no failure with a message\n{self}"
        );
        self
    }

    /// Checks that standard output is exactly this text.
    #[track_caller]
    pub fn stdout(self, text: &str) -> Outcome {
        assert!(
            self.stdout == text,
            "standard output is not {text:?}\n{self}"
        );
        self
    }

    /// Checks that standard error is exactly this text.
    #[track_caller]
    pub fn stderr(self, text: &str) -> Outcome {
        assert!(
            self.stderr == text,
            "standard error is not {text:?}\n{self}"
        );
        self
    }

    /// Checks that standard output contains this text.
    #[track_caller]
    pub fn stdout_has(self, text: &str) -> Outcome {
        assert!(
            self.stdout.contains(text),
            "standard output does not hold {text:?}\n{self}"
        );
        self
    }

    /// Checks that standard error contains this text.
    #[track_caller]
    pub fn stderr_has(self, text: &str) -> Outcome {
        assert!(
            self.stderr.contains(text),
            "standard error does not hold {text:?}\n{self}"
        );
        self
    }

    /// All crash reports, in the order in which they were printed.
    pub fn crashes(&self) -> Vec<Crash> {
        let mut crashes: Vec<Crash> = Vec::new();
        for line in self.stderr.lines() {
            if let Some(crash) = line.strip_prefix("crash: process ") {
                crashes.push(Crash::of(crash).unwrap_or_else(|| panic!("no report: {line}")));
            } else if let Some(crash) = crashes.last_mut() {
                if let Some(reason) = line.strip_prefix("  reason: ") {
                    crash.reason = reason.to_owned();
                } else if let Some(frame) = line.strip_prefix("    ")
                    && let Some((_, name)) = frame.split_once(": ")
                {
                    crash.backtrace.push(name.to_owned());
                }
            }
        }
        crashes
    }

    /// Checks that there is exactly one crash report, with this function and reason.
    #[track_caller]
    pub fn crash(self, function: &str, reason: &str) -> Outcome {
        let crashes = self.crashes();
        let [crash] = &crashes[..] else {
            panic!("{} crash reports instead of one\n{self}", crashes.len());
        };
        assert!(
            crash.function == function && crash.reason == reason,
            "the crash is not `{function}`: {reason}\n{self}"
        );
        self
    }

    /// The number of reductions that `--stats` printed.
    #[track_caller]
    pub fn reductions(&self) -> u64 {
        let number = self.stderr.lines().find_map(|line| {
            let counters = line.strip_prefix("stats: ")?;
            let (before, _) = counters.split_once(" reductions")?;
            before.rsplit(' ').next()?.parse().ok()
        });
        number.unwrap_or_else(|| panic!("no count of reductions\n{self}"))
    }
}

impl Crash {
    /// Parses the first line of a report, without `crash: process `.
    fn of(line: &str) -> Option<Crash> {
        let (_pid, rest) = line.split_once(" of program `")?;
        let (program, rest) = rest.split_once("`, function `")?;
        let (function, rest) = rest.split_once('`')?;
        Some(Crash {
            program: program.to_owned(),
            function: function.to_owned(),
            label: rest.strip_prefix(", label ").map(str::to_owned),
            reason: String::new(),
            backtrace: Vec::new(),
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A guest that floods its output must not flood the tests' log.
        let short = |text: &str| -> String { text.chars().take(4000).collect() };
        writeln!(f, "command: {}", self.command)?;
        match (self.code, self.signal) {
            (Some(code), _) => writeln!(f, "exit code: {code}")?,
            (None, Some(signal)) => writeln!(f, "ended by signal {signal}")?,
            (None, None) => writeln!(f, "killed by the test")?,
        }
        writeln!(f, "--- stdout\n{}", short(&self.stdout))?;
        writeln!(f, "--- stderr\n{}---", short(&self.stderr))
    }
}

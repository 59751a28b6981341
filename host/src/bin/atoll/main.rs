//! The program `atoll`: arguments, terminals and exit codes around the library of the same name.

mod arguments;
#[cfg(feature = "fuzz")]
mod fuzz;
mod inspect;
mod lifetime;
mod policy;
mod run;
mod signals;
mod table;
mod units;

use arguments::{Arguments, Command, Compile};
use clap::Parser;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Lets the host pack everything that a hibernated process holds.
#[global_allocator]
static ALLOCATOR: atoll_rt::Allocator = atoll_rt::Allocator;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => return tell(&told),
    };
    // A process that compiles sets up its own log.
    if !matches!(arguments.command, Command::Compile(_)) {
        start_log(arguments.verbose);
    }
    let result = match arguments.command {
        Command::Run(options) => run::run(*options),
        Command::Inspect(options) => inspect::inspect(&options).map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "fuzz")]
        Command::Fuzz(options) => fuzz::fuzz(&options),
        #[cfg(feature = "fuzz")]
        Command::FuzzRound { folder } => fuzz::run_round(&folder),
        Command::Compile(options) => Ok(compile(&options)),
    };
    result.unwrap_or_else(|failure| {
        failure.print();
        ExitCode::FAILURE
    })
}

fn compile(options: &Compile) -> ExitCode {
    let time_max = Duration::from_millis(options.milliseconds_max);
    atoll_rt::compile_apart(options.kind, time_max, options.bytes_max)
}

/// Prints help, a version, or errors of the command line.
fn tell(told: &clap::Error) -> ExitCode {
    let printed = told.print().and_then(|()| std::io::stdout().flush());
    match written(printed) {
        Ok(()) => ExitCode::from(told.exit_code() as u8),
        Err(failure) => {
            failure.print();
            ExitCode::FAILURE
        }
    }
}

/// Converts the result of printing. If the reader has closed the pipe, that is a success: the reader has seen enough.
fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(format!(
            "standard output can't be written: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Says why the program can't do what it was asked to, where the error is, and what helps.
struct Failure {
    error: String,
    hint: Option<String>,
}

impl Failure {
    fn new(error: impl Into<String>) -> Failure {
        Failure {
            error: error.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    fn print(&self) {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (red, bold, plain) = if colour {
            ("\x1b[1;31m", "\x1b[1m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let mut text = format!("{red}error{plain}: {}\n", self.error);
        if let Some(hint) = &self.hint {
            text += &format!("  {bold}hint{plain}: {hint}\n");
        }
        // If standard error is closed, the failure can't be reported.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("ATOLL_LOG").unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new(format!("error,atoll={level},atoll_rt={level}"))
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .without_time()
        .init();
}

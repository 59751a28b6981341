//! The command line, as data.

use crate::units::{self, Hibernation};
use atoll_rt::{CompileKind, DirGrant, NetGrant, Overflow, Rights};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// Erlang-style processes for WebAssembly.
#[derive(Parser)]
#[command(
    name = "atoll",
    version,
    propagate_version = true,
    after_help = "Run `atoll run --help` for limits, grants and exit codes."
)]
pub struct Arguments {
    /// Say more about what happens (-v, -vv, -vvv); ATOLL_LOG sets filters as for the crate `tracing`.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run a program: a wasm module, a component, or the text of either.
    Run(Box<Run>),
    /// Show what a file is, how it would be run, and what it imports, without running it.
    Inspect(Inspect),
    /// Try to break isolation: run attackers beside canaries, and say what was tried and what was found.
    #[cfg(feature = "fuzz")]
    Fuzz(Fuzz),
    /// Run one round of `atoll fuzz`, which starts this program for it.
    #[cfg(feature = "fuzz")]
    #[command(hide = true)]
    FuzzRound { folder: PathBuf },
    /// Compile standard input to standard output. `atoll run` starts this program, so that compiling has limits.
    #[command(hide = true)]
    Compile(Compile),
}

/// Run a program as the first process of a new system, and exit when it ends.
///
/// A guest may be a core module or a component for the world atoll-rt:process/process, or any WASI program that knows nothing of
/// Atoll. Options grant access to the outside; without them a guest has only its output, arguments, clocks and randomness.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub struct Run {
    /// The program (`-` reads it from standard input), and its arguments. Atoll's own options come before it.
    #[arg(
        required_unless_present = "policy",
        num_args = 1..,
        trailing_var_arg = true,
        value_names = ["FILE", "ARGS"]
    )]
    pub command: Vec<OsString>,

    /// A policy: a TOML file that says which programs there are, what each may do and use, and which one runs first. FILE is
    /// left out then. `atoll inspect --policy FILE` prints one to start from.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The function to run instead of the program's entry.
    #[arg(long, value_name = "NAME", conflicts_with = "policy")]
    pub function: Option<String>,
    /// The argument that the first process is spawned with.
    #[arg(long, value_name = "TEXT", conflicts_with = "policy")]
    pub argument: Option<String>,
    /// Another program that processes may spawn by this name. May be given several times.
    #[arg(long = "program", value_name = "NAME=PATH", value_parser = OsStringValueParser::new().try_map(|text| program(&text)), conflicts_with = "policy")]
    pub programs: Vec<(String, PathBuf)>,
    /// At the end, print counters and the resources held for processes on standard error.
    #[arg(long)]
    pub stats: bool,
    /// The time that processes get to end in order after the first one has ended or a signal has come. Then they are killed.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration)]
    pub grace: Duration,
    /// Do not report crashes of processes.
    #[arg(short, long)]
    pub quiet: bool,
    /// Compile without the cache of compiled code on disk.
    #[arg(long)]
    pub no_cache: bool,

    /// Scheduler threads; one per core if not given.
    #[arg(
        long,
        value_name = "N",
        help_heading = "Scheduling",
        conflicts_with = "policy"
    )]
    pub schedulers: Option<usize>,
    /// Reductions (calls and loop edges) that a process may run before the next process runs.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 4000,
        help_heading = "Scheduling",
        conflicts_with = "policy"
    )]
    pub reductions: u32,
    /// How long a process waits for mail before it is hibernated (packed into some hundred bytes until its next signal): a time,
    /// 0 for at once, or `never`. When memory runs short, processes are hibernated earlier.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::hibernation, help_heading = "Scheduling", conflicts_with = "policy")]
    pub hibernate_after: Hibernation,
    /// Make the memory of a hibernated process inaccessible: for tests of atoll itself.
    #[arg(long, hide = true)]
    pub poison: bool,

    /// Processes that may live at once.
    #[arg(long, value_name = "N", default_value_t = 1 << 20, help_heading = "Limits", conflicts_with = "policy")]
    pub max_processes: u32,
    /// Linear memory that one process may hold.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = units::size, help_heading = "Limits", conflicts_with = "policy")]
    pub max_memory: u64,
    /// Memory that all processes may hold together, beyond a megabyte of each [default: three quarters of the machine's memory].
    #[arg(long, value_name = "SIZE", value_parser = units::size, help_heading = "Limits", conflicts_with = "policy")]
    pub max_total_memory: Option<u64>,
    /// Bytes that may wait in one mailbox. If a mailbox would hold more, its process ends.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = units::size, help_heading = "Limits", conflicts_with = "policy")]
    pub max_mailbox: u64,
    /// Bytes that one message may have. If a message has more, its sender ends.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = units::size, help_heading = "Limits", conflicts_with = "policy")]
    pub max_message: u64,
    /// Links, monitors, aliases and timers that one process may hold, all together. If it would hold more, it ends.
    #[arg(long, value_name = "N", default_value_t = 1 << 21, help_heading = "Limits", conflicts_with = "policy")]
    pub max_ties: u32,
    /// Native stack that one process's wasm frames may take.
    #[arg(long, value_name = "SIZE", default_value = "512KiB", value_parser = units::size, help_heading = "Limits", conflicts_with = "policy")]
    pub max_stack: u64,
    /// Processor time that compiling a program may take.
    #[arg(long, value_name = "TIME", default_value = "5min", value_parser = units::duration, help_heading = "Limits", conflicts_with = "policy")]
    pub max_compile_time: Duration,
    /// Memory that compiling a program may take [default: 4GiB, or three quarters of the machine's memory].
    #[arg(long, value_name = "SIZE", value_parser = units::size, help_heading = "Limits", conflicts_with = "policy")]
    pub max_compile_memory: Option<u64>,
    /// Files, sockets and other handles that one process may hold open.
    #[arg(
        long,
        value_name = "N",
        help_heading = "Limits",
        conflicts_with = "policy"
    )]
    pub max_handles: Option<usize>,

    /// Messages that may wait in one mailbox.
    #[arg(
        long,
        value_name = "N",
        help_heading = "Limits",
        conflicts_with = "policy"
    )]
    pub max_messages: Option<u64>,
    /// The fate of a message that a mailbox has no room for: end (its process ends), reject (the sender may learn it),
    /// drop-newest or drop-oldest.
    #[arg(long, value_name = "FATE", value_parser = units::overflow, help_heading = "Limits", conflicts_with = "policy")]
    pub on_full_mailbox: Option<Overflow>,
    /// Reductions that all processes together may use. Then they end.
    #[arg(
        long,
        value_name = "N",
        help_heading = "Limits",
        conflicts_with = "policy"
    )]
    pub max_reductions: Option<u64>,
    /// How much of the machine all processes together may use, in percent of a core: 25%. If they have used more, they wait.
    #[arg(long, value_name = "PERCENT", value_parser = units::rate, help_heading = "Limits", conflicts_with = "policy")]
    pub max_rate: Option<u32>,
    /// Bytes that all processes together may print. Printing more fails.
    #[arg(long, value_name = "SIZE", value_parser = units::size, help_heading = "Limits", conflicts_with = "policy")]
    pub max_output: Option<u64>,
    /// Bytes that they may print in a second. Printing more waits.
    #[arg(long, value_name = "SIZE", value_parser = units::size, help_heading = "Limits", conflicts_with = "policy")]
    pub max_output_rate: Option<u64>,
    /// Operations on files that may be under way for all modules together. More wait.
    #[arg(
        long,
        value_name = "N",
        help_heading = "Limits",
        conflicts_with = "policy"
    )]
    pub max_blocking: Option<u32>,

    /// A folder that programs may use: HOST::GUEST, or one path for both; `:ro` at the end for reading only.
    #[arg(long = "dir", value_name = "HOST::GUEST[:ro]", value_parser = OsStringValueParser::new().try_map(|text| dir(&text)), help_heading = "Grants", conflicts_with = "policy")]
    pub dirs: Vec<DirGrant>,
    /// An environment variable for programs: NAME=VALUE, or NAME to pass on atoll's own.
    #[arg(long = "env", value_name = "NAME[=VALUE]", value_parser = env, help_heading = "Grants", conflicts_with = "policy")]
    pub env: Vec<(String, String)>,
    /// Let programs use the network: everything, or only these addresses (may be given several times).
    #[arg(
        long, value_name = "ADDRESS[:PORT]", num_args = 0..=1, require_equals = true, default_missing_value = "all",
        value_parser = net, help_heading = "Grants",
        conflicts_with = "policy"
    )]
    pub allow_net: Vec<NetGrant>,
    /// Let programs look at all processes (atoll-rt:process/inspection).
    #[arg(long, help_heading = "Grants", conflicts_with = "policy")]
    pub allow_inspect: bool,
    /// Let programs suspend processes (atoll-rt:process/debugging).
    #[arg(long, help_heading = "Grants", conflicts_with = "policy")]
    pub allow_debug: bool,
    /// The step in which the clocks of programs count: 1ms makes it harder to spy on others by measuring time [default: a nanosecond].
    #[arg(long, value_name = "TIME", value_parser = units::duration, help_heading = "Grants", conflicts_with = "policy")]
    pub clock_resolution: Option<Duration>,
    /// Withhold a right: signals, names, groups, timers, spawning, files, network, environment, standard-input, strangers. A
    /// program that imports an interface without having the right to it is not loaded. May be given several times.
    #[arg(long, value_name = "RIGHT", value_parser = units::right, help_heading = "Grants", conflicts_with = "policy")]
    pub without: Vec<Rights>,
    /// Give programs an empty standard input instead of atoll's own.
    #[arg(long, help_heading = "Grants", conflicts_with = "policy")]
    pub no_stdin: bool,
}

/// Show what a file is, how it would be run, and what it imports, without running it.
#[derive(Args)]
pub struct Inspect {
    /// The program.
    pub file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Print a policy for `atoll run --policy` that grants what the program imports, and no more.
    #[arg(long, conflicts_with = "json")]
    pub policy: bool,
}

/// Try to break isolation between guests.
///
/// Each round runs in a process of its own: a system with canaries, which notice every change and every lost message, and with
/// attackers: random modules that call the host with every edge of their operands, mutants of real guests, and attacks written by
/// hand. A finding is a promise that was broken: an abort, a panic, a hang, a leak, a byte that changed, a message that got lost,
/// a secret that was found, a wait that was too long. It is made smaller, and saved with a command that shows it again.
#[cfg(feature = "fuzz")]
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 if nothing was found, 1 if something was found, 2 if the command line was wrong."
)]
pub struct Fuzz {
    /// How long to search: 600, 10min.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    pub time: Duration,
    /// The seed of the first round; the next one has the next number. Each run has another seed if none is given.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Rounds at the same time [default: half the cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// A program of yours that takes part.
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Your program's part: an attacker, which is mutated as well, or a canary, which must not crash.
    #[arg(
        long = "as",
        value_name = "PART",
        default_value = "attacker",
        requires = "program"
    )]
    pub role: Role,
    /// The folder for findings.
    #[arg(long, value_name = "DIR", default_value = "findings")]
    pub findings: PathBuf,
    /// Run a saved finding again.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["program", "seed", "break_rule"])]
    pub replay: Option<PathBuf>,
    /// Plant a bug in the host and see whether it is found within a minute; `all` for one after the other.
    #[arg(long = "break", value_name = "NAME")]
    pub break_rule: Option<String>,
}

/// The part of a user's program.
#[cfg(feature = "fuzz")]
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    Attacker,
    Canary,
}

/// Parses a time with or without a unit; seconds if there is none.
#[cfg(feature = "fuzz")]
fn time(text: &str) -> Result<Duration, String> {
    /// A year: the clock can't count to any number.
    const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
    let time = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => units::duration(text)?,
    };
    match time <= TIME_MAX {
        true => Ok(time),
        false => Err("at most a year".into()),
    }
}

/// Compile standard input to standard output, within limits.
#[derive(Args)]
pub struct Compile {
    #[arg(value_parser = kind)]
    pub kind: CompileKind,
    pub milliseconds_max: u64,
    pub bytes_max: u64,
}

const EXIT_CODES: &str = "\
Exit codes:
    0     the first process ended normally
    N     it is a WASI program that exited with N
    1     it ended with a reason of its own, or could not be loaded
    2     the command line was wrong
    134   it trapped
    137   it was killed
    138   it ran into one of its limits
    143   SIGTERM has ended the system; SIGHUP: 129; by SIGINT it dies, which a shell shows as 130, or exits with 130 if
          its last output was lost, because no reader took it

Signals:
    SIGINT, SIGTERM, SIGHUP
                      end the system in order: processes that have no parent are sent the exit signal `shutdown`, and so
                      on; after --grace, or at a second signal, the rest is killed
    SIGUSR1           print a table of the busiest processes on standard error

Sizes take a unit: 4096, 64KiB, 16MiB, 1GiB. So do times: 500ms, 5s, 1min.";

/// The name is text. The path may be anything that the operating system allows.
fn program(text: &OsStr) -> Result<(String, PathBuf), String> {
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|byte| *byte == b'=');
    let parts = end.map(|end| (&bytes[..end], &bytes[end + 1..]));
    match parts {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            let name = str::from_utf8(name).map_err(|_| "the name is not UTF-8")?;
            Ok((name.into(), OsStr::from_bytes(path).into()))
        }
        _ => Err("write it as NAME=PATH".into()),
    }
}

fn kind(text: &str) -> Result<CompileKind, String> {
    CompileKind::named(text).ok_or_else(|| "write `module` or `component`".into())
}

fn dir(text: &OsStr) -> Result<DirGrant, String> {
    DirGrant::parse(text).map_err(|error| error.to_string())
}

fn env(text: &str) -> Result<(String, String), String> {
    atoll_rt::parse_env(text).map_err(|error| error.to_string())
}

fn net(text: &str) -> Result<NetGrant, String> {
    NetGrant::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arbtest::arbtest;

    #[test]
    fn any_size_and_time_is_refused_or_is_the_number_that_was_written() {
        const PIECES: [&str; 20] = [
            "0",
            "1",
            "64",
            "18446744073709551615",
            "9999999999999999999",
            ".",
            "-",
            "+",
            "e",
            " ",
            "nan",
            "inf",
            "K",
            "KiB",
            "GiB",
            "B",
            "ms",
            "s",
            "min",
            "ü",
        ];
        arbtest(|random| {
            let mut text = String::new();
            for _ in 0..random.int_in_range(0..=5)? {
                match random.ratio(1, 8)? {
                    true => text.push(random.arbitrary()?),
                    false => text += random.choose(&PIECES)?,
                }
            }
            if let Ok(bytes) = units::size(&text) {
                let digits: String = text.chars().filter(char::is_ascii_digit).collect();
                let number: u64 = digits.parse().expect("a size is a number");
                assert!(
                    bytes >= number && bytes.checked_rem(number).unwrap_or(0) == 0,
                    "{text}"
                );
            }
            if let Ok(time) = units::duration(&text) {
                assert!(!text.contains('-') || time.is_zero(), "{text}");
                assert_eq!(units::hibernation(&text), Ok(Hibernation(Some(time))));
            }
            #[cfg(feature = "fuzz")]
            if let Ok(time) = time(&text) {
                assert!(time <= Duration::from_secs(365 * 24 * 3600), "{text}");
            }
            let _ = (
                program(text.as_ref()),
                dir(text.as_ref()),
                env(&text),
                net(&text),
                kind(&text),
                units::rate(&text),
                units::overflow(&text),
                units::right(&text),
            );
            Ok(())
        });
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}

//! What a system may be told before it starts, with the default of each and its reason.

use crate::wasi::{Grants, Output, WasiError};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::report::CrashReport;

/// How a [`System`](crate::System) is set up.
#[derive(Clone)]
pub struct Config {
    /// Scheduler threads. Default: one per core.
    pub schedulers: usize,
    /// Reductions that a process may run before others get their turn. Default: 4000, as in OTP.
    pub reductions: u32,
    /// Processes that may live at once, mailboxes of the host included. Default: 1,048,576, as in OTP; at most
    /// 16,777,216.
    pub max_processes: u32,
    /// Bytes that the linear memories of one process may hold together. Default: 1 GiB.
    pub max_memory: u64,
    /// Bytes that the linear memories and tables of all processes may hold together, beyond a megabyte of each. A growth beyond
    /// that fails, as one beyond `max_memory`. Default: three quarters of what the machine, or the control group, has.
    pub max_total_memory: u64,
    /// Bytes that may wait in one mailbox. A mailbox that would hold more ends its process. Default: 64 MiB.
    pub max_mailbox: u64,
    /// Bytes that one payload or argument may have. A larger one ends its sender. Default: 64 MiB.
    pub max_message: u64,
    /// Links, monitors, aliases and timers that one process may hold, all together. More end it. Default: 2,097,152: a
    /// million timers, and as much again.
    pub max_ties: u32,
    /// Bytes of native stack that one process's wasm frames may take. Default: 512 KiB, as wasmtime's, some thousand frames;
    /// more costs address space and, with a million processes, page tables.
    pub max_stack: usize,
    /// Bytes that a module may have. Default: 256 MiB.
    pub max_module: u64,
    /// Let guests look at processes: list them, and ask what they do. Default: no; a program that imports
    /// `atoll-rt:process/inspection` is not loaded.
    pub allow_inspect: bool,
    /// Let guests suspend processes. Default: no; a program that imports `atoll-rt:process/debugging` is not loaded.
    pub allow_debug: bool,
    /// Keep compiled code on disk, so that the next start is fast. Default: yes.
    pub cache: bool,
    /// The program that compiles modules: `atoll`, of this version. It does so in a process of its own, which the two limits
    /// below end and in which a fault of the compiler harms nobody. It must be the true one: what it makes is run. None:
    /// modules are compiled in this process, without these limits. Default: none; `atoll run` names itself.
    pub compiler: Option<PathBuf>,
    /// Processor time that compiling one program may take, on all cores together. Default: 5 minutes.
    pub max_compile_time: Duration,
    /// Bytes of memory that compiling one program may take. Default: 4 GiB, or three quarters of what the machine, or the
    /// control group, has if that is less.
    pub max_compile_memory: u64,
    /// How long a process waits for mail before it is hibernated: packed into some hundred bytes, until its next
    /// signal. It may wait for twice as long; who calls `hibernate`, and everybody when memory runs short, is hibernated
    /// at once. Zero: whoever waits is. None: nobody ever is. Default: 10 s.
    pub hibernate_after: Option<Duration>,
    /// What a hibernated process had can't be touched, so that a defect of Atoll's which touches it ends the program. For
    /// tests: it takes a mapping of the kernel's for each. Default: no.
    pub poison: bool,
    /// What WASI programs may touch. Default: nothing.
    pub grants: Grants,
    /// Where guests' standard output and error go. Default: this program's own.
    pub output: Output,
    /// Called for every process that crashes, on a scheduler thread: it must not block. Default: a warning in the
    /// log (crate `tracing`).
    pub on_crash: CrashHook,
}

/// What is called for every process that crashes.
pub type CrashHook = Arc<dyn Fn(&CrashReport) + Send + Sync>;

impl Default for Config {
    fn default() -> Config {
        Config {
            schedulers: std::thread::available_parallelism().map_or(1, usize::from),
            reductions: 4000,
            max_processes: 1 << 20,
            max_memory: 1 << 30,
            max_total_memory: super::memory::three_quarters(),
            max_mailbox: 64 << 20,
            max_message: 64 << 20,
            max_ties: 1 << 21,
            max_stack: 512 << 10,
            max_module: 256 << 20,
            allow_inspect: false,
            allow_debug: false,
            cache: true,
            compiler: None,
            max_compile_time: Duration::from_secs(300),
            max_compile_memory: super::memory::three_quarters().min(4 << 30),
            // Atoll's own tests hibernate whoever waits, and catch whatever touches them then.
            hibernate_after: Some(match cfg!(test) {
                true => Duration::ZERO,
                false => Duration::from_secs(10),
            }),
            poison: cfg!(test),
            grants: Grants::default(),
            output: Output::inherit(),
            on_crash: Arc::new(|report| tracing::warn!("{report}")),
        }
    }
}

/// Why a system could not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A setting is outside of what makes sense: which, and what would.
    Config(String),
    /// The operating system refused something: what, and why.
    Os(String),
    /// A grant names something that can't be granted.
    Grant(WasiError),
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(text) | Error::Os(text) => f.write_str(text),
            Error::Grant(error) => error.fmt(f),
        }
    }
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let range = |name: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::Config(format!(
                "{name} must lie between {low} and {high}, not {value}"
            )))
        };
        range("schedulers", self.schedulers as u64, 1, 1024)?;
        range("reductions", self.reductions.into(), 1, 1 << 30)?;
        range(
            "max-processes",
            self.max_processes.into(),
            1,
            super::table::PROCESSES_MAX.into(),
        )?;
        range("max-stack", self.max_stack as u64, 16 << 10, 64 << 20)?;
        range("max-memory", self.max_memory, 0, 4 << 30)?;
        range("max-message", self.max_message, 0, u64::from(u32::MAX))
    }
}

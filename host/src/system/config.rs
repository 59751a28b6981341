//! The settings of a system, with the default of each and its reason.

use crate::scheduler::SCHEDULERS_MAX;
use crate::wasi::{Grants, Output, WasiError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::limits::{Each, Overflow};
use super::report::CrashReport;
use super::rights::{Capabilities, Rights};

/// The settings of a [`System`](crate::System).
#[derive(Clone)]
pub struct Config {
    /// Scheduler threads. Default: one per core.
    pub schedulers: usize,
    /// Reductions that a process may run before other processes get their turn. Default: 4000, as in OTP.
    pub reductions: u32,
    /// Processes that may live at once, including the host's mailboxes. Default: 1,048,576, as in OTP; at most
    /// 16,777,216.
    pub max_processes: u32,
    /// Bytes that the linear memories of one process may hold together. Default: 1 GiB.
    pub max_memory: u64,
    /// Bytes that the linear memories and tables of all processes may hold together, not counting the first megabyte
    /// of each process, and their mailboxes, not counting the first 64 KiB of each. A growth over this limit fails,
    /// like one over `max_memory`. Default: three quarters of the
    /// memory of the machine or of the control group.
    pub max_total_memory: u64,
    /// Bytes that may wait in one mailbox. A process whose mailbox would hold more ends. Default: 64 MiB.
    pub max_mailbox: u64,
    /// Bytes that one payload or argument may have. The sender of a larger one ends. Default: 64 MiB.
    pub max_message: u64,
    /// Links, monitors, aliases and timers that one process may hold together. A process that makes more ends.
    /// Default: 2,097,152, a million timers and as many other ties.
    pub max_ties: u32,
    /// Bytes of native stack that one process's wasm frames may take. Default: 512 KiB as in wasmtime, some thousand
    /// frames. More costs address space and, with a million processes, page tables.
    pub max_stack: usize,
    /// Bytes that a module may have. Default: 256 MiB.
    pub max_module: u64,
    /// Let guests inspect processes: list them and ask for their state. Default: no. Then a program that imports
    /// `atoll-rt:process/inspection` is not loaded.
    pub allow_inspect: bool,
    /// Let guests suspend processes. Default: no. Then a program that imports `atoll-rt:process/debugging` is not
    /// loaded.
    pub allow_debug: bool,
    /// Rights that no process has. Default: none. A program that imports the interface of such a right is not loaded.
    pub without: Rights,
    /// The step in which the clocks of guests count. A coarse one makes it harder to measure the processor's caches, and
    /// with them what other processes do. Default: a nanosecond.
    pub clock_resolution: Duration,
    /// Keep compiled code on disk, so that later starts are fast. Default: yes.
    pub cache: bool,
    /// The program that compiles modules: `atoll`, of this version. It compiles in a process of its own, which the
    /// two limits below can end, and in which a fault of the compiler harms no other process. It must be the genuine
    /// program, because the host runs the code that it makes. None: modules are compiled in this process, without
    /// these limits. Default: none; `atoll run` names itself.
    pub compiler: Option<PathBuf>,
    /// Processor time that compiling one program may take, on all cores together. Default: 5 minutes.
    pub max_compile_time: Duration,
    /// Bytes of memory that compiling one program may take. Default: 4 GiB, or three quarters of the memory of the
    /// machine or of the control group, if that is less.
    pub max_compile_memory: u64,
    /// How long a process waits for mail before it is hibernated: packed into some hundred bytes, until its next
    /// signal. A process may wait for up to twice as long. A process that calls `hibernate` is hibernated at once,
    /// and so are all waiting processes when memory runs short. Zero: every process is hibernated as soon as it
    /// waits. None: no process is ever hibernated. Default: 10 s.
    pub hibernate_after: Option<Duration>,
    /// Make the memory of hibernated processes inaccessible, so that a defect of Atoll's which touches it ends the
    /// program. For tests: it takes one kernel mapping per hibernated process. Default: no.
    pub poison: bool,
    /// The files, sockets and so on that WASI programs may use. Default: none.
    pub grants: Grants,
    /// The destination of guests' standard output and error. Default: this program's own.
    pub output: Output,
    /// A function that is called for every process that crashes, on a scheduler thread: it must not block. Default:
    /// it writes a warning to the log (crate `tracing`).
    pub on_crash: CrashHook,
}

/// A function that is called for every process that crashes.
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
            without: Rights::empty(),
            clock_resolution: Duration::from_nanos(1),
            cache: true,
            compiler: None,
            max_compile_time: Duration::from_secs(300),
            max_compile_memory: super::memory::three_quarters().min(4 << 30),
            // Atoll's own tests hibernate every process that waits, and catch every access to it.
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

/// The reason for which a system could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of range. Names the setting and its range.
    #[error("{0}")]
    Config(String),
    /// The operating system refused an operation. Names the operation and the error.
    #[error("{0}")]
    Os(String),
    /// A grant names something that can't be granted.
    #[error("{0}")]
    Grant(WasiError),
}

impl Config {
    /// The limits of each process.
    pub(super) fn each(&self) -> Each {
        Each {
            memory_bytes_max: self.max_memory,
            mailbox_bytes_max: self.max_mailbox,
            messages_max: u64::MAX,
            overflow: Overflow::End,
            ties_max: self.max_ties as usize,
            handles_max: self.grants.handles_max,
        }
    }

    /// The rights that every process has, if its parent does not withhold some.
    pub(super) fn capabilities(&self) -> Capabilities {
        let mut rights = Rights::all();
        rights.set(Rights::INSPECTION, self.allow_inspect);
        rights.set(Rights::DEBUGGING, self.allow_debug);
        Capabilities::of_system(rights - self.without)
    }

    /// The step of guests' clocks in nanoseconds.
    pub(crate) fn clock_step_ns(&self) -> u64 {
        u64::try_from(self.clock_resolution.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    /// A length of time as guests may learn it.
    pub(super) fn coarse(&self, time_ns: u64) -> u64 {
        time_ns - time_ns % self.clock_step_ns()
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let range = |name: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::Config(format!(
                "{name} must lie between {low} and {high}, not {value}"
            )))
        };
        range(
            "schedulers",
            self.schedulers as u64,
            1,
            SCHEDULERS_MAX as u64,
        )?;
        range("reductions", self.reductions.into(), 1, 1 << 30)?;
        range(
            "max-processes",
            self.max_processes.into(),
            1,
            super::table::PROCESSES_MAX.into(),
        )?;
        range("max-stack", self.max_stack as u64, 16 << 10, 64 << 20)?;
        let step_ns = self.clock_step_ns();
        range("clock-resolution", step_ns, 1, 1_000_000_000)?;
        range("max-memory", self.max_memory, 0, 4 << 30)?;
        range("max-message", self.max_message, 0, u64::from(u32::MAX))
    }
}

//! A process that compiles one module or component, within limits of time and memory.
//!
//! It reads wasm from standard input and writes compiled code to standard output. A thread checks every few
//! milliseconds how much the process has taken. Beyond a limit, the thread writes to standard error which functions are
//! being compiled, and ends the process. The kernel's limits stand behind that thread, in case it comes too late.

use crate::engine::config;
use crate::text::start_of;
use log::{LevelFilter, Log, Metadata, Record};
use rustix::process::{Resource, Rlimit};
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

/// The exit codes of such a process: the compiler has refused the module, for the reason on standard error; compiling
/// takes more time, or more memory, than it may.
pub(super) const REFUSED: i32 = 1;
pub(super) const OVER_TIME: i32 = 3;
pub(super) const OVER_MEMORY: i32 = 4;

/// How often the process checks its own use.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// The kernel's limits are this much higher, because the kernel counts differently from this process.
const MEMORY_MARGIN: u64 = 1 << 30;
const TIME_MARGIN_SECONDS: u64 = 2;
/// The most functions that are named.
const NAMED_MAX: usize = 4;

/// The kinds of files that a process compiles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompileKind {
    /// A core module.
    Module,
    /// A component.
    Component,
}

impl CompileKind {
    /// Returns the kind's name, for the command line and the cache.
    pub fn name(self) -> &'static str {
        match self {
            CompileKind::Module => "module",
            CompileKind::Component => "component",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<CompileKind> {
        [CompileKind::Module, CompileKind::Component]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// Compiles standard input to standard output, in so much processor time and so many bytes of memory. The program that
/// [`Config::compiler`](crate::Config::compiler) names calls this once, when it begins.
pub fn compile_apart(kind: CompileKind, time_max: Duration, memory_max: u64) -> ExitCode {
    match compile(kind, time_max, memory_max) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If this fails, the process that asked is gone.
            let _ = write!(io::stderr(), "{error:#}");
            ExitCode::from(REFUSED as u8)
        }
    }
}

fn compile(kind: CompileKind, time_max: Duration, memory_max: u64) -> wasmtime::Result<()> {
    confine(time_max, memory_max)?;
    log::set_logger(&UNDER_WAY)?;
    log::set_max_level(LevelFilter::Trace);
    std::thread::Builder::new().spawn(move || watch(time_max, memory_max))?;
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    let engine = wasmtime::Engine::new(&config::compiler(kind.counts())?)?;
    let code = match kind {
        CompileKind::Module => engine.precompile_module(&bytes)?,
        CompileKind::Component => engine.precompile_component(&bytes)?,
    };
    // A short compilation may fall between two checks, and is held to the limits as well.
    check(time_max, memory_max);
    io::stdout().lock().write_all(&code)?;
    Ok(())
}

/// Sets the kernel's limits, and has the kernel end this process when the process that asked has ended.
fn confine(time_max: Duration, memory_max: u64) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let lower = |resource, most: u64| {
        let now = rustix::process::getrlimit(resource);
        let least = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
        let limits = Rlimit {
            current: least(now.current),
            maximum: least(now.maximum),
        };
        rustix::process::setrlimit(resource, limits)
    };
    lower(Resource::Core, 0)?;
    lower(Resource::Data, memory_max.saturating_add(MEMORY_MARGIN))?;
    let seconds = time_max.as_secs().saturating_add(TIME_MARGIN_SECONDS);
    Ok(lower(Resource::Cpu, seconds)?)
}

/// Ends the process when it has taken more than it may.
fn watch(time_max: Duration, memory_max: u64) {
    loop {
        std::thread::sleep(CHECK_INTERVAL);
        check(time_max, memory_max);
    }
}

fn check(time_max: Duration, memory_max: u64) {
    if processor_time() > time_max {
        end(OVER_TIME);
    }
    if resident_bytes().is_some_and(|bytes| bytes > memory_max) {
        end(OVER_MEMORY);
    }
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn resident_bytes() -> Option<u64> {
    let counts = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = counts.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Writes which functions are being compiled, and ends the process.
fn end(code: i32) -> ! {
    let _ = io::stderr().write_all(UNDER_WAY.text().as_bytes());
    std::process::exit(code);
}

/// The function that each thread compiles, by wasmtime's name for it. wasmtime's log is the only source.
struct UnderWay(Mutex<Vec<(ThreadId, String)>>);

static UNDER_WAY: UnderWay = UnderWay(Mutex::new(Vec::new()));

/// The target and the texts of wasmtime's log lines for each function: two steps, each with a beginning and an end.
const LOG_TARGET: &str = "wasmtime_internal_cranelift::compiler";
const BEGINS: [&str; 2] = ["compiling Wasm function: ", "finish compiling "];
const ENDS: [&str; 2] = ["` translated to CLIF in ", "` compiled in "];
/// Only so much of a line is read, because a stranger may have chosen the names.
const LINE_BYTES_MAX: usize = 512;

impl UnderWay {
    fn text(&self) -> String {
        let functions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let names = functions.iter().map(|(_, function)| function.as_str());
        let names: Vec<&str> = names.take(NAMED_MAX).collect();
        names.join(", ")
    }

    fn set(&self, function: Option<&str>) {
        let thread = std::thread::current().id();
        let mut functions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        functions.retain(|(of, _)| *of != thread);
        functions.extend(function.map(|function| (thread, function.to_owned())));
    }
}

impl Log for UnderWay {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == LOG_TARGET
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = start_of(*record.args(), LINE_BYTES_MAX);
        if let Some(begins) = BEGINS.iter().find_map(|text| line.strip_prefix(text)) {
            // The symbol comes last, in quotation marks.
            self.set(begins.split('"').nth(1));
        } else if ENDS.iter().any(|text| line.contains(text)) {
            self.set(None);
        }
    }

    fn flush(&self) {}
}

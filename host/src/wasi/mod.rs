//! WASI for guests: grants, output, and the linking of functions.
//!
//! This room grants and links wasmtime-wasi, and keeps blocking work off the scheduler threads. It never sees a process other
//! than the caller's: a context belongs to one process and dies with it.
//!
//! ```text
//!   Grants ──┐                       ┌── preview1() ── add_preview1 ── core modules
//!   Output ──┼── Wasi (one a system) ┤
//!   Seam   ──┘                       └── preview2() ── add_preview2 ── components
//! ```
//!
//! A process gets its context when it first calls a WASI function, so a process that imports none pays nothing. Making a context
//! opens nothing and can't fail: [`Wasi::new`] opens the directories once, and contexts share them.
//!
//! # Limits on what a guest can make the host hold
//!
//! | resource | limit | beyond it |
//! |---|---|---|
//! | open files, sockets, streams, pollables of a process | [`Grants::handles_max`] | `EMFILE`; a handle that is no file ends the process, see [`exhausted_handles`] |
//! | an unfinished line, and output waiting for queue space | 16 KiB a stream | the write waits |
//! | output not yet written, of all processes together | 1 MiB | writes wait, asynchronously |
//! | last unfinished lines of ended processes, and reports | 4 MiB together | lost, and counted on standard error |
//! | random bytes of one call | any (preview 1, filled in pieces), 1 MiB (preview 2) | trap |
//! | one path, vector list, poll list or file write | the store's hostcall fuel, and the guest's own memory | `ENOMEM`, or trap |
//! | one read of a stream or file | 64 KiB (preview 1 files: the guest's own buffer) | a short read |
//! | threads for blocking work, of all processes together | [`BLOCKING_THREADS_MAX`] | the work queues |
//! | of these, for FIFOs and devices | half | their operations wait |
//!
//! These have no limit, neither in wasmtime-wasi nor here: the length of a directory listing of preview 2; file system space in a
//! writable directory; host name look-ups under way that their guest has given up (only with [`NetGrant::All`]); and the file
//! descriptors of all processes together, where each process has its own limit and guests see the error `EMFILE`.
//!
//! # Time
//!
//! Clocks and randomness come through [`Seam`]. Waiting (`poll_oneoff`, pollables, sockets) uses tokio's real timers, so a
//! replayed schedule must not depend on it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use wasmtime_wasi::{I32Exit, ResourceTableError, WasiView};

mod context;
mod grants;
mod input;
mod lines;
mod names;
mod output;
mod preview1;
mod sink;
#[cfg(test)]
mod tests;

pub use context::{Part, Wasi};
pub use grants::{DirGrant, Grants, NetGrant, Peer, WasiError, WasiErrorKind, parse_env};
pub(crate) use names::{is_preview1_function, is_preview2_interface};
pub use output::{Captured, Output};
pub use preview1::{Guest, Preview1, add_preview1};

/// The most threads for blocking work (files, host names) of all processes together. tokio starts them when they are needed. A
/// disk is busy with far fewer. The rest is for operations that hang, for example on a network file system, so that they don't
/// hold up all others. Operations on FIFOs and devices get half of the threads.
pub const BLOCKING_THREADS_MAX: usize = 2 * preview1::SPECIAL_MAX;

/// How long an idle thread waits for more blocking work. While one thread exists, tokio can queue work even if it can't start
/// another thread.
const BLOCKING_THREAD_WAIT: Duration = Duration::from_secs(600);

/// Threads that drive sockets and timers. They only pass on wake-ups, so one would do. The second takes over while the first runs
/// a task.
const IO_THREADS: usize = 2;

/// The budget of the processes that a process belongs to, as far as WASI uses it up.
pub trait HostBudget: Send + Sync {
    /// Takes so many bytes of output. Returns false if there are fewer left.
    fn take_output(&self, bytes: u64) -> bool;

    /// Notes that so many bytes are written now, and returns how long the writer has to wait for that.
    fn output_delay(&self, bytes: u64, now_ns: u64) -> Duration;

    /// The permits that an operation on a file needs, one of each.
    fn blocking(&self) -> Vec<Arc<Semaphore>>;
}

/// The only source of time and randomness for a guest's WASI functions.
pub trait Seam: Send + Sync {
    /// The clocks count in steps of so many nanoseconds.
    fn resolution_ns(&self) -> u64;
    /// Nanoseconds on a clock that never goes back.
    fn now(&self) -> u64;
    /// Time since the Unix epoch.
    fn wall(&self) -> Duration;
    /// Fills the buffer with random bytes that a guest may use for secrets.
    fn fill_random(&self, buffer: &mut [u8]);
}

/// Links WASI preview 2.
///
/// Sockets are linked even if they are not granted, and fail when they are used. The libraries of most languages import them into
/// every program, and such a program must load without the network.
///
/// # Errors
///
/// If the linker already has an interface of this name.
pub fn add_preview2<T: WasiView + 'static>(
    linker: &mut wasmtime::component::Linker<T>,
) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

/// The exit code, if this error comes from a guest's exit (`proc_exit`, `wasi:cli/exit`).
pub fn exit_code(error: &wasmtime::Error) -> Option<i32> {
    error.downcast_ref::<I32Exit>().map(|exit| exit.0)
}

/// Did the guest end because it reached its limit of handles ([`Grants::handles_max`])?
pub fn exhausted_handles(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref(), Some(ResourceTableError::Full))
}

/// The runtime that does WASI's waiting beside the scheduler threads. A scheduler thread holds an
/// [`enter`](tokio::runtime::Handle::enter) guard of its handle; otherwise wasmtime-wasi would start a runtime of its own.
///
/// Drop every process before the runtime, and end it with `shutdown_background`, because a blocking operation that hangs must not
/// hold up the end.
///
/// # Errors
///
/// If the operating system provides no threads or no event queue.
pub fn io_runtime() -> io::Result<Runtime> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(BLOCKING_THREAD_WAIT)
        .thread_name("atoll-io")
        .enable_all()
        .build()?;
    runtime.spawn_blocking(|| ());
    Ok(runtime)
}

/// Checks that this many threads can be started. tokio and wasmtime panic if they can't.
///
/// # Errors
///
/// If a thread can't be started.
pub fn check_threads(count: usize) -> io::Result<()> {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = Arc::new(std::sync::Mutex::new(wait));
    let threads = (0..count).map(|_| {
        let wait = wait.clone();
        std::thread::Builder::new().spawn(move || {
            // The thread ends when the sender is dropped.
            let _ = output::lock(&wait).recv();
        })
    });
    let threads: Vec<_> = threads.collect();
    drop(release);
    let mut outcome = Ok(());
    for thread in threads {
        match thread {
            Ok(thread) => drop(thread.join()),
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

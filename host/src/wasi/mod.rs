//! WASI for guests: what they are granted, where their output goes, and how the functions are linked.
//!
//! This room grants and wires wasmtime-wasi, and keeps blocking work off the scheduler threads. It never sees a
//! process other than the caller's: a context made here belongs to one process and dies with it.
//!
//! ```text
//!   Grants ──┐                       ┌── preview1() ── add_preview1 ── core modules
//!   Output ──┼── Wasi (one a system) ┤
//!   Seam   ──┘                       └── preview2() ── add_preview2 ── components
//! ```
//!
//! A context is made when its process first calls a WASI function, so that a process that imports none pays nothing.
//! Making one opens nothing and can't fail: directories are opened once, by [`Wasi::new`], and shared.
//!
//! # What a guest can make the host hold
//!
//! | what | bound | beyond it |
//! |---|---|---|
//! | open files, sockets, streams, pollables of a process | [`Grants::handles_max`] | `EMFILE`; what is no file ends the process, see [`exhausted_handles`] |
//! | a line not yet complete, and output waiting for room | 16 KiB a stream | the write waits |
//! | output not yet written, of all processes together | 1 MiB | writes wait, asynchronously |
//! | last unfinished lines of ended processes, and reports | 4 MiB together | lost, and counted on standard error |
//! | random bytes of one call | any (preview 1, filled in pieces), 1 MiB (preview 2) | trap |
//! | one path, vector list, poll list or file write | the store's hostcall fuel, and the guest's own memory | `ENOMEM`, or trap |
//! | one read of a stream or file | 64 KiB (preview 1 files: the guest's own buffer) | a short read |
//! | threads for blocking work, of all processes together | [`BLOCKING_THREADS_MAX`] | the work queues |
//! | of these, for FIFOs and devices | half | their operations wait |
//!
//! Not bounded by wasmtime-wasi, nor here: the length of a directory listing of preview 2; file system
//! space in a writable directory; host name look-ups under way that their guest has given up (only with [`NetGrant::All`]); and the file
//! descriptors of all processes together, where each has its own bound and `EMFILE` is an error that guests see.
//!
//! # Time
//!
//! Clocks and randomness come through [`Seam`]. What waits (`poll_oneoff`, pollables, sockets) waits on tokio's real
//! timers: a replayed schedule must not depend on them.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
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

pub use context::Wasi;
pub use grants::{DirGrant, Grants, NetGrant, Peer, WasiError, WasiErrorKind, parse_env};
pub(crate) use names::{is_preview1_function, is_preview2_interface};
pub use output::{Captured, Output};
pub use preview1::{Guest, Preview1, add_preview1};

/// The most threads that blocking work (files, host names) may occupy, all processes together; they are made when they are
/// needed. A disk is busy with far fewer; the rest is for operations that hang, on a network file system say, so that they
/// don't hold up all others. FIFOs and devices get half of them.
pub const BLOCKING_THREADS_MAX: usize = 2 * preview1::SPECIAL_MAX;

/// How long a thread waits for more such work. While there is one, no other can fail to be made.
const BLOCKING_THREAD_WAIT: Duration = Duration::from_secs(600);

/// Threads that drive sockets and timers. They only pass on wake-ups: one could, the second takes over while the first
/// runs a task.
const IO_THREADS: usize = 2;

/// Where time and randomness come from: the only source of either that a guest's WASI functions have.
pub trait Seam: Send + Sync {
    /// Nanoseconds on a clock that never goes back.
    fn now(&self) -> u64;
    /// Time since the Unix epoch.
    fn wall(&self) -> Duration;
    /// Fills the buffer with random bytes that a guest may use for secrets.
    fn fill_random(&self, buffer: &mut [u8]);
}

/// Links WASI preview 2.
///
/// Sockets are linked whether or not they are granted, and refused when used: the libraries of most languages import
/// them into every program, and such a program must load where the network is not granted.
///
/// # Errors
///
/// If the linker already has an interface of this name.
pub fn add_preview2<T: WasiView + 'static>(
    linker: &mut wasmtime::component::Linker<T>,
) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

/// The exit code, if this error is a guest's wish to exit (`proc_exit`, `wasi:cli/exit`).
pub fn exit_code(error: &wasmtime::Error) -> Option<i32> {
    error.downcast_ref::<I32Exit>().map(|exit| exit.0)
}

/// Did the guest end because it held as many handles as it may ([`Grants::handles_max`])?
pub fn exhausted_handles(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref(), Some(ResourceTableError::Full))
}

/// The runtime that drives what WASI waits for, beside the scheduler threads: these hold an
/// [`enter`](tokio::runtime::Handle::enter) guard of its handle, or wasmtime-wasi would start a runtime of its own.
///
/// Drop every process before it, and end it with `shutdown_background`: a blocking operation that hangs must not hold
/// up the end.
///
/// # Errors
///
/// If the operating system gives it no threads or no event queue.
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

/// Can so many threads be had? tokio and wasmtime panic if they can't.
///
/// # Errors
///
/// If not: why.
pub fn check_threads(count: usize) -> io::Result<()> {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    let threads = (0..count).map(|_| {
        let wait = wait.clone();
        std::thread::Builder::new().spawn(move || {
            // It ends when nobody can send any more.
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

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
//! | open files, sockets, streams, pollables of a process | [`Grants::handles_max`] | the process ends, see [`exhausted_handles`] |
//! | a line not yet complete, and output waiting for room | 16 KiB a stream | the write waits |
//! | output not yet written, of all processes together | 1 MiB | writes wait, asynchronously |
//! | last unfinished lines of ended processes, and reports | 4 MiB together | lost, and counted on standard error |
//! | random bytes of one call | any (preview 1, filled in pieces), 1 MiB (preview 2) | trap |
//! | one path, vector list, poll list or file write | the store's hostcall fuel, and the guest's own memory | `ENOMEM`, or trap |
//! | one read of a stream or file | 64 KiB (preview 1 files: the guest's own buffer) | a short read |
//! | threads for blocking work, of all processes together | [`BLOCKING_THREADS_MAX`] | the work queues |
//!
//! Not bounded by wasmtime-wasi, nor here: the length of a directory listing (read whole, at each call); file system
//! space in a writable directory; a thread of the pool for each FIFO or device in a granted directory that never
//! answers; host name look-ups under way that their guest has given up (only with [`NetGrant::All`]); and the file
//! descriptors of all processes together, where each has its own bound and `EMFILE` is an error that guests see.
//!
//! # Time
//!
//! Clocks and randomness come through [`Seam`]. What waits (`poll_oneoff`, pollables, sockets) waits on tokio's real
//! timers: a replayed schedule must not depend on them.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use wasmtime::{Caller, Extern, Trap};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::random::random::Host as _;
use wasmtime_wasi::{I32Exit, ResourceTableError, WasiView};

mod context;
mod grants;
mod lines;
mod names;
mod output;
mod sink;
#[cfg(test)]
mod tests;

pub use context::Wasi;
pub use grants::{DirGrant, Grants, NetGrant, Peer, WasiError, WasiErrorKind, parse_env};
pub(crate) use names::{is_preview1_function, is_preview2_interface};
pub use output::{Captured, Output};

/// The most threads that blocking work (files, host names) may occupy, all processes together. A disk is busy with far
/// fewer; the rest is for operations that hang, on a network file system say, so that they don't hold up all others.
pub const BLOCKING_THREADS_MAX: usize = 64;

/// Threads that drive sockets and timers. They only pass on wake-ups: one could, the second takes over while the first
/// runs a task.
const IO_THREADS: usize = 2;

/// Random bytes made at a stretch. At 1 to 2 ns each this is about a tenth of a millisecond of a scheduler thread.
const RANDOM_PIECE_BYTES: usize = 64 * 1024;

/// The import module of WASI preview 1.
const PREVIEW1: &str = "wasi_snapshot_preview1";

/// Preview 1's error number for "not a socket".
const ERRNO_NOTSOCK: u32 = 57;

/// Where time and randomness come from: the only source of either that a guest's WASI functions have.
pub trait Seam: Send + Sync {
    /// Nanoseconds on a clock that never goes back.
    fn now(&self) -> u64;
    /// Time since the Unix epoch.
    fn wall(&self) -> Duration;
    /// Fills the buffer with random bytes that a guest may use for secrets.
    fn fill_random(&self, buffer: &mut [u8]);
}

/// Links WASI preview 1. `get` finds the process's context, making it if this is its first call.
///
/// A few functions are not wasmtime-wasi's: `proc_exit` passes on every code (theirs traps from 126 on), `random_get`
/// fills any length in pieces, yielding between them (theirs holds the thread, and a copy, for all of it), and the
/// socket functions, which neither carries out, say so without a line in the host's log at each call.
///
/// # Errors
///
/// If the linker already has a function of this name.
pub fn add_preview1<T: Send + 'static>(
    linker: &mut wasmtime::Linker<T>,
    get: impl Fn(&mut T) -> &mut WasiP1Ctx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, get)?;
    linker.allow_shadowing(true);
    let replaced = replace_preview1(linker, get);
    linker.allow_shadowing(false);
    replaced
}

fn replace_preview1<T: Send + 'static>(
    linker: &mut wasmtime::Linker<T>,
    get: impl Fn(&mut T) -> &mut WasiP1Ctx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    linker.func_wrap(PREVIEW1, "proc_exit", |code: u32| -> wasmtime::Result<()> {
        Err(I32Exit(code.cast_signed()).into())
    })?;
    linker.func_wrap_async(
        PREVIEW1,
        "random_get",
        move |caller: Caller<'_, T>, (pointer, length): (u32, u32)| {
            Box::new(random_get(caller, get, pointer, length))
        },
    )?;
    linker.func_wrap(PREVIEW1, "sock_accept", |_: u32, _: u32, _: u32| {
        ERRNO_NOTSOCK
    })?;
    linker.func_wrap(
        PREVIEW1,
        "sock_recv",
        |_: u32, _: u32, _: u32, _: u32, _: u32, _: u32| ERRNO_NOTSOCK,
    )?;
    linker.func_wrap(
        PREVIEW1,
        "sock_send",
        |_: u32, _: u32, _: u32, _: u32, _: u32| ERRNO_NOTSOCK,
    )?;
    linker.func_wrap(PREVIEW1, "sock_shutdown", |_: u32, _: u32| ERRNO_NOTSOCK)?;
    Ok(())
}

/// Fills a piece of the caller's memory with random bytes, giving up the thread every [`RANDOM_PIECE_BYTES`].
async fn random_get<T: Send + 'static>(
    mut caller: Caller<'_, T>,
    get: impl Fn(&mut T) -> &mut WasiP1Ctx,
    pointer: u32,
    length: u32,
) -> wasmtime::Result<u32> {
    let Some(memory) = caller.get_export("memory").and_then(Extern::into_memory) else {
        return Err(wasmtime::Error::msg(
            "the module does not export its memory as `memory`",
        ));
    };
    let mut start = pointer as usize;
    let end = start + length as usize;
    if end > memory.data_size(&caller) {
        return Err(Trap::MemoryOutOfBounds.into());
    }
    while start < end {
        let piece_end = end.min(start + RANDOM_PIECE_BYTES);
        let (bytes, data) = memory.data_and_store_mut(&mut caller);
        let random = get(data).ctx().ctx.random();
        for word in bytes[start..piece_end].chunks_mut(size_of::<u64>()) {
            word.copy_from_slice(&random.get_random_u64()?.to_le_bytes()[..word.len()]);
        }
        start = piece_end;
        if start < end {
            tokio::task::yield_now().await;
        }
    }
    Ok(0)
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
    Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("atoll-io")
        .enable_all()
        .build()
}

//! WASI preview 1 for core modules: wasmtime-wasi's functions, each behind one guard, and replacements for some of them.
//!
//! | file | holds | because wasmtime-wasi |
//! |---|---|---|
//! | here | the table of all functions, and the guard | never checks whether the process is to end |
//! | `transfers` | `fd_read`, `fd_write`, `fd_pread`, `fd_pwrite` | copies the first buffer whole, refuses 128 MiB, answers `EINTR` to a read of no bytes |
//! | `listing` | `fd_readdir` | reads and looks at the whole directory at each call, fails for a file that disappears meanwhile and for a name that is not UTF-8 |
//! | `paths` | `path_open`, directories whose names end in a slash | ends the process when it has no handle left, reports the host's `EMFILE` as `EIO`, blocks a thread at a FIFO for ever |
//! | `other` | `random_get`, `poll_oneoff`, `proc_exit`, sockets | blocks the thread, ends the process for a long list, traps for some exit codes, writes to the host's log |
//!
//! The linked functions call wasmtime-wasi's as its own linker would. They use a module that wasmtime-wasi exposes but does not
//! promise to keep; its version is pinned.

mod listing;
mod other;
mod paths;
mod scratch;
mod transfers;

use listing::Listings;
use paths::Special;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{Caller, Extern, Linker, Result};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1 as upstream;
use wiggle::GuestMemory;

pub(super) use paths::SPECIAL_MAX;

/// The import module of WASI preview 1.
pub(super) const PREVIEW1: &str = "wasi_snapshot_preview1";

/// The reductions of a call, besides those for the bytes that it moves.
const CALL_REDUCTIONS: u64 = 8;

/// Error numbers of preview 1.
mod errno {
    pub(super) const SUCCESS: i32 = 0;
    pub(super) const EIO: i32 = 29;
    pub(super) const EMFILE: i32 = 33;
    pub(super) const ENFILE: i32 = 41;
    pub(super) const ENOMEM: i32 = 48;
    pub(super) const ENOTSOCK: i32 = 57;
}

/// The WASI state of a process that runs a core module.
pub struct Preview1 {
    wasi: WasiP1Ctx,
    listings: Listings,
    special: Special,
    /// The cost of the current call so far, in reductions.
    cost: u64,
    /// The most handles that the process may have, including those that it begins with.
    handles_max: usize,
    /// Permits for operations, of the trees that the process belongs to.
    blocking: Vec<Arc<Semaphore>>,
}

impl Preview1 {
    /// The number of handles.
    fn handles(&mut self) -> usize {
        self.wasi.ctx().table.iter_mut().count()
    }

    pub(super) fn new(
        wasi: WasiP1Ctx,
        special: Arc<Semaphore>,
        blocking: Vec<Arc<Semaphore>>,
        handles_max: usize,
    ) -> Preview1 {
        Preview1 {
            wasi,
            listings: Listings::default(),
            special: Special::new(special),
            cost: 0,
            handles_max,
            blocking,
        }
    }

    /// Waits until the process may begin an operation on a file. The operation is over when the permits are dropped.
    async fn may_block(&mut self) -> Vec<OwnedSemaphorePermit> {
        let mut permits = Vec::new();
        for blocking in &self.blocking {
            permits.extend(blocking.clone().acquire_owned().await.ok());
        }
        permits
    }

    /// The same for a function that keeps no thread of the host busy: it may always begin.
    async fn may_wait(&mut self) -> Vec<OwnedSemaphorePermit> {
        Vec::new()
    }
}

/// The store's data for a process that calls these functions.
pub trait Guest: Send + 'static {
    /// The process's context. The first call makes it.
    fn preview1(&mut self) -> &mut Preview1;

    /// Fails if the process is to end. Then the call has no effect and is the process's last.
    fn survives(&self) -> Result<()>;

    /// Charges the process for the host's work. Returns true if the process has to give up its turn now.
    fn pay(&mut self, reductions: u64) -> bool;
}

/// Links functions of WASI. Each checks at its beginning whether the process is to end. Those that may take long check again at
/// their end.
macro_rules! functions {
    ($linker:ident of $guest:ident: $($kind:ident $path:path as $name:literal ($($argument:ident: $ty:ty),*);)+) => {
        $(functions!(@$kind $linker, $guest, $path, $name, ($($argument: $ty),*));)+
    };
    (@now $linker:ident, $guest:ident, $path:path, $name:literal, ($($argument:ident: $ty:ty),*)) => {
        $linker.func_wrap(PREVIEW1, $name, |mut caller: Caller<'_, $guest>, $($argument: $ty),*| {
            let (mut memory, process) = begin_call(&mut caller)?;
            $path(&mut process.wasi, &mut memory, $($argument),*)
        })?;
    };
    (@later $linker:ident, $guest:ident, $path:path, $name:literal, ($($argument:ident: $ty:ty),*)) => {
        $linker.func_wrap_async(PREVIEW1, $name, |mut caller: Caller<'_, $guest>, ($($argument,)*): ($($ty,)*)| {
            Box::new(async move {
                let (mut memory, process) = begin_call(&mut caller)?;
                let permits = process.may_block().await;
                let result = $path(&mut process.wasi, &mut memory, $($argument),*).await?;
                drop(permits);
                finish_call(&mut caller).await?;
                Ok(result)
            })
        })?;
    };
    (@own $linker:ident, $guest:ident, $path:path, $name:literal, ($($argument:ident: $ty:ty),*)) => {
        functions!(@whole $linker, $guest, $path, $name, ($($argument: $ty),*), Preview1::may_block);
    };
    (@wait $linker:ident, $guest:ident, $path:path, $name:literal, ($($argument:ident: $ty:ty),*)) => {
        functions!(@whole $linker, $guest, $path, $name, ($($argument: $ty),*), Preview1::may_wait);
    };
    (@whole $linker:ident, $guest:ident, $path:path, $name:literal, ($($argument:ident: $ty:ty),*), $may:path) => {
        $linker.func_wrap_async(PREVIEW1, $name, |mut caller: Caller<'_, $guest>, ($($argument,)*): ($($ty,)*)| {
            Box::new(async move {
                let (mut memory, process) = begin_call(&mut caller)?;
                let permits = $may(process).await;
                let result = $path(process, &mut memory, $($argument),*).await?;
                drop(permits);
                finish_call(&mut caller).await?;
                Ok(result)
            })
        })?;
    };
}

/// Links WASI preview 1.
///
/// # Errors
///
/// If the linker already has a function of this name.
pub fn add_preview1<T: Guest>(linker: &mut Linker<T>) -> Result<()> {
    link_handles(linker)?;
    link_paths(linker)?;
    link_sockets(linker)?;
    link_other(linker)
}

/// Links the functions of open files and directories.
fn link_handles<T: Guest>(linker: &mut Linker<T>) -> Result<()> {
    functions! {
        linker of T:
        now upstream::fd_allocate as "fd_allocate" (a: i32, b: i64, c: i64);
        now upstream::fd_fdstat_set_flags as "fd_fdstat_set_flags" (a: i32, b: i32);
        now upstream::fd_fdstat_set_rights as "fd_fdstat_set_rights" (a: i32, b: i64, c: i64);
        now upstream::fd_prestat_get as "fd_prestat_get" (a: i32, b: i32);
        now upstream::fd_prestat_dir_name as "fd_prestat_dir_name" (a: i32, b: i32, c: i32);
        now upstream::fd_tell as "fd_tell" (a: i32, b: i32);
        later upstream::fd_advise as "fd_advise" (a: i32, b: i64, c: i64, d: i32);
        later upstream::fd_datasync as "fd_datasync" (a: i32);
        later upstream::fd_fdstat_get as "fd_fdstat_get" (a: i32, b: i32);
        later upstream::fd_filestat_get as "fd_filestat_get" (a: i32, b: i32);
        later upstream::fd_filestat_set_size as "fd_filestat_set_size" (a: i32, b: i64);
        later upstream::fd_filestat_set_times as "fd_filestat_set_times" (a: i32, b: i64, c: i64, d: i32);
        later upstream::fd_seek as "fd_seek" (a: i32, b: i64, c: i32, d: i32);
        later upstream::fd_sync as "fd_sync" (a: i32);
        own transfers::fd_read as "fd_read" (a: i32, b: i32, c: i32, d: i32);
        own transfers::fd_pread as "fd_pread" (a: i32, b: i32, c: i32, d: i64, e: i32);
        own transfers::fd_write as "fd_write" (a: i32, b: i32, c: i32, d: i32);
        own transfers::fd_pwrite as "fd_pwrite" (a: i32, b: i32, c: i32, d: i64, e: i32);
        own listing::fd_readdir as "fd_readdir" (a: i32, b: i32, c: i32, d: i64, e: i32);
        own paths::fd_close as "fd_close" (a: i32);
        own paths::fd_renumber as "fd_renumber" (a: i32, b: i32);
    }
    Ok(())
}

/// Links the functions of paths.
fn link_paths<T: Guest>(linker: &mut Linker<T>) -> Result<()> {
    functions! {
        linker of T:
        later upstream::path_filestat_get as "path_filestat_get" (a: i32, b: i32, c: i32, d: i32, e: i32);
        later upstream::path_filestat_set_times as "path_filestat_set_times"
            (a: i32, b: i32, c: i32, d: i32, e: i64, f: i64, g: i32);
        later upstream::path_link as "path_link" (a: i32, b: i32, c: i32, d: i32, e: i32, f: i32, g: i32);
        later upstream::path_readlink as "path_readlink" (a: i32, b: i32, c: i32, d: i32, e: i32, f: i32);
        later upstream::path_rename as "path_rename" (a: i32, b: i32, c: i32, d: i32, e: i32, f: i32);
        later upstream::path_symlink as "path_symlink" (a: i32, b: i32, c: i32, d: i32, e: i32);
        later upstream::path_unlink_file as "path_unlink_file" (a: i32, b: i32, c: i32);
        own paths::path_open as "path_open"
            (a: i32, b: i32, c: i32, d: i32, e: i32, f: i64, g: i64, h: i32, i: i32);
        own paths::path_create_directory as "path_create_directory" (a: i32, b: i32, c: i32);
        own paths::path_remove_directory as "path_remove_directory" (a: i32, b: i32, c: i32);
    }
    Ok(())
}

/// Links the functions of sockets.
fn link_sockets<T: Guest>(linker: &mut Linker<T>) -> Result<()> {
    functions! {
        linker of T:
        now other::sock_accept as "sock_accept" (a: i32, b: i32, c: i32);
        now other::sock_recv as "sock_recv" (a: i32, b: i32, c: i32, d: i32, e: i32, f: i32);
        now other::sock_send as "sock_send" (a: i32, b: i32, c: i32, d: i32, e: i32);
        now other::sock_shutdown as "sock_shutdown" (a: i32, b: i32);
    }
    Ok(())
}

/// Links arguments, environment, clocks, waiting, randomness and exits.
fn link_other<T: Guest>(linker: &mut Linker<T>) -> Result<()> {
    functions! {
        linker of T:
        now upstream::args_get as "args_get" (a: i32, b: i32);
        now upstream::args_sizes_get as "args_sizes_get" (a: i32, b: i32);
        now upstream::environ_get as "environ_get" (a: i32, b: i32);
        now upstream::environ_sizes_get as "environ_sizes_get" (a: i32, b: i32);
        now upstream::clock_res_get as "clock_res_get" (a: i32, b: i32);
        now upstream::clock_time_get as "clock_time_get" (a: i32, b: i64, c: i32);
        now upstream::proc_raise as "proc_raise" (a: i32);
        now upstream::sched_yield as "sched_yield" ();
        wait other::poll_oneoff as "poll_oneoff" (a: i32, b: i32, c: i32, d: i32);
        wait other::random_get as "random_get" (a: i32, b: i32);
    }
    linker.func_wrap(
        PREVIEW1,
        "proc_exit",
        |caller: Caller<'_, T>, code: u32| -> Result<()> {
            caller.data().survives()?;
            Err(other::exit(code))
        },
    )?;
    Ok(())
}

/// Finishes a call: charges for it, gives up the turn if the slice is used up, and fails if the process is to end by now.
async fn finish_call<T: Guest>(caller: &mut Caller<'_, T>) -> Result<()> {
    let data = caller.data_mut();
    let cost = CALL_REDUCTIONS + std::mem::take(&mut data.preview1().cost);
    if data.pay(cost) {
        tokio::task::yield_now().await;
    }
    caller.data().survives()
}

/// Begins a call: fails if the process is to end, otherwise returns the caller's memory and context.
fn begin_call<'a, T: Guest>(
    caller: &'a mut Caller<'_, T>,
) -> Result<(GuestMemory<'a>, &'a mut Preview1)> {
    use upstream::WasiSnapshotPreview1 as _;
    caller.data().survives()?;
    let Some(memory) = caller.get_export("memory").and_then(Extern::into_memory) else {
        return Err(wasmtime::Error::msg(
            "the module does not export its memory as `memory`",
        ));
    };
    let fuel = wasmtime::AsContextMut::as_context_mut(caller).hostcall_fuel();
    let (bytes, data) = memory.data_and_store_mut(caller);
    let process = data.preview1();
    process.wasi.set_hostcall_fuel(fuel);
    Ok((GuestMemory::Unshared(bytes), process))
}

//! The engine: wasmtime, and everything about it.
//!
//! This room knows configuration, compiling, instances, reductions and slots. It takes modules as the rewriter leaves
//! them, and `runtime` hands it the contract's functions as linkers. It never sees links, names or the command line.
//! The only `unsafe` of the host is in [`slots`], [`arena`], [`packing`], [`inhabitant`] and [`loan`], and in [`cache`]
//! and [`compiler`], which load compiled code.

pub(crate) mod harness;
pub(crate) mod loan;
pub(crate) mod state;

mod arena;
mod cache;
mod compiler;
mod config;
mod inhabitant;
mod instance;
mod load;
mod packing;
mod page_map;
mod recycling;
mod self_test;
mod slots;
mod words;

pub use arena::Allocator;
pub(crate) use cache::folder as cache_folder;
pub use compiler::{CompileKind, compile_apart};
pub(crate) use instance::{WASI_RUN, current_function};
pub(crate) use load::{Contract, Engine};
pub(crate) use recycling::obstacle;
#[cfg(test)]
pub(crate) use slots::Slots;
pub(crate) use slots::moved_reductions;

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

/// Numbers the threads in the order in which they first call this, so that schedulers use different shelves and queues.
fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

/// Prepares the calling thread for turns. wasmtime wants a stack for its signal handler, and panics if there is no memory for
/// it: that must not happen later, within a turn.
pub(crate) fn prepare_thread() {
    wasmtime::Engine::tls_eager_initialize();
}

/// The value of a future that never waits.
fn ready<T>(future: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    let future = pin!(future);
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => Err(wasmtime::format_err!("instantiation waits for something")),
    }
}

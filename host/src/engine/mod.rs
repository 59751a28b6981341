//! The engine: wasmtime, and everything about it.
//!
//! This room knows configuration, loading, rewriting, instances, reductions and slots. It never sees links, names or the
//! command line. The only `unsafe` of the host is in [`slots`], [`arena`], [`packing`], [`inhabitant`],
//! [`loan`], and where compiled code is taken in, [`cache`] and [`compiler`].

pub(crate) mod abi;
pub(crate) mod loan;
pub(crate) mod state;

mod analysis;
mod arena;
mod bounds;
mod branches;
mod bulk;
mod cache;
mod compiler;
mod config;
mod counting;
mod error;
mod features;
mod filling;
mod flatten;
mod glue;
mod inhabitant;
mod initial;
mod inspect;
mod instance;
mod load;
mod names;
mod packing;
mod page_map;
mod recycling;
mod sizes;
mod slots;
mod splitting;
mod tables;
mod unwrap;
mod words;

pub use arena::Allocator;
pub use compiler::{CompileKind, compile_apart};
pub use error::{LoadError, LoadErrorKind};
pub use inspect::{Import, ImportStatus, Inspection, Path};
pub(crate) use instance::current_function;
pub(crate) use load::{Engine, Grants};
#[cfg(test)]
pub(crate) use slots::Slots;
pub(crate) use slots::take_moved;

use std::sync::atomic::{AtomicUsize, Ordering};

/// Numbers the threads that have asked, so that schedulers use different shelves and queues.
fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}
